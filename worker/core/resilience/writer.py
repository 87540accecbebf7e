"""Writing to the ledger until it is known what became of the write.

Every write carries a version of its own, so that repeating one whose answer was lost is recognised as the same
write. While any write stays unconfirmed the gate is closed: nobody is issued a secret that could not be recorded.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import TypeVar

from worker.core.errors import LedgerAway
from worker.core.model import Answer, Enrolment, Put
from worker.core.ports import Clock, Ledger
from worker.core.resilience.breaker import Gate

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0

Result = TypeVar("Result")


class Writer:
    """One worker's pen. ``patience``: seconds for which a ledger that is away is asked again."""

    def __init__(self, ledger: Ledger, worker: str, gate: Gate, clock: Clock, patience: float) -> None:
        self._ledger = ledger
        self._worker = worker
        self._gate = gate
        self._clock = clock
        self._patience = patience
        self._numbers = itertools.count(1)

    async def put(self, row: Enrolment, replaces: Enrolment | None) -> Put:
        """Write ``row`` in place of ``replaces``; the answer holds the row that stands there now.

        Raises ``LedgerAway`` when patience is over: then it is not known whether the write applied.
        """
        row = row._replace(version=f"{self._worker}:{next(self._numbers)}")
        expected = replaces.version if replaces else None
        put = await self._insist(row.version, lambda: self._ledger.put(row, expected))
        return put if put.answer is Answer.LOST else Put(put.answer, row)

    async def read(self, username: str) -> Enrolment | None:
        """The user's row, as patiently."""
        return await self._insist(object(), lambda: self._ledger.read(username))

    async def _insist(self, key: object, once: Callable[[], Awaitable[Result]]) -> Result:
        self._gate.writing(key)
        try:
            return await once()
        except LedgerAway as away:
            return await self._insist_again(key, once, away)
        finally:
            self._gate.written(key)

    async def _insist_again(self, key: object, once: Callable[[], Awaitable[Result]], away: LedgerAway) -> Result:
        deadline = self._clock.monotonic() + self._patience
        pause = FIRST_PAUSE
        while self._clock.monotonic() < deadline:
            self._gate.unconfirmed(key, f"the ledger: {away}")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            try:
                return await once()
            except LedgerAway as still:
                away = still
        raise away
