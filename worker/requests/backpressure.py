"""How many messages may wait on a queue, so that no credential dies there and no worker runs out of work.

A message waits for about as long as the workers need for the messages before it: their number divided by the rate. Only
a part of a credential's life (``FeedConfig.share``) is spent on that wait, because things may get worse meanwhile: the
rate may be halved, workers may join late, and SQS keeps no order and counts late. Some seconds of work may always
wait, because a queue that runs dry wastes quota.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from worker.core.model import CredentialKind

MARGIN = 10.0
"""Seconds of a credential's life that are never spent on waiting: for clocks that differ, and for the work that a
worker leases ahead of its turn. An assumption, not a measurement."""

SHARE_IN_ORDER = 1 / 2
"""``FeedConfig.share`` for a queue that counts exactly and gives out the earliest deadline first (SQLite). With one
half, nobody dies where the rate is halved the moment after a push; the tests of the feed try that."""

SHARE_WITHOUT_ORDER = 1 / 3
"""``FeedConfig.share`` for a queue that keeps no order and counts late (SQS). With one third, nobody dies where counts
are a minute old and the workers join late; the tests of the feed try that."""

MIN_WORK = 2.0
"""Seconds of work that may always wait, however short credentials live, so that workers do not run dry between two
counts; and never fewer than this many messages. The tests of the feed hold both."""


@dataclass(frozen=True, slots=True)
class FeedConfig:
    """What a feed knows of workers, credentials and queue; durations are in seconds."""

    rate: float
    """Requests/s that the workers may send together; the shared pace says when it is less."""
    session_validity: float
    """How long a credential is taken to live until the first one is pushed."""
    call_timeout: float = 10.0
    """How long a call to Cognito may take."""
    min_validity: float = 30.0
    """How long a Session must still live when its secret is delivered."""
    share: float = SHARE_IN_ORDER
    """The part of a credential's usable life that it may spend waiting."""
    lag: float = 0.0
    """How late the queue's count may be."""

    def usable(self, life: float, kind: CredentialKind) -> float:
        """Seconds for which a credential that lives for ``life`` seconds may wait and still be used."""
        return life - self.call_timeout - MARGIN - (self.min_validity if kind is CredentialKind.SESSION else 0.0)

    def most_waiting(self, rate: float, usable: float) -> int:
        """How many messages may wait, at ``rate`` requests/s and for credentials usable for ``usable`` seconds."""
        return math.ceil(max(MIN_WORK, rate * max(MIN_WORK, self.share * usable)))


class Estimate:
    """How many messages wait: the queue's last count, and what this feed has pushed since.

    A count that lags shows messages that workers have taken already, and does not show what was pushed just before it.
    Trusted alone it would let too many in, again and again. So there is a second number, computed from what was pushed
    and from what the workers can have taken at most. The larger one is believed, until the lag has surely passed.
    Times are monotonic seconds, rates requests/s.
    """

    def __init__(self, lag: float) -> None:
        self._lag = lag
        self._counted = 0.0
        self._pushed_since = 0
        self._computed = 0.0
        self._computed_at = -math.inf
        self._computed_is_larger_since: float | None = None

    def pushed(self, number: int, now: float, rate: float) -> None:
        """So many more messages wait."""
        self._pushed_since += number
        self._computed = self._computed_now(now, rate) + number
        self._computed_at = now

    def counted(self, waiting: int, since: int, now: float, rate: float) -> None:
        """The queue counted ``waiting`` messages; ``since`` more were pushed meanwhile, perhaps not among them."""
        self._counted, self._pushed_since = waiting, since
        if self._computed_now(now, rate) <= waiting + since:
            self._computed_is_larger_since = None
        elif self._computed_is_larger_since is None:
            self._computed_is_larger_since = now
        elif now - self._computed_is_larger_since > 1.5 * self._lag:  # no lag explains that: the queue is right
            self._computed, self._computed_at = waiting + since, now
            self._computed_is_larger_since = None

    def waiting(self, now: float, rate: float) -> float:
        """How many messages wait now."""
        counted = self._counted + self._pushed_since
        return max(counted, self._computed_now(now, rate)) if self._lag else counted

    def _computed_now(self, now: float, rate: float) -> float:
        return max(0.0, self._computed - rate * (now - self._computed_at)) if self._computed else 0.0
