"""Reads a file of settings as text, and says in words where it is something else: other encodings, other formats."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from worker.core import toml
from worker.core.file_kinds import foreign

LARGEST = 1 << 20
"""The most bytes (1 MiB) of a file of settings or of one value, far above any."""

_YAML = re.compile(r"(?m)^(---\s*$|[A-Za-z_]\w*:(\s|$))")
"""How a line of YAML looks; no line of TOML does."""


class NotText(ValueError):  # noqa: N818 - it is what was found
    """The file is no text that can be used. ``str``: what it is instead, as the rest of a sentence."""


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, read once (it may be a pipe), without a byte order mark.

    Raises ``OSError``, ``NotText``.
    """
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise NotText("is too large")
    if (other := foreign(data)) and other.codec:
        raise NotText(other.flaw)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise NotText(f"is not text in UTF-8: look at line {line}") from None
    if "\0" in text:
        raise NotText(f"is not text: line {text.count(chr(10), 0, text.index(chr(0))) + 1} holds a zero byte")
    return text


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file holds. Raises ``OSError``, ``NotText``."""
    text = read_text(path)
    try:
        return toml.parsed(text)
    except ValueError as error:
        raise NotText(f"is not TOML{_guess(text)}: {error}") from None


def _guess(text: str) -> str:
    """What this seems to be instead; empty if that is unknown."""
    if text.lstrip().startswith("{"):
        return ", it looks like JSON"
    return ", it looks like YAML" if _YAML.search(text) else ""
