"""One rate for all workers of a rollout, and the only place that knows asyncio-throttle.

Workers reserve slices of one shared timeline, each its next one when its last one begins: so they take turns. In its
slices, and only there, a worker sends at the shared rate; what it does not use is lost, never saved up. Answers of
"too many" lower the shared rate at once; while all goes well it rises again, slowly, never above what was configured.

One waiter at the throttle, ever: asyncio-throttle polls, so all others wait behind a lock.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import Self

from asyncio_throttle.throttler import Throttler

from worker.errors import LedgerAway
from worker.ports import Clock, Pace, PaceBook
from worker.timeline import MARGIN, SHARED_MARGIN, Grant, Slice, TooMany, cut, plan

GUARD = 0.0035
"""The part of the rate that even catching up does not touch; less than ``MARGIN``, so that it seldom has to wait."""
BURST = 0.02
"""Seconds' worth of sends that keep their distance from each other as one."""
AT_ONCE = 0.003
"""Seconds within which what is due leaves at once: timers are no finer than milliseconds, and each one costs."""
CATCH_UP = 0.75
"""How close, as a part of the usual distance, sends may follow each other to make up for timers that rang late."""
MEMORY = 1.0
"""Seconds back from which lateness is made up for by whoever sent alone for as long: then the guard saw every send."""
LATE, LATEST = 0.005, 0.02
"""The same where others send too: one send's worth, but within these. Nobody sees all sends, so little may be late."""
TIMER = 0.0006
"""Seconds by which a timer may ring early."""

TOUCHING = 0.001
"""Seconds between two slices that are as good as one."""
PAUSES = 0.1, 1.0
"""Seconds between tries to reach a ledger that is away: the first, and the longest."""


class _Limit:
    """At most so many sends in any such period, by asyncio-throttle, made to look when a place is free."""

    def __init__(self) -> None:
        self._throttler = Throttler(1)
        self._sends, self._period = 1, 1.0
        self._times: deque[float] = deque()

    def set(self, sends: int, period: float) -> None:
        self._throttler.rate_limit, self._throttler.period = self._sends, self._period = sends, period
        while len(self._times) > sends:
            self._times.popleft()

    def left(self) -> float:
        """Seconds until a place is free."""
        if len(self._times) < self._sends:
            return 0.0
        return max(0.0, self._times[0] + self._period - time.monotonic())

    async def acquire(self) -> None:
        self._throttler.retry_interval = self.left() + TIMER
        await self._throttler.acquire()  # type: ignore[no-untyped-call]
        if len(self._times) == self._sends:
            self._times.popleft()
        self._times.append(time.monotonic())


class _Spacing:
    """Sends leave when they are due, evenly. Two throttles in a row see to it that those who are late do no harm.

    The spread keeps them apart, the guard keeps any second within the rate.
    """

    def __init__(self, rate: float) -> None:
        self._spread, self._guard = _Limit(), _Limit()
        self._due = 0.0
        """When the next send is due if all leave evenly."""
        self.margin = MARGIN
        self.set(rate)

    def set(self, rate: float) -> None:
        self._rate = rate
        self._late = max(LATE, min(1 / rate, LATEST))
        together = max(1, round(rate * BURST))
        sends = max(1, int(rate))
        self._guard.set(sends, sends * (1 + GUARD) / rate)
        self._spread.set(together, CATCH_UP * together / rate)

    def begin(self, ago: float) -> None:
        """Sends are possible since so many seconds ago. At high rates they keep ahead: the last may not be late."""
        self._due = max(self._due, time.monotonic() - ago - max(0.0, LATE - AT_ONCE - 1 / self._rate))

    def left(self, *, alone: bool) -> float:
        """Seconds until the next send may leave."""
        self._due = max(self._due, time.monotonic() - (MEMORY if alone else self._late))
        return max(self._early(), self._spread.left(), self._guard.left())

    def _early(self) -> float:
        early = self._due - time.monotonic()
        return early if early > AT_ONCE else 0.0

    async def acquire(self) -> None:
        if (early := self._early()) > 0:
            await asyncio.sleep(early)
        await self._spread.acquire()
        await self._guard.acquire()
        self._due += (1 + self.margin) / self._rate


