"""The composition root: the only place that names adapters, and chooses them by the settings."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from worker.calling import Caller
from worker.channels.file import FileChannel
from worker.cognito import cognito as connected
from worker.drain import Drain, Limits
from worker.errors import UsageError
from worker.gate import Gate
from worker.holds import Holds
from worker.ledgers.sqlite import SqliteLedger
from worker.liveness import Liveness
from worker.model import Census
from worker.pacing import SharedPacer
from worker.pipeline import Pipeline, Terms
from worker.ports import Clock, Queue
from worker.queues.sqlite import SqliteQueue
from worker.queues.stream import StreamQueue
from worker.records import RecordFormat
from worker.requests import Parser
from worker.retrying import RetryPolicy
from worker.sealing import AgeSealer
from worker.settings import Settings
from worker.sqlite import Database
from worker.stopping import Stopping
from worker.telemetry.tally import Tally
from worker.writing import Writer

WAF_PATIENCE = 45.0
"""Seconds for which a refusal by WAF is probed before a person is called."""
AHEAD = 0.05
"""Seconds of work that wait, claimed, for their turn at the quota."""
LOOK_AHEAD, MOST_LOOK_AHEAD = 1.0, 64
"""Seconds of work, and messages, that are leased in one go."""
LEDGER_PATIENCE = 60.0
"""Seconds for which a write that the ledger does not confirm is repeated."""


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """See ``ports.Clock``."""
        return time.monotonic()

    def utc(self) -> float:
        """See ``ports.Clock``."""
        return time.time()


@dataclass(frozen=True, slots=True)
class Stores:
    """The queue and the ledger of one rollout, open."""

    worker: str
    """The identity of this process, new at every start."""
    liveness: Liveness
    parser: Parser
    queue: SqliteQueue
    ledger: SqliteLedger

    async def census(self) -> Census:
        """The ledger's count, with what the queue refused at its door."""
        census = await self.ledger.census()
        refused, malformed = await self.queue.counted()
        return replace(census, duplicates=census.duplicates + refused, malformed=census.malformed + malformed)


def stamp(settings: Settings) -> Mapping[str, str]:
    """What a ledger is stamped with."""
    cognito = settings.cognito
    return {
        "endpoint": cognito.endpoint_url or "amazonaws.com",
        "region": cognito.region,
        "user pool": cognito.user_pool_id,
    }


@asynccontextmanager
async def open_stores(settings: Settings, *, must_exist: bool = False) -> AsyncIterator[Stores]:
    """Queue and ledger; ``must_exist``: never begin a new ledger.

    Raises ``UsageError``, ``DependencyAway``, ``PersonMustAct``.
    """
    for name, kind in (("queue", settings.queue.kind), ("ledger", settings.ledger.kind)):
        if kind != "sqlite":
            raise UsageError(f"{name}.kind = {kind} is not available in this version", f'set {name}.kind to "sqlite"')
    worker = uuid.uuid4().hex[:16]
    parser = Parser(settings.cognito.user_pool_id, settings.cognito.session_validity)
    liveness = Liveness(settings.ledger.path, worker)
    async with AsyncExitStack() as stack:
        database = Database(settings.ledger.path)
        stack.push_async_callback(database.close)
        ledger = SqliteLedger(database, liveness)
        await ledger.open(stamp(settings), must_exist=must_exist or settings.ledger.must_exist)
        if settings.queue.path != settings.ledger.path:
            database = Database(settings.queue.path)
            stack.push_async_callback(database.close)
        queue = SqliteQueue(
            database,
            parser,
            holder=worker,
            gone=liveness.gone,
            visibility=settings.queue.visibility,
            look_ahead=math.ceil(min(MOST_LOOK_AHEAD, settings.rate.requests_per_second * LOOK_AHEAD)),
        )
        await queue.open()
        yield Stores(worker, liveness, parser, queue, ledger)


@asynccontextmanager
async def open_intake(stores: Stores, source: str | None) -> AsyncIterator[Queue]:
    """The queue, with the stream before it where one was named; gives back what is left when it closes."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(stores.queue.close)
        if source is None:
            yield stores.queue
        else:
            stream = StreamQueue(source, stores.parser, stores.queue, stores.queue)
            stack.push_async_callback(stream.close)
            yield stream


@asynccontextmanager
async def assemble(
    settings: Settings, stores: Stores, queue: Queue, stopping: Stopping, tally: Tally, max_users: int | None
) -> AsyncIterator[Drain]:
    """The worker, wired, from the gate to the channel. Raises ``UsageError`` for recipients that are none."""
    clock = SystemClock()
    cognito, rate, concurrency = settings.cognito, settings.rate.requests_per_second, settings.run.concurrency
    sealer = AgeSealer(settings.seal.recipients)
    gate = Gate(clock, stopping.request, patience=cognito.patience, refusal_patience=WAF_PATIENCE)
    async with AsyncExitStack() as stack:
        channel = FileChannel(settings.channel.path)
        stack.push_async_callback(channel.close)
        provider = await stack.enter_async_context(
            connected(
                region=cognito.region,
                endpoint_url=cognito.endpoint_url,
                call_timeout=cognito.call_timeout,
                concurrency=concurrency,
                clock=clock,
            )
        )
        writer = Writer(stores.ledger, stores.worker, gate, clock, patience=LEDGER_PATIENCE)
        caller = Caller(
            provider=provider,
            pacer=await stack.enter_async_context(SharedPacer(stores.ledger, rate, clock)),
            gate=gate,
            ledger=writer,
            clock=clock,
            tally=tally,
            retry=_retry_policy(settings),
            lease=settings.ledger.lease,
        )
        pipeline = Pipeline(
            ledger=writer,
            channel=channel,
            sealer=sealer,
            caller=caller,
            holds=_holds(settings, stores, clock),
            clock=clock,
            tally=tally,
            terms=Terms(
                worker=stores.worker,
                lease=settings.ledger.lease,
                min_validity=settings.channel.min_validity,
                channel_patience=settings.channel.patience,
            ),
            record_format=RecordFormat(settings.otp.issuer, settings.otp.account, cognito.session_validity),
        )
        yield Drain(
            queue=queue,
            ledger=stores.ledger,
            books=stores.ledger,
            pipeline=pipeline,
            gate=gate,
            provider=provider,
            clock=clock,
            tally=tally,
            stopping=stopping,
            limits=Limits(
                concurrency=concurrency,
                ahead=min(concurrency, max(2, math.ceil(rate * AHEAD))),
                poll=settings.run.poll,
                grace=settings.run.grace,
                watchdog=settings.run.watchdog,
                sweep=settings.ledger.lease / 2,
                max_users=max_users,
                warn_of_sessions=not cognito.session_handoff,
            ),
        )


def _holds(settings: Settings, stores: Stores, clock: Clock) -> Holds:
    return Holds(
        clock,
        stores.ledger.gone,
        lease=settings.ledger.lease,
        clock_skew=settings.ledger.clock_skew,
        call_timeout=settings.cognito.call_timeout,
    )


def _retry_policy(settings: Settings) -> RetryPolicy:
    retry = settings.retry
    return RetryPolicy(
        attempts=retry.attempts,
        base=retry.base,
        cap=retry.cap,
        total=retry.total,
        call_timeout=settings.cognito.call_timeout,
    )
