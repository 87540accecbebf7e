"""How many messages a worker receives ahead of their use: some seconds of what this worker used lately.

What one worker has received ahead no other can work on. Several workers share the rate, so if each received as much as
the whole rate uses, a worker that joins would find nothing, and a killed one would hide a multiple of its own work.

Nothing here does I/O. Times are monotonic seconds.
"""

from __future__ import annotations

import math

FIRST_GUESS = 1 / 4
"""The share of the rate that a worker is assumed to get until it has worked for some seconds: it may be one of
several."""
MEMORY = 5.0
"""Seconds after which what was used counts for a third (1/e): the share changes when workers come and go."""


class LookAhead:
    """``most``: messages that ``seconds`` of work at the whole rate use; ``least``: never ask for fewer."""

    def __init__(self, most: int, seconds: float, *, least: int, now: float) -> None:
        self._most = most
        self._seconds = seconds
        self._least = min(least, most)
        self._per_second = FIRST_GUESS * most / seconds
        self._at = now

    def used(self, number: int, now: float) -> None:
        """Note that so many messages were taken for use."""
        self._per_second = self._now(now) + number / MEMORY
        self._at = now

    def messages(self, now: float) -> int:
        """How many messages to have ahead."""
        return max(self._least, min(self._most, math.ceil(self._seconds * self._now(now))))

    def _now(self, now: float) -> float:
        return self._per_second * math.exp((self._at - now) / MEMORY)
