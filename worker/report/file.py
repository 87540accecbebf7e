"""Writes the page: whole or not at all, for its owner alone, and never over anything that is no page of ours."""

from __future__ import annotations

import os
from pathlib import Path

from worker.adapters.private_files import look_private, write_private
from worker.core.errors import DependencyUnavailable, UsageError
from worker.core.text import escape

GENERATOR = '<meta name="generator" content="mfa-worker report">'
"""Stands at the top of each page, and tells it from other files."""
_CURE = "name another file: mfa-worker report --html FILE"
_BEGINNING = 1_024
"""Bytes from the beginning of a page in which it says that it is one."""


def refuse_other_files(path: Path) -> None:
    """Raise ``UsageError`` where no page can be written to ``path``, or it would take the place of anything else.

    An older page may be replaced, and so may an empty file.
    """
    if not path.parent.is_dir():
        raise UsageError(
            f"there is no folder {escape(str(path.parent))} for the page", "create it, or name another --html FILE"
        )
    try:
        found = look_private(path, what="the page", forbidden=0)
        is_free = found is None or not found.st_size or _is_page(path)
    except OSError as error:
        raise UsageError(f"the page cannot be written to {escape(str(path))}: {error.strerror}", _CURE) from None
    if not is_free:
        raise UsageError(f"--html would overwrite {escape(str(path))}, which is no report page", _CURE)
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"the page cannot be written: {escape(str(path.parent))} is not writable", _CURE)


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return GENERATOR.encode() in file.read(_BEGINNING)


def write(path: Path, page: str) -> None:
    """Write the page, mode 0600; an older one stays as it was if that fails. Raises ``DependencyUnavailable``."""
    try:
        write_private(path, page.encode("utf-8", errors="backslashreplace"), what="the page")
    except OSError as error:
        raise DependencyUnavailable(
            f"the page cannot be written to {escape(str(path))}: {error.strerror}",
            "free space or name a file elsewhere, and run the same command again; nothing else was changed",
        ) from None
