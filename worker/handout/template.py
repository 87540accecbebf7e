"""The folder that says how letters look: our own (``letter``), or somebody's copy of it that ``--template`` names.

``letter.toml`` has the fields, ``en.toml`` and ``de.toml`` the words, ``letter.typ`` the page. Whatever is wrong with
one of them is said with the file and the line, before any secret is opened.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from worker.adapters.private_files import refuse_foreign_folder
from worker.core import toml
from worker.core.errors import UsageError
from worker.core.text import escape

OURS = Path(__file__).with_name("letter")
"""The folder that comes along."""
PAGE, FIELDS = "letter.typ", "letter.toml"
FILLED = ("organisation", "service", "contact", "deadline", "name", "username", "account", "issued")
"""What may stand in braces in the words, beside ``attributes.NAME``."""
_BRACES = re.compile(r"\{(attributes\.)?([A-Za-z_][A-Za-z0-9_:.-]*)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A folder whose files were read and fit."""

    root: Path
    language: str
    fields: Mapping[str, Any]
    words: Mapping[str, Any]

    def date(self, day: datetime) -> str:
        """Return a day in words."""
        month = self.words["months"][day.month - 1]
        parts = {"day": str(day.day), "month": month, "year": str(day.year)}
        return _BRACES.sub(lambda found: parts.get(found[2], found[0]), self.words["date"])

    def filled(self, values: Mapping[str, str], attributes: Mapping[str, str]) -> dict[str, str]:
        """Return the words with what stands in braces filled in."""

        def value(found: re.Match[str]) -> str:
            return attributes.get(found[2], "") if found[1] else values.get(found[2], found[0])

        return {
            key: _BRACES.sub(value, text)
            for key, text in self.words.items()
            if isinstance(text, str) and key not in ("date", "service", "ask")
        }


def load(folder: Path | None, language: str) -> Template:
    """Read a folder; ``None``: our own. Raises ``UsageError`` with the file and, where it can be told, the line."""
    root = (folder or OURS).resolve()
    if not root.is_dir():
        raise UsageError(
            f"--template: there is no folder {escape(str(folder))}",
            "copy the one that comes along, and change that: mfa-worker letters-template DIR",
        )
    for name in (PAGE, FIELDS):
        if not (root / name).is_file():
            raise UsageError(
                f"--template {escape(str(folder))} has no file {name}",
                "copy the folder that comes along, and change that: mfa-worker letters-template DIR",
            )
    have = sorted(path.stem for path in root.glob("*.toml") if path.name != FIELDS)
    if language not in have:
        raise UsageError(
            f"--language {escape(language)}: the template has no file {escape(language)}.toml",
            f"there are: {', '.join(have) or 'none'}; for another, copy the folder and translate en.toml: "
            "mfa-worker letters-template DIR",
        )
    fields = _read(root / FIELDS, _toml(OURS / FIELDS), own="own")
    words = _read(root / f"{language}.toml", _toml(OURS / "en.toml"), own="")
    _check_fields(root / FIELDS, fields)
    _check_words(root / f"{language}.toml", words)
    return Template(root, language, fields, words)


def copy_ours(folder: Path) -> None:
    """Copy the folder that comes along. Raises ``UsageError`` where there is something already."""
    refuse_foreign_folder(folder, what="letters-template", cure="name a new folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{escape(str(folder))} exists, and is not written over", "name a new folder")
    try:
        folder.mkdir(parents=False, exist_ok=True)
        for source in sorted(OURS.iterdir()):
            if source.is_file():
                shutil.copyfile(source, folder / source.name)
    except OSError as error:
        raise UsageError(
            f"cannot write {escape(str(folder))}: {error.strerror}", "choose a folder that exists and is yours"
        ) from None


def _toml(path: Path) -> dict[str, Any]:
    try:
        return toml.parsed(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise UsageError(f"{escape(str(path))} is not UTF-8", "save it as UTF-8") from None
    except ValueError as error:
        raise UsageError(f"{escape(str(path))}: {error}", "correct that line; texts stand in quotes") from None
    except OSError as error:
        raise UsageError(f"cannot read {escape(str(path))}: {error.strerror}", "look at its owner and mode") from None


def _read(path: Path, ours: Mapping[str, Any], own: str) -> dict[str, Any]:
    """Return what a file says, checked against our own file: the same keys, of the same types; missing ones are ours.

    ``own``: the name of a table that may hold anything.
    """
    found = _toml(path)
    for key, value in found.items():
        if key == own and isinstance(value, dict):
            continue
        if key not in ours:
            near = difflib.get_close_matches(key, ours, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            more = f"; fields of your own stand in a table [{own}]" if own else ""
            raise UsageError(f"{_at(path, key)}: there is no {key!r}", f"{hint}there are: {', '.join(ours)}{more}")
        if type(value) is not type(ours[key]) or (
            isinstance(value, list) and not all(isinstance(item, str) for item in value)
        ):
            kind = "a list of texts" if isinstance(ours[key], list) else "a text in quotes"
            raise UsageError(f"{_at(path, key)}: {key} should be {kind}", "correct that line")
    return {**ours, **found}


def _check_fields(path: Path, fields: Mapping[str, Any]) -> None:
    logo = str(fields["logo"])
    if logo and not (path.parent / logo).is_file():
        raise UsageError(f"{_at(path, 'logo')}: there is no file {logo!r} in this folder", "put the picture there")
    if not re.fullmatch(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})", fields["accent"]):
        raise UsageError(f"{_at(path, 'accent')}: accent is no colour", 'write it as "#1d4f63"')


def _check_words(path: Path, words: Mapping[str, Any]) -> None:
    if len(words["months"]) != 12:
        raise UsageError(f"{_at(path, 'months')}: there are {len(words['months'])} months", "name all twelve")
    for key, text in words.items():
        if key in ("months", "date"):
            continue
        for found in _BRACES.finditer(text):
            if not found[1] and found[2] not in FILLED:
                raise UsageError(
                    f"{_at(path, key)}: nothing is called {found[0]}",
                    f"there are: {', '.join(f'{{{name}}}' for name in FILLED)}, {{attributes.NAME}}",
                )


def _at(path: Path, key: str) -> str:
    """Return the file and the line in which this key stands."""
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    number = next((n for n, line in enumerate(lines, 1) if re.match(rf'\s*["\[]?{re.escape(key)}\b', line)), None)
    shown = escape(os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path))
    return shown if number is None else f"{shown}:{number}"
