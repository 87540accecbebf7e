"""Spaces the requests of one worker evenly; the only file that uses asyncio-throttle.

A worker that may send 100 requests/s sends one every 10 ms, not 100 at once. Timers fire late, so after a late request
the next ones may follow a little sooner. Two throttles in a row keep this within limits:

- the *spread* allows a few requests within a few hundredths of a second: it keeps late ones apart;
- the *guard* allows as many requests as the rate in little more than one second: it keeps each second within the quota.

asyncio-throttle polls: a waiting caller tries again every ``retry_interval`` seconds. With many waiters that costs most
of a core, and with its default of 10 ms a worker uses 88 % of a quota of 100/s instead of 99 %. So only one caller
waits at a time (``SharedPacer`` ensures that), and before each wait the interval is set to the time that is really
left.

The percentages in this file are parts of the quota that the requests of 15 seconds used, in virtual time, with timers
that fire a millisecond late on average and one in a hundred 20 ms late (``LateTime``, ``tests/pacing/test_pacer.py``).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque

from asyncio_throttle import Throttler  # type: ignore[attr-defined]  # imported as its documentation shows

from worker.pacing.schedule import MARGIN, SHARED_MARGIN

GUARD = 0.0035
"""The part of the rate that stays unused even while a worker makes up for late requests.

It is less than ``MARGIN``, so that the guard seldom has to wait. Each per cent of it costs a per cent of the quota;
0.2 to 0.5 % were measured to be enough for jitter.
"""

BURST = 0.02
"""The spread counts as many requests together as are due in so many seconds.

With a twentieth of that, which is one request, only 38 % of a quota of 1,000/s are used: timers are too coarse to wait
for each request. Ten times as much gains nothing, and lets ten times as many requests leave together.
"""

AT_ONCE = 0.003
"""A request that is due within so many seconds leaves at once, without a timer.

Timers are no finer than a millisecond, and each costs CPU. At 0 four workers use 2 % less of a quota of 1,000/s.
"""

CATCH_UP = 0.75
"""How close requests may follow each other to make up for late timers, as a part of their usual distance.

At 1, where nothing is made up for, 95, 91 and 88 % of a quota of 25, 100 and 1,000/s are used instead of 99 %.
"""

MEMORY = 1.0
"""The most seconds of lateness that a worker makes up for, if it was the only one to send for at least that long.

Then its guard, which covers about a second too, saw every request. At 0 only 82 % of a quota of 1,000/s are used.
"""

LATE = 0.005
"""How late a request may leave at high rates if other workers send too, in seconds: a second may hold 0.5 % more than
the quota (or one request more, which is the distance of two requests), so that much lateness exceeds nothing."""

UNSEEN = 0.004
"""The part of the margin, in seconds, that is left for what a worker does not see: the way to the service, and requests
that leave early (``AT_ONCE``). Each millisecond of it costs 0.3 % of a quota of 400/s where timers are late."""

MOST_LATE = 0.025
"""The most seconds by which a request may leave late at low rates, if other workers send too. Timers of a busy machine
ring 20 ms late. At 0.04 a second held 27 requests of a quota of 25 when a worker started on a machine that was overrun.
"""


class _Limit:
    """Allows at most so many requests in any period of so many seconds, by asyncio-throttle."""

    def __init__(self) -> None:
        self._throttler = Throttler(1)
        self._times: deque[float] = deque()
        """When the latest requests left, as many as count (monotonic seconds). The throttle keeps the same times, but
        has no public way to read them."""

    def set(self, sends: int, period: float) -> None:
        """From now on allow at most ``sends`` in ``period`` seconds. Requests that left before still count."""
        self._throttler.rate_limit, self._throttler.period = sends, period
        while len(self._times) > sends:
            self._times.popleft()

    def wait_time(self) -> float:
        """Return the seconds until a request is possible."""
        if len(self._times) < self._throttler.rate_limit:
            return 0.0
        left: float = self._times[0] + self._throttler.period - time.monotonic()
        return max(0.0, left)

    async def acquire(self) -> None:
        """Wait until a request is possible; one caller at a time."""
        # 0.6 ms more than what is left: a timer that fires a little early would cost another timer
        self._throttler.retry_interval = self.wait_time() + 0.0006
        await self._throttler.acquire()  # type: ignore[no-untyped-call]
        if len(self._times) == self._throttler.rate_limit:
            self._times.popleft()
        self._times.append(time.monotonic())


class RateLimiter:
    """Spaces requests evenly at ``rate`` requests/s, and lets late ones follow a little faster."""

    def __init__(self, rate: float) -> None:
        self._spread = _Limit()
        self._guard = _Limit()
        self._due = 0.0
        """When the next request is due if all leave evenly, in monotonic seconds."""
        self.margin = MARGIN
        """The part of the rate that is not used: ``MARGIN`` or ``SHARED_MARGIN``."""
        self.set(rate)

    def set(self, rate: float) -> None:
        """Send at this rate from now on, in requests/s."""
        self._rate = rate
        self._late = min(max(1 / rate, LATE) + SHARED_MARGIN - UNSEEN, MOST_LATE)
        """The most seconds by which a request may leave late beside other workers."""
        self.apart = min(0.5 / rate, 0.01)
        """Seconds by which a slice's last request must leave before the slice's end, where another worker's begins."""
        together = max(1, round(rate * BURST))
        sends = max(1, int(rate))
        self._guard.set(sends, sends * (1 + GUARD) / rate)
        self._spread.set(together, CATCH_UP * together / rate)

    def begin(self, ago: float) -> None:
        """Note that a slice began so many seconds ago: no request is late by more than that. It may be noted again.

        At high rates the first request counts as due a little before the slice began, so that the last one is in time.
        """
        self._due = max(self._due, time.monotonic() - ago - max(0.0, LATE - AT_ONCE - 1 / self._rate))

    def wait_time(self, *, alone: bool) -> float:
        """Return the seconds until the next request may leave.

        ``alone``: no other worker sent for ``MEMORY`` seconds.
        """
        self._skip(alone=alone)
        return max(self._until_due(), self._spread.wait_time(), self._guard.wait_time())

    def _skip(self, *, alone: bool) -> None:
        """Give up the turns of requests that are too late to be made up for.

        Alone, all later requests leave later too. Beside other workers they do not: the next worker's slice begins when
        it begins, and what is late here would leave in one second with what is on time there.
        """
        now = time.monotonic()
        if alone:
            self._due = max(self._due, now - MEMORY)
        elif (too_late := now - self._due - self._late) > 0:
            self._due += math.ceil(too_late / self._distance) * self._distance

    def _until_due(self) -> float:
        """Return the seconds until the next request is due; 0 where a timer for them is not worth it."""
        seconds = self._due - time.monotonic()
        return seconds if seconds > AT_ONCE else 0.0

    async def acquire(self, *, alone: bool) -> None:
        """Wait until the next request may leave; one caller at a time. ``alone``: see ``wait_time``."""
        if (seconds := self._until_due()) > 0:
            await asyncio.sleep(seconds)
            self._skip(alone=alone)
        await self._spread.acquire()
        await self._guard.acquire()
        self._due += self._distance

    @property
    def _distance(self) -> float:
        """Seconds between two requests that leave evenly."""
        return (1 + self.margin) / self._rate
