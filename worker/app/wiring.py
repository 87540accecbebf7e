"""The composition root: the worker, wired from the gate to the channel. ``adapters`` knows which adapters there are."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from worker.adapters.cognito.client import cognito as connected
from worker.app.stores import Stores, open_channel
from worker.core.call import Caller
from worker.core.clock import SystemClock
from worker.core.pipeline import Pipeline, PipelineConfig
from worker.core.ports import Clock, Queue
from worker.core.record import RecordFormat
from worker.core.resilience.breaker import CircuitBreaker
from worker.core.resilience.claim_expiry import ClaimExpiry
from worker.core.resilience.retry import RetryPolicy
from worker.core.resilience.writer import LedgerWriter
from worker.core.stats import RunStats
from worker.engine.failure_rate import FailureRate
from worker.engine.loop import LoopConfig, WorkerLoop
from worker.engine.shutdown import Shutdown
from worker.engine.waves import Wave, WaveLedger
from worker.pacing.pacer import SharedPacer
from worker.sealing.age import AgeSealer
from worker.settings import Settings

WAF_PATIENCE = 45.0
"""Seconds for which a refusal by WAF is probed before a person is called."""
AHEAD, LEAST_AHEAD = 0.1, 4
"""Seconds of work, and users at least, that wait, claimed, for their turn at the quota: about as many as a slice of the
shared pace is for, so that none of it is lost when the ledger gets slow."""


@asynccontextmanager
async def assemble(
    settings: Settings,
    stores: Stores,
    queue: Queue,
    shutdown: Shutdown,
    stats: RunStats,
    *,
    max_users: int | None = None,
    wave: Wave | None = None,
    watch: FailureRate | None = None,
) -> AsyncIterator[WorkerLoop]:
    """The worker, wired, from the gate to the channel; ``wave``: for these users alone.

    Raises ``UsageError`` for recipients that are none.
    """
    clock = SystemClock()
    cognito, rate, concurrency = settings.cognito, settings.rate.effective, settings.run.concurrency
    sealer = AgeSealer(settings.seal.recipients)
    breaker = CircuitBreaker(clock, shutdown.request, patience=cognito.patience, refusal_patience=WAF_PATIENCE)
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(open_channel(settings))
        provider = await stack.enter_async_context(
            connected(
                region=cognito.region,
                endpoint_url=cognito.endpoint_url,
                fips=settings.aws.fips,
                call_timeout=cognito.call_timeout,
                concurrency=concurrency,
                clock=clock,
            )
        )
        writer = LedgerWriter(stores.ledger, stores.worker, breaker, clock, patience=settings.ledger.patience)
        pacer = await stack.enter_async_context(SharedPacer(stores.ledger, rate, clock))
        stack.callback(lambda: setattr(stats, "quota_lost", pacer.lost))
        caller = Caller(
            provider=provider,
            pacer=pacer,
            breaker=breaker,
            ledger=writer,
            clock=clock,
            stats=stats,
            retry=_retry_policy(settings),
            lease=settings.ledger.lease,
        )
        pipeline = Pipeline(
            ledger=writer,
            channel=channel,
            sealer=sealer,
            caller=caller,
            claim_expiry=_claim_expiry(settings, stores, clock),
            clock=clock,
            stats=stats,
            terms=PipelineConfig(
                worker=stores.worker,
                lease=settings.ledger.lease,
                min_validity=settings.channel.min_validity,
                channel_patience=settings.channel.patience,
            ),
            record_format=RecordFormat(settings.otp.issuer, settings.otp.account, cognito.session_validity),
        )
        seen = stores.ledger if wave is None else WaveLedger(stores.ledger, stores.ledger, wave)
        yield WorkerLoop(
            queue=queue,
            ledger=seen,
            ledger_stats=seen,
            pipeline=pipeline,
            breaker=breaker,
            provider=provider,
            clock=clock,
            stats=stats,
            shutdown=shutdown,
            limits=LoopConfig(
                concurrency=concurrency,
                ahead=min(concurrency, max(LEAST_AHEAD, math.ceil(rate * AHEAD))),
                rate=rate,
                poll=settings.run.poll,
                grace=settings.run.grace,
                watchdog=settings.run.watchdog,
                sweep=settings.ledger.lease / 2,
                patience=settings.ledger.patience,
                max_users=max_users,
                warn_of_sessions=not cognito.session_handoff,
            ),
            watch=watch,
        )


def _claim_expiry(settings: Settings, stores: Stores, clock: Clock) -> ClaimExpiry:
    return ClaimExpiry(
        clock,
        stores.ledger.is_dead,
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
