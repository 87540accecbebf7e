"""Generates the page ``docs/settings.md`` from the settings themselves, so that the two always agree.

    python -m worker.settings.document > docs/settings.md

With ``keys`` it prints the names of the settings alone, which the shell completes, and which take long to be imported:

    python -m worker.settings.document keys > worker/cli/settings_keys.txt

Tests compare both files with what this prints.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from worker.settings.sections import every_setting
from worker.settings.sources import fields, variable
from worker.settings.types import IS_SECONDS, Section, TypeName, shown

_HEAD = """\
# Settings

This page is made of the code, by `python -m worker.settings.document > docs/settings.md`; do not edit it by hand.

Values come from three places, and the last one that names a setting wins:

1. the settings file, in TOML: `--config FILE`, or the file that the environment variable `MFA_WORKER_CONFIG` names
2. the environment: the variable named below, or the same name with `_FILE` behind it, which names a file to read the
   value from. Lists are written as JSON there
3. the command line: `--set section.key=value`, as often as needed; lists as JSON here too

A relative path in the settings file is relative to the folder of that file, never to the working directory; in a
variable or a flag it is relative to the working directory. A file for which no path is given lies in the folder that
the environment variable `MFA_WORKER_STATE` names (the image sets it), else beside the settings file, else, where no
settings file is read, in the working directory. `config show` prints each path as it is in effect, absolute.

A misspelt setting is refused with the nearest right name. `mfa-worker config show` prints every setting as it is in
effect, and where it came from. Durations are seconds, or text with a unit: `"500ms"`, `"90s"`, `"3m"`, `"1h"`, `"1d"`.
[config/mfa-worker.toml](../config/mfa-worker.toml) is a settings file with all of them for one host,
[config/aws.toml](../config/aws.toml) one for AWS. Only `cognito.user_pool_id` is required by every command;
`mfa-worker run` also needs `seal.recipients`.
"""
_TYPES = {bool: "`true` or `false`", int: "whole number", float: "number", str: "text", Path: "path of a file"}
"""What people call the types that have no ``TypeName``."""
_LIMITS = {"gt": "more than", "ge": "at least", "le": "at most"}
"""The words for a number's limits; the keys are those of ``annotated_types``."""


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join([_HEAD, *_sections(every_setting())])


def keys() -> str:
    """The name of every setting, one a line."""
    return "".join(f"{key}\n" for key, _ in fields(every_setting()))


def _sections(settings: type[BaseSettings]) -> Iterator[str]:
    for name, field in settings.model_fields.items():
        section = field.annotation
        assert isinstance(section, type)
        assert issubclass(section, Section)
        yield f"## `[{name}]`\n\n{cleandoc(section.__doc__ or '')}\n"
        yield from (_entry(f"{name}.{key}", definition) for key, definition in section.model_fields.items())
        yield ""


def _entry(key: str, field: FieldInfo) -> str:
    return f"- **`{key}`**: {field.description}.  \n  {_type(field)} · {_default(field)} · `{variable(key)}`"


def _type(field: FieldInfo) -> str:
    named = [each.text for each in field.metadata if isinstance(each, TypeName)]
    if named:
        return named[-1]
    if get_origin(field.annotation) is Literal:
        *first, last = (f'`"{choice}"`' for choice in get_args(field.annotation))
        return f"{', '.join(first)} or {last}"
    limits = [
        f"{words} {limit:,}"
        for each in field.metadata
        for name, words in _LIMITS.items()
        if (limit := getattr(each, name, None)) is not None
    ]
    return ", ".join([_TYPES[_plain(field.annotation)], *limits])


def _plain(annotation: Any) -> Any:
    """The type without ``| None``."""
    if isinstance(annotation, UnionType):
        return next(each for each in get_args(annotation) if each is not NoneType)
    return annotation


def _default(field: FieldInfo) -> str:
    if isinstance(field.json_schema_extra, dict) and "by_default" in field.json_schema_extra:
        return f"default: {field.json_schema_extra['by_default']}"
    if field.default is PydanticUndefined:
        return "required"
    value = shown(field.default, is_seconds=IS_SECONDS in field.metadata)
    return f"default: `{value}`" if value else "default: none"


if __name__ == "__main__":
    sys.stdout.write(keys() if sys.argv[1:] == ["keys"] else page())
