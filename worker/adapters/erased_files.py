"""Erases files of this host: overwritten, then deleted.

A file is renamed first, so that nobody takes one that is half overwritten for whole, and so that what a kill leaves is
found again. A disk may keep what was overwritten all the same (SSD, copy-on-write): only encryption helps there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from worker.adapters.private_files import look_private, open_private, sync_folder

PREFIX = ".mfa-worker-erasing-"
"""The beginning of the name of a file that is being erased; then its own name."""
BLOCK = 1 << 20
"""Bytes that are overwritten in one write."""


def being_erased(path: Path) -> Path:
    """Where a file is while it is erased."""
    return path.with_name(PREFIX + path.name)


def erase(path: Path, what: str) -> bool:
    """Erase a file, and what an earlier try left of it; return whether there was anything.

    ``what``: the words for it in an error. Raises ``UsageError`` for what is no regular file of ours, ``OSError``.
    """
    left = being_erased(path)
    was_left = _overwrite_and_delete(left, what)
    if look_private(path, what=what, forbidden=0) is None:
        return was_left
    path.rename(left)
    sync_folder(path.parent)
    return _overwrite_and_delete(left, what)


def _overwrite_and_delete(path: Path, what: str) -> bool:
    try:
        file = open_private(path, os.O_RDWR, what=what, forbidden=0)
    except FileNotFoundError:
        return False
    try:
        size, zeros = os.fstat(file).st_size, bytes(BLOCK)
        for start in range(0, size, BLOCK):
            os.pwrite(file, zeros[: size - start], start)
        os.fsync(file)
    finally:
        os.close(file)
    with suppress(FileNotFoundError):
        path.unlink()
    sync_folder(path.parent)
    return True
