"""What the worker needs of the world, as small protocols ("ports"): the architecture on one page.

Each has an embedded adapter (SQLite, a file) and others for AWS, in ``worker/adapters``. All adapters of a port pass
one suite of tests (``tests/adapters/*/test_every_*.py``). Where a method fails for a reason outside, it raises the
matching ``DependencyUnavailable``. After that nobody knows whether it took effect, but repeating the call is
harmless (``LedgerStats.count`` alone may then count twice).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

from worker.core.errors import RowDamaged, WorkerError
from worker.core.figures import Minute
from worker.core.model import (
    Counts,
    CustomChallenge,
    Enrolment,
    Listed,
    LookReply,
    PreferReply,
    Recorded,
    Reply,
    Request,
    Sealed,
    Secret,
    SignInReply,
    State,
    VerifyReply,
    WriteResult,
)
from worker.core.outlook import UNJUDGED, Outlook

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Lease:
    """A message that this worker alone sees for a while, and the handle to acknowledge it."""

    request: Request
    receipt: object
    """The adapter's own handle."""
    has_others: bool = False
    """Whether the queue holds other messages of this user, for ``lease_others``."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of requests that were pushed."""

    accepted: int = 0
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class Backlog:
    """Messages that wait, leased ones included (SQS: approximate), and how many credentials are known to have died."""

    waiting: int
    expired: int = 0


@dataclass(frozen=True, slots=True)
class WaitingUsers:
    """The users for whom requests wait, each once, by what the ledger has of them at the same moment."""

    messages: int
    """Requests that wait, leased ones included: more than users, where several wait for one."""
    new: int
    """Users without a row."""
    unfinished: int
    """Users somebody still has to finish."""
    again: int = 0
    """Users who need a session, failed or were not activated: they are tried again."""
    done: int = 0
    """All others who have an outcome: most of their requests are duplicates."""
    on_roster: int = 0
    """Of the new ones, those who are on the roster."""
    are_exact: bool = True
    """Whether all were looked at; else ``new`` is what is left of the messages without those of ``unfinished``."""


@dataclass(frozen=True, slots=True)
class Workers:
    """How many workers are alive."""

    alive: int
    are_exact: bool
    """Whether that is known; else these are the workers who hold a claim that has not run out yet."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How many requests wait for a call, by deadline."""

    buckets: Sequence[tuple[float, int]] = ()
    """Pairs of a deadline (UTC seconds, the latest of its bucket) and a number of requests, earliest first."""
    are_all: bool = True
    """Whether these are all that wait; ``False`` where the queue can tell only of some."""


@dataclass(frozen=True, slots=True)
class TimeAnswer:
    """What came of asking Cognito's endpoint for its time."""

    told: bool
    """Whether the answer named a time; the clock knows of it then."""
    trouble: str = ""
    """Why no answer came, in words; empty where one came."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a ledger says of itself before it is opened."""

    exists: bool = False
    """Whether there is one at all, even if nobody is in it."""
    has_users: bool = False
    """Whether a user has a row. A ledger without one is new, and belongs to no rollout yet."""
    stamp: Mapping[str, str] = field(default_factory=dict)
    """The rollout to which it belongs: endpoint, Region and user pool."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What a rollout has to remember of its beginning (``app.beginning``): name → value."""


class Queue(Protocol):
    """Where requests wait. Leases are kept alive by the adapter until they are acknowledged or given back."""

    async def lease(self, most: int, outlook: Outlook = UNJUDGED) -> Sequence[Lease]:
        """Up to ``most`` messages to call for; none when none is ready. Puts malformed ones aside.

        Of those who can still make it (``core.outlook``) the earliest deadline comes first. Only where they are fewer
        than ``most``, those passed over come too, the latest deadline first. Whose credential is not worth a call any
        more never comes. What was received ahead is judged again when it is handed out.
        """
        ...

    async def lease_expired(self, most: int, now: float) -> Sequence[Lease]:
        """Up to ``most`` messages whose deadline is not later than ``now`` (UTC seconds), to be settled without a call.

        Left out are those of users for whom, as far as the queue can tell, a request waits that is not dead.
        """
        ...

    async def deadlines(self, now: float) -> Deadlines:
        """How many requests wait, by deadline, as far as the queue can tell; those that are dead ``now`` left out."""
        ...

    async def lease_elsewhere(self, most: int) -> Sequence[Lease]:
        """Up to ``most`` messages from anywhere in the queue, like a random sample, rather than the earliest deadlines.

        For asking whether a refusal concerns everybody: the users with the earliest deadlines may have it in common.
        """
        ...

    async def lease_others(self, username: str, most: int) -> Sequence[Lease]:
        """Up to ``most`` messages of this user that nobody has leased, wherever they stand, also delayed ones.

        None where the queue cannot search for a user's messages.
        """
        ...

    async def acknowledge(self, lease: Lease) -> None:
        """The outcome is durable: delete the message."""
        ...

    async def give_back(self, lease: Lease, delay: float) -> None:
        """Make the message visible again after ``delay`` seconds."""
        ...

    async def backlog(self) -> Backlog:
        """About how many messages wait, leased ones included."""
        ...

    async def is_empty(self) -> bool:
        """Whether certainly no message waits, leased ones included; ``False`` where that is not known yet."""
        ...

    async def close(self) -> None:
        """Give back at once whatever is still leased."""
        ...


