"""The file channel: one line for each secret, appended under a lock and synced to disk before it counts as delivered.

All waiting lines share one sync.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from worker.adapters.append import append
from worker.adapters.batching import ThreadBatcher
from worker.core.errors import ChannelUnavailable
from worker.core.model import Sealed
from worker.core.record import record_line


class FileChannel:
    """``Channel`` into one file (0600), safe for several processes on one host."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.gather = 0.0
        """For how many seconds a line may wait for others, to share their sync."""
        self._appends: ThreadBatcher[bytes, None] = ThreadBatcher(self._append, "file-channel")

    async def open(self) -> None:
        """Do nothing: the file is created with its first line."""

    async def deliver(self, username: str, sealed: Sealed) -> None:
        """See ``ports.Channel``."""
        try:
            await self._appends.submit(record_line(username, sealed) + b"\n", gather=self.gather)
        except OSError as error:
            raise ChannelUnavailable(
                f"{self._path}: {error.strerror}",
                "free space, or make the folder writable; what waits is sealed in the ledger",
            ) from None

    async def close(self) -> None:
        """Finish the waiting deliveries, and end the thread."""
        await self._appends.close()

    def _append(self, lines: Sequence[bytes]) -> Sequence[None]:
        append(self._path, lines)
        return [None] * len(lines)
