"""When an SQS queue is known to be empty, although its counts are approximate.

The counts may lag by a minute and more behind the messages, and a poll sees only what is visible (SQS developer guide).
So both are looked at over a period (``empty_after``) in which nothing happens: counts of zero at every look, the last
one when the period is over, and a whole long poll, which asks every server, without a message.

Nothing here does I/O. Times are monotonic seconds.
"""

from __future__ import annotations

MAX_LOOKS = 6
"""Looks at the counts within ``empty_after``: each is a request, and two would do as evidence."""


class Emptiness:
    """The evidence so far. ``empty_after`` in seconds."""

    def __init__(self, empty_after: float) -> None:
        self._empty_after = empty_after
        self._interval = max(empty_after / MAX_LOOKS, min(1.0, empty_after / 2))
        self._began: float | None = None
        self._looked = float("-inf")
        self._looks = 0
        self._happened = float("-inf")
        self._polled = False

    def disturb(self, now: float) -> None:
        """A message was seen, deleted, given back or pushed: all evidence is void."""
        self._began, self._looks = None, 0
        self._happened = now
        self._polled = False

    def polled(self, began: float) -> None:
        """A whole long poll that began then brought nothing."""
        self._polled = self._polled or began >= self._happened

    def should_look(self, now: float) -> bool:
        """Whether the counts are worth a request now."""
        is_last = self._began is not None and self._looked < self._began + self._empty_after <= now
        return is_last or now - self._looked >= self._interval

    def looked(self, began: float, waiting: int) -> None:
        """The counts, asked for at that moment, came to so many messages."""
        if began < self._happened:
            return
        self._looked = began
        if waiting:
            self._began, self._looks = None, 0
            return
        self._looks += 1
        if self._began is None:
            self._began = began

    def is_certain(self) -> bool:
        """Whether it is empty, by all that can be known."""
        return (
            self._polled
            and self._looks > 1
            and self._began is not None
            and self._looked - self._began >= self._empty_after
        )
