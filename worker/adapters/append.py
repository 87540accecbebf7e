"""Appends lines to a file that several processes share: under a lock, synced to disk, and without overwriting anything.

The file stays open between two batches of lines, so that it can be watched: whoever removes, replaces or cuts it while
it is in use takes delivered secrets away. A line that was only partly written when the power failed is ended with a
newline, and readers skip it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from worker.adapters.confirmed_lines import Confirmed, begun, further
from worker.adapters.private_files import OTHERS_WRITE, open_private, sync_folder
from worker.adapters.watched_file import WatchedFile

GONE_CURE = (
    "nobody else is called. Put the file back, or restore it: what the worker confirmed as delivered is in it alone. "
    "Rotate or move it only while no worker runs"
)
"""What to do once a file in use was taken away."""
_LAST_BYTES = 64
"""Bytes at the end of what was written that show whether it is still there: sealed lines differ in them."""


def append(path: Path, lines: Sequence[bytes], *, what: str) -> None:
    """Append lines, each with its newline, to the file; they are durable on return. See ``SharedFile``."""
    file = SharedFile(path, what)
    try:
        file.append(lines)
    finally:
        file.close()


class SharedFile:
    """One such file, not yet open; ``what``: the words for it in errors."""

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self._what = what
        self._watched = WatchedFile(path, what, GONE_CURE)
        self._descriptor: int | None = None
        self._ours: tuple[int, bytes] | None = None
        """Where the last lines that this process wrote end in the file, and their last bytes."""
        self.confirmed: Confirmed | None = None
        """What this process saw become durable; ``None``: it has not opened the file yet."""

    @property
    def size(self) -> int:
        """The bytes that the file has at least: its size when this process last looked at it."""
        return self._watched.least

    def open_existing(self) -> None:
        """Open the file and begin to watch it, if there is one.

        Raises ``UsageError`` for what is no private file of ours (``private_files``), ``OSError``.
        """
        try:
            self._descriptor = open_private(self.path, os.O_RDWR | os.O_APPEND, what=self._what, forbidden=OTHERS_WRITE)
        except FileNotFoundError:
            return
        self._begin(self._descriptor)

    def append(self, lines: Sequence[bytes]) -> None:
        """Append lines, each with its newline; they are durable on return. A new file gets the mode 0600.

        Raises ``UsageError`` for what is no private file of ours, ``PersonMustAct`` where the file was taken away since
        it was first opened or written, ``OSError``.
        """
        with self._locked() as descriptor:
            data = b"".join(lines)
            if data and _ends_within_a_line(descriptor):
                data = b"\n" + data
            end = os.fstat(descriptor).st_size + len(data)
            written = 0
            while written < len(data):
                written += os.write(descriptor, data[written:])
            os.fdatasync(descriptor)
            self._watched.least = end  # not what the file has now: it may have been cut meanwhile
            self._ours = (end, data[-_LAST_BYTES:]) if data else self._ours
            if self.confirmed is not None:
                self.confirmed = further(self.confirmed, descriptor, end)
            self.check()  # what was written into a file that is gone is not delivered

    def check(self) -> None:
        """See ``watched_file.Watched``.

        Where it was cut, others may have made it longer again since; then what we wrote is not where it was.
        """
        self._watched.check()
        if self._descriptor is None:
            return
        self._watched.least = max(self._watched.least, os.fstat(self._descriptor).st_size)
        if self._ours is not None:
            end, last = self._ours
            if os.pread(self._descriptor, len(last), end - len(last)) != last:
                raise self._watched.gone("was cut or written over")

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Open the file, if it is not open yet, with an exclusive lock on it."""
        while True:
            if self._descriptor is None:
                flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
                descriptor = open_private(self.path, flags, what=self._what, forbidden=OTHERS_WRITE)
            else:
                descriptor = self._descriptor
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                try:
                    if self._descriptor is not None:
                        self.check()
                    elif _is_still_at(self.path, descriptor):
                        self._descriptor = descriptor
                        self._begin(descriptor)
                    else:
                        continue  # moved away while we waited for its lock: the lines belong into what is there now
                    if not os.fstat(descriptor).st_size:  # new: created here or by another process
                        sync_folder(self.path.parent)
                    yield descriptor
                    return
                finally:
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
            finally:
                if descriptor is not self._descriptor:
                    os.close(descriptor)

    def _begin(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self._watched.begin(found)
        self._watched.least = found.st_size
        self.confirmed = begun(descriptor)


def _is_still_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _ends_within_a_line(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
