"""``run --stop-if-failing 5%``: ends a run when too many of the latest users failed or need a session."""

from __future__ import annotations

from collections import Counter, deque

from worker.core.errors import PersonMustAct, WorkerError
from worker.core.model import Reason, State

WINDOW = 200
"""The latest outcomes that count: at 20 users/s ten seconds' worth, and enough that one bad user means nothing."""
MIN_OUTCOMES = 20
"""Outcomes before anything is concluded: with fewer, a single bad user would be more than 5 %."""

_DIED = "credentials die before their turn comes: mint them as they are needed (push --keep-fresh, or worker.feed)"
_REFUSED = (
    "Cognito does not take these credentials: look in the script that mints them for the right pool and app client, "
    "the scope aws.cognito.signin.user.admin, and for what else uses or revokes them first"
)
_WRONG = "the requests are wrong: look whether the script gives each user a token of their own and of this pool"
_NO_ANSWER = "Cognito answers badly or not at all: look at the network and at the service's health"
CURES = {
    Reason.SESSION_EXPIRED: _DIED,
    Reason.TOKEN_EXPIRED: _DIED,
    Reason.VERIFY_WINDOW_LOST: "secrets are delivered too late for their Sessions: look at the channel",
    Reason.SESSION_SPENT: _REFUSED,
    Reason.SESSION_INVALID: _REFUSED,
    Reason.TOKEN_REVOKED: _REFUSED,
    Reason.TOKEN_SCOPE: _REFUSED,
    Reason.CREDENTIAL_MISMATCH: _WRONG,
    Reason.INVALID_PARAMETER: _WRONG,
    Reason.REPLY_LOST: _NO_ANSWER,
    Reason.RETRIES_EXHAUSTED: _NO_ANSWER,
    Reason.WORKER_CRASHED: "workers died over these users: look at their logs and at their limits of memory",
}
"""What to do first, by the commonest reason."""


class FailureRate:
    """The share of bad outcomes among the latest; ``share``: above which the run ends (0.05 is 5 %).

    Only outcomes count, not duplicates, and not users who were given back.
    """

    def __init__(self, share: float, *, window: int = WINDOW, min_outcomes: int = MIN_OUTCOMES) -> None:
        self._share = share
        self._min_outcomes = min_outcomes
        self._latest: deque[Reason | None] = deque(maxlen=window)
        """The reason of each bad outcome, ``None`` for a good one."""
        self._by_reason: Counter[Reason | None] = Counter()

    def settled(self, state: State, reason: Reason | None) -> WorkerError | None:
        """Count a user's outcome; gives the error that ends the run where too many were bad. Takes constant time."""
        if len(self._latest) == self._latest.maxlen:
            self._by_reason[self._latest[0]] -= 1
        is_bad = state in (State.FAILED, State.NEEDS_SESSION)
        # a bad outcome has a reason; should it ever have none, it still counts as one
        found = (reason or Reason.RETRIES_EXHAUSTED) if is_bad else None
        self._latest.append(found)
        self._by_reason[found] += 1
        seen, bad = len(self._latest), len(self._latest) - self._by_reason[None]
        if seen < self._min_outcomes or bad <= self._share * seen:
            return None
        counted = [(each, number) for each, number in self._by_reason.most_common() if each and number > 0]
        told = ", ".join(f"{number} {each.value}" for each, number in counted)
        return PersonMustAct(
            f"of the latest {seen} users {bad} failed or need a session ({told}), "
            f"which is more than {100 * self._share:g} %",
            f"{CURES[counted[0][0]]}; then run again: nobody else was touched",
        )
