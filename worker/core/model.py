"""The values that everything works with: requests, a user's row in the ledger, sealed secrets, replies, verdicts.

Nothing here does I/O. Times are UTC seconds since the epoch (``float``) unless it is said otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
    """Which credential a request carries. The first two are used for the call; the others sign the user in before."""

    SESSION = "session"
    ACCESS_TOKEN = "access_token"  # noqa: S105 - the name of a kind, not a token
    TICKET = "ticket"
    PASSWORD = "password"  # noqa: S105


SIGNS_IN = frozenset({CredentialKind.TICKET, CredentialKind.PASSWORD})
"""Credentials with which the worker signs the user in when it is their turn."""

NEVER = 253_402_300_799.0
"""The deadline (UTC seconds) of a credential that does not expire by itself, a password: the end of the year 9999."""


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

    def signed_in(self, kind: CredentialKind, credential: Secret, expires_at: float) -> Request:
        """The same request with the credential that a sign-in brought, which expires then (UTC seconds)."""
        return replace(self, kind=kind, credential=credential, expires_at=expires_at)


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
    """The user's first code was verified too, and TOTP is preferred where that was asked."""
    NEEDS_SESSION = "needs_session"
    """The user must sign in again, whichever credential was used."""
    FAILED = "failed"
    """The request will not succeed as it is."""
    SKIPPED = "skipped"
    """Not to be enrolled: the account is not fit for it, or somebody dismissed the user."""


UNFINISHED = frozenset({State.IN_PROGRESS, State.SEALED})
"""States that some worker still has to finish; so is ``delivered`` while its activation is under way
(``Enrolment.is_unfinished``)."""
ENROLLED = frozenset({State.DELIVERED, State.ACTIVE})
"""States of a user who has the secret."""


class Reason(StrEnum):
    """Why a user needs a session, failed or was skipped, or what is left of the activation of one who was delivered."""

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
    CREDENTIAL_EXPIRED = "credential_expired"
    """The ticket or password expired before the user could be signed in with it."""
    SIGN_IN_REFUSED = "sign_in_refused"
    """Wrong password or ticket, or a trigger of the pool refused the sign-in."""
    CHALLENGE_UNANSWERABLE = "challenge_unanswerable"
    """The sign-in brought a challenge that the worker cannot answer; the detail says which."""
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
    """The sign-in, or Cognito asked after it, showed that the user has an active TOTP factor."""
    DISABLED = "disabled"
    UNCONFIRMED = "unconfirmed"
    DISMISSED = "dismissed"
    """A person said that this user is not to be enrolled (``mfa-worker dismiss``)."""
    ACTIVATION_PENDING = "activation_pending"
    """Delivered, and the activation is under way: some worker still has to finish it."""
    VERIFY_REFUSED = "verify_refused"
    """Cognito refused the codes of the delivered secret."""
    VERIFY_UNKNOWN = "verify_unknown"
    """Nobody knows whether the delivered secret was verified: an answer was lost, and the Session may be spent by it.
    """
    VERIFY_TOKEN_EXPIRED = "verify_token_expired"  # noqa: S105
    """The access token died before the delivered secret was verified."""
    PREFERENCE_REFUSED = "preference_refused"
    """The delivered secret is verified, but TOTP could not be made the preferred factor."""


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
    **dict.fromkeys(
        (
            Reason.ACTIVATION_PENDING,
            Reason.VERIFY_REFUSED,
            Reason.VERIFY_UNKNOWN,
            Reason.VERIFY_TOKEN_EXPIRED,
            Reason.PREFERENCE_REFUSED,
        ),
        State.DELIVERED,
    ),
    **dict.fromkeys((Reason.ALREADY_ENROLLED, Reason.DISABLED, Reason.UNCONFIRMED, Reason.DISMISSED), State.SKIPPED),
}
"""The state to which each reason belongs; a ledger may also hold reasons of a later version, which are not here."""
NOT_ACTIVATED = frozenset(
    reason for reason, state in STATE_OF.items() if state is State.DELIVERED and reason is not Reason.ACTIVATION_PENDING
)
"""Reasons of a user who was delivered, and whose activation is left to a person."""
EXPIRED = {
    CredentialKind.SESSION: Reason.SESSION_EXPIRED,
    CredentialKind.ACCESS_TOKEN: Reason.TOKEN_EXPIRED,
    CredentialKind.TICKET: Reason.CREDENTIAL_EXPIRED,
    CredentialKind.PASSWORD: Reason.CREDENTIAL_EXPIRED,
}
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
    digest: str = ""
    """``digest_of`` the age file, also once it is delivered: by it ``open --against-ledger`` knows the record again.
    Empty where nobody knows it: a row of an earlier version, or one that ``recover`` made from what the channel shows.
    """


def digest_of(blob: bytes) -> str:
    """What identifies an age file: its SHA-256, in lower-case hexadecimal digits."""
    return hashlib.sha256(blob).hexdigest()


