"""Leased messages that wait because another message of the same user is worked on, or was given back a moment ago.

Nobody works on one user twice at a time. So a user's other messages stay leased here, cost nothing meanwhile, and are
looked at together once the user has an outcome: most are duplicates then. What may still be tried comes out again one
by one, earliest deadline first. The queue keeps the leases alive, and gives back what is left when it closes.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Iterable

from worker.core.ports import Lease

MOST = 2_000
"""Messages that wait here, of all users together: some 4 MB. The queue can keep the others itself."""


class Siblings:
    """What waits, by user. ``monotonic``: seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._waiting: dict[str, list[tuple[float, int, Lease]]] = {}
        """Each user's messages, as a heap by deadline."""
        self._numbers = itertools.count()
        self._number = 0
        self._resting: dict[str, float] = {}
        """From when on (monotonic seconds) a user who was released may be tried again."""
        self._released: list[tuple[float, int, str]] = []
        """The same as a heap; entries that ``_resting`` no longer has are void."""

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
            self._resting[username] = at = self._monotonic() + rests_for
            heapq.heappush(self._released, (at, next(self._numbers), username))

    def rests(self, username: str) -> bool:
        """Whether nothing should be tried for this user now."""
        return self._resting.get(username, 0.0) > self._monotonic()

    def due(self, most: int, busy: Collection[str]) -> list[Lease]:
        """Take out up to ``most`` messages to try now: one of each user who was released and is not ``busy`` again."""
        now, due = self._monotonic(), list[Lease]()
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
