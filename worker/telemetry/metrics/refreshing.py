"""Counts the whole rollout now and then, so that no scrape, however often, asks ledger or queue for anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

import structlog

from worker.core.errors import DependencyUnavailable, ExitCode, LedgerUnavailable, PersonMustAct
from worker.core.model import Counts
from worker.core.ports import Backlog, Clock, Deadlines
from worker.telemetry.metrics.watched import Dependency, Rollout, Watched

log = structlog.get_logger()

EVERY = 5.0
"""Seconds between two counts: often enough for a scrape every 15 s, and no load for a store."""
COST = 100
"""A count is followed by a pause of so many times what it took: on a queue of a million, too, it costs a hundredth."""
LETTERS_EVERY = 60.0
"""Seconds between two looks for dead letters, of which SQS may have to show some to tell them from notes."""


class Queue(Protocol):
    """The queue, as far as it is counted here."""

    async def backlog(self) -> Backlog:
        """See ``ports.Queue``."""

    async def deadlines(self, now: float) -> Deadlines:
        """See ``ports.Queue``."""


class Refreshing:
    """Keeps ``watched.rollout`` up to date.

    ``count``: the ledger's last known counts, and what the queue counts itself; ``letters``: how many dead letters
    there are, where so many messages are known to be malformed.
    """

    def __init__(
        self,
        watched: Watched,
        queue: Queue,
        clock: Clock,
        count: Callable[[], Awaitable[Counts]],
        letters: Callable[[int], Awaitable[int | None]],
    ) -> None:
        self._watched = watched
        self._queue = queue
        self._clock = clock
        self._count = count
        self._letters = letters
        self._letters_looked_at = float("-inf")
        self._dead_letters: int | None = None

    async def run(self) -> None:
        """Until cancelled. It never harms the run: whatever goes wrong here, the last numbers stay."""
        while True:
            began = self._clock.monotonic()
            try:
                await self.refresh()
            except Exception as bug:  # noqa: BLE001 - see above
                log.warning(
                    "metrics_not_counted",
                    cause=bug,
                    cure="the run goes on, and its metrics stay as they are; report it as a bug",
                )
                return
            await asyncio.sleep(max(EVERY, COST * (self._clock.monotonic() - began)))

    async def refresh(self) -> None:
        """Count once. A store that does not answer is noted."""
        watched = self._watched
        try:
            watched.rollout = await self._rollout()
            watched.unreadable = None
        except (DependencyUnavailable, PersonMustAct) as error:
            log.debug("rollout_not_counted", cause=str(error))
            is_away = error.exit_code is ExitCode.DEPENDENCY_UNAVAILABLE
            which = Dependency.LEDGER if isinstance(error, LedgerUnavailable) else Dependency.QUEUE
            watched.unreadable = which if is_away else None

    async def _rollout(self) -> Rollout:
        counts = await self._count()
        backlog = await self._queue.backlog()
        now = self._clock.utc()
        found = await self._queue.deadlines(now)
        if (at := self._clock.monotonic()) - self._letters_looked_at >= LETTERS_EVERY:
            self._letters_looked_at = at
            self._dead_letters = await self._letters(counts.malformed)
        earliest = min((deadline for deadline, _ in found.buckets), default=None)
        return Rollout(replace(counts, dead_letters=self._dead_letters), backlog, earliest, now)
