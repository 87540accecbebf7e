"""Appends lines to a file that several processes share: under a lock, synced, and never over anything.

The file is opened anew for every batch of lines, so that one which was moved away by log rotation is followed by a new
one. A line that a power cut tore is closed with a newline; readers skip it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def append(path: Path, lines: Sequence[bytes]) -> None:
    """Add whole lines, each with its end, to the file (0600 if it is new); durable on return. Raises ``OSError``."""
    with _locked(path) as descriptor:
        data = b"".join(lines)
        if data and _is_torn(descriptor):
            data = b"\n" + data
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        os.fdatasync(descriptor)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file that stands at ``path`` now, open for appending, and ours alone."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _stands_there(path, descriptor):
                if not os.fstat(descriptor).st_size:  # new, by whomever
                    _sync_folder(path.parent)
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _stands_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _is_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
