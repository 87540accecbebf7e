"""The file channel: one line for each secret, appended under a lock and synced to disk before it counts as delivered.

All waiting lines share one sync.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from worker.adapters.append import SharedFile
from worker.adapters.batching import ThreadBatcher
from worker.adapters.confirmed_lines import Confirmed
from worker.adapters.limits import room
from worker.core.errors import ChannelUnavailable, PersonMustAct, UsageError
from worker.core.model import Sealed
from worker.core.record import is_line, record_line

LONGEST_LINE = 1 << 20
"""Bytes of a line that are looked at at once; no record is nearly as long (1 MiB)."""


class FileChannel:
    """``Channel`` into one file (0600), safe for several processes on one host."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = SharedFile(path, "the channel's file")
        self.gather = 0.0
        """For how many seconds a line may wait for others, to share their sync."""
        self._appends: ThreadBatcher[bytes, None] = ThreadBatcher(self._append, "file-channel")

    async def open(self) -> None:
        """Begin to watch the file, if there is one: it is created with its first line.

        Raises ``UsageError`` for what is no private file of ours, ``ChannelUnavailable``.
        """
        try:
            self._file.open_existing()
        except OSError as error:
            raise ChannelUnavailable(
                f"{self._path}: {error.strerror}",
                "make the file readable and writable for this user; nobody was called",
            ) from None

    async def holds_records(self) -> bool:
        """See ``OpenableChannel``: whether a line of the file is a record. Raises ``ChannelUnavailable``."""
        try:
            return await asyncio.to_thread(_holds_records, self._path)
        except OSError as error:
            raise ChannelUnavailable(
                f"{self._path}: {error.strerror}", "make it readable: records of another rollout are looked for in it"
            ) from None

    async def deliver(self, username: str, sealed: Sealed) -> None:
        """See ``ports.Channel``. Raises ``PersonMustAct`` where the file was taken away since it was opened."""
        try:
            await self._appends.submit(record_line(username, sealed) + b"\n", gather=self.gather)
        except OSError as error:
            raise ChannelUnavailable(
                f"{self._path}: {error.strerror}",
                f"make the folder, and make it writable, or {room()}; what waits is sealed in the ledger",
            ) from None
        except UsageError as refused:  # exit 2 would say that nothing was touched
            raise PersonMustAct(str(refused), refused.hint) from None

    def confirmed(self) -> Confirmed | None:
        """What is surely in the file."""
        return self._file.confirmed

    def check(self) -> None:
        """See ``watched_file.Watched``."""
        self._file.check()

    async def close(self) -> None:
        """Finish the waiting deliveries, and end the thread."""
        await self._appends.close()
        self._file.close()

    def _append(self, lines: Sequence[bytes]) -> Sequence[None]:
        self._file.append(lines)
        return [None] * len(lines)


def _holds_records(path: Path) -> bool:
    if not path.is_file():  # a pipe or a device holds nothing, and is not opened
        return False
    with path.open("rb") as file:
        return any(
            is_line(line.decode("utf-8", "replace").rstrip("\r\n"))
            for line in iter(lambda: file.readline(LONGEST_LINE), b"")
        )
