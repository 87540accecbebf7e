"""Opens the adapters that the settings name, and closes them. No other file chooses between adapters."""

from __future__ import annotations

import math
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from worker.adapters import channels
from worker.adapters.channels.kind import OpenableChannel
from worker.adapters.confirmed_lines import Confirmed
from worker.adapters.ledgers.found import RECIPIENT
from worker.adapters.sqlite.database import Database
from worker.adapters.sqlite.liveness import Liveness
from worker.adapters.watched_file import Watched
from worker.app import beginning, own_identity, sealed_to
from worker.app.written_files import mark_beside, refuse_wrong_files
from worker.core.clock import EndpointClock, SystemClock
from worker.core.errors import UsageError
from worker.core.model import Counts
from worker.core.ports import (
    Beginning,
    CountedLedger,
    Ending,
    FigureStore,
    Found,
    LookedAt,
    Producer,
    Queue,
    QueueStats,
    Recoverable,
    Roster,
)
from worker.engine.waves import HIDDEN_FOR, Wave, select
from worker.pacing.pace import PaceStore
from worker.requests.message import Parser
from worker.requests.refused import Refused
from worker.sealing.own import OwnAgeSealer
from worker.settings import Settings

if TYPE_CHECKING:  # importing the SDK takes 0.25 s, which commands on one host do without
    from worker.adapters.aws.session import Aws, AwsTarget

SQLITE_LOOK_AHEAD = 1.0
"""Seconds of work that one transaction leases from the embedded queue: each transaction costs a sync of the disk."""
MAX_SQLITE_LOOK_AHEAD = 64
"""The most messages that one transaction leases, however high the rate. Flat out, 1, 8, 64 and 256 cost the same CPU
within the noise (measured): admission leases several at a time anyway."""
MAX_GATHER = 0.1
"""The most seconds for which a write to a file on this host waits for others to share their sync, unless it is urgent.
At 20 users/s claims and outcomes then go with the commit of the next secret, and two deliveries share a sync: half the
syncs and system calls, and a fifth less CPU (``tests.benchmarks.cost``)."""
GATHER_SHARE = 0.05
"""The part of the time for which ``run.concurrency`` lasts at the configured rate that one such wait may take: a user
has three, six where the worker activates, and the rest is for Cognito's answers and slow disks."""
MIN_GATHER = 0.001
"""Seconds: timers are no finer (uvloop). Where writes come more often, a commit is always under way, and all that come
meanwhile share the next one."""
SQS_LOOK_AHEAD = 10.0
"""Seconds of a worker's own work that are received from SQS ahead of their turn. SQS keeps no order, so the more there
are, the better the choice of the earliest deadlines among those that can still make it; and few enough that a killed
worker hides few messages until their visibility ends. Expired ones take up no room: they are settled at once."""
MIN_SQS_LOOK_AHEAD = 10
"""The fewest messages to receive ahead, however low the rate: as many as one request returns at most (SQS API,
ReceiveMessage)."""


class StoredQueue(Queue, Producer, QueueStats, Protocol):
    """A durable queue: it is pushed to, leased from and counted."""


class StoredLedger(CountedLedger, LookedAt, Beginning, Roster, PaceStore, FigureStore, Recoverable, Ending, Protocol):
    """A durable ledger: users' rows, their counts, the roster, the shared pace, the figures over time; it knows how the
    rollout began, and notices that it is a copy.
    """

    @property
    def sign_in_pace(self) -> PaceStore:
        """The pace of sign-ins, which have a quota of their own."""

    async def open(self, stamp: Mapping[str, str], *, must_exist: bool = False, new_rollout: bool = False) -> None:
        """Open it for this rollout; ``must_exist``: only if a user has a row. Raises ``UsageError`` if it is not ours.

        ``new_rollout``: without users it may take the place of another ledger.
        """

    async def forget(self, name: str) -> None:
        """Take that part out of the stamp."""

    def follow(self, channel: Callable[[], Confirmed | None]) -> None:
        """Keep what that says of the channel's file with each commit of users' rows."""

    def confirmed(self) -> Confirmed | None:
        """The same, as it was when the ledger was opened; ``None``: nothing is known of such a file."""

    async def restamp(self, name: str, value: str, instead_of: str) -> bool:
        """Change that part of the stamp, if it is ``instead_of`` now; whether it was."""


