"""Makes a worker from settings: its configuration, pacer, channel and connection to Cognito.

``stores`` chooses the adapters; ``engine.assembly`` puts the worker together.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from worker.adapters.cognito.client import cognito
from worker.adapters.cognito.sign_in import SignInConfig
from worker.adapters.watched_file import Watched
from worker.app import beginning
from worker.app.stores import Confirming, Stores, aws_target, open_channel
from worker.app.watching import watch_files
from worker.core.config import ActivationMode, WorkerConfig
from worker.core.errors import UsageError
from worker.core.model import Secret
from worker.core.ports import Observer, Queue
from worker.core.record import RecordFormat
from worker.core.record_size import RecordSize
from worker.core.resilience.call_attempts import RetryPolicy
from worker.core.stats import RunStats
from worker.engine.assembly import Ports, assemble
from worker.engine.failure_rate import FailureRate
from worker.engine.loop import WorkerLoop
from worker.engine.shutdown import Shutdown
from worker.engine.waves import Wave
from worker.pacing.pacer import SharedPacer
from worker.sealing.trial import opened_sealer
from worker.settings import Settings

if TYPE_CHECKING:  # importing the SDK takes 0.25 s
    from worker.adapters.cognito.signed import SignedCalls

WAF_PATIENCE = 45.0
"""Seconds for which calls that WAF refuses are tried again before the run ends. Once few enough requests come, a rate
rule usually stops refusing within 30 s (AWS WAF developer guide, "Rate-based rule caveats")."""
SECONDS_AHEAD = 0.1
"""Seconds of work that is claimed ahead and waits for the pacer: about as much as a slice of the shared pace, so that
no part of a slice is lost when the ledger becomes slow."""
MIN_AHEAD = 4
"""The fewest users to claim ahead, but no more than a second of work: at one call in ten seconds, each of them would
wait ten seconds longer, while others with less time left come."""


@asynccontextmanager
async def open_worker(
    settings: Settings,
    stores: Stores,
    queue: Queue,
    shutdown: Shutdown,
    stats: RunStats,
    *,
    max_users: int | None = None,
    wave: Wave | None = None,
    failure_rate: FailureRate | None = None,
    observer: Observer | None = None,
) -> AsyncIterator[WorkerLoop]:
    """Open a worker with these settings; see ``engine.assembly.assemble``.

    Raises ``UsageError`` for recipients that are not valid or too many, and if the channel is another rollout's;
    ``ChannelUnavailable``, ``LedgerUnavailable``.
    """
    clock = stores.clock
    async with AsyncExitStack() as stack:
        sealer = stack.enter_context(opened_sealer(settings.seal.recipients))
        channel = await stack.enter_async_context(open_channel(settings))
        if isinstance(channel, Confirming):
            stores.ledger.follow(channel.confirmed)
        in_use = [*stores.watched, *([channel] if isinstance(channel, Watched) else [])]
        await stack.enter_async_context(watch_files(in_use, shutdown))
        config = worker_config(settings, stores.worker, max_users=max_users)
        if RecordSize(config.record, sealer, (channel, stores.ledger)).nothing_fits():
            raise UsageError(
                f"not even the smallest record fits into the channel ({settings.channel.kind}) and the ledger",
                "name fewer seal.recipients, raise the limit (of an SQS queue: MaximumMessageSize), or use another "
                "channel.kind",
            )
        await beginning.begin_at_channel(settings, stores.ledger, stores.worker, stores.found, channel)
        await beginning.note_channel(settings, stores.ledger, stores.found)
        provider = await stack.enter_async_context(
            cognito(
                region=settings.cognito.region,
                endpoint_url=settings.cognito.endpoint_url,
                fips=settings.aws.fips,
                call_timeout=settings.cognito.call_timeout,
                concurrency=settings.run.concurrency,
                clock=clock,
                sign_in=sign_in_config(settings),
                signed=await _signed_calls(settings, stack),
            )
        )
        stats.configured_per_second = stats.allowed_per_second = settings.rate.effective
        pacer = await stack.enter_async_context(
            SharedPacer(stores.ledger, settings.rate.effective, clock, adapted=stats.allows)
        )
        stack.callback(lambda: setattr(stats, "quota_lost", pacer.lost))
        sign_in_pacer = None
        if settings.sign_in.flow != "none":
            pace = SharedPacer(stores.ledger.sign_in_pace, settings.sign_in.requests_per_second, clock)
            sign_in_pacer = await stack.enter_async_context(pace)
        ports = Ports(
            queue=queue,
            ledger=stores.ledger,
            channel=channel,
            provider=provider,
            pacer=pacer,
            sealer=sealer,
            clock=clock,
            sign_ins=provider if sign_in_pacer is not None else None,
            sign_in_pacer=sign_in_pacer,
            own_sealer=stores.own,
            observer=observer,
        )
        yield assemble(ports, config, shutdown, stats, wave=wave, failure_rate=failure_rate)


def sign_in_config(settings: Settings) -> SignInConfig | None:
    """Return how users are signed in under these settings; ``None``: they are not."""
    sign_in, secret = settings.sign_in, settings.sign_in.client_secret
    if sign_in.flow == "none":
        return None
    assert sign_in.client_id is not None
    return SignInConfig(
        flow=sign_in.flow,
        client_id=sign_in.client_id,
        client_secret=Secret(secret.get_secret_value()) if secret is not None else None,
        user_pool_id=settings.cognito.user_pool_id,
        session_validity=settings.cognito.session_validity,
    )


async def _signed_calls(settings: Settings, stack: AsyncExitStack) -> SignedCalls | None:
    """What signs the requests that need AWS credentials; ``None`` where these settings bring none about."""
    if not settings.signs_calls:
        return None
    from worker.adapters.aws.session import Aws
    from worker.adapters.cognito.signed import SignedCalls

    aws = await stack.enter_async_context(Aws(aws_target(settings)))
    return SignedCalls(aws, region=settings.cognito.region, user_pool_id=settings.cognito.user_pool_id)


def worker_config(settings: Settings, worker: str, *, max_users: int | None = None) -> WorkerConfig:
    """Return the configuration of the worker with that identity, under these settings."""
    ledger, channel, run, retry = settings.ledger, settings.channel, settings.run, settings.retry
    rate = settings.rate.effective
    return WorkerConfig(
        worker=worker,
        retry=RetryPolicy(
            attempts=retry.attempts,
            base=retry.base,
            cap=retry.cap,
            total=retry.total,
            call_timeout=settings.cognito.call_timeout,
        ),
        activation=ActivationMode(settings.activation.mode),
        look_first=settings.sign_in.look_first,
        record=RecordFormat(settings.otp.issuer, settings.otp.account, settings.cognito.session_validity),
        lease=ledger.lease,
        clock_skew=ledger.clock_skew,
        min_validity=channel.min_validity,
        keep_sealed=ledger.keep_sealed,
        ledger_patience=ledger.patience,
        channel_patience=channel.patience,
        endpoint_patience=settings.cognito.patience,
        refusal_patience=WAF_PATIENCE,
        rate=rate,
        concurrency=run.concurrency,
        ahead=min(run.concurrency, max(min(MIN_AHEAD, math.ceil(rate)), math.ceil(rate * SECONDS_AHEAD))),
        poll=run.poll,
        grace=run.grace,
        watchdog=run.watchdog,
        sweep=ledger.lease / 2,
        max_users=max_users,
        warn_of_sessions=not settings.cognito.session_handoff and settings.activation.mode == "none",
    )
