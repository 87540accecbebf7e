"""Decides when an SQS queue is certainly empty, although its counts are only approximate.

The counts may be a minute or more behind, and a poll returns only visible messages (SQS developer guide). So both are
watched over a period (``empty_after``) in which nothing happens: every count must be zero, the last one taken at the
end of the period, and one complete long poll, which asks all servers of SQS, must return no message.

Nothing here does I/O. Times are monotonic seconds.
"""

from __future__ import annotations

MAX_LOOKS = 6
"""How often the counts are asked for within ``empty_after``: each time is a request, and twice would be enough
evidence.
"""


class Emptiness:
    """The evidence so far. ``empty_after``: seconds."""

    def __init__(self, empty_after: float) -> None:
        self._empty_after = empty_after
        self._interval = max(empty_after / MAX_LOOKS, min(1.0, empty_after / 2))
        self._began: float | None = None
        self._looked = float("-inf")
        self._looks = 0
        self._happened = float("-inf")
        self._polled = False

    def disturb(self, now: float) -> None:
        """Discard all evidence: a message was seen, deleted, given back or pushed."""
        self._began, self._looks = None, 0
        self._happened = now
        self._polled = False

    def polled(self, began: float) -> None:
        """Note that a complete long poll, begun at that moment, returned no message."""
        self._polled = self._polled or began >= self._happened

    def should_look(self, now: float) -> bool:
        """Whether the counts are worth a request now."""
        is_last = self._began is not None and self._looked < self._began + self._empty_after <= now
        return is_last or now - self._looked >= self._interval

    def looked(self, began: float, waiting: int) -> None:
        """Note that the counts, asked for at the moment ``began``, added up to ``waiting`` messages."""
        if began < self._happened:
            return
        self._looked = began
        if waiting:
            self._began, self._looks = None, 0
            return
        self._looks += 1
        if self._began is None:
            self._began = began

    def watched_for(self, now: float) -> float | None:
        """Seconds until the evidence may be complete, where the counts were zero so far; else ``None``."""
        if self._began is None or self.is_certain():
            return None
        return max(0.0, self._began + self._empty_after - now)

    def is_certain(self) -> bool:
        """Whether the evidence is complete: the queue is empty."""
        return (
            self._polled
            and self._looks > 1
            and self._began is not None
            and self._looked - self._began >= self._empty_after
        )
