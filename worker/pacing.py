"""One rate for all workers of a rollout, and the only place that knows asyncio-throttle.

Workers reserve slices of one shared timeline. In its slices, and only there, a worker sends at the shared rate; what it
does not use is lost, never saved up. Answers that say "too many" lower the shared rate at once; while all goes well it
rises again, slowly, and never above what was configured.

One waiter at the throttle, ever: asyncio-throttle polls, so all others wait behind a lock.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Self

from asyncio_throttle.throttler import Throttler

from worker.errors import LedgerAway
from worker.ports import Clock, Pace, PaceBook
from worker.timeline import MARGIN, cut, plan, slice_length

FORESIGHT = 0.75
"""The next slice is reserved when less than this part of a slice is left."""
GUARD = 0.0035
"""The part of the rate that even catching up does not touch; less than ``MARGIN``, so that it seldom has to wait."""
BURST = 0.02
"""Seconds' worth of sends that keep their distance from each other as one."""
AT_ONCE = 0.003
"""Seconds within which what is due leaves at once: timers are no finer than milliseconds, and each one costs."""
CATCH_UP = 0.75
"""How close, as a part of the usual distance, sends may follow each other to make up for timers that rang late."""
MEMORY = 1.0
"""Seconds back from which lateness is made up for."""
TIMER = 0.0006
"""Seconds by which a timer may ring early."""

TOUCHING = 0.001
"""Seconds between two slices that are as good as one."""
PAUSES = 0.1, 2.0
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

    @property
    def oldest(self) -> float | None:
        """When the send left that the next one has to keep its distance from."""
        return self._times[0] if len(self._times) == self._sends else None

    def left(self) -> float:
        """Seconds until a place is free."""
        oldest = self.oldest
        return 0.0 if oldest is None else max(0.0, oldest + self._period - time.monotonic())

    async def acquire(self) -> None:
        self._throttler.retry_interval = self.left() + TIMER
        await self._throttler.acquire()  # type: ignore[no-untyped-call]
        if len(self._times) == self._sends:
            self._times.popleft()
        self._times.append(time.monotonic())


class _Spacing:
    """Two throttles in a row: the spread keeps sends apart, the guard keeps any second within the rate."""

    def __init__(self, rate: float) -> None:
        self._spread, self._guard = _Limit(), _Limit()
        self._due = 0.0
        """When the next send is due if all leave evenly."""
        self.set(rate)

    def set(self, rate: float) -> None:
        self._rate = rate
        self._together = max(1, round(rate * BURST))
        sends = max(1, int(rate))
        self._guard.set(sends, sends * (1 + GUARD) / rate)
        self._spread.set(self._together, self._together / rate)

    def begin(self) -> None:
        """Sends were not possible until now, so none is late."""
        self._due = max(self._due, time.monotonic())

    def left(self) -> float:
        """Seconds until the next send may leave: when it is due, or closer to the last ones if it is late."""
        oldest = self._spread.oldest
        if oldest is not None:
            now, usual = time.monotonic(), self._together * (1 + MARGIN) / self._rate
            target = self._due if self._due > now + AT_ONCE else now
            self._spread.set(self._together, min(usual, max(CATCH_UP * usual, target - oldest)))
        return max(self._spread.left(), self._guard.left())

    async def acquire(self) -> None:
        await self._spread.acquire()
        await self._guard.acquire()
        self._due = max(self._due, time.monotonic() - MEMORY) + (1 + MARGIN) / self._rate


@dataclass(slots=True)
class _Grant:
    """A slice, or several without a gap, in monotonic seconds, with the sends that are left of it."""

    start: float
    end: float
    sends: int
    begun: bool = False


class SharedPacer:
    """The ``Pacer`` port: at most ``configured`` requests/s by all workers that share ``book``. For ``async with``."""

    def __init__(self, book: PaceBook, configured: float, clock: Clock) -> None:
        self._book, self._configured, self._clock = book, configured, clock
        self._spacing = _Spacing(configured)
        self._turn = asyncio.Lock()
        self._grants: deque[_Grant] = deque()
        self._reserved_until = 0.0
        self._asked = False
        self._woken, self._granted = asyncio.Event(), asyncio.Event()
        self._row: Pace | None = None
        """The shared row as it was last seen; ``None`` where it has to be read."""
        self._pace = Pace(0.0, configured, 0.0)
        """The same with our own cuts, written or not yet."""
        self._cuts: list[tuple[float, float]] = []
        """Cuts to be written: when the request left and when the answer came, in shared time."""
        self._lag = 0.0
        """Seconds that the last write took."""

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
            while True:
                self._ask()
                grant = await self._next_grant()
                if self._clock.monotonic() + self._spacing.left() >= grant.end:
                    grant.sends = 0
                    continue
                await self._spacing.acquire()
                if self._clock.monotonic() < grant.end:
                    grant.sends -= 1
                    return

    def throttled(self, sent_at: float) -> None:
        """A request sent at that monotonic moment was answered "too many": slow down, once a round trip."""
        now = self._book.shared_time()
        one = now - (self._clock.monotonic() - sent_at), now
        pace = cut(self._pace, *one, self._configured)
        if pace is not self._pace:
            self._cuts.append(one)
            self._adopt(pace)
            self._woken.set()

    def _adopt(self, pace: Pace) -> None:
        self._pace = pace
        self._spacing.set(pace.rate)

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            self._woken.set()

    async def _next_grant(self) -> _Grant:
        """Wait for our turn on the timeline."""
        while True:
            now = self._clock.monotonic()
            while self._grants and (self._grants[0].end <= now or self._grants[0].sends == 0):
                self._grants.popleft()
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
                    self._spacing.begin()
                    grant.begun = True
                return grant

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
        early = FORESIGHT * slice_length(self._pace.rate) + 2 * self._lag
        return max(0.0, self._reserved_until - early - self._clock.monotonic())

    async def _write(self) -> None:
        """Write what there is to write into the shared row. Raises ``LedgerAway``."""
        started = self._clock.monotonic()
        needed, cuts = self._until_needed() == 0, len(self._cuts)
        if not needed and not cuts:
            return
        row = self._row or await self._book.read_pace()
        pace = row and self._with_cuts(row)
        now, mine = self._book.shared_time(), self._clock.monotonic()
        slice_ = None
        if needed:
            pace, slice_ = plan(pace, now + self._lag, self._configured)
        elif pace is not row and pace:
            pace = replace(pace, version=pace.version + 1)
        if pace is not row and pace and not await self._book.put_pace(pace):
            self._row = None
            self._woken.set()
            return
        self._lag = self._clock.monotonic() - started
        self._row = pace
        del self._cuts[:cuts]
        if pace:
            self._adopt(self._with_cuts(pace))
        if slice_:
            self._asked = False
            self._grant(slice_.start - now + mine, slice_.end - now + mine, slice_.sends)

    def _with_cuts(self, pace: Pace) -> Pace:
        for one in self._cuts:
            pace = cut(pace, *one, self._configured)
        return pace

    def _grant(self, start: float, end: float, sends: int) -> None:
        last = self._grants[-1] if self._grants else None
        if last and abs(last.end - start) < TOUCHING:
            last.end = end
            last.sends += sends
        else:
            self._grants.append(_Grant(start, end, sends))
        self._reserved_until = end
        self._granted.set()
