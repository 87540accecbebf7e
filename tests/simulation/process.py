"""One simulated worker process: the unchanged pipeline and drain on a loop, a clock and ports of their own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simulation import ports
from tests.simulation.loop import VirtualLoop
from tests.simulation.scenario import CALL_TIMEOUT, CLOCK_SKEW, EPOCH, LEASE, MIN_VALIDITY, SESSION_VALIDITY
from worker.core.call import Caller
from worker.core.errors import Interrupted
from worker.core.pipeline import Pipeline, PipelineConfig
from worker.core.record import RecordFormat
from worker.core.resilience.breaker import CircuitBreaker
from worker.core.resilience.claim_expiry import ClaimExpiry
from worker.core.resilience.retry import RetryPolicy
from worker.core.resilience.writer import LedgerWriter
from worker.core.stats import RunStats
from worker.engine.loop import LoopConfig, WorkerLoop
from worker.engine.shutdown import Shutdown

if TYPE_CHECKING:
    from tests.simulation.world import World


@dataclass(frozen=True, slots=True)
class Parts:
    """What a process is made of; the tests that prove the simulation's worth put broken parts in."""

    pipeline: type[Pipeline] = Pipeline
    caller: type[Caller] = Caller
    drain: type[WorkerLoop] = WorkerLoop
    claim_expiry: type[ClaimExpiry] = ClaimExpiry
    writer: type[LedgerWriter] = LedgerWriter


class Process:
    """Runs, is paused, or is gone for good. Also the ``Clock`` of its worker."""

    def __init__(self, world: World, name: str, skew: float, parts: Parts) -> None:
        self.world = world
        self.name = name
        self.skew = skew
        self.running = True
        self.is_dead = False
        self.stopped_at = 0.0
        """When it was paused last, or died; only where it does not run."""
        self.pauses = 0
        self.killed = False
        self.looked_at: float | None = None
        """When it searched the ledger for unfinished rows last."""
        self.counted_at = 0.0
        """When it counted the messages that wait last."""
        self.loop = VirtualLoop(lambda: world.now, lambda what: world.complain(f"{name}: {what}"))
        self.shutdown = Shutdown()
        self.drain = self._assemble(parts)
        self.main = self.loop.create_task(self.drain.run())

    def monotonic(self) -> float:
        return self.world.now

    def utc(self) -> float:
        return EPOCH + self.world.now + self.skew

    def may_run(self) -> bool:
        return self.running and not self.main.done()

    # --- steps --------------------------------------------------------------------------------------------------------

    async def before(self, what: str) -> bool:
        """Nothing has left yet. Never comes back if the process is killed here; whether it was paused here."""
        self.world.step(self, f"{what} …")
        if self.is_dead:
            await self.loop.create_future()
        if self.running:
            return False
        await asyncio.sleep(0)  # nothing of a paused process runs: it stands here until it goes on
        return True

    def after(self, what: str) -> None:
        """It is durable, and its reply on the way back."""
        if not self.is_dead:
            self.world.step(self, f"{what}: done")

    def answer(self, reply: asyncio.Future[Any], result: object) -> None:
        """The reply arrives; a paused process will see it when it goes on."""
        if not self.is_dead:
            self.loop.call_soon(_resolve, reply, result)

    def interrupt(self) -> None:
        """A signal."""
        self.loop.call_soon(self.shutdown.interrupt, Interrupted("interrupted"))

    # --- made of ------------------------------------------------------------------------------------------------------

    def _assemble(self, parts: Parts) -> WorkerLoop:
        ledger, queue, provider = ports.SimulatedLedger(self), ports.SimulatedQueue(self), ports.SimulatedProvider(self)
        stats = RunStats(self)
        breaker = CircuitBreaker(self, self.shutdown.request, patience=120.0, refusal_patience=45.0)
        writer = parts.writer(ledger, self.name, breaker, self, patience=20.0)
        caller = parts.caller(
            provider=provider,
            pacer=ports.SimulatedPacer(self),
            breaker=breaker,
            ledger=writer,
            clock=self,
            stats=stats,
            retry=RetryPolicy(call_timeout=CALL_TIMEOUT),
            lease=LEASE,
        )
        pipeline = parts.pipeline(
            ledger=writer,
            channel=ports.SimulatedChannel(self),
            sealer=ports.OpenSealer(),
            caller=caller,
            claim_expiry=parts.claim_expiry(
                self, ledger.is_dead, lease=LEASE, clock_skew=CLOCK_SKEW, call_timeout=CALL_TIMEOUT
            ),
            clock=self,
            stats=stats,
            terms=PipelineConfig(worker=self.name, lease=LEASE, min_validity=MIN_VALIDITY, channel_patience=60.0),
            record_format=RecordFormat("Example", session_validity=SESSION_VALIDITY),
        )
        return parts.drain(
            queue=queue,
            ledger=ledger,
            ledger_stats=ledger,
            pipeline=pipeline,
            breaker=breaker,
            provider=provider,
            clock=self,
            stats=stats,
            shutdown=self.shutdown,
            limits=LoopConfig(concurrency=4, ahead=2, poll=5.0, grace=10.0, sweep=LEASE / 2, warn_of_sessions=False),
        )


def _resolve(reply: asyncio.Future[Any], result: object) -> None:
    if reply.done():
        return
    if isinstance(result, Exception):
        reply.set_exception(result)
    else:
        reply.set_result(result)
