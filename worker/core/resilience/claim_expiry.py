"""How long another worker's hold on a user must be respected.

A hold ends when its lease is over by the clock, plus an allowance for clocks that disagree; or when it was seen
unchanged for a whole lease of our own monotonic time, whatever the clocks say; or, where the ledger knows that the
worker is dead, as soon as a call that it may have made is surely over.
"""

from __future__ import annotations

from collections.abc import Callable

from worker.core.model import Enrolment
from worker.core.ports import Clock

_MOST_REMEMBERED = 10_000


class ClaimExpiry:
    """Remembers which holds it saw, and since when. All arguments in seconds."""

    def __init__(
        self, clock: Clock, is_dead: Callable[[str], bool], *, lease: float, clock_skew: float, call_timeout: float
    ) -> None:
        self._clock = clock
        self._is_dead = is_dead
        self._lease = lease
        self._clock_skew = clock_skew
        self._call_timeout = call_timeout
        self._first_seen: dict[tuple[str, bool], float] = {}

    def left(self, row: Enrolment) -> float:
        """Seconds until the row may be taken over; 0 when it may be now."""
        if not row.lease_until:
            return 0.0
        dead = row.worker is not None and self._is_dead(row.worker)
        now = self._clock.monotonic()
        seen_for = now - self._first_seen.setdefault((row.version, dead), now)
        if len(self._first_seen) > _MOST_REMEMBERED:
            self._forget(now)
        if row.worker is None:  # given up, with a call that may still act for as long as it says
            patience, after_lease = row.lease_until - row.since, 0.0
        else:
            patience, after_lease = self._call_timeout + (0.0 if dead else self._lease), self._call_timeout
        by_watching = patience - seen_for
        by_the_clock = row.lease_until + after_lease + self._clock_skew - self._clock.utc()
        return max(0.0, min(by_watching, by_the_clock))

    def _forget(self, now: float) -> None:
        oldest = now - 2 * (self._lease + self._call_timeout)
        self._first_seen = {hold: seen for hold, seen in self._first_seen.items() if seen > oldest}