class Producer(Protocol):
    """The producer's end of a queue."""

    async def push(self, requests: Iterable[tuple[Request, bytes]]) -> Pushed:
        """Put requests (each with its body as it will travel) on the queue, durably."""
        ...

    async def put_aside(self, reason: str, digest: str, number: int = 1, before: int = 0) -> None:
        """Remember malformed messages that are alike by reason and digest, never by their body.

        ``number``: how many they are; ``before``: how many the same source had already. Where the queue remembers
        digests, the same file given again counts no line twice.
        """
        ...


@dataclass(frozen=True, slots=True)
class PutAside:
    """Malformed messages that are alike, as they were put aside."""

    reason: str
    digest: str
    number: int
    last_seen: float
    """When the last of them came (UTC seconds)."""


class QueueStats(Protocol):
    """The queue, for those who count and report."""

    malformed_found: int
    """How many malformed messages this process has found on the queue."""

    def put_aside_list(self) -> AsyncIterator[Sequence[PutAside]]:
        """What was put aside, in pages, in no particular order."""
        ...

    async def counted(self) -> tuple[int, int]:
        """Duplicates refused when they were pushed, and malformed messages put aside, where the queue counts them."""
        ...

    async def dead_letters(self, notes: int) -> int | None:
        """About how many requests were moved away because they were received too often; ``None``: not looked at.

        ``notes``: how many messages were put aside as malformed. They are no dead letters, but may lie beside them.
        """
        ...

    async def sessions(self) -> int | None:
        """How many waiting requests carry a Session, not an access token; ``None`` where nobody can know."""
        ...

    def watched_for(self) -> float | None:
        """Seconds for which a queue that looks empty is still watched until it counts as empty; ``None``: not now."""
        ...


class Ledger(Protocol):
    """Every user's row: the only source of truth, and the outbox.

    All fencing (that a worker which was overtaken changes nothing any more) rests on the condition of ``put``. Where a
    user's row is of a later version, or damaged, every method raises ``RowUnreadable`` for that user alone.
    """

    async def put(self, row: Enrolment, replaces: str | None) -> WriteResult:
        """Write ``row`` if the user's present row has the version ``replaces`` (``None``: if there is none).

        ``Written`` is durable; where the same write had been made before, it says so. ``Lost`` tells which row stands
        there instead. Raises ``LedgerUnavailable`` when it is not known whether the write took effect, and
        ``RecordRefused`` where the row is too large for good, so that nothing was written.
        """
        ...

    async def read(self, username: str) -> Enrolment | None:
        """The user's row."""
        ...

    def unfinished(self) -> AsyncGenerator[Enrolment]:
        """Every row that ``is_unfinished``, whoever has claimed it.

        Those that cannot be read are left out, and at the end ``RowUnreadable`` is raised for one of them.
        """
        ...

    def is_dead(self, worker: str) -> bool:
        """Whether that worker is known to be dead (embedded: its lock is free). ``False`` where it cannot be known."""
        ...


class LedgerStats(Protocol):
    """The ledger, for those who count and report."""

    async def counts(self) -> Counts:
        """States, reasons, duplicates and malformed messages, as last reported by the workers. Cheap at any size."""
        ...

    async def recount(self) -> Counts:
        """The same, exact at this moment, which is what an exit code rests on; corrects what ``counts`` gives."""
        ...

    def listed(self, state: State) -> AsyncIterator[Sequence[Listed]]:
        """Every user in that state, in pages, in no particular order; memory does not grow with their number."""
        ...

    async def count(self, *, duplicates: int = 0, malformed: int = 0) -> None:
        """Add to these counts, durably within about a second, and at the end."""
        ...


class CountedLedger(Ledger, LedgerStats, Protocol):
    """A ledger to work on and to count."""