class Purpose(Enum):
    """What queue and ledger are opened for."""

    EXISTING = auto()
    """To look at a ledger that is there, or to mend it by hand: nothing is begun."""
    PUSH = auto()
    """To put requests on the queue, perhaps before any run."""
    RUN = auto()
    """To work: nothing is created before all that can be refused was refused, the channel too."""


@dataclass(frozen=True, slots=True)
class Stores:
    """The queue and the ledger of one rollout, open."""

    worker: str
    """The identity of this process, new at every start."""
    alive: AbstractContextManager[None]
    """Entered while the worker runs, so that other workers on this host can see that it is alive."""
    parser: Parser
    queue: StoredQueue
    ledger: StoredLedger
    found: Found
    """What the ledger said of itself before it was opened."""
    clock: EndpointClock
    """By which the deadlines of requests are judged; the machine's own until an endpoint told its time."""
    watched: Sequence[Watched] = ()
    """The files of this host that are in use."""
    files: Sequence[Database] = ()
    """The databases among them."""
    own: OwnAgeSealer | None = None
    """The worker's own identity, where it activates."""

    async def counts(self) -> Counts:
        """Return the ledger's last known counts, with the duplicates and malformed messages that the queue counted."""
        return await self._with_queue_counts(await self.ledger.counts())

    async def recount(self) -> Counts:
        """Return the same counts, made by reading every row."""
        return await self._with_queue_counts(await self.ledger.recount())

    async def _with_queue_counts(self, counts: Counts) -> Counts:
        refused, malformed = await self.queue.counted()
        malformed += counts.malformed
        dead_letters = await self.queue.dead_letters(malformed)
        duplicates = counts.duplicates + refused
        return replace(counts, duplicates=duplicates, malformed=malformed, dead_letters=dead_letters)


def stamp(settings: Settings) -> Mapping[str, str]:
    """Return what identifies a rollout; the ledger keeps it, and refuses to be used for another one."""
    cognito = settings.cognito
    return {
        "endpoint": cognito.endpoint_url or "amazonaws.com",
        "region": cognito.region,
        "user pool": cognito.user_pool_id,
    }


def mark_path(settings: Settings) -> Path:
    """Return where the mark of the embedded ledger is: outside the ledger, beside the secrets where these are a file.

    So a backup of the ledger's folder alone does not hold it.
    """
    return mark_beside(channels.kind_of(settings.channel).file(settings.channel) or settings.ledger.path)


def gather_time(settings: Settings) -> float:
    """Return for how many seconds a write to a file on this host may wait for others, unless it is urgent."""
    wait = min(MAX_GATHER, GATHER_SHARE * settings.run.concurrency / settings.users_per_second)
    return wait if wait >= MIN_GATHER else 0.0


def parser_of(settings: Settings) -> Parser:
    """Return what reads the messages of this rollout."""
    return Parser(
        settings.cognito.user_pool_id,
        settings.cognito.session_validity,
        settings.otp.account,
        flow=settings.sign_in.flow,
    )


def aws_target(settings: Settings) -> AwsTarget:
    """Return where AWS's services are: Region, profile and endpoints."""
    from worker.adapters.aws.session import AwsTarget

    aws = settings.aws
    endpoints = {
        "sqs": aws.sqs_endpoint_url,
        "dynamodb": aws.dynamodb_endpoint_url,
        "s3": aws.s3_endpoint_url,
        "secretsmanager": aws.secretsmanager_endpoint_url,
        "kms": aws.kms_endpoint_url,
        "sts": aws.sts_endpoint_url,
        "service-quotas": aws.servicequotas_endpoint_url,
        "cloudformation": aws.cloudformation_endpoint_url,
        "cognito-idp": aws.cognito_endpoint_url,
    }
    return AwsTarget(
        region=aws.region,
        profile=aws.profile,
        fips=aws.fips,
        endpoints={service: url for service, url in endpoints.items() if url},
        connections=settings.run.concurrency + 32,
    )


