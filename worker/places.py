"""Places before the call: so few that only a few users wait, claimed, for their turn at the quota.

While the ledger is slow, as many more are on the way as the quota admits in the time that a claim takes.
"""

from __future__ import annotations

from collections.abc import Callable

from worker.ports import Clock

FORGOTTEN = 0.9
"""What a claim leaves of the slower ones before it."""


class Places:
    """``ahead``: places if claiming takes no time; ``rate``: requests/s; ``freed`` is called whenever one is free."""

    def __init__(self, clock: Clock, ahead: int, rate: float, freed: Callable[[], None]) -> None:
        self._clock = clock
        self._ahead = ahead
        self._rate = rate
        self._freed = freed
        self._taken = 0
        self._claiming = 0.0
        """Seconds that it takes, lately, from a lease to a claim that may call."""

    @property
    def free(self) -> int:
        """How many to fill now: none until there are enough to be worth asking for messages."""
        places = self._ahead + int(self._rate * self._claiming)
        free = places - self._taken
        return free if free >= max(1, places // 4) else 0

    def take(self) -> Place:
        """A message was leased."""
        self._taken += 1
        return Place(self)

    def _claimed(self, took: float) -> None:
        self._claiming = max(took, FORGOTTEN * self._claiming)

    def _left(self) -> None:
        self._taken -= 1
        self._freed()


class Place:
    """One of them, from the lease until the request leaves."""

    __slots__ = ("_began", "_places", "_taken")

    def __init__(self, places: Places) -> None:
        self._places = places
        self._began: float | None = places._clock.monotonic()
        self._taken = True

    def ready(self) -> None:
        """The claim is written, and the call may be made."""
        if self._began is not None:
            self._places._claimed(self._places._clock.monotonic() - self._began)
            self._began = None

    def leave(self) -> None:
        """The request leaves, or will not; again is nothing."""
        if self._taken:
            self._taken = False
            self._places._left()