class SharedPacer:
    """The ``Pacer`` port: at most ``configured`` requests/s by all workers that share ``book``. For ``async with``."""

    def __init__(self, book: PaceBook, configured: float, clock: Clock) -> None:
        self._book, self._configured, self._clock = book, configured, clock
        self._spacing = _Spacing(configured)
        self._turn = asyncio.Lock()
        self._grants: deque[Grant] = deque()
        self._last = -math.inf
        """When our last slice begins."""
        self._asked = False
        self._woken, self._granted = asyncio.Event(), asyncio.Event()
        self._row: Pace | None = None
        """The shared row as we wrote it last; ``None`` where somebody else may have, so that it has to be read."""
        self._written: Pace | None = None
        self._pace = Pace(0.0, configured, 0.0)
        """The same with our own cuts, written or not yet."""
        self._learnt = 0.0
        """When we learnt of its last cut, in monotonic seconds."""
        self._cuts: list[TooMany] = []
        self._lag = self._write_lag = 0.0
        """Seconds that it takes to reserve a slice, and of these to write it; slowly forgotten."""
        self._most: int | None = None
        """Sends to reserve at most, where there was no use for more."""
        self.lost = 0
        """Sends that were reserved and not made, while somebody waited for one."""

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep())
        self._keeper.add_done_callback(lambda _: self._granted.set())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
        if not self._keeper.cancelled():
            self._keeper.result()

    @property
    def rate(self) -> float:
        """Requests/s that the quota seems to bear now."""
        return self._pace.rate

    async def acquire(self) -> None:
        """Wait until one request may leave; while the ledger is away, until it is back."""
        async with self._turn:
            since = self._clock.monotonic()
            while True:
                self._ask()
                grant = await self._next_grant(since)
                now = self._clock.monotonic()
                if now + self._spacing.left(alone=now - grant.start > MEMORY) >= grant.end:
                    self._over(grant, since)
                    continue
                await self._spacing.acquire()
                if self._clock.monotonic() < grant.end:
                    grant.left -= 1
                    return

    def throttled(self, sent_at: float) -> None:
        """A request sent at that monotonic moment was answered "too many": slow down, once a round trip."""
        if sent_at <= self._learnt:
            return
        now = self._book.shared_time()
        one = TooMany(now - (self._clock.monotonic() - sent_at), now, self._pace.changed_at)
        self._cuts.append(one)
        self._adopt(cut(self._pace, one, self._configured))
        self._woken.set()

    def _adopt(self, pace: Pace) -> None:
        if pace.changed_at != self._pace.changed_at:
            self._learnt = self._clock.monotonic()
        self._pace = pace
        self._spacing.set(pace.rate)

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            self._woken.set()

    async def _next_grant(self, since: float) -> Grant:
        """Wait for our turn on the timeline; somebody waits ``since`` then."""
        while True:
            now = self._clock.monotonic()
            while self._grants and (self._grants[0].end <= now or self._grants[0].left == 0):
                self._over(self._grants[0], since)
            if not self._grants:
                if self._keeper.done():
                    self._keeper.result()
                self._ask()
                self._granted.clear()
                await self._granted.wait()
            elif (early := self._grants[0].start - now) > 0:
                await asyncio.sleep(early)
            else:
                grant = self._grants[0]
                if not grant.begun:
                    self._spacing.begin(now - grant.start)
                    grant.begun = True
                return grant

    def _over(self, grant: Grant, since: float) -> None:
        self._grants.popleft()
        used = grant.sends - grant.left
        self._most = None if 2 * used >= grant.sends else 2 * used + 1
        if since < grant.end:
            self.lost += grant.left

    async def _keep(self) -> None:
        """Reserve slices before they are needed, only if they are, and write cuts down at once."""
        pause = PAUSES[0]
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._until_needed()):
                    await self._woken.wait()
            self._woken.clear()
            try:
                await self._write()
                pause = PAUSES[0]
            except LedgerAway:
                self._row = None
                await asyncio.sleep(pause)
                pause = min(2 * pause, PAUSES[1])
                self._woken.set()

    def _until_needed(self) -> float | None:
        """Seconds until a slice has to be reserved; ``None`` while nobody asks."""
        if not self._asked:
            return None
        return max(0.0, self._last - self._clock.monotonic())

    async def _write(self) -> None:
        """Write what there is to write into the shared row. Raises ``LedgerAway``."""
        needed, cuts = self._until_needed() == 0, len(self._cuts)
        if not needed and not cuts:
            return
        began = self._clock.monotonic()
        row = self._row or await self._book.read_pace()
        if self._written is None:
            began = self._clock.monotonic()  # the first look at a ledger may take its time
        alone = row == self._written
        pace = row and self._with_cuts(row)
        if pace:
            self._adopt(pace)
        reading = self._clock.monotonic() - began  # so much at least will writing take
        slice_ = None
        if needed:
            now = self._book.shared_time() + max(self._write_lag, reading)
            lag, self._spacing.margin = max(self._lag, 2 * reading), MARGIN if alone else SHARED_MARGIN
            pace, slice_ = plan(pace, now, self._configured, lag=lag, most=self._most, margin=self._spacing.margin)
        elif pace is not row and pace:
            pace = replace(pace, version=pace.version + 1)
        if pace is not row and pace and not await self._book.put_pace(pace):
            self._row = None
            self._woken.set()
            return
        self._row, self._written = pace if alone else None, pace
        del self._cuts[:cuts]
        if pace:
            self._adopt(self._with_cuts(pace))
        if slice_:
            took = self._clock.monotonic() - began
            self._lag, self._write_lag = max(took, self._lag / 2), max(took - reading, self._write_lag / 2)
            self._grant(slice_)

    def _with_cuts(self, pace: Pace) -> Pace:
        for one in self._cuts:
            pace = cut(pace, one, self._configured)
        return pace

    def _grant(self, slice_: Slice) -> None:
        """The slice is ours: put it on our own clock."""
        offset = self._clock.monotonic() - self._book.shared_time()
        start, end = slice_.start + offset, slice_.end + offset
        last = self._grants[-1] if self._grants else None
        if last and abs(last.end - start) < TOUCHING:
            last.end = end
            last.sends += slice_.sends
            last.left += slice_.sends
        else:
            self._grants.append(Grant(start, end, slice_.sends, slice_.sends))
        self._last = start
        self._asked = False
        self._granted.set()
