"""The values that everything works with: requests, a user's row in the ledger, sealed secrets, replies, verdicts.

Nothing here does I/O. Times are UTC seconds since the epoch (``float``) unless it is said otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple, NoReturn

from worker.core.settled import NOTHING_SETTLED, Settled


class Secret:
    """A string that is never shown by accident: ``repr`` and formatting give ``***``; ``reveal()`` gives the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value, for the wire and for sealing only."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


class CredentialKind(StrEnum):
    """Which of the two credentials a request carries."""

    SESSION = "session"
    ACCESS_TOKEN = "access_token"  # noqa: S105 - the name of a kind, not a token


@dataclass(frozen=True, slots=True)
class Request:
    """One request to enrol one user."""

    username: str
    kind: CredentialKind
    credential: Secret
    id: str
    expires_at: float
    attributes: Mapping[str, str] = field(default_factory=dict, repr=False)
    replace: bool = False
    mismatch: str = ""
    """What about the access token does not fit the request (``MISMATCHES``), so that it is never sent; empty: it fits.
    """


MISMATCHES = {
    "user": "the access token is another user's",
    "pool": "the access token is another user pool's",
    "id_token": "it is an ID token, where an access token is needed",
    "unreadable": "it is no token of Cognito's",
}
"""What ``Request.mismatch`` may say, and the same for people; it becomes the ``detail`` of ``CREDENTIAL_MISMATCH``."""


class State(StrEnum):
    """Where a user stands in the ledger; for people explained in ``docs/operations.md``."""

    IN_PROGRESS = "in_progress"
    """Claimed by a worker, or given back before an outcome."""
    SEALED = "sealed"
    """The secret is recorded, sealed, and not yet delivered."""
    DELIVERED = "delivered"
    """The channel confirmed the delivery."""
    ACTIVE = "active"
    """The user's first code was verified too; nothing in the worker sets this yet."""
    NEEDS_SESSION = "needs_session"
    """The user must sign in again, whichever credential was used."""
    FAILED = "failed"
    """The request will not succeed as it is."""
    SKIPPED = "skipped"
    """Not to be enrolled: the account is not fit for it, or somebody dismissed the user."""


UNFINISHED = frozenset({State.IN_PROGRESS, State.SEALED})
"""States that some worker still has to finish."""
ENROLLED = frozenset({State.DELIVERED, State.ACTIVE})
"""States of a user who has the secret."""


class Reason(StrEnum):
    """Why a user needs a session, failed or was skipped."""

    SESSION_EXPIRED = "session_expired"
    SESSION_SPENT = "session_spent"
    SESSION_INVALID = "session_invalid"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    TOKEN_SCOPE = "token_scope"  # noqa: S105
    REPLY_LOST = "reply_lost"
    VERIFY_WINDOW_LOST = "verify_window_lost"
    REQUEST_LOST = "request_lost"
    """The work on the user had begun, no call was made, and the request is gone from the queue."""
    PASSWORD_RESET_REQUIRED = "password_reset_required"  # noqa: S105
    INVALID_PARAMETER = "invalid_parameter"
    CREDENTIAL_MISMATCH = "credential_mismatch"
    RETRIES_EXHAUSTED = "retries_exhausted"
    WORKER_CRASHED = "worker_crashed"
    REFUSED = "refused"
    """Cognito refused this user, with a code that would concern everybody, while others got through."""
    THROTTLED_ALONE = "throttled_alone"
    """Every call for this user was "too many requests", while others got through."""
    RECORD_TOO_LARGE = "record_too_large"
    """The sealed record would be larger than the channel or the ledger takes; no call was made, where that was known.
    """
    DELIVERY_REFUSED = "delivery_refused"
    """The channel refused this one record for good."""
    USER_NOT_FOUND = "user_not_found"
    ALREADY_ENROLLED = "already_enrolled"
    """Nothing in the worker sets this yet."""
    DISABLED = "disabled"
    UNCONFIRMED = "unconfirmed"
    DISMISSED = "dismissed"
    """A person said that this user is not to be enrolled (``mfa-worker dismiss``)."""


STATE_OF: Mapping[str, State] = {
    **dict.fromkeys(Reason, State.NEEDS_SESSION),
    **dict.fromkeys(
        (
            Reason.INVALID_PARAMETER,
            Reason.CREDENTIAL_MISMATCH,
            Reason.RETRIES_EXHAUSTED,
            Reason.WORKER_CRASHED,
            Reason.REFUSED,
            Reason.THROTTLED_ALONE,
            Reason.RECORD_TOO_LARGE,
            Reason.DELIVERY_REFUSED,
            Reason.USER_NOT_FOUND,
        ),
        State.FAILED,
    ),
    **dict.fromkeys((Reason.ALREADY_ENROLLED, Reason.DISABLED, Reason.UNCONFIRMED, Reason.DISMISSED), State.SKIPPED),
}
"""The state to which each reason belongs; a ledger may also hold reasons of a later version, which are not here."""
EXPIRED = {CredentialKind.SESSION: Reason.SESSION_EXPIRED, CredentialKind.ACCESS_TOKEN: Reason.TOKEN_EXPIRED}
"""The reason where a credential expired before its call."""


class Sealed(NamedTuple):
    """One secret, sealed to the recipients: stored in the ledger, which is the outbox, and delivered byte for byte."""

    generation: int
    """The user's secrets are numbered in rising order; the highest number is the valid one."""
    attempt_id: str
    """A UUID, new for every secret."""
    associated_at: str
    """When the call was sent: RFC 3339, UTC."""
    blob: bytes
    """The age file; empty once it is delivered."""
    session_expires_at: float | None = None
    """When the Session inside the record expires (Session path only)."""


