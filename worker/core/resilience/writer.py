"""Writing to the ledger until it is known what became of the write.

Every write carries a version of its own, so that repeating one whose answer was lost is recognised as the same
write. While any write stays unconfirmed the gate is closed: nobody is issued a secret that could not be recorded.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import TypeVar

from worker.core.errors import LedgerUnavailable
from worker.core.model import Answer, Enrolment, Put
from worker.core.ports import Clock, Ledger
from worker.core.resilience.breaker import CircuitBreaker

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0

Result = TypeVar("Result")


class LedgerWriter:
    """One worker's pen. ``patience``: seconds for which a ledger that is away is asked again."""

    def __init__(self, ledger: Ledger, worker: str, breaker: CircuitBreaker, clock: Clock, patience: float) -> None:
        self._ledger = ledger
        self._worker = worker
        self._breaker = breaker
        self._clock = clock
        self._patience = patience
        self._numbers = itertools.count(1)

    async def put(self, row: Enrolment, replaces: Enrolment | None) -> Put:
        """Write ``row`` in place of ``replaces``; the answer holds the row that stands there now.

        Raises ``LedgerUnavailable`` when patience is over: then it is not known whether the write applied.
        """
        row = row._replace(version=f"{self._worker}:{next(self._numbers)}")
        expected = replaces.version if replaces else None
        put = await self._insist(row.version, lambda: self._ledger.put(row, expected))
        return put if put.answer is Answer.LOST else Put(put.answer, row)

    async def read(self, username: str) -> Enrolment | None:
        """The user's row, as patiently."""
        return await self._insist(object(), lambda: self._ledger.read(username))

    async def _insist(self, key: object, once: Callable[[], Awaitable[Result]]) -> Result:
        self._breaker.writing(key)
        try:
            return await once()
        except LedgerUnavailable as unavailable:
            return await self._insist_again(key, once, unavailable)
        finally:
            self._breaker.written(key)

    async def _insist_again(
        self, key: object, once: Callable[[], Awaitable[Result]], unavailable: LedgerUnavailable
    ) -> Result:
        deadline = self._clock.monotonic() + self._patience
        pause = FIRST_PAUSE
        while self._clock.monotonic() < deadline:
            self._breaker.unconfirmed(key, f"the ledger: {unavailable}")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            try:
                return await once()
            except LedgerUnavailable as still:
                unavailable = still
        raise unavailable
