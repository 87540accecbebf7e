"""Finishes what dead workers left unfinished, however many rows that is, beside the loop and never in its way.

A pass reads every unfinished row once, and finishes those that no worker claims any more: it delivers a secret that is
sealed, activates who was delivered, and records of everybody else that a sign-in is needed. So the reads, and the
requests to a ledger on AWS, grow with the number of rows and not with its square.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import aclosing
from typing import Protocol

from worker.core.errors import RowUnreadable
from worker.core.model import UNFINISHED, Enrolment, State
from worker.core.ports import Clock, Ledger
from worker.core.stats import ClaimedElsewhere

NAMED = 3
"""Workers that are named at most where the run waits for their users."""
AT_ONCE = 256
"""Rows that are finished at the same time: as many as one commit, one sync of the channel's file or one request takes
at most (``adapters.batching``). With 64, the 20,000 sealed rows of a dead worker took 5.6 s instead of 2.2."""
REST = 4.0
"""After a pass that had to leave rows to other workers, the next one waits for this many times as long as it took: so
looking again and again at many rows takes at most a fifth of the time, and of what reading costs."""
WITH_A_SECRET = frozenset({State.SEALED, State.DELIVERED})
"""States of unfinished users who have a secret: their Sessions die in minutes, so they are looked for during the run.
"""
EVERYBODY = UNFINISHED | WITH_A_SECRET
"""States of all unfinished users."""
LONGEST_REST = 20.0
"""Seconds: a pass in which the machine was suspended, or whose deliveries took long, delays the next by no more."""


class Work(Protocol):
    """What a takeover needs of the loop that it belongs to."""

    def is_free(self, row: Enrolment) -> bool:
        """Whether no worker claims the row, this one included, and it is not better left to its message."""
        ...

    def free_in(self, row: Enrolment) -> float:
        """Seconds until the row may be claimed, by its claim alone."""
        ...

    def finish(self, row: Enrolment) -> asyncio.Task[None]:
        """Begin to finish the row."""
        ...


class Takeover:
    """At most one pass at a time. ``on_end`` is called when one ends, for whatever reason."""

    def __init__(self, ledger: Ledger, work: Work, clock: Clock, on_end: Callable[[], None]) -> None:
        self._ledger = ledger
        self._work = work
        self._clock = clock
        self._on_end = on_end
        self._pass: asyncio.Task[int] | None = None
        self._states: Collection[State] = ()
        self._left = 0
        """Rows that the pass left to other workers, or that cannot be read."""
        self.unreadable: RowUnreadable | None = None
        """A row that the latest pass could not read."""
        self.claimed_elsewhere: ClaimedElsewhere | None = None
        """The users whom the latest pass left to others, where it looked for everybody."""
        self._rests_until = 0.0
        """When the next pass may begin (monotonic seconds)."""
        self._room = asyncio.Semaphore(AT_ONCE)

    def begin(self, states: Collection[State]) -> bool:
        """Begin a pass over the rows in these states, unless one is under way or it is too early for another."""
        if self._pass is not None or self._clock.monotonic() < self._rests_until:
            return False
        self._states = states
        self._pass = asyncio.create_task(self._timed(states))
        self._pass.add_done_callback(lambda _: self._on_end())
        return True

    @property
    def under_way(self) -> bool:
        """Whether a pass has begun whose result was not asked for yet."""
        return self._pass is not None

    @property
    def has_ended(self) -> bool:
        """Whether a pass has ended whose result was not asked for yet."""
        return self._pass is not None and self._pass.done()

    def found_nobody(self) -> bool:
        """Give the result of the pass that has ended: whether it looked for all unfinished rows and there was none.

        Raises ``LedgerUnavailable`` if the pass failed.
        """
        assert self._pass is not None
        ended, self._pass = self._pass, None
        return ended.result() == 0 and self.is_last

    @property
    def is_last(self) -> bool:
        """Whether the latest pass looks for all unfinished rows, as one does when no message is left."""
        return set(self._states) >= UNFINISHED

    async def stop(self) -> None:
        """Begin to finish no more rows; those under way are the loop's tasks."""
        if self._pass is not None:
            self._pass.cancel()
            await asyncio.gather(self._pass, return_exceptions=True)
            self._pass = None

    async def _timed(self, states: Collection[State]) -> int:
        began = self._clock.monotonic()
        self._left = 0
        found = await self._sweep(states)
        if self._left:
            now = self._clock.monotonic()
            self._rests_until = now + min(REST * (now - began), LONGEST_REST)
        return found

    async def _sweep(self, states: Collection[State]) -> int:
        """Finish the rows in these states that no worker claims any more; return how many rows there are."""
        found = 0
        self.unreadable = None
        users, workers, until = 0, set[str](), 0.0
        try:
            async with aclosing(self._ledger.unfinished()) as rows:
                async for row in rows:
                    if row.state not in states:
                        continue
                    found += 1
                    await self._room.acquire()
                    if self._work.is_free(row):
                        self._work.finish(row).add_done_callback(lambda _: self._room.release())
                    else:
                        self._room.release()
                        self._left += 1
                        users += 1
                        until = max(until, self._work.free_in(row))
                        if row.worker is not None and len(workers) < NAMED:
                            workers.add(row.worker)
        except RowUnreadable as unreadable:
            self.unreadable = unreadable
            found, self._left = found + 1, self._left + 1
        waited_for = ClaimedElsewhere(users, tuple(sorted(workers)), self._clock.utc() + until)
        self.claimed_elsewhere = waited_for if users and self.is_last else None
        return found
