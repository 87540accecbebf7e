"""How long another worker's claim on a user must be respected before this worker may take the user over.

A claim ends at the earliest of:

- the end of its lease by the clock, plus one call time-out, plus an allowance for clocks that differ;
- a whole lease plus one call time-out by our own monotonic clock in which we saw the claim unchanged, so that wrong
  clocks cannot keep a user claimed for ever;
- where the ledger knows that the claim's worker is dead: one call time-out after we saw that.

The call time-out is there because a call of that worker may still take effect. A row that was given back without a
claim is respected for as long as it says that a call may still take effect.
"""

from __future__ import annotations

from collections.abc import Callable

from worker.core.model import Enrolment
from worker.core.ports import Clock

MAX_REMEMBERED = 10_000
"""Claims that are remembered before those too old to matter are forgotten, so that a long run needs no more memory than
a short one. Workers hold far fewer at a time; where more claims than that stand, each is remembered (200 bytes)."""


class ClaimExpiry:
    """Remembers which claims it saw, and since when.

    ``is_dead`` tells whether a worker is known to be dead; ``lease``, ``clock_skew`` and ``call_timeout`` in seconds.
    """

    def __init__(
        self, clock: Clock, is_dead: Callable[[str], bool], *, lease: float, clock_skew: float, call_timeout: float
    ) -> None:
        self._clock = clock
        self._is_dead = is_dead
        self._lease = lease
        self._clock_skew = clock_skew
        self._call_timeout = call_timeout
        self._first_seen: dict[str, float] = {}
        """By the row's version: when (monotonic seconds) we saw that claim first."""
        self._forgot_at = clock.monotonic()
        """When old claims were forgotten last (monotonic seconds)."""
        self._seen_dead: dict[str, float] = {}
        """By worker: when (monotonic seconds) we first saw that it is dead. It makes no call after that."""

    def seconds_left(self, row: Enrolment) -> float:
        """Seconds until the row may be taken over; 0 when it may be now."""
        if not row.lease_until:
            return 0.0
        dead = row.worker is not None and self._is_dead(row.worker)
        now = self._clock.monotonic()
        if dead and row.worker is not None:
            seen_for = now - self._seen_dead.setdefault(row.worker, now)
        else:
            seen_for = now - self._first_seen.setdefault(row.version, now)
            if len(self._first_seen) > MAX_REMEMBERED and now - self._forgot_at >= self._call_timeout:
                self._forget_old(now)
        if row.worker is None:  # given back, with a call that may still take effect for as long as the row says
            to_watch, after_lease = row.lease_until - row.since, 0.0
        else:
            to_watch, after_lease = self._call_timeout + (0.0 if dead else self._lease), self._call_timeout
        by_watching = to_watch - seen_for
        by_the_clock = row.lease_until + after_lease + self._clock_skew - self._clock.utc()
        return max(0.0, min(by_watching, by_the_clock))

    def _forget_old(self, now: float) -> None:
        oldest = now - 2 * (self._lease + self._call_timeout)
        self._first_seen = {claim: seen for claim, seen in self._first_seen.items() if seen > oldest}
        self._forgot_at = now
