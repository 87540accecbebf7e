"""Appends lines to a file that several processes share: under a lock, synced to disk, and without overwriting anything.

The file is opened again for every batch of lines: where log rotation has moved it, a new one is created. A line that
was only partly written when the power failed is ended with a newline, and readers skip it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def append(path: Path, lines: Sequence[bytes]) -> None:
    """Append lines, each with its newline, to the file; they are durable on return.

    A new file gets the mode 0600. Raises ``OSError``.
    """
    with _locked(path) as descriptor:
        data = b"".join(lines)
        if data and _ends_within_a_line(descriptor):
            data = b"\n" + data
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        os.fdatasync(descriptor)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open the file that is at ``path`` now for appending, with an exclusive lock on it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still_at(path, descriptor):
                if not os.fstat(descriptor).st_size:  # new: created here or by another process
                    _sync_folder(path.parent)
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is_still_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _ends_within_a_line(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
