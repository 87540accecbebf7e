"""A shared pace in memory, which can be away and slow: what the ledgers keep in a row; and fleets that share it."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from tests.conftest import VirtualTime
from worker.errors import LedgerAway
from worker.pacing import SharedPacer
from worker.ports import Pace
from worker.rehearsal.quota import TokenBucket, Traffic


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

    async def change_pace(self, change: Callable[[Pace | None], Pace | None]) -> Pace | None:
        """As a service without transactions does: read, then add to what stands; where that cannot be, again."""
        before = await self.read_pace()
        while (pace := change(before)) is not None and pace is not before:
            now, added = self.shared_time(), pace.reserved_until - (before.reserved_until if before else 0.0)
            half = await self._way()
            stands = self.pace
            adds = before and (added == 0 or (before.reserved_until > now and added > 0))
            if adds and stands and before and stands.changed_at == before.changed_at:
                pace = replace(pace, reserved_until=stands.reserved_until + added, version=stands.version + 1)
            if applied := pace.version == (stands.version if stands else 0) + 1:
                self.pace = pace
                self.writes += 1
            else:
                self.conflicts += 1
            await asyncio.sleep(half)
            if self.mute and self._dice.random() < self.mute:
                raise LedgerAway("the ledger did not answer")
            if applied:
                break
            before = stands
        return pace

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
        self.change_pace = book.change_pace

    def shared_time(self) -> float:
        return self._book.shared_time() - self._seconds


class TickingTime(VirtualTime):
    """Virtual time in which no two moments are the same, so that nobody waits for one that is rounded to now."""

    def __init__(self) -> None:
        self._now = 1000.0

    @property
    def now(self) -> float:
        return self._now

    @now.setter
    def now(self, moment: float) -> None:
        self._now = moment + 1e-6


class HostClock:
    """The clock of a host that was started at another moment."""

    def __init__(self, time: VirtualTime, ahead: float) -> None:
        self._time, self._ahead = time, ahead

    def monotonic(self) -> float:
        return self._time.monotonic() + self._ahead

    def utc(self) -> float:
        return self._time.utc()


class Sender:
    """One worker of a fleet: a few tasks that send as fast as they may, on a host of its own."""

    def __init__(self, fleet: Fleet, busy: Callable[[], bool]) -> None:
        self._fleet, self._busy = fleet, busy
        self._clock = HostClock(fleet.time, fleet.dice.uniform(-500, 500))
        self.pacer = SharedPacer(Behind(fleet.book, fleet.dice.random() * 0.002), fleet.configured, self._clock)
        self.sends: list[float] = []
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self.pacer, asyncio.TaskGroup() as tasks:
            for _ in range(4 + math.ceil(0.15 * self._fleet.quota)):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        fleet = self._fleet
        while True:
            if not self._busy():
                await asyncio.sleep(0.05)
                continue
            await self.pacer.acquire()
            sent_at, now = self._clock.monotonic(), fleet.time.now
            admitted = fleet.bucket.take(now)
            fleet.traffic.arrive(now, admitted=admitted)
            self.sends.append(now)
            await asyncio.sleep(0.05 * fleet.dice.uniform(0.5, 1.5))
            if not admitted:
                self.pacer.throttled(sent_at)

    async def kill(self) -> None:
        """What it reserved is lost."""
        self._task.cancel()
        await asyncio.wait([self._task])


class Fleet:
    """Workers that share one ledger (5 to 15 ms a call) and a token bucket, in virtual time; ``seed``: for the dice."""

    def __init__(self, quota: float, *, configured: float | None = None, seed: int = 0) -> None:
        self.time = TickingTime()
        self.quota, self.configured = quota, configured or quota
        self.dice = random.Random(seed)
        self.book = MemoryPaceBook(latency=0.005, jitter=0.01, dice=self.dice)
        self.bucket, self.traffic = TokenBucket(quota, None, self.time.now), Traffic()
        self.senders: list[Sender] = []

    def join(self, workers: int = 1, busy: Callable[[], bool] = lambda: True) -> None:
        """Some more workers, which send while they are ``busy``."""
        self.senders += [Sender(self, busy) for _ in range(workers)]

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """``main``, and then everybody stops."""

        async def whole() -> None:
            await main()
            for sender in self.senders:
                await sender.kill()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "monotonic", self.time.monotonic)
            self.time.run(whole())

    def used(self, since: float, until: float) -> float:
        """Which part of the quota was used."""
        used = self.traffic.utilisation(self.quota, since, until)
        assert used is not None
        return used

    def apart(self, since: float, until: float, senders: Sequence[Sender] | None = None) -> float:
        """The largest share less the smallest, by the mean."""
        shares = [sum(since <= each < until for each in one.sends) for one in senders or self.senders]
        return (max(shares) - min(shares)) * len(shares) / sum(shares)

    def keeps_to_the_quota(self) -> bool:
        """No one-second window ever held more than the quota and one request, or 0.5 %."""
        return self.traffic.largest_window() <= self.quota + max(1.0, 0.005 * self.quota)
