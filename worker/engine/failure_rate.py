"""``run --stop-if-failing 5%``: ends a run when too many of the latest users failed, or are left to a person."""

from __future__ import annotations

from collections import Counter, deque

from worker.core.causes import why
from worker.core.errors import PersonMustAct, WorkerError
from worker.core.model import NOT_ACTIVATED, STATE_OF, Reason, State

WINDOW = 200
"""How many of the latest outcomes count. At 20 users/s these are ten seconds' worth, and one bad user is only 0.5 % of
them. The help of ``--stop-if-failing`` promises this number."""
MIN_OUTCOMES = 20
"""How many outcomes there must be before a run may end: with fewer, a single bad user would be more than 5 %."""


class FailureRate:
    """Watches how many of the latest outcomes were bad. The run ends when they are more than ``share`` (0.05 is 5 %).

    Only outcomes count: no duplicates, and no users whose messages were given back.
    """

    def __init__(self, share: float, *, window: int = WINDOW, min_outcomes: int = MIN_OUTCOMES) -> None:
        self._share = share
        self._min_outcomes = min_outcomes
        self._latest: deque[Reason | None] = deque(maxlen=window)
        """The reason of each bad outcome, ``None`` for a good one."""
        self._by_reason: Counter[Reason | None] = Counter()

    def settled(self, state: State, reason: Reason | None) -> WorkerError | None:
        """Count a user's outcome; return the error that ends the run if too many were bad, else ``None``."""
        if len(self._latest) == self._latest.maxlen:
            self._by_reason[self._latest[0]] -= 1
        is_bad = state in (State.FAILED, State.NEEDS_SESSION) or reason in NOT_ACTIVATED
        # a bad outcome always has a reason; if one ever had none, it must still count as bad
        found = (reason or Reason.RETRIES_EXHAUSTED) if is_bad else None
        self._latest.append(found)
        self._by_reason[found] += 1
        seen, bad = len(self._latest), len(self._latest) - self._by_reason[None]
        if seen < self._min_outcomes or bad <= self._share * seen:
            return None
        counted = [(each, number) for each, number in self._by_reason.most_common() if each and number > 0]
        reasons = ", ".join(f"{number} {each.value}" for each, number in counted)
        cure = why(STATE_OF[counted[0][0]], counted[0][0]).cure
        return PersonMustAct(
            f"of the latest {seen} users {bad} failed or need a new sign-in ({reasons}), "
            f"which is more than {100 * self._share:g} %",
            f"{cure.removesuffix('.')}; then run again: nobody else was touched",
        )
