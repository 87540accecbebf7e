"""A shared pace in memory, which can be away and slow: what the ledgers keep in a row."""

from __future__ import annotations

import asyncio
import time

from worker.errors import LedgerAway
from worker.ports import Pace


class MemoryPaceBook:
    """The ``PaceBook`` port. ``latency``: seconds that each call takes; ``offset``: of its clock to this host's."""

    def __init__(self, pace: Pace | None = None, *, latency: float = 0.0, offset: float = 0.0) -> None:
        self.pace = pace
        self.latency = latency
        self.offset = offset
        self.away = False
        self.writes = 0

    async def read_pace(self) -> Pace | None:
        await self._call()
        return self.pace

    async def put_pace(self, pace: Pace) -> bool:
        await self._call()
        if pace.version != (self.pace.version if self.pace else 0) + 1:
            return False
        self.pace = pace
        self.writes += 1
        return True

    def shared_time(self) -> float:
        return time.monotonic() + self.offset

    async def _call(self) -> None:
        await asyncio.sleep(self.latency)
        if self.away:
            raise LedgerAway("the ledger is away")
