"""Admission control: how many users may be between the lease of their message and their call at the same time.

There are few of them, so that a killed worker leaves few claims behind, but enough that the next user is already
claimed, and signed in, when the rate limiter allows the next call. While the ledger is slow, claiming takes longer, so
more users are admitted: as many as the quota would serve in that time. The same holds for signing in.
"""

from __future__ import annotations

from collections.abc import Callable

CLAIMS_IN_PROGRESS = 2
"""How many groups of users are admitted, each as large as the quota serves in the time of one claim and sign-in: while
the calls for one group are made, the next group is being claimed."""


class AdmissionControl:
    """Hands out slots. A user occupies one from the lease of their message until their request is sent.

    ``ahead``: the number of slots if claiming took no time. ``rate``: users/s. ``claim_takes`` returns how many seconds
    a claim takes now, with the sign-in. ``on_free`` is called whenever a slot becomes free.
    """

    def __init__(self, ahead: int, rate: float, claim_takes: Callable[[], float], on_free: Callable[[], None]) -> None:
        self._ahead = ahead
        self._rate = rate
        self._claim_takes = claim_takes
        self._on_free = on_free
        self._taken = 0

    @property
    def free(self) -> int:
        """The number of slots to fill now; 0 until a quarter of them is free, because leasing messages has a cost."""
        slots = self._ahead + int(CLAIMS_IN_PROGRESS * self._rate * self._claim_takes())
        free = slots - self._taken
        return free if free >= max(1, slots // 4) else 0

    def take(self) -> Slot:
        """Take a slot for a message that was leased."""
        self._taken += 1
        return Slot(self)

    def _release(self) -> None:
        self._taken -= 1
        self._on_free()


class Slot:
    """One slot of an ``AdmissionControl``."""

    __slots__ = ("_admission", "_taken")

    def __init__(self, admission: AdmissionControl) -> None:
        self._admission = admission
        self._taken = True

    def release(self) -> bool:
        """Free the slot: the request is being sent, or never will be. A second call does nothing, and says so."""
        if not self._taken:
            return False
        self._taken = False
        self._admission._release()
        return True
