"""Keeps one worker's sends apart, and is the only place that knows asyncio-throttle.

A worker that may send 100 requests/s sends one every 10 ms, not 100 at once. Timers ring late, so a send that left late
may be followed by others a little sooner; two throttles in a row see to it that this does no harm:

- the *spread* allows a few sends within a few hundredths of a second: it keeps apart those that are late;
- the *guard* allows as many sends as the rate in little more than one second: it keeps each second within the quota.

asyncio-throttle polls: whoever waits looks again every ``retry_interval`` seconds. With many waiters that costs most of
a core, and with its default of 10 ms a worker uses 88 % of a quota of 100/s instead of 99 %. So there is one waiter at
a time (``SharedPacer`` sees to that), and before each wait the interval is set to the time that is really left.

The percentages in this file are parts of the quota that the requests of 15 seconds used, in virtual time, with timers
that ring a millisecond late on average and one in a hundred 20 ms late (``LateTime``, ``tests/pacing/test_pacer.py``).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

from asyncio_throttle import Throttler  # type: ignore[attr-defined]  # as its documentation has it

from worker.pacing.schedule import MARGIN

GUARD = 0.0035
"""The part of the rate that even catching up does not touch.

Less than ``MARGIN``, so that the guard seldom has to wait. Each per cent of it costs a per cent of the quota; 0.2 to
0.5 % were measured to be room enough for jitter.
"""

BURST = 0.02
"""Seconds' worth of sends that the spread counts together.

With a twentieth of that, which is one send, a quota of 1,000/s is used to 38 %: timers are too coarse to wait for each
send. With ten times as much nothing is gained, and as many more may leave together.
"""

AT_ONCE = 0.003
"""Seconds within which a send that is due leaves at once.

Timers are no finer than a millisecond, and each costs CPU. Without it four workers use 2 % less of 1,000/s.
"""

CATCH_UP = 0.75
"""How close sends may follow each other to make up for late timers, as a part of their usual distance.

At 1, where nothing may be made up for, 95, 91 and 88 % of a quota of 25, 100 and 1,000/s are used instead of 99 %.
"""

MEMORY = 1.0
"""Seconds back from which lateness is made up for, by a worker that sent alone for at least as long.

Then the guard, which looks back as far, saw every send. At 0 a quota of 1,000/s is used to 82 %.
"""

LATE = 0.005
"""Seconds back from which lateness is made up for, at the least, by a worker among others.

No worker sees all sends then, so only little may be made up for. At 0 four workers use 5 % less of 1,000/s.
"""


class _Limit:
    """At most so many sends in any such period, by asyncio-throttle, made to look when one becomes possible."""

    def __init__(self) -> None:
        self._throttler = Throttler(1)
        self._sends = 1
        self._period = 1.0
        self._times: deque[float] = deque()
        """When the last sends left, as many as count: what the throttle knows as well, but does not tell."""

    def set(self, sends: int, period: float) -> None:
        """From now on at most ``sends`` in ``period`` seconds. What left before still counts."""
        self._throttler.rate_limit = self._sends = sends
        self._throttler.period = self._period = period
        while len(self._times) > sends:
            self._times.popleft()

    def left(self) -> float:
        """Seconds until a send is possible."""
        if len(self._times) < self._sends:
            return 0.0
        return max(0.0, self._times[0] + self._period - time.monotonic())

    async def acquire(self) -> None:
        """Wait until a send is possible; one waiter at a time."""
        self._throttler.retry_interval = self.left() + 0.0006  # a timer that rings early would cost a second look
        await self._throttler.acquire()  # type: ignore[no-untyped-call]
        if len(self._times) == self._sends:
            self._times.popleft()
        self._times.append(time.monotonic())


class RateLimiter:
    """At most ``rate`` requests/s, evenly, but for a little catching up."""

    def __init__(self, rate: float) -> None:
        self._spread = _Limit()
        self._guard = _Limit()
        self._due = 0.0
        """When the next send is due if all leave evenly, in monotonic seconds."""
        self.margin = MARGIN
        """The part of the rate that is not used: ``MARGIN`` or ``SHARED_MARGIN``."""
        self.set(rate)

    def set(self, rate: float) -> None:
        """From now on at this rate, in requests/s."""
        self._rate = rate
        self._late = max(LATE, min(1 / rate, 0.01))  # one send's worth, within these seconds
        self.apart = min(0.5 / rate, 0.01)
        """Seconds that a slice's last send keeps from the slice's end, where another worker's slice begins."""
        together = max(1, round(rate * BURST))
        sends = max(1, int(rate))
        self._guard.set(sends, sends * (1 + GUARD) / rate)
        self._spread.set(together, CATCH_UP * together / rate)

    def begin(self, ago: float) -> None:
        """A slice began so many seconds ago: lateness counts from there.

        At high rates sends start that much ahead as one may be late at the most, so that the last is in time.
        """
        self._due = max(self._due, time.monotonic() - ago - max(0.0, LATE - AT_ONCE - 1 / self._rate))

    def left(self, *, alone: bool) -> float:
        """Seconds until the next send may leave. ``alone``: no other worker sent for ``MEMORY`` seconds."""
        self._due = max(self._due, time.monotonic() - (MEMORY if alone else self._late))
        return max(self._early(), self._spread.left(), self._guard.left())

    def _early(self) -> float:
        early = self._due - time.monotonic()
        return early if early > AT_ONCE else 0.0

    async def acquire(self) -> None:
        """Wait until the next send may leave; one waiter at a time."""
        if (early := self._early()) > 0:
            await asyncio.sleep(early)
        await self._spread.acquire()
        await self._guard.acquire()
        self._due += (1 + self.margin) / self._rate
