"""How much may wait on a queue so that nothing on it dies: the rule of the feed, and its idea of what waits.

A message waits for about the backlog ahead of it by the rate of the workers. Only a part of what a credential can be
used for (``FeedConfig.share``) is spent on that: the rate may be halved the moment after, workers may join late, SQS
has no
order and counts late. There is always work for some seconds, because a queue that runs dry costs quota.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from worker.core.model import CredentialKind

MARGIN = 10.0
"""Seconds of a credential's life for clocks that differ, and for the work that a worker leases ahead."""
IN_ORDER, WITHOUT_ORDER = 1 / 2, 1 / 3
"""``FeedConfig.share`` for a queue that is exact and takes the earliest deadline first, and for one that is neither."""
LEAST = 2.0
"""Seconds of work that may always wait, however short credentials live; and never less than this many messages."""


@dataclass(frozen=True, slots=True)
class FeedConfig:
    """What a feed reckons with; durations in seconds."""

    rate: float
    """Requests/s that the workers may send together; the shared pace says when it is less."""
    session_validity: float
    """How long a credential lives, as long as none was pushed."""
    call_timeout: float = 10.0
    min_validity: float = 30.0
    """What a Session must still live when its secret is delivered."""
    share: float = IN_ORDER
    """The part of a credential's usable life that it may spend waiting."""
    lag: float = 0.0
    """How late the queue's count may be."""

    def usable(self, life: float, kind: CredentialKind) -> float:
        """Seconds for which a credential that lives for ``life`` may wait and still be used."""
        return life - self.call_timeout - MARGIN - (self.min_validity if kind is CredentialKind.SESSION else 0.0)

    def most_waiting(self, rate: float, usable: float) -> int:
        """How many messages may wait at ``rate`` requests/s."""
        return math.ceil(max(LEAST, rate * max(LEAST, self.share * usable)))


class Estimate:
    """How many messages wait: what was counted, with what was pushed since.

    A count that lags does not show what was pushed before it either, and would let everything in again and again. So
    there is a second reckoning, by what was pushed and what the workers can have taken at most; the higher one counts,
    until the lag has surely passed. Times are monotonic seconds.
    """

    def __init__(self, lag: float) -> None:
        self._lag = lag
        self._counted = 0.0
        self._since = 0
        self._reckoned, self._reckoned_at = 0.0, -math.inf
        self._above_since: float | None = None

    def pushed(self, number: int, now: float, rate: float) -> None:
        """So many more wait."""
        self._since += number
        self._reckoned = self._left(now, rate) + number
        self._reckoned_at = now

    def counted(self, waiting: int, since: int, now: float, rate: float) -> None:
        """``waiting`` were counted, ``since`` of ours perhaps not among them."""
        self._counted, self._since = waiting, since
        if self._left(now, rate) <= waiting + since:
            self._above_since = None
        elif self._above_since is None:
            self._above_since = now
        elif now - self._above_since > 1.5 * self._lag:
            self._reckoned, self._reckoned_at, self._above_since = waiting + since, now, None

    def waiting(self, now: float, rate: float) -> float:
        """Messages."""
        counted = self._counted + self._since
        return max(counted, self._left(now, rate)) if self._lag else counted

    def _left(self, now: float, rate: float) -> float:
        return max(0.0, self._reckoned - rate * (now - self._reckoned_at)) if self._reckoned else 0.0