class Enrolment(NamedTuple):
    """A user's row in the ledger.

    Every change writes a whole new row; the ledger accepts it only if the present row has the expected ``version``. It
    is a named tuple because about ten are made for each user, and ``_replace`` copies them cheaply.
    """

    username: str
    state: State
    since: float
    """When the state was entered, or the claim given back."""
    generation: int
    """The number of the last claim to call; it rises with each, and the secret that it brings carries it too."""
    version: str = ""
    """Identifies the write that made this row; every write has its own."""
    reason: Reason | None = None
    worker: str | None = None
    """The worker that has claimed the user; ``None``: nobody has."""
    lease_until: float = 0.0
    """Until when the claim holds; without a claim, until when an earlier call may still take effect (0: none)."""
    doubt: bool = False
    """A call may have issued a secret that nobody has."""
    crashes: int = 0
    """How many workers died, or met a bug, under a claim to call; such a claim that expired counts as a death."""
    before: State | None = None
    """While a replacement is made: the state to go back to if it surely issues nothing."""
    request_id: str | None = None
    """The id of the request that is worked on; the outcome adds it to ``settled``."""
    kind: CredentialKind | None = None
    """The kind of that request's credential."""
    sealed: Sealed | None = None
    """The user's newest secret; after its delivery without the bytes."""
    settled: Settled = NOTHING_SETTLED
    """The ids of this user's requests that reached an outcome."""
    detail: str | None = None
    """More about the reason, in a few words: a code of Cognito's or of the channel's, what about a credential does not
    fit (``MISMATCHES``), or why somebody dismissed the user."""


class Listed(NamedTuple):
    """What a list of users says of each one; much cheaper to read than the whole row."""

    username: str
    reason: str | None
    """Why the user is in that state, where there is a reason."""
    since: float
    """When the state was entered (UTC seconds)."""
    detail: str | None = None
    """See ``Enrolment.detail``."""


@dataclass(frozen=True, slots=True)
class Written:
    """The ledger's answer to a conditional write: the row is in the ledger, durably."""

    row: Enrolment
    repeated: bool = False
    """It already was: this very write had been made before, and its answer was lost."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The ledger's answer to a conditional write: somebody else was faster, and nothing was written."""

    row: Enrolment | None
    """The row that is in the ledger instead; ``None``: the user has none."""


WriteResult = Written | Lost


@dataclass(frozen=True, slots=True)
class Counts:
    """The ledger counted: ``accepted`` is the sum of ``states``."""

    states: Mapping[State, int]
    reasons: Mapping[str, int]
    duplicates: int = 0
    malformed: int = 0
    codes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """For reasons that come with a code, or another ``Enrolment.detail``: how many users there are of each."""
    unrequested: int | None = None
    """Users of the roster without a row; ``None`` where nobody asked."""
    dead_letters: int | None = 0
    """Requests that the queue moved away because they were received too often (approximate); ``None``: not looked at.
    """

    @property
    def accepted(self) -> int:
        """Users with a row."""
        return sum(self.states.values())

    @property
    def unfinished(self) -> int:
        """Users somebody still has to finish."""
        return sum(self.states.get(state, 0) for state in UNFINISHED)


# What Cognito answered to one wire attempt. ``cognito`` holds the table that makes these.


@dataclass(frozen=True, slots=True)
class Issued:
    """A secret, and on the Session path the only Session that can verify it."""

    secret_code: Secret
    session: Secret | None
    request_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The credential was refused; this attempt issued nothing."""

    state: Literal[State.NEEDS_SESSION, State.FAILED, State.SKIPPED]
    reason: Reason


class Trouble(StrEnum):
    """Why an attempt has to be made again."""

    THROTTLED = "throttled"
    """Over the quota: nothing was issued, everybody slows down, and it counts as no attempt."""
    UNSENT = "unsent"
    """The request never left: nothing was issued, and it counts as no attempt."""
    CONFLICT = "conflict"
    """Another modification of this user was under way: nothing was issued."""
    SERVER_ERROR = "server_error"
    """The service answered that it failed; it may have acted."""
    NO_ANSWER = "no_answer"
    """No whole answer came; it may have acted, and may be acting still."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Nothing is decided: try again, within the user's deadline."""

    trouble: Trouble
    detail: str = ""
    """A code or the name of an exception, safe to log."""

    @property
    def counts(self) -> bool:
        """Whether this was one of the user's attempts."""
        return self.trouble not in (Trouble.THROTTLED, Trouble.UNSENT)

    @property
    def ambiguous(self) -> bool:
        """Whether the attempt may have issued a secret that nobody has."""
        return self.trouble in (Trouble.SERVER_ERROR, Trouble.NO_ANSWER)


@dataclass(frozen=True, slots=True)
class PoolFault:
    """Nobody can succeed, because of the pool, its protection or its configuration. Nothing was issued."""

    code: str
    cure: str
    may_pass: bool = False
    """It may pass by itself (a rate rule of WAF), so it is waited for before the run ends."""
    may_be_own: bool = False
    """Cognito may answer one user alone so: the app client of that token is gone, WAF's rules match that request."""


Reply = Issued | Refused | TryAgain | PoolFault


# What becomes of one request: the pipeline returns one of these, and the loop acknowledges or gives the message back.


@dataclass(frozen=True, slots=True)
class Done:
    """The user's outcome is durable; acknowledge the message."""

    state: State
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """There is nothing to do for this request; count it and acknowledge."""


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Not now: the message becomes visible again after ``delay`` seconds."""

    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Postpone:
    """The user was refused: the message stays leased, and is looked at again after ``delay`` seconds."""

    delay: float


Verdict = Done | Duplicate | GiveBack | Postpone
