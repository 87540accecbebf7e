"""How long it takes at present from the lease of a request to its call: claiming it, signing in, waiting for its turn.

Nobody can know it beforehand: it depends on the ledger, the pace, the machine and the other workers. So it is learned
from the calls that were made, and the queue passes over whoever would die meanwhile (``core.outlook``).
"""

from __future__ import annotations

from collections.abc import Callable

from worker.core.outlook import Outlook
from worker.core.ports import Clock

HALF_LIFE = 5.0
"""Seconds in which the memory of the longest time halves. Long, because expecting too much costs nothing in overload:
another one is called. Expecting too little costs the turn of whoever dies on the way. In the simulated overload one
second saves 85 % of the best, five save 91 %, and fifteen no more."""
HALF_LIFE_IN_CALLS = 10
"""The same in calls: at one call in ten seconds, the last one must not be forgotten before the next."""
FIRST_GUESS = 0.5
"""Seconds that are expected before there was a call: more than an embedded ledger takes, about what one on AWS may.
Where two calls are further apart, one such pause is expected: somebody else may come first."""


class LeadTime:
    """The longest lead time of late, in seconds. A single long one passes after some seconds.

    ``spacing``: seconds between two users at full pace. ``held_up_until`` returns when (monotonic seconds) a call last
    went on that had been held up, as by the circuit breaker or a channel that is away: such times say nothing about the
    next request, and would make everybody look unsavable after an outage.
    """

    def __init__(self, clock: Clock, spacing: float, held_up_until: Callable[[], float]) -> None:
        self._clock = clock
        self._spacing = spacing
        self._half_life = max(HALF_LIFE, HALF_LIFE_IN_CALLS * spacing)
        self._held_up_until = held_up_until
        self._longest, self._seen_at = max(FIRST_GUESS, spacing), clock.monotonic()

    def took(self, leased_at: float) -> None:
        """Note that a request leaves now, or is found to be too late, that was leased then (monotonic seconds)."""
        now = self._clock.monotonic()
        if self._held_up_until() < leased_at:
            self._longest, self._seen_at = max(self.seconds, now - leased_at), now

    @property
    def seconds(self) -> float:
        """What is expected for a request that is leased now."""
        halvings = (self._clock.monotonic() - self._seen_at) / self._half_life
        longest: float = self._longest * 2.0**-halvings
        return longest

    def outlook(self) -> Outlook:
        """What to tell the queue when something is leased now."""
        return Outlook(self._clock.utc(), self.seconds, self._spacing)
