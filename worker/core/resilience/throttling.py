"""Whether "too many requests" concerns everybody, and slows everybody down, or one user alone.

Where the quota is exceeded, whoever's request comes at the wrong moment is throttled, and gets through soon after. A
user with a limit of their own is throttled again and again, while others get through in between. The first answer does
not show which it is; the answer to the next try does, a moment later. So the pace is cut then, and not at once:

- the next try got through: the quota was exceeded, so the pace is cut;
- it was throttled again, and nobody else got through meanwhile: the same;
- it was throttled again although others got through, or did a moment ago and are done, and nobody who was throttled
  recovered lately: this user is throttled alone. Nobody is slowed down, and the user is postponed (``refusals``).

Waiting for that costs a fraction of a second of too many requests, because the pause before such a try is short.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from worker.core.model import Trouble, TryAgain
from worker.core.ports import Pacer
from worker.core.resilience.refusals import Refusals

WINDOW = 50
"""How many of the latest answers show whether the quota is exceeded: two seconds' worth at 25/s."""
RECOVERIES = 2
"""Users among them who were throttled, and then got through, that show that it is. One may be a user with a limit of
their own, which has just passed."""
REMEMBERED = 1_000
"""Users who may wait for their next try after a throttled answer, before the oldest is forgotten."""


@dataclass(frozen=True, slots=True)
class _Throttled:
    """A user whose last answer was "too many requests"."""

    number: int
    """Of that call."""
    sent_at: float
    """When it was sent (monotonic seconds)."""


class Throttling:
    """Learns from every reply to requests of one quota, and tells their pacer, if they have one, when to slow down."""

    def __init__(self, pacer: Pacer | None, refusals: Refusals) -> None:
        self._pacer = pacer
        self._refusals = refusals
        self._waiting: OrderedDict[str, _Throttled] = OrderedDict()
        self._recovered: deque[bool] = deque(maxlen=WINDOW)
        """Whether each of the latest answers was for a user who had been throttled before, and was not any more."""

    def record_reply(self, username: str, reply: object, number: int, sent_at: float) -> bool:
        """Learn from the reply to the call with that number. Returns whether the user is throttled alone.

        ``sent_at``: when the call was sent (monotonic seconds).
        """
        before = self._waiting.pop(username, None)
        throttled = isinstance(reply, TryAgain) and reply.trouble is Trouble.THROTTLED
        self._recovered.append(before is not None and not throttled)
        if not isinstance(reply, TryAgain) or not throttled:
            if before is not None:
                self._slow_down(before.sent_at)
            return False
        if self._refusals.is_throttled_alone(username) or (before is not None and self._is_alone(username, before)):
            self._refusals.throttled_alone(username, number, reply.detail)
            return True
        if before is not None:
            self._slow_down(sent_at)
        self._waiting[username] = _Throttled(number, sent_at)
        if len(self._waiting) > REMEMBERED:
            self._waiting.popitem(last=False)
        return False

    def _slow_down(self, sent_at: float) -> None:
        if self._pacer is not None:
            self._pacer.throttled(sent_at)

    def _is_alone(self, username: str, before: _Throttled) -> bool:
        others = self._refusals.got_through_since(before.number) or self._refusals.is_left_alone(username)
        return others and sum(self._recovered) < RECOVERIES
