"""Admission control: how many users may be on the way to their call at the same time.

Few, so that a kill leaves few claims behind; but enough that the next user is claimed already when a turn at the quota
comes. While the ledger is slow, claiming takes longer, so more users are admitted: as many as the quota would serve in
that time.
"""

from __future__ import annotations

from collections.abc import Callable

CLAIMS_IN_PROGRESS = 2
"""How many times the users of one slow claim are admitted: while one group is called the next one is being claimed."""


class AdmissionControl:
    """Hands out slots, each from the lease of a message until the user's request leaves.

    ``ahead``: slots where claiming takes no time; ``rate``: requests/s; ``claim_takes`` tells how many seconds a claim
    takes now; ``on_free`` is called whenever a slot becomes free.
    """

    def __init__(self, ahead: int, rate: float, claim_takes: Callable[[], float], on_free: Callable[[], None]) -> None:
        self._ahead = ahead
        self._rate = rate
        self._claim_takes = claim_takes
        self._on_free = on_free
        self._taken = 0

    @property
    def free(self) -> int:
        """How many slots to fill now: 0 until a quarter of them is free, since asking for messages has a cost too."""
        slots = self._ahead + int(CLAIMS_IN_PROGRESS * self._rate * self._claim_takes())
        free = slots - self._taken
        return free if free >= max(1, slots // 4) else 0

    def take(self) -> Slot:
        """A message was leased."""
        self._taken += 1
        return Slot(self)

    def _release(self) -> None:
        self._taken -= 1
        self._on_free()


class Slot:
    """One of them."""

    __slots__ = ("_admission", "_taken")

    def __init__(self, admission: AdmissionControl) -> None:
        self._admission = admission
        self._taken = True

    def release(self) -> None:
        """The request leaves, or never will. Releasing twice is releasing once."""
        if self._taken:
            self._taken = False
            self._admission._release()
