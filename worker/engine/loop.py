"""The loop that runs many users at once: takes a place first, then a message, and acknowledges what is durable.

A place before the call is taken when a message is leased and given up when its request leaves, so that only a few users
wait, claimed, for their turn at the quota. When told to stop, nothing new begins, whoever merely waits is given
back, and the rest finish.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from worker.core.errors import ExitCode, LedgerUnavailable, MaxUsersReached, WorkerError
from worker.core.model import UNFINISHED, CredentialKind, Done, Duplicate, Enrolment, GiveBack, Request, State, Verdict
from worker.core.pipeline import LOOK_AGAIN, Pipeline
from worker.core.ports import Clock, Lease, Ledger, LedgerStats, Queue
from worker.core.resilience.breaker import CircuitBreaker
from worker.core.resilience.cancellation import CancellationScope
from worker.core.stats import RunStats
from worker.engine.admission import AdmissionControl
from worker.engine.failure_rate import FailureRate
from worker.engine.shutdown import Shutdown
from worker.engine.watchdog import ClockSkew, watch

log = structlog.get_logger()

BUG_PAUSE = 1.0
HURRY = 10.0
"""Seconds in which writes finish once calls are cut off."""
HANDOFF_CURE = (
    "a Session dies within minutes and its secret with it: put access tokens on the queue, or state with "
    "cognito.session_handoff = true that somebody verifies in time"
)


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How much at once, and for how long; durations in seconds."""

    concurrency: int
    ahead: int
    """How many users may be on the way before their call, where that takes no time."""
    rate: float = 0.0
    """Requests/s."""
    poll: float = 0.5
    grace: float = 20.0
    watchdog: float = 300.0
    sweep: float = 30.0
    """How often the ledger is searched for what dead workers left."""
    patience: float = 0.0
    """For how long a ledger that is away may keep the sweep from it."""
    max_users: int | None = None
    warn_of_sessions: bool = True


