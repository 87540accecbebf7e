"""A user's other messages: they wait while one is worked on, and are settled together once the user has an outcome.

Nobody works on one user twice at a time. So a user's other messages stay leased here, cost nothing meanwhile, and are
looked at together once the user has an outcome: most are duplicates then. What may still be tried comes out again one
by one, earliest deadline first. The queue keeps the leases alive, and gives back what is left when it closes.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from worker.core.model import Request
from worker.core.ports import Clock, Lease, Queue

MOST = 2_000
"""Messages that wait here, of all users together: some 4 MB. The queue can keep the others itself."""
PAGE = 256
"""Messages of one user that are looked at together: as many as one commit of the embedded queue deletes, and few enough
that reading them does not hold up the next call for more than some 10 ms."""
TRIES_AT_ONCE = 3
"""Requests of one user that are tried one right after the other: a person who signed in a few times does not wait."""
SHARE_OF_ONE = 0.03
"""The part of the rate that a user with more requests than that gets while others wait: what the contract gives to
those who are refused again and again."""
LONGEST_REST = 30.0
"""Seconds that such a user waits at most for the next turn, however low the rate: the others may be done before."""


class OtherMessages:
    """What waits, by user.

    ``duplicates`` tells which of some requests of one user change nothing; ``acknowledge`` acknowledges those that do
    not. ``rate``: users/s of all workers together; 0: without a limit.
    """

    def __init__(
        self,
        queue: Queue,
        duplicates: Callable[[Sequence[Request]], Awaitable[Sequence[bool]]],
        acknowledge: Callable[[Sequence[Lease]], Awaitable[None]],
        clock: Clock,
        rate: float,
    ) -> None:
        self._queue = queue
        self._duplicates = duplicates
        self._acknowledge = acknowledge
        self._clock = clock
        self._rate = rate
        self._waiting: dict[str, list[tuple[float, int, Lease]]] = {}
        """Each user's messages, as a heap by deadline."""
        self._numbers = itertools.count()
        self._number = 0
        self._resting: dict[str, float] = {}
        """From when on (monotonic seconds) a user who was released may be tried again."""
        self._released: list[tuple[float, int, str]] = []
        """The same as a heap; entries that ``_resting`` no longer has are void."""
        self._tries: Counter[str] = Counter()
        """How many requests of a user with others were tried so far."""

    def __contains__(self, username: str) -> bool:
        """Whether messages of this user wait here."""
        return username in self._waiting

    @property
    def is_full(self) -> bool:
        """Whether no more should be added."""
        return self._number >= MOST

    def add(self, leases: Iterable[Lease]) -> None:
        """Keep these messages until their user is ``released`` and has rested."""
        for lease in leases:
            waiting = self._waiting.setdefault(lease.request.username, [])
            heapq.heappush(waiting, (lease.request.expires_at, next(self._numbers), lease))
            self._number += 1

    def take(self, username: str) -> list[Lease]:
        """Take out all messages of this user, in no particular order."""
        leases = [lease for *_, lease in self._waiting.pop(username, ())]
        self._number -= len(leases)
        return leases

    def released(self, username: str, rests_for: float = 0.0) -> None:
        """Note that nobody works on the user any more, and that nothing should be tried for so many seconds."""
        if rests_for > 0 or username in self._waiting:
            self._resting[username] = at = self._clock.monotonic() + rests_for
            heapq.heappush(self._released, (at, next(self._numbers), username))

    def rests(self, username: str) -> bool:
        """Whether nothing should be tried for this user now."""
        return self._resting.get(username, 0.0) > self._clock.monotonic()

    def due(self, most: int, busy: Collection[str]) -> list[Lease]:
        """Take out up to ``most`` messages to try now: one of each user who was released and is not ``busy`` again."""
        now, due = self._clock.monotonic(), list[Lease]()
        while self._released and self._released[0][0] <= now and len(due) < most:
            at, _, username = heapq.heappop(self._released)
            if self._resting.get(username) != at:
                continue  # the user was released again since
            del self._resting[username]
            if username not in busy and (waiting := self._waiting.get(username)):
                due.append(heapq.heappop(waiting)[-1])
                self._number -= 1
                if not waiting:
                    del self._waiting[username]
        return due

    # --- once the user has an outcome ---------------------------------------------------------------------------------

    async def settle(self, username: str, may_go_on: Callable[[], bool]) -> None:
        """Acknowledge the duplicates among this user's messages, here and on the queue; keep the others here.

        Raises ``LedgerUnavailable``, ``QueueUnavailable``.
        """
        while may_go_on() and await self._settle_page(username):
            pass

    async def _settle_page(self, username: str) -> bool:
        """Whether there were messages, and all of them duplicates: then there may be more."""
        leases = self.take(username)
        try:
            leases += await self._queue.lease_others(username, max(0, PAGE - len(leases)))
            if not leases:
                return False
            # The row is read after the messages were leased: another worker may have written it since our outcome.
            are_duplicates = await self._duplicates([lease.request for lease in leases])
            found = [lease for lease, is_duplicate in zip(leases, are_duplicates, strict=True) if is_duplicate]
            left = [lease for lease, is_duplicate in zip(leases, are_duplicates, strict=True) if not is_duplicate]
            if found:
                await self._acknowledge(found)
            leases = left
            return not leases
        finally:
            self.add(leases)

    def rest_between_tries(self, username: str, *, nobody_waits: bool) -> float:
        """Seconds until a user's next request is tried: above 0 where the user had several turns, and others wait."""
        if username not in self._waiting:
            del self._tries[username]
            return 0.0
        self._tries[username] += 1
        if self._tries[username] < TRIES_AT_ONCE or nobody_waits or not self._rate:
            return 0.0
        return min(LONGEST_REST, 1 / (SHARE_OF_ONE * self._rate))
