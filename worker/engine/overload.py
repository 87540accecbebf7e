"""Says early that more requests wait than the quota can serve before they expire, how many are lost, and what helps.

The number follows from the deadlines on the queue (``core.forecast``), long before the first one expires. A queue that
cannot tell all of them (SQS) adds what expired since the last look.
"""

from __future__ import annotations

import asyncio

import structlog

from worker.core.errors import DependencyUnavailable
from worker.core.forecast import CURE, a_user_costs, must_be_lost
from worker.core.model import EXPIRED
from worker.core.ports import Clock, Queue
from worker.core.stats import RunStats

log = structlog.get_logger()

FIRST_LOOK = 2.0
"""Seconds from the start of a run to the first look, so that what is pushed at the same time is seen whole."""
LOOK_EVERY = 10.0
"""Seconds between two looks at least: an overload that lasts is seen early enough."""
COST = 100
"""A look is followed by a pause of so many times what it took: on a queue of a million, too, it costs a hundredth."""
LEAST_LOST, LEAST_PART = 5, 0.01
"""So many requests, and such a part of those that wait, must be lost for it to be an overload: a few that
were pushed with hardly any time left are none."""
MUCH = 2.0
"""It is said again when the number has grown by this factor. That it shrinks is no news: they die, as was said."""


class OverloadWarning:
    """Looks at the deadlines on the queue now and then.

    ``rate``: calls/s of all workers together; ``calls``: how many of them a user costs.
    """

    def __init__(self, queue: Queue, clock: Clock, stats: RunStats, rate: float, calls: int = 1) -> None:
        self._queue = queue
        self._clock = clock
        self._stats = stats
        self._users_per_second = rate / calls
        self._pace = f"{rate:g} calls/s{a_user_costs(rate, calls)}"
        self._said = 0
        self._expired = 0

    async def run(self) -> None:
        """Until cancelled. A queue that is away is looked at again later: others will say that it is."""
        await asyncio.sleep(FIRST_LOOK)
        while True:
            began = self._clock.monotonic()
            try:
                await self.look()
            except DependencyUnavailable as away:
                log.debug("deadlines_not_counted", cause=str(away))
            await asyncio.sleep(max(LOOK_EVERY, COST * (self._clock.monotonic() - began)))

    async def look(self) -> None:
        """Warn if an overload has begun, or has changed much."""
        now = self._clock.utc()
        found = await self._queue.deadlines(now)
        waiting = sum(number for _, number in found.buckets)
        lost = must_be_lost(found.buckets, now, self._users_per_second)
        self._stats.to_expire = lost
        expired = sum(self._stats.reasons[reason] for reason in set(EXPIRED.values()))
        if not found.are_all:
            lost, waiting = lost + expired - self._expired, waiting + expired - self._expired
        self._expired = expired
        if lost < max(LEAST_LOST, LEAST_PART * waiting):
            lost = 0
        if lost == self._said or 0 < lost < self._said * MUCH:
            return
        self._said = lost
        if lost:
            log.warning(
                "overload",
                cause=f"at {self._pace} about {lost:,} of {waiting:,} requests expire before their turn",
                cure=CURE,
            )
        else:
            log.info("overload_over", cause="what waits now can be served before it expires")
