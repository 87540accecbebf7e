"""How many messages may wait on a queue, so that no credential dies there and no worker runs out of work.

A message waits for about as long as the workers need for the messages before it: their number divided by the rate. Only
a part of a credential's life (``FeedConfig.share``) is planned for that wait, because it may become longer: the rate
may be halved, workers may join late, and SQS keeps no order and its counts lag. Some seconds of work may always wait,
because an empty queue wastes quota.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from worker.core.model import CredentialKind

MARGIN = 10.0
"""Seconds of a credential's life that are never planned for waiting, because clocks differ and workers lease messages
some time before their turn. An assumption, not a measurement."""

SHARE_IN_ORDER = 1 / 2
"""``FeedConfig.share`` for a queue that counts exactly and leases the earliest deadline first (SQLite). With one half,
no credential expires if the rate is halved right after a push; the feed's tests check that."""

SHARE_WITHOUT_ORDER = 1 / 3
"""``FeedConfig.share`` for a queue that keeps no order and whose counts lag (SQS). With one third, no credential
expires if counts are a minute old and workers join late; the feed's tests check that."""

MIN_WORK = 2.0
"""Seconds of work that may always wait, however short credentials live, so that workers have work between two counts.
It is also the smallest number of messages that may wait. The feed's tests check both."""


@dataclass(frozen=True, slots=True)
class FeedConfig:
    """What a feed knows about workers, credentials and queue; durations are in seconds."""

    rate: float
    """Requests/s that the workers may send together; the shared pace says when it is less."""
    session_validity: float
    """How long credentials are assumed to live until the first one is pushed."""
    call_timeout: float = 10.0
    """How long a call to Cognito may take."""
    min_validity: float = 30.0
    """How long a Session must still live when its secret is delivered."""
    share: float = SHARE_IN_ORDER
    """The part of a credential's usable life that may be planned for waiting."""
    lag: float = 0.0
    """How old the queue's count may be."""
    calls: int = 1
    """How many of these requests a user costs (``activation.mode``)."""
    is_lasting: bool = False
    """Whether credentials are assumed to be tickets or passwords, until the first one is pushed."""

    def users(self, rate: float) -> float:
        """Return the users/s for whom so many requests/s suffice."""
        return min(self.rate, rate) / self.calls

    def usable(self, life: float, kind: CredentialKind) -> float:
        """Return the seconds for which a credential that lives for ``life`` seconds may wait and still be used."""
        return life - self.call_timeout - MARGIN - (self.min_validity if kind is CredentialKind.SESSION else 0.0)

    def most_waiting(self, rate: float, usable: float) -> int:
        """Return how many messages may wait, at ``rate`` users/s and for credentials usable ``usable`` seconds."""
        return math.ceil(max(MIN_WORK, rate * max(MIN_WORK, self.share * usable)))


class Estimate:
    """Estimates how many messages wait, from the queue's last count and from what this feed has pushed since.

    A count that lags includes messages that workers have taken since, and misses those that were pushed just before.
    If the feed trusted it alone, it would push too many, again and again. So there is a second number, computed from
    what was pushed and from what the workers can have taken at most. The larger number is used. If the computed one is
    larger for longer than the lag can explain, the count replaces it. Times are monotonic seconds, rates users/s.
    """

    def __init__(self, lag: float) -> None:
        self._lag = lag
        self._counted = 0.0
        self._pushed_since = 0
        self._computed = 0.0
        self._computed_at = -math.inf
        self._computed_is_larger_since: float | None = None

    def pushed(self, number: int, now: float, rate: float) -> None:
        """Note that so many messages were pushed."""
        self._pushed_since += number
        self._computed = self._computed_now(now, rate) + number
        self._computed_at = now

    def counted(self, waiting: int, since: int, now: float, rate: float) -> None:
        """Note that the queue counted ``waiting`` messages.

        ``since`` more were pushed while it counted; they may be missing in the count.
        """
        self._counted, self._pushed_since = waiting, since
        if self._computed_now(now, rate) <= waiting + since:
            self._computed_is_larger_since = None
        elif self._computed_is_larger_since is None:
            self._computed_is_larger_since = now
        elif now - self._computed_is_larger_since > 1.5 * self._lag:  # the lag cannot explain that: the count is right
            self._computed, self._computed_at = waiting + since, now
            self._computed_is_larger_since = None

    def waiting(self, now: float, rate: float) -> float:
        """Return how many messages wait now."""
        counted = self._counted + self._pushed_since
        return max(counted, self._computed_now(now, rate)) if self._lag else counted

    def _computed_now(self, now: float, rate: float) -> float:
        return max(0.0, self._computed - rate * (now - self._computed_at)) if self._computed else 0.0
