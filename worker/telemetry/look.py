"""A look at a whole rollout: ledger and queue counted at one moment, and what follows from two of them.

The same looks feed the panel of ``run`` and that of ``status --watch``. Only ledger and queue are asked, so all workers
are in it, on whichever host.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from worker.core.model import NOT_ACTIVATED, Counts, State
from worker.core.ports import Backlog, WaitingUsers, Workers
from worker.core.stats import RATE_SPAN
from worker.core.time_left import QUIET

LEAST_SPAN = 1.0
"""Seconds between two looks from which on a speed can be told from them."""


@dataclass(frozen=True, slots=True)
class Look:
    """What ledger and queue said."""

    at: float
    """Monotonic seconds."""
    counts: Counts
    backlog: Backlog
    waiting: WaitingUsers | None = None
    """Where the ledger holds the queue."""
    workers: Workers | None = None
    allowed: float | None = None
    """Requests/s of all workers that the shared pace in the ledger allows; ``None``: nobody sent of late."""
    watched_for: float | None = None
    """See ``ports.QueueStats``."""

    @property
    def finished(self) -> int:
        """Users with an outcome."""
        return self.counts.accepted - self.counts.unfinished

    @property
    def done(self) -> int:
        """Users with an outcome who are not tried again."""
        return self.finished - (self.waiting.again if self.waiting else 0)

    @property
    def left(self) -> int:
        """Users who are not done: those under way, and those who wait and are not under way."""
        unfinished = self.counts.unfinished
        if self.waiting is None:  # who waits and has a row already cannot be known
            return max(unfinished, self.backlog.waiting)
        return unfinished + self.waiting.new + self.waiting.again

    @property
    def is_about(self) -> bool:
        """Whether ``left`` may be wrong: the queue's number is approximate, or its users are not known."""
        return self.backlog.waiting > 0 and (self.waiting is None or not self.waiting.are_exact)

    @property
    def enrolled(self) -> int:
        """Users who were delivered or are active, also those whose activation is under way or failed."""
        return sum(self.counts.states.get(state, 0) for state in (State.DELIVERED, State.ACTIVE))

    @property
    def not_activated(self) -> int:
        """Delivered users whose activation is left to a person."""
        return sum(self.counts.reasons.get(reason, 0) for reason in NOT_ACTIVATED)


class Looks:
    """The looks of the last ten seconds or so, and the speed that they show."""

    def __init__(self) -> None:
        self._looks: deque[Look] = deque()
        self._moved_at: float | None = None

    def add(self, look: Look) -> None:
        """Add the newest look."""
        if self._looks and _done_between(self._looks[-1], look) > 0:
            if self._moved_at is not None and look.at - self._moved_at > QUIET:
                self._looks.clear()  # what was before a pause says nothing about the speed after it
            self._moved_at = look.at
        self._looks.append(look)
        while len(self._looks) > 2 and self._looks[1].at <= look.at - RATE_SPAN:
            self._looks.popleft()

    @property
    def last(self) -> Look | None:
        """The newest look."""
        return self._looks[-1] if self._looks else None

    @property
    def seen_for(self) -> float:
        """Seconds between the looks that ``users_per_second`` compares; 0 where it cannot be told yet."""
        span = self._looks[-1].at - self._looks[0].at if self._looks else 0.0
        return span if span >= LEAST_SPAN else 0.0

    @property
    def users_per_second(self) -> float:
        """Users/s who were finished lately, by all workers."""
        return _done_between(self._looks[0], self._looks[-1]) / self.seen_for if self.seen_for else 0.0

    def quiet(self, began: float) -> float:
        """Seconds for which nobody was finished, at most since ``began`` (monotonic seconds)."""
        return self._looks[-1].at - max(began, self._moved_at or began) if self._looks else 0.0


def _done_between(one: Look, other: Look) -> float:
    """How many users were finished between two looks.

    Each number alone may hide some: whoever is pushed meanwhile keeps the queue as long as it was, and whoever is tried
    again was finished before.
    """
    return max(0, other.finished - one.finished, one.left - other.left)