@asynccontextmanager
async def open_stores(
    settings: Settings,
    purpose: Purpose = Purpose.PUSH,
    *,
    new_rollout: bool = False,
    accept_recipients: bool = False,
) -> AsyncIterator[Stores]:
    """Open queue and ledger.

    ``new_rollout``: one is meant to begin, even where the channel holds records already; ``accept_recipients``: those
    of the settings are meant, even where the ledger was begun with others. Raises ``UsageError``,
    ``DependencyUnavailable``, ``PersonMustAct``.
    """
    worker = uuid.uuid4().hex[:16]
    parser = parser_of(settings)
    clock = EndpointClock(SystemClock())
    refuse_wrong_files(settings)
    async with AsyncExitStack() as stack:
        opening = _Opening(settings, worker, parser, clock, stack)
        # A queue on AWS is opened first: if its settings are wrong, no ledger has been begun.
        queue: StoredQueue | None = None
        if settings.queue.kind == "sqs":
            queue = await opening.sqs_queue(
                lambda number: ledger.count(malformed=number), to_look=purpose is Purpose.EXISTING
            )
        ledger = await opening.ledger()
        found = await _found(settings, ledger, purpose)
        if purpose is not Purpose.EXISTING:
            beginning.refuse_ended(settings, found)
        is_meant = new_rollout or beginning.is_meant(found)
        is_told = False
        if purpose is not Purpose.EXISTING and not found.has_users and not settings.ledger.must_exist:
            try:
                is_told = await look_at_channel(settings, purpose, is_meant=is_meant)
            except UsageError:
                found = await _found(settings, ledger, purpose)
                if not found.has_users:  # else another worker began, and delivered, since we looked
                    raise
        is_run = purpose is Purpose.RUN
        own, of_workers = _of_workers(settings, found, accept=accept_recipients) if is_run else (None, {})
        await ledger.open(
            {**stamp(settings), **of_workers},
            must_exist=settings.ledger.must_exist,
            new_rollout=is_meant,
        )
        if purpose is Purpose.RUN and own is None and RECIPIENT in found.stamp:
            await own_identity.refuse_under_way(ledger)
        if accept_recipients:
            found = await sealed_to.accept(settings, ledger, found)
        if new_rollout and not found.has_users:
            found = await beginning.remember_it_is_meant(ledger, found)
        looks_at_mark = purpose is Purpose.PUSH and settings.ledger.kind == "sqlite" and not is_told
        if looks_at_mark and (refusal := await ledger.refusal()):
            beginning.warn_of(refusal, beginning.pushed_here(settings))
        queue = queue or await opening.sqlite_queue()
        alive = opening.liveness or nullcontext()
        yield Stores(worker, alive, parser, queue, ledger, found, clock, opening.watched(), opening.files(), own)


async def _found(settings: Settings, ledger: StoredLedger, purpose: Purpose) -> Found:
    if purpose is Purpose.EXISTING:
        return await beginning.existing(settings, ledger)
    found = await ledger.look(must_exist=settings.ledger.must_exist)
    if purpose is Purpose.RUN and found.stamp and not found.has_users:
        found = replace(found, has_users=await ledger.has_users())
    return found


@asynccontextmanager
async def open_ledger(settings: Settings) -> AsyncIterator[StoredLedger]:
    """Open the ledger that is there, and no queue: to look at a user.

    Raises ``UsageError`` if there is none, or it is another rollout's; ``LedgerUnavailable``, ``PersonMustAct``.
    """
    refuse_wrong_files(settings)
    async with AsyncExitStack() as stack:
        clock = EndpointClock(SystemClock())
        ledger = await _Opening(settings, uuid.uuid4().hex[:16], parser_of(settings), clock, stack).ledger()
        beginning.say_new(settings, await beginning.existing(settings, ledger))
        await ledger.open(stamp(settings), must_exist=settings.ledger.must_exist)
        yield ledger


