"""What really happened, as nobody inside the simulation can know it: what the invariants judge."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.scenario import Operation
from worker.core.model import Enrolment, Request, Sealed

if TYPE_CHECKING:
    from tests.simulation.process import Process


class Violation(AssertionError):  # noqa: N818 - it is a finding
    """An invariant does not hold."""


def secret_of(sealed: Sealed) -> str:
    """The secret in a blob; nothing where the ledger dropped it, for the blob has done its duty."""
    return str(json.loads(sealed.blob)["secret_code"]) if sealed.blob else ""


@dataclass(eq=False, slots=True)
class Write:
    """A row that became durable in the ledger."""

    at: float
    process: Process
    row: Enrolment
    before: Enrolment | None


@dataclass(eq=False, slots=True)
class Call:
    """One request on the wire."""

    process: Process
    request: Request
    sent_at: float
    late: bool
    """Its process was paused between the last look at the clock and the first byte on the wire."""
    operation: Operation = "associate"
    code: str = ""
    """What is verified with."""
    reply: object = None
    """What its caller was told; nothing where it was killed or gave up."""
    answered: bool = False
    """Its caller saw a whole and certain answer."""
    ambiguous: bool = False
    """Its caller was told that nobody knows what became of it."""
    acts_at: float | None = None
    """When Cognito acts on it; ``None`` where it never arrives."""
    over: bool = False
    """Nothing can come of it any more."""
    act: Callable[[], None] = lambda: None
    secret: str | None = None
    """What Cognito issued for it."""
    told: int = 0
    """How often its user was told that its reply was lost."""


@dataclass(frozen=True, slots=True)
class Verification:
    """Cognito found a code right: this secret is verified. ``call``: the one that did it."""

    at: float
    secret: str
    call: Call


@dataclass(eq=False, slots=True)
class Delivery:
    """A record in the channel. ``started_at``: when the attempt to deliver it began; seconds of virtual time."""

    at: float
    started_at: float
    process: Process
    username: str
    sealed: Sealed
    late: bool


@dataclass(eq=False, slots=True)
class Acknowledgement:
    """A message that was deleted by a worker. ``leased_at``: when that worker got it."""

    at: float
    process: Process
    request: Request
    leased_at: float


@dataclass(eq=False, slots=True)
class Exit:
    """A process that ended by itself because it found nothing left to do."""

    at: float
    process: Process


Event = Write | Call | Delivery | Acknowledgement | Exit | Verification


@dataclass(slots=True)
class UserHistory:
    """Everything about one user, in the order in which it happened."""

    writes: list[Write] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    """Those that ask for a secret."""
    others: list[Call] = field(default_factory=list)
    """Sign-ins, looks, verifications and preferences."""
    verified: list[Verification] = field(default_factory=list)
    """In the order in which Cognito verified."""
    issued: list[Call] = field(default_factory=list)
    """In the order in which Cognito issued; the last one is the truth."""
    deliveries: list[Delivery] = field(default_factory=list)
    acknowledgements: list[Acknowledgement] = field(default_factory=list)
    sealed: set[tuple[str, str, str, bytes]] = field(default_factory=set)
    """Attempt id, secret, generation and blob of everything that was ever recorded or delivered."""

    def secret_in(self, sealed: Sealed) -> str:
        """The secret of an attempt, whether or not its blob is still there."""
        return next(secret for attempt, secret, _, __ in self.sealed if attempt == sealed.attempt_id)
