"""Looks at a rollout's ledger and queue, again and again and cheaply, for the panels of ``run`` and ``status``."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from worker.app.stores import Stores
from worker.core.errors import WorkerError
from worker.core.ports import Backlog, Workers
from worker.settings import Settings
from worker.telemetry.look import Look
from worker.telemetry.snapshot import Plan

ONE_BY_ONE = 200_000
"""Waiting messages up to which ``status`` looks at each, to count users once: half a second."""
ONE_BY_ONE_IN_A_RUN = 5_000
"""The same while a run is under way, whose reads wait meanwhile: some ten milliseconds."""
SELDOM = 10.0
"""Seconds between two looks at what costs a request each on AWS and changes slowly: the workers and the dead letters.
"""


def plan_of(settings: Settings) -> Plan:
    """Return what of the settings a panel has to know."""
    return Plan(
        quota=settings.rate.effective,
        users_per_second=settings.users_per_second,
        calls=settings.calls_per_user,
        empty_after=settings.queue.empty_after if settings.queue.kind == "sqs" else 0.0,
        grace=settings.run.grace,
    )


class Looking:
    """Looks at these stores. ``most``: see ``ports.LookedAt.counts_and_waiting``."""

    def __init__(self, settings: Settings, stores: Stores, most: int) -> None:
        self._stores = stores
        self._most = most
        self._seldom = SELDOM if settings.ledger.kind != "sqlite" or settings.queue.kind != "sqlite" else 0.0
        self._next = 0.0
        self._workers: Workers | None = None
        self._dead_letters: int | None = 0

    async def __call__(self) -> Look:
        """Look once. Raises ``WorkerError``."""
        ledger, queue = self._stores.ledger, self._stores.queue
        counts, waiting = await ledger.counts_and_waiting(self._most)
        backlog = await queue.backlog()
        if waiting is not None:
            backlog = Backlog(waiting.messages, min(backlog.expired, waiting.messages))
        refused, malformed = await queue.counted()
        malformed += counts.malformed
        is_time = time.monotonic() >= self._next
        begins = self._workers is not None and not self._workers.alive and counts.unfinished > 0
        if is_time:
            self._next = time.monotonic() + self._seldom
            with suppress(WorkerError):  # a role may see less than everything
                self._dead_letters = await queue.dead_letters(malformed)
        if is_time or begins:
            with suppress(WorkerError):
                self._workers = await ledger.workers()
        counts = replace(
            counts,
            duplicates=counts.duplicates + refused,
            malformed=malformed,
            dead_letters=self._dead_letters,
        )
        allowed = await ledger.allowed()
        return Look(time.monotonic(), counts, backlog, waiting, self._workers, allowed, queue.watched_for())
