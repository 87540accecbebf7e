"""Keeps one worker's sends apart, and is the only place that knows asyncio-throttle.

They leave when they are due, evenly; who is late may hurry, but two throttles in a row see to it that this does no
harm. asyncio-throttle polls, so there may be one waiter at a time only.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

from asyncio_throttle.throttler import Throttler

from worker.pacing.schedule import MARGIN

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
LATE, LATEST = 0.005, 0.01
"""The same where others send too: one send's worth, but within these. Nobody sees all sends, so little may be late."""
APART = 0.5, 0.01
"""How far a slice's last send keeps from the next slice: a part of the usual distance, and so many seconds at most."""
TIMER = 0.0006
"""Seconds by which a timer may ring early."""


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


class RateLimiter:
    """At most ``rate`` requests/s. The spread keeps late ones apart, the guard keeps any second within the rate."""

    def __init__(self, rate: float) -> None:
        self._spread, self._guard = _Limit(), _Limit()
        self._due = 0.0
        """When the next send is due if all leave evenly."""
        self.margin = MARGIN
        self.set(rate)

    def set(self, rate: float) -> None:
        """From now on at this rate, in requests/s."""
        self._rate = rate
        self._late = max(LATE, min(1 / rate, LATEST))
        self.apart = min(APART[0] / rate, APART[1])
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
        """Wait until the next send may leave."""
        if (early := self._early()) > 0:
            await asyncio.sleep(early)
        await self._spread.acquire()
        await self._guard.acquire()
        self._due += (1 + self.margin) / self._rate