class LookedAt(Protocol):
    """The ledger, for those who watch a rollout from outside or from within: cheap enough to ask every second."""

    async def counts_and_waiting(self, most: int) -> tuple[Counts, WaitingUsers | None]:
        """``LedgerStats.counts``, and who waits on the queue at the same moment; ``None`` where that is elsewhere.

        ``most``: how many messages may be looked at one by one, at 2 µs each.
        """
        ...

    async def workers(self) -> Workers:
        """The workers of this rollout that are alive."""
        ...

    async def allowed(self) -> float | None:
        """Requests/s that the shared pace allows all workers now; ``None`` where none seems to have sent of late."""
        ...


class Beginning(Protocol):
    """The ledger, for the beginning of a rollout."""

    async def look(self, *, must_exist: bool = False) -> Found:
        """What is there; nothing is created or changed.

        ``must_exist``: whether a rollout has begun in it (``ledger.must_exist``). Raises ``UsageError`` for what can be
        no ledger, ``PersonMustAct`` where it must exist and is on AWS, and is not.
        """
        ...

    async def has_users(self) -> bool:
        """Whether a user has a row, for sure: where ``look`` cannot know that, every row is looked at."""
        ...

    async def note(self, name: str, value: str | None, instead_of: str | None) -> bool:
        """Write a note, or delete it (``None``), if it is ``instead_of`` now; whether it was."""
        ...


class SecretsRecorded(Protocol):
    """A ledger, for whoever compares records with it and must not change it: read with the rights to read alone."""

    async def check(self) -> None:
        """Raise ``UsageError`` if there is none, it is another rollout's, or has no user; ``PersonMustAct`` if it is an
        older copy, as far as that can be seen; ``LedgerUnavailable``.
        """
        ...

    def read(self, usernames: Sequence[str] | None) -> AsyncGenerator[Sequence[Recorded]]:
        """These users, or all (``None``), in pages; whoever has no row is left out."""
        ...


class Recoverable(Protocol):
    """A ledger that notices when it was restored from an older copy of itself, and can be brought up to date."""

    async def refusal(self) -> WorkerError | None:
        """The error, with cause and cure, if this ledger must not be worked with as it is."""
        ...

    def since(self) -> int:
        """What the channel shows with a generation below this may be an earlier ledger's; 0: nothing is."""
        ...

    async def in_question(self) -> Mapping[str, int]:
        """Whose delivered secret may be dead, whatever the rows say, and up to which generation (``core.older``)."""
        ...

    def every_row(self, damaged: list[RowDamaged] | None = None) -> AsyncIterator[Enrolment]:
        """Every user's row, in no particular order; memory does not grow with their number.

        ``damaged``: gets the error of each row that is damaged, in place of the row; otherwise it is raised.
        """
        ...

    async def examine(self, seconds: float, pause: float = 0.0) -> bool:
        """Compare every row with its checksum, for so many seconds at most; whether all were compared.

        ``pause``: seconds between two pages of rows, for those who share this process.

        Raises ``RowDamaged`` for one that is damaged, and ``PersonMustAct`` where the counts are not those of the rows.
        """
        ...

    async def is_used(self) -> bool:
        """Whether a worker may be at work just now."""
        ...

    async def begin_recovery(self) -> None:
        """Allow ``put``, durably, although the ledger is older; until ``end_recovery`` it stays refused otherwise."""
        ...

    async def end_recovery(self) -> None:
        """The rows are up to date: from now on this ledger counts as the newest."""
        ...


class Ending(Protocol):
    """A ledger, or a queue on this host, at the end of a rollout."""

    async def tidy(self) -> bool:
        """Erase what was deleted, from every file, and the names beside the rows that no longer matter.

        Return whether nothing of it is left; ``False`` while another process reads.
        """
        ...


class Roster(Protocol):
    """Who is to be enrolled, kept in the ledger before anybody asks for them."""

    async def add_to_roster(self, usernames: Iterable[str]) -> int:
        """Remember users who are to get a request some day, durably; how many of them are new here."""
        ...

    def unrequested(self) -> AsyncIterator[str]:
        """Whoever is on the roster and has no row: no worker has seen a request for them yet."""
        ...

    async def is_unrequested(self, username: str) -> bool:
        """Whether that user is on the roster and has no row."""
        ...

    async def roster_count(self) -> int:
        """How many ``unrequested`` yields."""
        ...


class FigureStore(Protocol):
    """Where the workers' figures over time are kept."""

    async def put_figures(self, worker: str, minute: Minute) -> None:
        """Keep that worker's figures of that minute, instead of earlier ones of the same worker and minute."""
        ...

    def figures(self) -> AsyncIterator[Minute]:
        """Each minute of which there are figures, those of all workers together, oldest first.

        What cannot be read, because it is damaged or of a later version, is left out.
        """
        ...


