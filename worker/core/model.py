"""The words of the trade: a request, the user's row in the ledger, a sealed secret, Cognito's replies, the verdicts.

Nothing here does I/O or knows who does. Read this first, then ``rules``, ``ports`` and ``pipeline``.

Times are UTC seconds since the epoch (``float``) unless a name says ``monotonic``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Literal, NamedTuple


class Secret:
    """A string that never shows itself: ``repr``, ``str`` and formatting give ``***``; ``reveal()`` gives the value."""

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

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


class CredentialKind(StrEnum):
    """Which of the two credentials a request carries, and so which path its user takes."""

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
    mismatch: bool = False
    """The access token is another user's or another pool's: never sent."""


class State(StrEnum):
    """Where a user stands in the ledger."""

    IN_PROGRESS = "in_progress"
    SEALED = "sealed"
    DELIVERED = "delivered"
    ACTIVE = "active"
    NEEDS_SESSION = "needs_session"
    FAILED = "failed"
    SKIPPED = "skipped"


UNFINISHED = frozenset({State.IN_PROGRESS, State.SEALED})
ENROLLED = frozenset({State.DELIVERED, State.ACTIVE})


class Reason(StrEnum):
    """Why a user needs a session or failed."""

    SESSION_EXPIRED = "session_expired"
    SESSION_SPENT = "session_spent"
    SESSION_INVALID = "session_invalid"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    TOKEN_SCOPE = "token_scope"  # noqa: S105
    REPLY_LOST = "reply_lost"
    VERIFY_WINDOW_LOST = "verify_window_lost"
    INVALID_PARAMETER = "invalid_parameter"
    CREDENTIAL_MISMATCH = "credential_mismatch"
    RETRIES_EXHAUSTED = "retries_exhausted"
    WORKER_CRASHED = "worker_crashed"


EXPIRED = {CredentialKind.SESSION: Reason.SESSION_EXPIRED, CredentialKind.ACCESS_TOKEN: Reason.TOKEN_EXPIRED}


class Sealed(NamedTuple):
    """One secret, sealed to the recipients: what the outbox holds and the channel gets, the same bytes each time."""

    generation: int
    attempt_id: str
    associated_at: str
    blob: bytes
    """The age file; empty once it is delivered."""
    session_expires_at: float | None = None
    """When the Session inside dies (Session path only)."""


class Enrolment(NamedTuple):
    """A user's row. Every change is a new row that replaces one known ``version``, or it is refused.

    A named tuple, since every user costs about ten of them, and copying one with ``_replace`` is cheap.
    """

    username: str
    state: State
    since: float
    generation: int
    version: str = ""
    """The identity of the write that made this row; the pipeline gives a new one to every write."""
    reason: Reason | None = None
    worker: str | None = None
    """Who holds the user now."""
    lease_until: float = 0.0
    doubt: bool = False
    """A call was made, or may have been, whose secret nobody has."""
    crashes: int = 0
    """How many workers died while they held this user."""
    before: State | None = None
    """The state to go back to if a replacement surely issued nothing."""
    request_id: str | None = None
    """The request that the holder works on; it joins ``settled`` with the outcome."""
    kind: CredentialKind | None = None
    sealed: Sealed | None = None
    settled: tuple[str, ...] = ()
    """Ids of this user's requests that reached an outcome."""


class Answer(Enum):
    """What a ledger says to a conditional write."""

    APPLIED = "applied"
    ALREADY_MINE = "already_mine"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Put:
    """The ledger's answer; where it is ``LOST``, ``row`` is what stands there instead (``None``: nothing)."""

    answer: Answer
    row: Enrolment | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """The ledger counted: ``accepted`` is the sum of ``states``."""

    states: Mapping[State, int]
    reasons: Mapping[str, int]
    duplicates: int = 0
    malformed: int = 0
    unrequested: int | None = None
    """Users of the roster without a row; ``None`` where nobody asked."""

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
    """This credential will not do; nothing was issued by this attempt."""

    state: Literal[State.NEEDS_SESSION, State.FAILED]
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
class Again:
    """Undecided: try again, within the user's deadline."""

    trouble: Trouble
    detail: str = ""
    """A code or the name of an exception, safe to log."""

    @property
    def counts(self) -> bool:
        """Whether this was one of the user's attempts."""
        return self.trouble not in (Trouble.THROTTLED, Trouble.UNSENT)

    @property
    def ambiguous(self) -> bool:
        """Whether a secret may exist now that nobody has."""
        return self.trouble in (Trouble.SERVER_ERROR, Trouble.NO_ANSWER)


@dataclass(frozen=True, slots=True)
class PoolFault:
    """Nobody can succeed: the pool, its protection or its configuration. Nothing was issued."""

    code: str
    cure: str
    may_pass: bool = False
    """Worth waiting for (a WAF's rate rule) before a person is called."""


Reply = Issued | Refused | Again | PoolFault


# What becomes of one request. ``pipeline`` settles these in one ``match``.


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


Verdict = Done | Duplicate | GiveBack