def _of_workers(settings: Settings, found: Found, *, accept: bool) -> tuple[OwnAgeSealer | None, Mapping[str, str]]:
    """Return the worker's own identity, and the parts of the stamp that only workers bring along.

    ``accept``: whether other recipients than the ledger's are meant. Raises ``UsageError``.
    """
    own = None
    if _is_ours(settings, found):
        sealed_to.refuse_others(settings, found, accept=accept)
        own = own_identity.own_identity(settings, found)
    return own, {
        **own_identity.recipient_stamp(own),
        **sealed_to.stamp_to_open_with(settings, found, accept=accept),
    }


def _is_ours(settings: Settings, found: Found) -> bool:
    """Whether opening the ledger will not refuse it as another rollout's: beside that one, nothing is made."""
    return not found.has_users or all(found.stamp.get(name, value) == value for name, value in stamp(settings).items())


async def look_at_channel(settings: Settings, purpose: Purpose, *, is_meant: bool) -> bool:
    """Raise ``UsageError`` if the channel is one that a run would refuse, or, unless it is meant, holds records.

    Whoever only pushes is told of it instead, where the channel is on this host; on AWS they need no permission to
    look. Return whether they were told.
    """
    if purpose is Purpose.RUN:
        async with open_channel(settings) as channel:
            if not is_meant:
                await beginning.refuse_beside_records(settings, channel)
    elif not is_meant and channels.kind_of(settings.channel).resources() is None:
        try:
            await look_at_file(settings)
        except UsageError as refusal:
            beginning.warn_of(refusal)
            return True
    return False


async def look_at_file(settings: Settings) -> None:
    """Raise ``UsageError`` if a new ledger would begin beside a channel on this host that holds records."""
    async with _made_channel(settings) as channel:
        await beginning.refuse_beside_records(settings, channel)


class _Opening:
    """Opens stores that share things: two stores may be in one SQLite file, and all AWS services use one session."""

    def __init__(
        self, settings: Settings, worker: str, parser: Parser, clock: EndpointClock, stack: AsyncExitStack
    ) -> None:
        self._settings = settings
        self._worker = worker
        self._parser = parser
        self._clock = clock
        self._stack = stack
        self._databases: dict[Path, Database] = {}
        self._aws: Aws | None = None
        paths = [part.path for part in (settings.ledger, settings.queue) if part.kind == "sqlite"]
        self.liveness = Liveness(paths[0], worker) if paths else None

    async def ledger(self) -> StoredLedger:
        """The ledger, which is not open."""
        settings = self._settings.ledger
        if settings.kind == "sqlite":
            from worker.adapters.ledgers.sqlite.ledger import SqliteLedger
            from worker.adapters.ledgers.sqlite.mark import Mark

            assert self.liveness is not None
            mark = Mark(mark_path(self._settings))
            self._stack.callback(mark.close)
            return SqliteLedger(
                self._database(settings.path, "the ledger"),
                self.liveness,
                gather=gather_time(self._settings),
                mark=mark,
            )
        from worker.adapters.ledgers.dynamodb.ledger import DynamoLedger

        assert settings.table is not None
        ledger = DynamoLedger(await (await self._session()).dynamodb(), settings.table, self._worker)
        self._stack.push_async_callback(ledger.close)
        return ledger

    async def sqlite_queue(self) -> StoredQueue:
        from worker.adapters.queues.sqlite.queue import SqliteQueue

        settings, rate = self._settings.queue, self._settings.users_per_second
        assert self.liveness is not None
        queue = SqliteQueue(
            self._database(settings.path, "the queue"),
            self._parser,
            holder=self._worker,
            is_dead=self.liveness.is_dead,
            visibility=settings.visibility,
            look_ahead=math.ceil(min(MAX_SQLITE_LOOK_AHEAD, rate * SQLITE_LOOK_AHEAD)),
            gather=gather_time(self._settings),
        )
        await queue.open()
        return queue

    async def sqs_queue(self, count_malformed: Callable[[int], Awaitable[None]], *, to_look: bool) -> StoredQueue:
        from worker.adapters.queues.sqs.queue import SqsQueue

        settings, rate = self._settings.queue, self._settings.users_per_second
        assert settings.url is not None
        queue = SqsQueue(
            await (await self._session()).sqs(),
            settings.url,
            self._parser,
            clock=self._clock,
            visibility=settings.visibility,
            look_ahead=max(MIN_SQS_LOOK_AHEAD, math.ceil(rate * SQS_LOOK_AHEAD)),
            seconds_ahead=SQS_LOOK_AHEAD,
            dead_letter_url=settings.dead_letter_url,
            count_malformed=count_malformed,
            empty_after=settings.empty_after,
        )
        await queue.open(to_look=to_look)
        return queue

    def watched(self) -> Sequence[Watched]:
        """The files on this host that are open."""
        return [*self._databases.values(), *([self.liveness] if self.liveness else [])]

    def files(self) -> Sequence[Database]:
        """The databases on this host that are open."""
        return list(self._databases.values())

    def _database(self, path: Path, what: str) -> Database:
        if path not in self._databases:
            self._databases[path] = database = Database(path, what)
            self._stack.push_async_callback(database.close)
        return self._databases[path]

    async def _session(self) -> Aws:
        from worker.adapters.aws.session import Aws

        if self._aws is None:
            self._aws = await self._stack.enter_async_context(Aws(aws_target(self._settings)))
        return self._aws


