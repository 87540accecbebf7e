"""Writes to the ledger, and repeats a write until it is known what became of it.

Every write carries a version of its own, so that the ledger recognises a repeated one whose first answer was lost.
Reads are repeated in the same way. The circuit breaker is told of every operation: it lets no call start while one has
failed or takes too long, since a secret could not be recorded then.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import TypeVar

from worker.core.errors import LedgerUnavailable
from worker.core.model import Enrolment, Lost, Written
from worker.core.ports import Clock, Ledger
from worker.core.resilience.backoff import Backoff, retry
from worker.core.resilience.breaker import CircuitBreaker

WRITE_BACKOFF = Backoff(first=0.1, longest=2.0)
"""A ledger that fails for a moment costs little time; in a longer outage it is tried every two seconds, so that little
of a Session's three minutes is lost once it is over."""

Result = TypeVar("Result")


class LedgerWriter:
    """One worker's writes and reads. ``patience``: seconds for which an unavailable ledger is asked again."""

    def __init__(self, ledger: Ledger, worker: str, breaker: CircuitBreaker, clock: Clock, patience: float) -> None:
        self._ledger = ledger
        self._worker = worker
        self._breaker = breaker
        self._clock = clock
        self._patience = patience
        self._numbers = itertools.count(1)

    async def put(self, row: Enrolment, replaces: Enrolment | None) -> Written | Lost:
        """Write ``row`` in place of ``replaces`` (``None``: where the user has no row yet).

        Raises ``LedgerUnavailable`` when patience is over: then it is not known whether the write took effect.
        """
        row = row._replace(version=f"{self._worker}:{next(self._numbers)}")
        expected = replaces.version if replaces else None
        result = await self._until_answered(row.version, lambda: self._ledger.put(row, expected))
        return Written(row, result.repeated) if isinstance(result, Written) else result

    async def read(self, username: str) -> Enrolment | None:
        """The user's row. Raises ``LedgerUnavailable`` when patience is over."""
        return await self._until_answered(object(), lambda: self._ledger.read(username))

    async def _until_answered(self, key: object, once: Callable[[], Awaitable[Result]]) -> Result:
        self._breaker.ledger_call_begins(key)
        try:
            return await retry(
                once,
                on=LedgerUnavailable,
                backoff=WRITE_BACKOFF,
                patience=self._patience,
                stop_for_person=False,
                monotonic=self._clock.monotonic,
                before_pause=lambda error: self._breaker.ledger_call_failed(key, f"the ledger: {error}"),
            )
        finally:
            self._breaker.ledger_call_ends(key)
