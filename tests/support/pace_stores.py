"""Stores of a shared pace in memory, which can be unavailable and slow, and fleets of workers that share one."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from decimal import Decimal
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from tests.support.virtual_time import Result, VirtualTime
from worker.adapters.ledgers.dynamodb.pace import SharedPace
from worker.core.errors import LedgerUnavailable
from worker.pacing.pace import Pace, PaceStore
from worker.pacing.pacer import SharedPacer
from worker.rehearsal.fake_cognito.quota import TokenBucket, Traffic


class MemoryPaceStore:
    """A ``PaceStore``. Each call takes ``latency`` seconds, and up to ``jitter`` more, evenly distributed.

    ``offset`` is by how many seconds its clock is ahead of this host's.
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
        self.unavailable = False
        self.mute = 0.0
        """Which part of the writes is done, but not answered."""
        self.writes = 0
        self._dice = dice or random.Random(0)

    async def read_pace(self) -> Pace | None:
        half = await self._way()
        pace = self.pace
        await asyncio.sleep(half)
        return pace

    async def change_pace(self, change: Callable[[Pace | None], Pace | None]) -> Pace | None:
        """Change it at once, as in a transaction."""
        half = await self._way()
        pace = change(self.pace)
        if pace is not self.pace:
            self.pace = pace
            self.writes += 1
        await asyncio.sleep(half)
        if self.mute and self._dice.random() < self.mute:
            raise LedgerUnavailable("the ledger did not answer")
        return pace

    def shared_time(self) -> float:
        return time.monotonic() + self.offset

    def one_way(self) -> float:
        """Seconds to the ledger, or back."""
        return (self.latency + self._dice.random() * self.jitter) / 2

    async def _way(self) -> float:
        """Reach the ledger; how long the way back takes."""
        half = self.one_way()
        await asyncio.sleep(half)
        if self.unavailable:
            raise LedgerUnavailable("the ledger is unavailable")
        return half


class Behind:
    """The same pace as a worker sees it whose idea of the shared clock is so many seconds behind the others'."""

    def __init__(self, store: MemoryPaceStore, seconds: float) -> None:
        self._store = store
        self._seconds = seconds
        self.read_pace = store.read_pace
        self.change_pace = store.change_pace

    def shared_time(self) -> float:
        return self._store.shared_time() - self._seconds


class PaceItem:
    """The one item, in a service that takes ``latency()`` seconds either way. ``lose``: answers that get lost."""

    def __init__(self, latency: Callable[[], float] = lambda: 0.0) -> None:
        self.item: Any = None
        self.latency = latency
        self.lose = 0
        self.reads = 0

    async def get_item(self, **_: Any) -> Any:
        self.reads += 1
        await asyncio.sleep(self.latency())
        answer = {"Item": self.item} if self.item else {}
        await asyncio.sleep(self.latency())
        return answer

    async def update_item(self, **request: Any) -> Any:
        values = request["ExpressionAttributeValues"]
        for _ in range(2 if self.lose else 1):  # the SDK's retry
            await asyncio.sleep(self.latency())
            stood = self.item
            if written := self._holds(request["ConditionExpression"], **values):
                self.item = self._updated(request["UpdateExpression"], **values)
            await asyncio.sleep(self.latency())
        self.lose = max(0, self.lose - 1)
        if not written:
            answer: Any = {"Error": {"Code": "ConditionalCheckFailedException"}, "Item": stood}
            raise ClientError(answer, "UpdateItem")
        return {"Attributes": stood} if stood else {}

    def _holds(self, condition: str, **values: Any) -> bool:
        def term(said: str) -> bool:
            if said.startswith("attribute_not_exists"):
                return not self.item
            name, comparison, value = said.split()
            same = bool(self.item) and self.item[name[1:]] == values[value]
            return same if comparison == "=" else bool(self.item) and not same

        return any(all(map(term, each.split(" AND "))) for each in condition.split(" OR "))

    def _updated(self, expression: str, **values: Any) -> Any:
        item = {}
        for name, term in (each.split(" = ") for each in expression.removeprefix("SET ").split(", ")):
            *added, value = (each.strip() for each in term.split("+"))
            item[name[1:]] = values[value]
            if added:
                total = Decimal(self.item[name[1:]]["N"]) + Decimal(values[value]["N"])
                item[name[1:]] = {"N": str(total)}
        return item


class TickingTime(VirtualTime):
    """Virtual time in which no two moments are the same, so that nobody waits for one that is rounded to now."""

    def __init__(self) -> None:
        self._now = 1000.0

    @property
    def now(self) -> float:
        return self._now

    @now.setter
    def now(self, moment: float) -> None:
        self._now = moment + (self.late() if moment > self._now else 1e-6)

    def late(self) -> float:
        """Seconds by which a timer rings late."""
        return 1e-6

    def run(self, main: Coroutine[Any, Any, Result]) -> Result:
        """See ``VirtualTime``; whoever asks the machine's clock, like the throttle, has this time as well."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "monotonic", self.monotonic)
            patch.setattr(time, "clock_gettime", lambda _: self.monotonic())
            return super().run(main)


class LateTime(TickingTime):
    """Timers ring a millisecond late, some of them many."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self._dice = random.Random(seed)

    def late(self) -> float:
        return self._dice.expovariate(1000) + (0.02 if self._dice.random() < 0.01 else 0.0)


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
        self._shared = SharedPace(cast("Any", fleet.item), "table", self._clock.monotonic) if fleet.item else None
        store: PaceStore = self._shared or Behind(fleet.store, fleet.dice.random() * 0.002)
        self.pacer = SharedPacer(store, fleet.configured, self._clock)
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
        if self._shared:
            await self._shared.close()


class Fleet:
    """Workers that share one ledger (5 to 15 ms a call) and a token bucket, in virtual time.

    ``seed`` is where the random numbers begin. ``on_dynamodb``: hosts without a common clock share an item, through the
    adapter itself; otherwise they share a store in memory and a clock. ``late``: timers ring late, see ``LateTime``.
    """

    def __init__(
        self,
        quota: float,
        *,
        configured: float | None = None,
        seed: int = 0,
        on_dynamodb: bool = False,
        late: bool = False,
    ) -> None:
        self.time = LateTime(seed) if late else TickingTime()
        self.quota, self.configured = quota, configured or quota
        self.dice = random.Random(seed)
        self.store = MemoryPaceStore(latency=0.005, jitter=0.01, dice=self.dice)
        self.item = PaceItem(self.store.one_way) if on_dynamodb else None
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
        """Whether no second ever had more than the quota and one request, or 0.5 %, and what hosts differ by."""
        differ = 0.04 if self.item else 0.0
        return self.traffic.largest_window() <= self.quota * (1 + differ) + max(1.0, 0.005 * self.quota)