@asynccontextmanager
async def open_intake(
    settings: Settings, stores: Stores, source: str | None, refused: Refused, wave: Wave | None = None
) -> AsyncIterator[Queue]:
    """Open what the worker leases from: the queue, or the file or pipe ``source``, which uses the queue too.

    ``refused`` notes the malformed lines of the source. ``wave``: lease only messages of these users. When this closes,
    messages that are still leased are given back.
    """
    from worker.adapters.queues.stream import StreamQueue

    async with AsyncExitStack() as stack:
        stack.push_async_callback(stores.queue.close)
        if wave is not None:
            quiet = settings.queue.empty_after + settings.queue.visibility + HIDDEN_FOR
            yield await select(stores.queue, wave, quiet=quiet)
        elif source is None:
            yield stores.queue
        else:
            stream = StreamQueue(source, stores.parser, stores.clock, stores.queue, stores.queue, refused)
            stack.push_async_callback(stream.close)
            yield stream


def waiting(settings: Settings) -> AsyncGenerator[Sequence[bytes]]:
    """Yield pages of the messages that wait in the embedded queue, without leasing any."""
    from worker.adapters.queues.sqlite.queue import bodies

    return bodies(settings.queue.path)


@runtime_checkable
class Confirming(Protocol):
    """A channel in a file on this host."""

    def confirmed(self) -> Confirmed | None:
        """What is surely in the file."""


@runtime_checkable
class _Gathering(Protocol):
    """A channel on this host whose deliveries share their syncs."""

    gather: float


@asynccontextmanager
async def open_channel(settings: Settings) -> AsyncIterator[OpenableChannel]:
    """Open the channel. Raises ``UsageError`` if it is not safe, ``ChannelUnavailable``, ``PersonMustAct``."""
    async with _made_channel(settings) as channel:
        await channel.open()
        yield channel


@asynccontextmanager
async def _made_channel(settings: Settings) -> AsyncIterator[OpenableChannel]:
    from worker.adapters.aws.session import Aws

    async with Aws(aws_target(settings)) as aws:  # opens no connection for a channel that does not use AWS
        channel = await channels.kind_of(settings.channel).make(settings.channel, aws)
        if isinstance(channel, _Gathering):
            channel.gather = gather_time(settings)
        try:
            yield channel
        finally:
            await channel.close()
