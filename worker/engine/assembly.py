"""Puts one worker together from its ports and its configuration.

The program does this with real adapters (``app.wiring``) and the simulation with simulated ones. Both use this one
function, so that the simulation tests the worker that really runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from worker.core.activation import Activator
from worker.core.call import Caller
from worker.core.clock import EndpointClock
from worker.core.config import ActivationMode, WorkerConfig
from worker.core.pipeline import Pipeline
from worker.core.ports import (
    Channel,
    CountedLedger,
    Observer,
    OwnSealer,
    Pacer,
    Provider,
    Queue,
    Sealer,
    SignIns,
    TimeSource,
)
from worker.core.record_size import RecordSize
from worker.core.resilience.breaker import CircuitBreaker
from worker.core.resilience.claim_expiry import ClaimExpiry
from worker.core.resilience.deliveries import Deliveries
from worker.core.resilience.refusals import Refusals
from worker.core.resilience.sign_in_refusals import SignInRefusals
from worker.core.resilience.writer import LedgerWriter
from worker.core.sign_in import SignIn
from worker.core.stats import RunStats
from worker.engine.failure_rate import FailureRate
from worker.engine.loop import WorkerLoop
from worker.engine.shutdown import Shutdown
from worker.engine.sign_in_time import TimedSignIns
from worker.engine.waves import Wave, WaveLedger


class CognitoProvider(Provider, TimeSource, Protocol):
    """Cognito, whose answers also tell the clock what time it is there."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The adapters that one worker uses."""

    queue: Queue
    ledger: CountedLedger
    channel: Channel
    provider: CognitoProvider
    pacer: Pacer
    sealer: Sealer
    clock: EndpointClock
    sign_ins: SignIns | None = None
    """Where requests bring tickets or passwords."""
    sign_in_pacer: Pacer | None = None
    """The same: the pace of sign-ins, which have a quota of their own."""
    own_sealer: OwnSealer | None = None
    """Where the worker activates."""
    observer: Observer | None = None
    """Where somebody watches."""


def assemble(
    ports: Ports,
    config: WorkerConfig,
    shutdown: Shutdown,
    stats: RunStats,
    *,
    wave: Wave | None = None,
    failure_rate: FailureRate | None = None,
) -> WorkerLoop:
    """Return a worker that is ready to run.

    ``wave`` limits it to these users. ``failure_rate`` ends the run when too many users fail or need a session.
    """
    clock, retry = ports.clock, config.retry
    sign_ins = None if ports.sign_ins is None else TimedSignIns(ports.sign_ins, clock, stats)
    refusals = Refusals(clock, shutdown.request)
    breaker = CircuitBreaker(
        clock,
        shutdown.request,
        refusals,
        patience=config.endpoint_patience,
        refusal_patience=config.refusal_patience,
        on_open=shutdown.wake.set,
    )
    deliveries = Deliveries(
        clock,
        rate=config.users_per_second,
        window=config.record.session_validity - config.min_validity,
        patience=config.channel_patience,
    )
    writer = LedgerWriter(ports.ledger, config.worker, breaker, clock, patience=config.ledger_patience)
    caller = Caller(
        provider=ports.provider,
        pacer=ports.pacer,
        breaker=breaker,
        refusals=refusals,
        deliveries=deliveries,
        ledger=writer,
        clock=clock,
        stats=stats,
        config=config,
    )
    sign_in = activator = None
    if sign_ins is not None:
        assert ports.sign_in_pacer is not None, "sign-ins have a pace of their own"
        sign_in = SignIn(
            sign_ins=sign_ins,
            pacer=ports.sign_in_pacer,
            caller=caller,
            refusals=refusals,
            refused=SignInRefusals(refusals, shutdown.request),
            look_first=config.look_first,
        )
    if config.activation is not ActivationMode.NONE:
        assert ports.own_sealer is not None, "whoever activates has an identity of their own"
        activator = Activator(
            provider=ports.provider,
            own=ports.own_sealer,
            caller=caller,
            ledger=writer,
            clock=clock,
            stats=stats,
            config=config,
        )
    pipeline = Pipeline(
        ledger=writer,
        channel=ports.channel,
        sealer=ports.sealer,
        record_size=RecordSize(
            config.record, ports.sealer, (ports.channel, ports.ledger), activates=activator is not None
        ),
        caller=caller,
        deliveries=deliveries,
        claim_expiry=ClaimExpiry(
            clock,
            ports.ledger.is_dead,
            lease=config.lease,
            clock_skew=config.clock_skew,
            call_timeout=retry.call_timeout,
        ),
        refusals=refusals,
        clock=clock,
        stats=stats,
        config=config,
        sign_in=sign_in,
        activator=activator,
    )
    return WorkerLoop(
        queue=ports.queue,
        ledger=ports.ledger if wave is None else WaveLedger(ports.ledger, wave),
        pipeline=pipeline,
        breaker=breaker,
        refusals=refusals,
        deliveries=deliveries,
        time_source=ports.provider,
        clock=clock,
        stats=stats,
        shutdown=shutdown,
        config=config,
        failure_rate=failure_rate,
        sign_in_takes=(lambda: 0.0) if sign_ins is None else sign_ins.takes,
        observer=ports.observer,
    )
