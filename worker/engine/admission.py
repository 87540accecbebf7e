"""Places before the call: so few that only a few users wait, claimed, for their turn at the quota.

While the ledger is slow, as many more are on the way as the quota admits in the time that a claim takes.
"""

from __future__ import annotations

from collections.abc import Callable

WAVES = 2
"""Claims of a slow ledger come in waves: while one is used up the next one is on the way."""


class AdmissionControl:
    """``ahead``: places if claiming takes no time; ``rate``: requests/s.

    ``claim_takes`` tells how many seconds a claim takes now; ``freed`` is called whenever a place is free.
    """

    def __init__(self, ahead: int, rate: float, claim_takes: Callable[[], float], freed: Callable[[], None]) -> None:
        self._ahead = ahead
        self._rate = rate
        self._claim_takes = claim_takes
        self._freed = freed
        self._taken = 0

    @property
    def free(self) -> int:
        """How many to fill now: none until there are enough to be worth asking for messages."""
        places = self._ahead + int(WAVES * self._rate * self._claim_takes())
        free = places - self._taken
        return free if free >= max(1, places // 4) else 0

    def take(self) -> Slot:
        """A message was leased."""
        self._taken += 1
        return Slot(self)

    def _leave(self) -> None:
        self._taken -= 1
        self._freed()


class Slot:
    """One of them, from the lease until the request leaves."""

    __slots__ = ("_places", "_taken")

    def __init__(self, places: AdmissionControl) -> None:
        self._places = places
        self._taken = True

    def leave(self) -> None:
        """The request leaves, or will not; again is nothing."""
        if self._taken:
            self._taken = False
            self._places._leave()
