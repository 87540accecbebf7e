"""``run --stop-if-failing 5%``: ends a run when too many of the latest users failed, or are left to a person."""

from __future__ import annotations

from collections import Counter, deque

from worker.core.errors import PersonMustAct, WorkerError
from worker.core.model import NOT_ACTIVATED, Reason, State

WINDOW = 200
"""How many of the latest outcomes count. At 20 users/s these are ten seconds' worth, and one bad user is only 0.5 % of
them. The help of ``--stop-if-failing`` promises this number."""
MIN_OUTCOMES = 20
"""How many outcomes there must be before a run may end: with fewer, a single bad user would be more than 5 %."""

_DIED = "credentials die before their turn comes: mint them as they are needed (push --keep-fresh, or worker.feed)"
_REFUSED = (
    "Cognito does not take these credentials: look in the script that mints them for the right pool and app client, "
    "the scope aws.cognito.signin.user.admin, and for what else uses or revokes them first"
)
_WRONG = "the requests are wrong: look whether the script gives each user a token of their own and of this pool"
_UNFIT = "the accounts are not fit for it: look in the pool at some of them (mfa-worker export has their names)"
_UNDELIVERABLE = (
    "the channel does not take these records: look at the codes (mfa-worker status --json), and at its limits"
)
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
    Reason.REFUSED: (
        "Cognito refuses these users and no others: look at the codes (mfa-worker status --json), at the app client of "
        "their tokens and at the rules of the pool's WAF"
    ),
    Reason.THROTTLED_ALONE: "Cognito limits these users alone: look for what else calls it for them, and wait hours",
    Reason.REQUEST_LOST: "requests vanish from the queue: look for a purge, a short retention and dead letters",
    Reason.CREDENTIAL_EXPIRED: "tickets or passwords die too early: push again, with a longer --valid-for",
    Reason.SIGN_IN_REFUSED: (
        "the sign-ins are refused: are the tickets made with the key that the trigger of the pool has, for this "
        "app client, and are the passwords right?"
    ),
    Reason.CHALLENGE_UNANSWERABLE: (
        "the sign-ins bring challenges that the worker cannot answer: look at the codes (mfa-worker status --json)"
    ),
    Reason.VERIFY_REFUSED: "Cognito refuses the codes of new secrets: look at this machine's clock and at the codes",
    Reason.VERIFY_UNKNOWN: _NO_ANSWER,
    Reason.VERIFY_TOKEN_EXPIRED: _DIED,
    Reason.PREFERENCE_REFUSED: "TOTP cannot be made preferred: look at the codes (mfa-worker status --json)",
    Reason.PASSWORD_RESET_REQUIRED: _UNFIT,
    Reason.USER_NOT_FOUND: _UNFIT,
    Reason.RECORD_TOO_LARGE: "send fewer attributes with each request, or deliver through a channel that takes more",
    Reason.DELIVERY_REFUSED: _UNDELIVERABLE,
    Reason.WORKER_CRASHED: "workers died over these users: look at their logs and at their memory limits",
}
"""What to do first, by the most common reason of the bad outcomes."""


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
        return PersonMustAct(
            f"of the latest {seen} users {bad} failed or need a session ({reasons}), "
            f"which is more than {100 * self._share:g} %",
            f"{CURES[counted[0][0]]}; then run again: nobody else was touched",
        )
