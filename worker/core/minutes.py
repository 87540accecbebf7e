"""One worker's figures, minute by minute, made from what it counts (``stats``)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from worker.core.figures import ENROLS, SECONDS, Minute, merged
from worker.core.ports import Clock
from worker.core.stats import RunStats

KEPT = 120
"""How many minutes are remembered: those that are not written yet while the ledger is away, and those before in case
the clock is set back."""


class Minutes:
    """One worker's minutes, made from what ``stats`` counts."""

    def __init__(self, stats: RunStats, clock: Clock) -> None:
        self._stats, self._clock = stats, clock
        self._minutes: dict[int, Minute] = {}
        self._unwritten: set[int] = set()
        self._since = clock.monotonic()
        self._settled = self._named_outcomes()
        self._attempts = self._named_attempts()
        self._latency = stats.latency_of(ENROLS).copy()
        self._waits = stats.lease_to_outcome.copy()

    def until_next(self, most: float) -> float:
        """Seconds until ``look`` should be called again: ``most``, or until this minute is over."""
        return min(most, SECONDS - self._clock.utc() % SECONDS)

    def look(self) -> Sequence[Minute]:
        """The minutes to be written, oldest first, with whatever happened since the last look.

        That belongs to the minute in which the last look was, by the clock as it is corrected now.
        """
        now = self._clock.monotonic()
        minute = math.floor(self._clock.utc() - (now - self._since)) // SECONDS
        self._since = now
        if not (new := self._new(minute)).is_empty:
            known = self._minutes.get(minute)
            self._minutes[minute] = merged([known, new]) if known else new
            self._unwritten.add(minute)
            for old in sorted(self._minutes)[:-KEPT]:
                del self._minutes[old]
                self._unwritten.discard(old)
        return [self._minutes[each] for each in sorted(self._unwritten)]

    def written(self, minute: Minute) -> None:
        """This one is in the ledger, as ``look`` gave it."""
        if self._minutes.get(minute.minute) is minute:
            self._unwritten.discard(minute.minute)

    def _new(self, minute: int) -> Minute:
        """What happened since the last time this was called, as if all of it were in that minute."""
        stats = self._stats
        settled, attempts = self._named_outcomes(), self._named_attempts()
        latency, waits = stats.latency_of(ENROLS).copy(), stats.lease_to_outcome.copy()
        new = Minute(
            minute,
            settled - self._settled,
            attempts - self._attempts,
            latency - self._latency,
            waits - self._waits,
            stats.take_longest(),
            stats.allowed_per_second,
            stats.configured_per_second,
        )
        self._settled, self._attempts, self._latency, self._waits = settled, attempts, latency, waits
        return new

    def _named_outcomes(self) -> Counter[str]:
        outcomes = self._stats.outcomes.items()
        return Counter({f"{state}:{reason}" if reason else str(state): number for (state, reason), number in outcomes})

    def _named_attempts(self) -> Counter[str]:
        attempts = self._stats.attempts.items()
        return Counter({f"{operation}:{answer}": number for (operation, answer), number in attempts})
