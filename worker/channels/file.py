"""The file channel: a line a user, appended under a lock and synced before it counts as delivered.

Everything that waits shares one sync. The file is opened anew for every group, so that one which was moved away by log
rotation is followed by a new one. A line that a power cut tore is closed with a newline; readers skip it.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from worker.errors import ChannelAway
from worker.grouping import Grouped
from worker.model import Sealed


class FileChannel:
    """``Channel`` into one file (0600), safe for several processes on one host."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._appends: Grouped[bytes, None] = Grouped(self._append, "file-channel")

    async def deliver(self, username: str, sealed: Sealed) -> None:
        """See ``ports.Channel``."""
        try:
            await self._appends.submit(line(username, sealed))
        except OSError as error:
            raise ChannelAway(
                f"{self._path}: {error.strerror}",
                "free space, or make the folder writable; what waits is sealed in the ledger",
            ) from None

    async def close(self) -> None:
        """End the thread."""
        await self._appends.close()

    def _append(self, lines: Sequence[bytes]) -> Sequence[None]:
        with _locked(self._path) as descriptor:
            data = b"".join(lines)
            if _is_torn(descriptor):
                data = b"\n" + data
            written = 0
            while written < len(data):
                written += os.write(descriptor, data[written:])
            os.fdatasync(descriptor)
        return [None] * len(lines)


def line(username: str, sealed: Sealed) -> bytes:
    """The line of one record: its address and order in the clear, the rest sealed."""
    record = {
        "username": username,
        "generation": sealed.generation,
        "attempt_id": sealed.attempt_id,
        "associated_at": sealed.associated_at,
        "sealed": base64.b64encode(sealed.blob).decode("ascii"),
    }
    return json.dumps(record).encode("ascii") + b"\n"


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