class Activation(NamedTuple):
    """What is left of a user's activation, and what it takes after a crash."""

    blob: bytes
    """The secret and the Session or token that verifies it, sealed to the worker's own identity alone."""
    kind: CredentialKind
    """Of the credential in it: ``SESSION`` or ``ACCESS_TOKEN``."""
    expires_at: float
    """When that credential expires (UTC seconds)."""
    verified: bool = False
    """Whether Cognito confirmed the verification, so that only the preference is left."""
    doubt: bool = False
    """Whether a verification may have been sent whose answer nobody saw."""
    replaces: bool = False
    """Whether an earlier secret may be the user's active TOTP factor, so that having one proves nothing of this one.

    With a Session this is kept, without the blob, where the activation did not get through.
    """


class Event(NamedTuple):
    """One thing that happened to a user, for whoever asks why they are where they are. Nothing in it is secret."""

    at: float
    """When (UTC seconds, to the millisecond); of several that were alike, the last."""
    what: str
    """In plain past tense, such as ``claimed`` or ``delivered``."""
    detail: str = ""
    """More about it, in a few words: an answer, a reason, a generation."""
    times: int = 1
    """How often this happened, where it happened again before anything else came of it."""


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
    """While another secret is made for somebody who has one: the state to go back to if it surely issues nothing."""
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
    fit (``MISMATCHES``), the challenge that cannot be answered, or why somebody dismissed the user."""
    before_reason: Reason | None = None
    """The reason that belongs to ``before``; while the activation is under way, why it did not get through so far: that
    stands again if nothing better comes."""
    activation: Activation | None = None
    """What activation takes; ``None`` where it is over, or was never asked for."""
    events: tuple[Event, ...] = ()
    """What happened to the user, newest last, at most ten."""

    @property
    def is_unfinished(self) -> bool:
        """Whether some worker still has to finish this user."""
        return self.state in UNFINISHED or self.reason is Reason.ACTIVATION_PENDING


class Listed(NamedTuple):
    """What a list of users says of each one; much cheaper to read than the whole row."""

    username: str
    reason: str | None
    """Why the user is in that state, where there is a reason."""
    since: float
    """When the state was entered (UTC seconds)."""
    detail: str | None = None
    """See ``Enrolment.detail``."""


class Recorded(NamedTuple):
    """What the ledger says of one user's newest secret, for whoever compares it with what a channel holds."""

    username: str
    state: str
    """The name of the user's state, which may be a later version's."""
    reason: str | None
    since: float
    """When the state was entered (UTC seconds)."""
    generation: int | None
    """Of the newest secret; ``None``: the user has none."""
    digest: str
    """See ``Sealed.digest``."""


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
        pending = self.reasons.get(Reason.ACTIVATION_PENDING, 0)
        return sum(self.states.get(state, 0) for state in UNFINISHED) + pending

    @property
    def left_to_a_person(self) -> int:
        """Users who need a session, failed, or were delivered and not activated as asked."""
        delivered = sum(self.reasons.get(reason, 0) for reason in NOT_ACTIVATED)
        return self.states.get(State.NEEDS_SESSION, 0) + self.states.get(State.FAILED, 0) + delivered


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
    detail: str | None = None
    """See ``Enrolment.detail``."""


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
    LOCKED = "locked"
    """The user cannot sign in for some minutes ("Password attempts exceeded"): it counts as no attempt, and slows
    nobody else."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Nothing is decided: try again, within the user's deadline."""

    trouble: Trouble
    detail: str = ""
    """A code or the name of an exception, safe to log."""
    fault: PoolFault | None = None
    """What it is if it stays so: a trigger of the pool's that fails, for this user or for everybody."""

    @property
    def counts(self) -> bool:
        """Whether this was one of the user's attempts."""
        return self.trouble not in (Trouble.THROTTLED, Trouble.UNSENT, Trouble.LOCKED)

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


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A sign-in brought what the call is made with: a Session that may set up TOTP, or an access token."""

    kind: Literal[CredentialKind.SESSION, CredentialKind.ACCESS_TOKEN]
    credential: Secret
    lives: float
    """Seconds for which it is valid, from when the sign-in was sent."""


@dataclass(frozen=True, slots=True)
class CustomChallenge:
    """The pool's triggers ask for the ticket; ``session`` belongs into the answer."""

    session: Secret


@dataclass(frozen=True, slots=True)
class AlreadyEnrolled:
    """The user has an active TOTP factor: the sign-in asked for its code, or Cognito listed it."""


@dataclass(frozen=True, slots=True)
class NotEnrolled:
    """Cognito lists no active TOTP factor of the user."""


SignInReply = SignedIn | CustomChallenge | AlreadyEnrolled | Refused | TryAgain | PoolFault
LookReply = AlreadyEnrolled | NotEnrolled | Refused | TryAgain | PoolFault


@dataclass(frozen=True, slots=True)
class Verified:
    """The code was right: the secret is verified."""


@dataclass(frozen=True, slots=True)
class WrongCode:
    """The code was refused, or the answer was a success that says ``Status: ERROR``: the secret is not verified."""

    session: Secret | None
    """The Session with which to try once more, where the answer brought one (Session path only)."""
    detail: str = ""
    """A code, safe to log."""


@dataclass(frozen=True, slots=True)
class Preferred:
    """TOTP is the user's preferred factor, which Cognito allows only once it is verified."""


VerifyReply = Verified | WrongCode | Refused | TryAgain | PoolFault
PreferReply = Preferred | Refused | TryAgain | PoolFault


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
