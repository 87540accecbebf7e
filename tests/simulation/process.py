"""One simulated worker process: the unchanged worker on a loop, a clock and ports of their own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.simulation import ports, wire
from tests.simulation.loop import VirtualLoop
from tests.simulation.scenario import CALL_TIMEOUT, CLOCK_SKEW, EPOCH, LEASE, MIN_VALIDITY
from tests.support.worker_config import worker_config
from worker.core.clock import EndpointClock
from worker.core.config import ActivationMode
from worker.core.errors import Interrupted
from worker.core.resilience.call_attempts import RetryPolicy
from worker.core.stats import RunStats
from worker.engine.assembly import Ports, assemble
from worker.engine.loop import WorkerLoop
from worker.engine.shutdown import Shutdown

if TYPE_CHECKING:
    from tests.simulation.world import World


class Process:
    """Runs, is paused, or is gone for good. Also its machine's clock."""

    def __init__(self, world: World, name: str, skew: float) -> None:
        self.world = world
        self.name = name
        self.own_skew = skew
        """Seconds by which its machine's clock is wrong."""
        self.clock = EndpointClock(self)
        self.running = True
        self.is_dead = False
        self.stopped_at = 0.0
        """When it was paused last, or died; only where it does not run."""
        self.pauses = 0
        self.killed = False
        self.channel_is_away = False
        """Whether a delivery failed since the last one that did not."""
        self.undeliverable: set[str] = set()
        """The attempts whose delivery failed."""
        self.looked_at: float | None = None
        """When it searched the ledger for unfinished rows last."""
        self.counted_at = 0.0
        """When it counted the messages that wait last."""
        self.loop = VirtualLoop(lambda: world.now, lambda what: world.complain(f"{name}: {what}"))
        self.shutdown = Shutdown()
        self.worker = self._assemble()
        self.main = self.loop.create_task(self.worker.run())

    def monotonic(self) -> float:
        return self.world.now

    def utc(self) -> float:
        return EPOCH + self.world.now + self.own_skew

    @property
    def skew(self) -> float:
        """Seconds by which its worker's clock is wrong now."""
        return self.clock.utc() - EPOCH - self.world.now

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

    def _assemble(self) -> WorkerLoop:
        signs_in = self.world.scenario.flow != "none"
        activates = self.world.scenario.activation is not ActivationMode.NONE
        return assemble(
            Ports(
                queue=ports.SimulatedQueue(self),
                ledger=ports.SimulatedLedger(self),
                channel=ports.SimulatedChannel(self),
                provider=wire.SimulatedProvider(self),
                pacer=ports.SimulatedPacer(self, self.world.scenario.rate),
                sealer=ports.OpenSealer(),
                clock=self.clock,
                sign_ins=wire.SimulatedSignIns(self) if signs_in else None,
                sign_in_pacer=ports.SimulatedPacer(self, 4 * self.world.scenario.rate) if signs_in else None,
                own_sealer=ports.MarkingSealer() if activates else None,
            ),
            worker_config(
                worker=self.name,
                retry=RetryPolicy(attempts=5, base=0.2, cap=5.0, total=60.0, call_timeout=CALL_TIMEOUT),
                activation=self.world.scenario.activation,
                look_first=self.world.scenario.look_first,
                lease=LEASE,
                clock_skew=CLOCK_SKEW,
                min_validity=MIN_VALIDITY,
                keep_sealed=self.world.scenario.seed % 3 == 0,
                ledger_patience=20.0,
                endpoint_patience=120.0,
                rate=self.world.scenario.rate,
                concurrency=32 if self.world.scenario.is_quick else 4,
                ahead=4 if self.world.scenario.is_quick else 2,
                poll=5.0,
                sweep=LEASE / 2,
            ),
            self.shutdown,
            RunStats(self),
        )


def _resolve(reply: asyncio.Future[Any], result: object) -> None:
    if reply.done():
        return
    if isinstance(result, Exception):
        reply.set_exception(result)
    else:
        reply.set_result(result)
