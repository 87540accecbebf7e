"""Reads the sources of settings, and words the complaints about wrong ones.

It does not depend on the settings themselves: it works with every ``BaseSettings`` that consists of sections. There are
three layers, of which the last one wins: a TOML file, the environment, ``--set`` flags. The source of each value is
remembered, so that a complaint can say where to look.
"""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource

from worker.core.errors import UsageError
from worker.core.key_files import READ_BY_OTHERS, how_to_close
from worker.core.text import SHOWN, escape, shortened
from worker.settings.paths import STATE, folder_of, folder_of_defaults, is_path, moved, placed, without_a_path
from worker.settings.text_file import NotText, read_text, read_toml

PREFIX = "MFA_WORKER_"
"""Prefix of the environment variables that are settings."""
CONFIG = f"{PREFIX}CONFIG"
"""The environment variable that names the settings file."""
USUAL = Path("mfa-worker.toml")
"""The usual name of the settings file. It is not read unless somebody names it."""
LIST = "config/mfa-worker.toml and docs/settings.md, in the project, explain every setting"
"""The hint of error messages: where all settings are explained."""

_SERVICE_LINK = re.compile(r"MFA_WORKER_(SERVICE_(HOST|PORT)|PORT)(_[A-Z0-9_]+)?")
"""Variables that are no settings: Kubernetes sets them in every pod of a namespace with a Service named mfa-worker."""