class Channel(Protocol):
    """The secure way to the user. It is append-only; the same record may be given twice, byte for byte."""

    async def deliver(self, username: str, sealed: Sealed) -> None:
        """Durable, and confirmed, when it returns.

        Raises ``ChannelUnavailable``, or ``RecordRefused`` where this one record is refused for good.
        """
        ...


@runtime_checkable
class Limited(Protocol):
    """What a channel or a ledger has besides, if it does not take records of any size."""

    def most_sealed(self, username: str) -> int:
        """The most bytes of a sealed record that it takes for this user."""
        ...


class Sealer(Protocol):
    """Seals to public keys; nothing here can open what it made."""

    def seal(self, plaintext: bytes) -> bytes:
        """One age file in binary format."""
        ...

    def sealed_size(self, plaintext: int) -> int:
        """The most bytes that so many bytes take when they are sealed."""
        ...


@runtime_checkable
class SlowSealer(Protocol):
    """What a sealer has besides, if its ``seal`` waits for another process."""

    async def aside(self, do: Callable[[], Result]) -> Result:
        """Do this, which calls ``seal``, where nobody else waits for it."""
        ...


class OwnSealer(Protocol):
    """Seals to this rollout's own identity what a worker needs again after a crash, and opens it."""

    def seal(self, plaintext: bytes) -> bytes:
        """One age file in binary format."""
        ...

    def open(self, blob: bytes) -> bytes:
        """What was sealed. Raises ``ValueError`` for anything else."""
        ...


class Provider(Protocol):
    """Cognito, as far as it counts against the quota of enrolments (*UserResourceUpdate*).

    Each method makes exactly one wire attempt, and says what came of it. Raises only on bugs. The request's credential
    is a Session or an access token, brought along or by a sign-in (``Request.signed_in``).
    """

    async def associate(self, request: Request) -> Reply:
        """AssociateSoftwareToken."""
        ...

    async def verify(self, request: Request, code: Secret) -> VerifyReply:
        """VerifySoftwareToken with the code of this moment (six digits)."""
        ...

    async def prefer(self, request: Request) -> PreferReply:
        """Make TOTP the preferred factor: SetUserMFAPreference with a token, else AdminSetUserMFAPreference."""
        ...


class SignIns(Protocol):
    """Cognito's sign-ins, which have quotas of their own. Each method makes exactly one wire attempt, like above."""

    async def begin(self, request: Request) -> SignInReply:
        """InitiateAuth or AdminInitiateAuth with the request's ticket or password (``sign_in.flow``)."""
        ...

    async def answer(self, request: Request, challenge: CustomChallenge) -> SignInReply:
        """RespondToAuthChallenge with the request's ticket.

        ``Refused`` with a reason of Sessions (``session_expired``, ``session_spent``, ``session_invalid``) says nothing
        of the ticket: the challenge's own Session died, so the sign-in has to begin again.
        """
        ...

    async def look(self, request: Request) -> LookReply:
        """GetUser with the access token of this request: whether the user has an active TOTP factor."""
        ...


class TimeSource(Protocol):
    """What tells the time that deadlines are judged by."""

    async def ask_time(self) -> TimeAnswer:
        """Ask Cognito's endpoint once, without a credential and beside the quota. Raises only on bugs."""
        ...


class Pacer(Protocol):
    """Limits the rate of wire attempts, for all workers of a rollout together."""

    async def acquire(self) -> None:
        """Wait until one request may leave."""
        ...

    def throttled(self, sent_at: float) -> None:
        """A request sent at that monotonic moment was answered "too many": slow down, at most once per round trip."""
        ...


class Way(Protocol):
    """One user's way through the pipeline, for whoever watches it. Raises nothing."""

    def passed(self, step: str, began: float, answer: str = "") -> None:
        """A step is done that began then (monotonic seconds); ``answer``: what came of it, in one word."""
        ...

    def ended(self, outcome: str) -> None:
        """The work on the user is over."""
        ...


class Observer(Protocol):
    """Watches users' ways. Where there is none, nothing is done for it."""

    def begins(self, username: str, work: str) -> Way | None:
        """The work on this user begins; ``None``: this one is not watched. Raises nothing."""
        ...


class Clock(Protocol):
    """Time, injected: tests and simulations bring their own. Pauses are the event loop's business."""

    def monotonic(self) -> float:
        """Seconds, for durations; it also advances while the process is suspended (SIGSTOP)."""
        ...

    def utc(self) -> float:
        """Seconds since the epoch, for what others will read."""
        ...
