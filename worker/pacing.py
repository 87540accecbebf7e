"""One rate for all workers of a rollout, and the only place that knows asyncio-throttle.

Workers reserve slices of one shared timeline. In its slices, and only there, a worker sends at the shared rate; what it does
not use is lost, never saved up. Answers that say "too many" lower the shared rate at once; while all goes well it rises
again, slowly, and never above what was configured.

One waiter at the throttle, ever: asyncio-throttle polls, so all others wait behind a lock.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

from asyncio_throttle import Throttler

from worker.errors import LedgerAway
from worker.ports import Clock, Pace, PaceBook

SLICE = 0.4
"""Seconds of the timeline that a worker reserves at a time; longer where that is less than ``FEWEST`` sends."""
FIRST_SLICE = 0.1
"""Seconds, where nobody sent before: others shall not wait long to join in."""
FEWEST = 3
FORESIGHT = 0.75
"""The next slice is reserved when less than this part of a slice is left."""
MARGIN = 0.003
"""The part of the rate that is left unused, so that jitter on the way stays within the quota."""

CUT = 0.95
"""What a "too many" multiplies the rate by, at most once a round trip."""
RISE = 0.003
"""What each second of work adds to the rate, as a part of the configured one."""
LOWEST = 0.02
"""The part of the configured rate below which no cut goes, unless that is above ``LOWEST_RATE``."""
FORGET_AFTER = 60.0
"""Seconds without a send after which a lowered rate says nothing any more."""
LONGEST_WAIT = 60.0
"""Seconds, or a hundred slices: a timeline that is reserved further ahead was written by another clock."""

BURST = 0.02
"""Seconds' worth of sends that may leave together, since timers are no finer than milliseconds."""
CATCH_UP = 0.93
"""How much faster than the rate sends may follow each other to make up for a timer that came late."""
WARM_UP = 1.0
"""Seconds without catching up after a time of silence, so that sends spread evenly over every second to come."""
TIMER = 0.0006
"""Seconds by which a timer may ring too early."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Part of the timeline (seconds of the shared clock) that belongs to one worker, for so many sends."""

    start: float
    end: float
    sends: int
    fresh: bool
    """Nobody sent just before it."""


def plan(pace: Pace | None, now: float, configured: float) -> tuple[Pace, Slice]:
    """Reserve the next slice at shared time ``now``: the pace to write, and the slice that is ours once it is written."""
    if pace is None or now - pace.reserved_until > FORGET_AFTER:
        pace = Pace(now, configured, now, pace.version if pace else 0)
    length = max(SLICE, FEWEST / pace.rate)
    ahead = pace.reserved_until - now
    start = pace.reserved_until if 0 <= ahead <= max(LONGEST_WAIT, 100 * length) else now
    sends = max(1, round(pace.rate * (FIRST_SLICE if start == now else length)))
    end = start + sends / pace.rate * (1 + MARGIN)
    rate = bounded(pace.rate + RISE * configured * (end - start), configured)
    written = Pace(end, rate, min(pace.changed_at, now), pace.version + 1)
    return written, Slice(start, end, sends, fresh=start == now)


def cut(pace: Pace, sent_at: float, now: float, configured: float) -> Pace:
    """The pace after a "too many" for a request of shared time ``sent_at``; unchanged if the last cut came after it."""
    if sent_at <= min(pace.changed_at, now):
        return pace
    return replace(pace, rate=bounded(pace.rate * CUT, configured), changed_at=now)


def bounded(rate: float, configured: float) -> float:
    """``rate``, neither above the configured one nor hopelessly low (requests/s)."""
    return min(configured, max(rate, LOWEST * configured, min(LOWEST_RATE, configured)))


LOWEST_RATE = 0.5


class _Limit:
    """At most so many sends in any such period, by asyncio-throttle, polled only when a place becomes free."""

    def __init__(self) -> None:
        self._throttler = Throttler(1)
        self._times: deque[float] = deque()

    def set(self, sends: int, period: float) -> None:
        self._throttler.rate_limit = sends
        self._throttler.period = period

    def left(self) -> float:
        """Seconds until a place is free; below 0 if one is."""
        while len(self._times) > self._throttler.rate_limit:
            self._times.popleft()
        if len(self._times) < self._throttler.rate_limit:
            return 0.0
        return self._times[0] + self._throttler.period - time.monotonic()

    async def acquire(self) -> None:
        self._throttler.retry_interval = max(0.0, self.left()) + TIMER
        await self._throttler.acquire()
        self._times.append(time.monotonic())