class WorkerLoop:
    """One worker's loop over one queue and one ledger."""

    def __init__(
        self,
        *,
        queue: Queue,
        ledger: Ledger,
        ledger_stats: LedgerStats,
        pipeline: Pipeline,
        breaker: CircuitBreaker,
        provider: ClockSkew,
        clock: Clock,
        stats: RunStats,
        shutdown: Shutdown,
        limits: LoopConfig,
        watch: FailureRate | None = None,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._ledger_stats = ledger_stats
        self._pipeline = pipeline
        self._breaker = breaker
        self._provider = provider
        self._clock = clock
        self._stats = stats
        self._shutdown = shutdown
        self._limits = limits
        self._failures = watch
        self._scopes: dict[asyncio.Task[None], CancellationScope] = {}
        self._under_way: set[str] = set()
        """The users of the flights."""
        self._places = AdmissionControl(limits.ahead, limits.rate, lambda: breaker.ledger_takes, shutdown.wake.set)
        self._worked = 0
        self._next_sweep = 0.0
        self._unavailable_since: float | None = None
        self._warned = not limits.warn_of_sessions

    async def run(self, follow: asyncio.Event | None = None) -> None:
        """Until nothing is left to do under any worker, or ``shutdown`` has a reason; not before ``follow`` is set."""
        watching = asyncio.create_task(
            watch(
                self._provider,
                self._breaker,
                self._stats,
                self._shutdown,
                self._limits.watchdog,
                lambda: bool(self._scopes),
            )
        )
        try:
            await self._work(follow)
        except WorkerError as error:
            self._shutdown.request(error)
        finally:
            watching.cancel()
            await self._land()

    async def _work(self, follow: asyncio.Event | None) -> None:
        while self._shutdown.reason is None:
            self._shutdown.wake.clear()
            if self._clock.monotonic() >= self._next_sweep:
                await self._patiently(self._sweep(State.SEALED))
            room = self._room()
            leases = await self._queue.lease(room) if room > 0 else ()
            for lease in leases:
                self._start(lease)
            if leases:
                continue
            if not self._scopes and await self._patiently(self._finished(follow)):
                return
            if not self._scopes and self._users_left() == 0:
                self._shutdown.request(
                    MaxUsersReached(
                        f"{self._worked} users were worked on, as asked", "run again to go on with the others"
                    )
                )
                return
            await self._pause()

    def _room(self) -> int:
        """How many messages to lease now: few enough that they can be used, enough to be worth asking."""
        return min(self._places.free, self._limits.concurrency - len(self._scopes), self._users_left())

    def _users_left(self) -> int:
        if self._limits.max_users is None:
            return self._limits.concurrency
        return max(0, self._limits.max_users - self._worked - len(self._scopes))

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._limits.poll):
                await self._shutdown.wake.wait()
        except TimeoutError:
            pass

    # --- one request, one row -----------------------------------------------------------------------------------------

    def _start(self, lease: Lease) -> None:
        place = self._places.take()
        if not self._warned and lease.request.kind is CredentialKind.SESSION:
            self._warned = True
            log.warning("sessions_without_handoff", cure=HANDOFF_CURE)
        self._fly(self._one(lease, scope := CancellationScope(place.leave)), scope)
        assert scope.task is not None
        scope.task.add_done_callback(lambda _: place.leave())

    def _fly(self, way: Coroutine[Any, Any, None], scope: CancellationScope) -> None:
        task = scope.task = asyncio.create_task(way)
        self._scopes[task] = scope
        task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        del self._scopes[task]
        self._shutdown.wake.set()

    async def _one(self, lease: Lease, scope: CancellationScope) -> None:
        try:
            match await self._enrol(lease.request, scope):
                case Done(state, reason):
                    self._worked += 1
                    if self._failures and (stop := self._failures.settled(state, reason)):
                        self._shutdown.request(stop)
                    await self._queue.acknowledge(lease)
                case Duplicate():
                    self._stats.duplicate()
                    await self._ledger_stats.count(duplicates=1)
                    await self._queue.acknowledge(lease)
                case GiveBack(delay):
                    self._stats.given_back()
                    await self._queue.give_back(lease, delay)
        except WorkerError as error:
            self._shutdown.request(error)
        except Exception:
            self._stats.bugs += 1
            log.exception("bug", username=lease.request.username)
            await self._contain(lease, scope)

    async def _enrol(self, request: Request, scope: CancellationScope) -> Verdict:
        """One flight a user at a time: his other messages wait for it, and cannot take over from it."""
        if request.username in self._under_way:
            return GiveBack(LOOK_AGAIN)
        self._under_way.add(request.username)
        try:
            return await self._pipeline.enrol(request, scope)
        finally:
            self._under_way.discard(request.username)

    async def _contain(self, lease: Lease, scope: CancellationScope) -> None:
        """One user's bug must not cost the others anything."""
        try:
            try:
                await self._pipeline.crashed(scope)
            finally:
                await self._queue.give_back(lease, BUG_PAUSE)
        except WorkerError as error:
            self._shutdown.request(error)
        except Exception as bug:  # noqa: BLE001 - it was logged the first time
            self._shutdown.request(WorkerError(f"a bug broke the way of a user twice: {type(bug).__name__}"))

    # --- what dead workers left ---------------------------------------------------------------------------------------

    async def _finished(self, follow: asyncio.Event | None) -> bool:
        """Whether nobody is unfinished under any worker and no message waits; begins to finish what it finds."""
        is_empty = await self._queue.is_empty()  # also for one that is followed: what it saw may be asked at the end
        if not is_empty or (follow is not None and not follow.is_set()) or await self._sweep(*UNFINISHED):
            return False
        return not (await self._ledger_stats.recount()).unfinished and await self._queue.is_empty()

    async def _patiently(self, look: Awaitable[bool | int]) -> bool:
        """Whether the look found what it looked for; not while the ledger is away, which may last for its patience."""
        try:
            found = await look
        except LedgerUnavailable as unavailable:
            now = self._clock.monotonic()
            self._unavailable_since = self._unavailable_since or now
            if (
                unavailable.exit_code is ExitCode.PERSON_MUST_ACT
                or now - self._unavailable_since >= self._limits.patience
            ):
                raise
            return False
        self._unavailable_since = None
        return bool(found)

    async def _sweep(self, *states: State) -> int:
        """Finish the rows in these states that nobody holds any more; how many rows there are."""
        self._next_sweep = self._clock.monotonic() + self._limits.sweep
        found = 0
        async for row in self._ledger.unfinished():
            if row.state not in states:
                continue
            found += 1
            if row.username in self._under_way or len(self._scopes) >= self._limits.concurrency:
                continue
            if self._pipeline.is_free(row):
                self._fly(self._finish(row, scope := CancellationScope()), scope)
        return found

    async def _finish(self, row: Enrolment, scope: CancellationScope) -> None:
        self._under_way.add(row.username)
        try:
            await self._pipeline.finish(row, scope)
        except WorkerError as error:
            self._shutdown.request(error)
        except Exception:
            self._stats.bugs += 1
            log.exception("bug", username=row.username)
        finally:
            self._under_way.discard(row.username)

    # --- ends ---------------------------------------------------------------------------------------------------------

    async def _land(self) -> None:
        """Give back whoever merely waits, let the others finish within the grace, and then hurry."""
        if not self._scopes:
            return
        for scope in list(self._scopes.values()):
            scope.stop(hurry=False)
        landed = asyncio.ensure_future(asyncio.wait(set(self._scopes)))
        hurried = asyncio.ensure_future(self._shutdown.hurry.wait())
        await asyncio.wait({landed, hurried}, timeout=self._limits.grace, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        for scope in list(self._scopes.values()):
            scope.stop(hurry=True)
        await asyncio.wait({landed}, timeout=HURRY)
        if self._scopes:
            log.error("left_behind", users=len(self._scopes), cure="the next run takes them over")
        landed.cancel()
