"""A shared pace in memory, which can be away and slow: what the ledgers keep in a row."""

from __future__ import annotations

import asyncio
import random
import time

from worker.errors import LedgerAway
from worker.ports import Pace


class MemoryPaceBook:
    """The ``PaceBook`` port. ``latency``: seconds that each call takes, evenly distributed up to ``jitter`` more.

    ``offset``: of its clock to this host's.
    """

    def __init__(
        self,
        pace: Pace | None = None,
        *,
        latency: float = 0.0,
        jitter: float = 0.0,
        offset: float = 0.0,
        dice: random.Random | None = None,
    ) -> None:
        self.pace = pace
        self.latency = latency
        self.jitter = jitter
        self.offset = offset
        self.away = False
        self.mute = 0.0
        """Which part of the writes is done, and nobody told so."""
        self.writes = 0
        self.conflicts = 0
        self._dice = dice or random.Random(0)

    async def read_pace(self) -> Pace | None:
        half = await self._way()
        pace = self.pace
        await asyncio.sleep(half)
        return pace

    async def put_pace(self, pace: Pace) -> bool:
        half = await self._way()
        applied = pace.version == (self.pace.version if self.pace else 0) + 1
        if applied:
            self.pace = pace
            self.writes += 1
        else:
            self.conflicts += 1
        await asyncio.sleep(half)
        if self.mute and self._dice.random() < self.mute:
            raise LedgerAway("the ledger did not answer")
        return applied

    def shared_time(self) -> float:
        return time.monotonic() + self.offset

    async def _way(self) -> float:
        """Reach the ledger; how long the way back takes."""
        half = (self.latency + self._dice.random() * self.jitter) / 2
        await asyncio.sleep(half)
        if self.away:
            raise LedgerAway("the ledger is away")
        return half


class Behind:
    """The same pace as a worker sees it whose idea of the shared clock is so many seconds behind the others'."""

    def __init__(self, book: MemoryPaceBook, seconds: float) -> None:
        self._book = book
        self._seconds = seconds
        self.read_pace = book.read_pace
        self.put_pace = book.put_pace

    def shared_time(self) -> float:
        return self._book.shared_time() - self._seconds