@dataclass(slots=True)
class Layers:
    """The values of all sources together."""

    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Section → key → value, from the last source that has one; only existing keys."""
    sources: dict[str, str] = field(default_factory=dict)
    """``section.key`` → where its value came from, in words."""
    file: Path | None = None
    """The settings file."""
    moved: dict[str, Path] = field(default_factory=dict)
    """``section.key`` of a path → the file in the working directory that earlier versions meant (``paths.moved``)."""
    exposed: dict[str, tuple[str, str]] = field(default_factory=dict)
    """``section.key`` of a secret → what is wrong with the place that it stands in, in words, and the cure."""
    problems: list[str] = field(default_factory=list)
    """Complaints, one sentence each."""


@dataclass(frozen=True, slots=True)
class _Text:
    """The text of one value from a variable or a flag."""

    key: str
    text: str
    source: str


def fields(cls: type[BaseSettings]) -> Iterator[tuple[str, FieldInfo]]:
    """Every ``section.key`` with its definition, in order."""
    for section, outer in cls.model_fields.items():
        if isinstance(outer.annotation, type) and issubclass(outer.annotation, BaseModel):
            for key, inner in outer.annotation.model_fields.items():
                yield f"{section}.{key}", inner


def gather(
    cls: type[BaseSettings], config: Path | None, overrides: Sequence[str], environ: Mapping[str, str]
) -> Layers:
    """Read every source; unknown keys and unreadable files become problems. Paths become absolute, no value is checked.

    Raises ``UsageError`` where the settings file itself cannot be read.
    """
    layers = Layers()
    known = dict(fields(cls))
    if config is None and environ.get(CONFIG):
        config = Path(environ[CONFIG])
    if config is not None:
        layers.file = placed(config, Path())
        values = _toml(config)
        _add(layers, known, values, lambda _: _shown(str(config), 200), folder_of(config))
        for key in _secrets(known):
            section, _, name = key.partition(".")
            if layers.values.get(section, {}).get(name):
                _note_open_to_others(layers, key, config)
    for texts, spelling in ((_environment(layers, known, environ), variable), (_flags(layers, overrides), str)):
        given = {each.key: each for each in texts if _exists(layers, known, each.key, each.source, spelling)}
        sources = {key: each.source for key, each in given.items()}
        _add(layers, known, _nested(cls, given.values()), sources.__getitem__, Path())
    for key, path in without_a_path(known, layers.values).items():
        _place(layers, key, path, folder_of_defaults(config, environ))
    return layers


def complain(layers: Layers, cls: type[BaseSettings], error: ValidationError | None = None) -> None:
    """Raise one ``UsageError`` that lists every problem, if there is any. It never repeats a value."""
    known = dict(fields(cls))
    details = error.errors(include_input=False, include_url=False) if error else []
    consequences = ("default_factory_not_called", "extra_forbidden")  # they follow from a problem that is listed anyway
    problems = [
        *layers.problems,
        *(_problem(layers, known, detail) for detail in details if detail["type"] not in consequences),
    ]
    if problems:
        many = f"{len(problems)} settings are wrong" if len(problems) > 1 else "a setting is wrong"
        hint = LIST if layers.file else f"no settings file was read: {_which_file()}"
        raise UsageError("\n  ".join([f"{many}:", *shortened(problems)]), hint)


def _which_file() -> str:
    """What to do where no settings file was named."""
    if USUAL.is_file():
        return f"name {USUAL}, which is here, with --config {USUAL}, or export {CONFIG}={USUAL.absolute()}"
    return f"name one with --config FILE or {CONFIG}, or write one: mfa-worker init"


# Sources


def _toml(path: Path) -> dict[str, Any]:
    name = _shown(str(path), 200)
    try:
        return read_toml(path)
    except OSError as error:
        raise UsageError(
            f"the settings file {name} cannot be read: {error.strerror}",
            "name another with --config FILE, or write one: mfa-worker init --folder DIR",
        ) from None
    except NotText as error:
        raise UsageError(
            f"the settings file {name} {_shown(str(error), 200)}", "correct that line, then: mfa-worker config show"
        ) from None


def _nested(cls: type[BaseSettings], given: Iterable[_Text]) -> dict[str, Any]:
    source = EnvSettingsSource(cls)
    source.env_vars = {variable(each.key).lower(): each.text for each in given}
    return source()


def _environment(layers: Layers, known: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[_Text]:
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or name in (CONFIG, STATE) or _SERVICE_LINK.fullmatch(name):
            continue
        key = ".".join(name.removeprefix(PREFIX).lower().split("__", 1))
        if key in known or not key.endswith("_file"):
            if text and key in _secrets(known):
                _note_in_environment(layers, key, name)
            yield _Text(key, text, _shown(name))
        elif name.removesuffix("_FILE") in environ:
            layers.problems.append(
                f"{_shown(key.removesuffix('_file'))} is given twice, also as {_shown(name)}; keep one"
            )
        else:
            plain = key.removesuffix("_file")
            if plain in _secrets(known):
                _note_open_to_others(layers, plain, Path(text))
            try:
                text = read_text(Path(text)).strip()
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or f"it {error}"
                layers.problems.append(
                    f"{_shown(name)} names a file that cannot be read: {why}; write the path of a text file"
                )
            else:
                yield _Text(plain, text, _shown(name))


def _secrets(known: Mapping[str, FieldInfo]) -> Iterator[str]:
    """The settings that are never shown."""
    return (key for key, each in known.items() if SecretStr in get_args(each.annotation))


def _note_open_to_others(layers: Layers, key: str, file: Path) -> None:
    """Note where every user of this host can read or change a file that holds a secret.

    It is no reason to refuse it: files that Docker and Kubernetes mount are often so, in a container that has no other
    users.
    """
    try:
        mode = file.stat().st_mode
    except OSError:
        return  # whoever reads it says so
    if stat.S_ISREG(mode) and mode & READ_BY_OTHERS:
        name = _shown(str(file), 200)
        layers.exposed[key] = (
            f"{key} stands in {name}, which every user of this host can read or change (mode {stat.S_IMODE(mode):04o})",
            how_to_close(name),
        )


def _note_in_environment(layers: Layers, key: str, variable: str) -> None:
    """Note where a secret is a variable. It is no reason to refuse it: that is how ECS hands out secrets."""
    seen_by = "root, docker inspect and whoever may start a program in the container see it"
    layers.exposed[key] = (
        f"{key} stands in the environment, as {variable}: {seen_by}",
        f"put it into a file of mode 0600, or mount it as one, and name that: {variable}_FILE",
    )


def _flags(layers: Layers, overrides: Sequence[str]) -> Iterator[_Text]:
    for number, override in enumerate(overrides, 1):
        key, equals, text = override.partition("=")
        if equals:
            yield _Text(key.strip(), text, f"--set {_shown(key.strip())}")
        else:
            layers.problems.append(f"--set number {number} has no =; write --set section.key=value")


def _add(
    layers: Layers,
    known: Mapping[str, FieldInfo],
    values: Mapping[str, Any],
    source: Callable[[str], str],
    folder: Path,
) -> None:
    """Add the values of one source, whose relative paths are relative to ``folder``."""
    for section, table in values.items():
        if not isinstance(table, dict):
            _exists(layers, known, section, source(section), str)
            continue
        for key, value in table.items():
            dotted = f"{section}.{key}"
            if _exists(layers, known, dotted, source(dotted), str):
                layers.values.setdefault(section, {})[key] = value
                layers.sources[dotted] = source(dotted)
                layers.moved.pop(dotted, None)
                if is_path(known[dotted]) and isinstance(value, str) and value and "\0" not in value:
                    _place(layers, dotted, value, folder)
        if not table and not any(name.startswith(f"{section}.") for name in known):
            _exists(layers, known, section, source(section), str)


def _place(layers: Layers, key: str, path: str | Path, folder: Path) -> None:
    section, _, name = key.partition(".")
    absolute = placed(path, folder)
    layers.values.setdefault(section, {})[name] = str(absolute)
    if earlier := moved(path, absolute):
        layers.moved[key] = earlier


# Complaints


def _exists(layers: Layers, known: Mapping[str, Any], key: str, source: str, spelling: Callable[[str], str]) -> bool:
    if key in known:
        return True
    name = f"{_shown(key)} (from {source})"
    if any(each.startswith(f"{key}.") for each in known):
        layers.problems.append(
            f"{name}: is a section; give its keys one by one, such as {spelling(_first(key, known))}"
        )
        return False
    if len(layers.problems) >= SHOWN:  # the rest is counted; to look for what was meant takes a while
        layers.problems.append(name)
        return False
    section, _, leaf = key.lower().rpartition(".")
    elsewhere = [each for each in known if each.endswith(f".{leaf}")]
    in_a_section = any(each.startswith(f"{section}.") for each in known)
    choices = [*known, "config"] if spelling is variable else known
    nearest = partial(difflib.get_close_matches, key.lower(), choices, 1)
    # the wrong section, a small slip, the wrong section of none, a large slip
    near = (elsewhere if in_a_section else []) or nearest(0.75) or elsewhere or nearest()
    meant = " or ".join(spelling(each) for each in near)
    layers.problems.append(f"{name}: is no setting; " + (f"did you mean {meant}?" if near else LIST))
    return False


def _first(section: str, known: Mapping[str, Any]) -> str:
    return next(each for each in known if each.startswith(f"{section}."))


def _problem(layers: Layers, known: Mapping[str, FieldInfo], detail: ErrorDetails) -> str:
    context, loc = detail.get("ctx", {}), detail["loc"]
    key = str(context.get("key") or ".".join(str(part) for part in loc[:2]))
    help_ = known[key].description if key in known else ""
    if detail["type"] == "missing":
        return f"{key} is required: {help_}. Write it in the settings file, as {variable(key)} or --set {key}=…"
    what = str(context["error"]) if detail["type"] == "value_error" else detail["msg"]
    what = what.replace("Input should", "should")
    entry = f"entry {int(loc[2]) + 1} " if len(loc) > 2 and isinstance(loc[2], int) else ""
    return f"{key} (from {layers.sources.get(key, 'the default')}): {entry}{what}. It is: {help_}"


def variable(key: str) -> str:
    """The name of the environment variable for ``section.key``."""
    return f"{PREFIX}{key.replace('.', '__', 1).upper()}"


def _shown(text: str, most: int = 60) -> str:
    cut = text if len(text) <= most else f"{text[:most]}…"
    return escape(cut)
