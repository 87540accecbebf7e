"""Makes the paths among the settings absolute, so that the same settings mean the same files wherever a command is run.

A relative path in the settings file is relative to the folder of that file (of the file itself, where its name is a
link), and so is a path that is given nowhere, unless the environment variable ``MFA_WORKER_STATE`` names a folder for
those. One in a variable or a flag is relative to the working directory, as people expect there. Links among the parent
folders are resolved; the last part of the path is kept, so that a link in its place is seen by whoever writes there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

STATE = "MFA_WORKER_STATE"
"""The environment variable that names the folder of those files for which no path is given, as in the image."""


def is_path(field: FieldInfo) -> bool:
    """Whether the setting is a path."""
    return Path in (field.annotation, *get_args(field.annotation))


def placed(text: str | Path, folder: Path) -> Path:
    """Return the absolute path that ``text`` names in ``folder``; what is absolute already stays there."""
    path = folder / text
    return Path(os.path.realpath(path.parent), path.name)


def folder_of(config: Path | None) -> Path:
    """Return the folder that paths in a settings file are relative to.

    The working directory where there is no file, or only a pipe.
    """
    return Path(os.path.realpath(config)).parent if config is not None and config.is_file() else Path()


def folder_of_defaults(config: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the folder of the files for which no path is given."""
    return Path(environ[STATE]) if environ.get(STATE) else folder_of(config)


def moved(text: str | Path, path: Path) -> Path | None:
    """Return the file in the working directory that earlier versions meant by ``text``, if it may be the one in use.

    They took every relative path from there. It may be in use if it exists, and nothing is at ``path`` yet.
    """
    earlier = placed(text, Path())
    return earlier if earlier != path and os.path.lexists(earlier) and not os.path.lexists(path) else None


def without_a_path(known: Mapping[str, FieldInfo], values: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Path]:
    """Return each path that is given nowhere and computed from nothing: ``section.key`` and its default."""
    absent = {}
    for key, field in known.items():
        section, _, name = key.partition(".")
        computed = isinstance(field.json_schema_extra, dict) and "by_default" in field.json_schema_extra
        if is_path(field) and isinstance(field.default, Path) and not computed and name not in values.get(section, {}):
            absent[key] = field.default
    return absent
