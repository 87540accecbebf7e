"""The loop that works on many users at once: takes a slot, leases a message, and acknowledges it once all is durable.

::

    slot ─ lease ─ (the pipeline, for one user) ─ acknowledge, or give back

It also searches the ledger for users whom dead workers left unfinished. When the run is to end, it begins nothing new,
gives back the messages of users who only wait, and lets the others finish.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import structlog

from worker.core.clock import EndpointClock
from worker.core.config import WorkerConfig
from worker.core.errors import LedgerUnavailable, MaxUsersReached, WorkerError
from worker.core.model import UNFINISHED, CredentialKind, Done, Duplicate, Enrolment, GiveBack, SetAside, State
from worker.core.pipeline import LOOK_AGAIN_AFTER, Pipeline
from worker.core.ports import CountedLedger, Lease, Queue, TimeSource
from worker.core.resilience.backoff import Outage
from worker.core.resilience.breaker import CircuitBreaker
from worker.core.resilience.cancellation import CancellationScope
from worker.core.resilience.deliveries import Deliveries
from worker.core.resilience.refusals import Refusals
from worker.core.rules import too_late
from worker.core.stats import RunStats
from worker.engine.admission import AdmissionControl
from worker.engine.aside import Aside, round_of
from worker.engine.endpoint_time import EndpointTime
from worker.engine.failure_rate import FailureRate
from worker.engine.lead_time import LeadTime
from worker.engine.lease_source import LeaseSource
from worker.engine.overload import OverloadWarning
from worker.engine.shutdown import Shutdown
from worker.engine.siblings import Siblings
from worker.engine.takeover import Takeover
from worker.engine.watchdog import watch

log = structlog.get_logger()

BUG_PAUSE = 1.0
"""Seconds until a message is visible again after a bug. Without a pause it would be leased again at once, and a bug
that always happens would repeat as fast as the loop runs."""
OTHERS_AT_ONCE = 256
"""Messages of one user that are looked at together: as many as one commit of the embedded queue deletes, and few enough
that reading them does not hold up the next call for more than some 10 ms."""
TRIES_AT_ONCE = 3
"""Requests of one user that are tried one right after the other: a person who signed in a few times does not wait."""
SHARE_OF_ONE = 0.03
"""The part of the rate that a user with more requests than that gets while others wait: what the contract gives to
those who are refused again and again."""
LONGEST_REST = 30.0
"""Seconds that such a user waits at most for the next turn, however low the rate: the others may be done before."""
HURRY_TIMEOUT = 10.0
"""Seconds that writes to ledger and queue get after calls were cut off. The manifests in ``config`` give a container
longer to stop than ``run.grace`` and this together."""
HANDOFF_CURE = (
    "a Session dies within minutes and its secret with it: put access tokens on the queue, or state with "
    "cognito.session_handoff = true that somebody verifies in time"
)
"""What the warning ``sessions_without_handoff`` advises."""


class WorkerLoop:
    """One worker's loop over one queue and one ledger."""

    def __init__(
        self,
        *,
        queue: Queue,
        ledger: CountedLedger,
        pipeline: Pipeline,
        breaker: CircuitBreaker,
        refusals: Refusals,
        deliveries: Deliveries,
        time_source: TimeSource,
        clock: EndpointClock,
        stats: RunStats,
        shutdown: Shutdown,
        config: WorkerConfig,
        failure_rate: FailureRate | None = None,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._pipeline = pipeline
        self._breaker = breaker
        self._refusals = refusals
        self._source = LeaseSource(queue, breaker, refusals, self._must_wait)
        self._deliveries = deliveries
        self._clock = clock
        self._stats = stats
        self._shutdown = shutdown
        self._config = config
        self._failure_rate = failure_rate
        self._time = EndpointTime(time_source, clock, stats, shutdown, config.endpoint_patience)
        self._tasks: dict[asyncio.Task[None], CancellationScope] = {}
        """One task for each user who is worked on."""
        self._users: set[str] = set()
        """The usernames of these users."""
        self._aside: set[asyncio.Task[None]] = set()
        """Those of the tasks that settle dead requests."""
        self._tries: Counter[str] = Counter()
        """Of users with more requests: how many of them had outcomes of their own."""
        self._siblings = Siblings(clock.monotonic)
        """Leased messages of users who are worked on or must wait."""
        self._admission = AdmissionControl(config.ahead, config.rate, lambda: breaker.ledger_latency, shutdown.wake.set)
        spacing = 1 / config.rate if config.rate else 0.0
        self._lead_time = LeadTime(clock, spacing, lambda: max(breaker.held_up_until, deliveries.held_up_until))
        self._found_nobody = False
        """Whether the queue had nobody to call for when it was asked last."""
        self._settled = 0
        """How many users this loop brought to an outcome."""
        self._takeover = Takeover(ledger, self, clock, shutdown.wake.set)
        self._finishing: set[asyncio.Task[None]] = set()
        """Those of the tasks that finish what a dead worker left."""
        self._next_sweep = 0.0
        self._ledger_outage = Outage(config.ledger_patience, clock.monotonic)
        self._warned_of_sessions = not config.warn_of_sessions

    async def run(self, follow: asyncio.Event | None = None) -> None:
        """Work until no worker has anything left to do, or ``shutdown`` has a reason.

        With ``follow``, an empty queue does not end the run until that event is set.
        """
        watchdog = asyncio.create_task(
            watch(
                self._clock,
                lambda: self._breaker.waiting_for or self._deliveries.waiting_for,
                self._stats,
                self._shutdown,
                self._config.watchdog,
                lambda: bool(self._tasks),
            )
        )
        aside = asyncio.create_task(Aside(self._queue, self._clock, self._settle_aside, self._may_settle_aside).run())
        aside.add_done_callback(lambda _: self._shutdown.wake.set())
        warning = asyncio.create_task(OverloadWarning(self._queue, self._clock, self._stats, self._config.rate).run())
        asking = asyncio.create_task(self._time.learn())
        try:
            while not self._time.has_asked and self._shutdown.reason is None:
                self._shutdown.wake.clear()
                await self._pause()
            await self._work(follow, aside)
        except WorkerError as error:
            self._shutdown.request(error)
        finally:
            watchdog.cancel()
            asking.cancel()
            warning.cancel()
            aside.cancel()
            await asyncio.wait([aside, warning])  # what it is leasing is given back with the queue
            await self._wind_down()

    async def _work(self, follow: asyncio.Event | None, aside: asyncio.Task[None]) -> None:
        while self._shutdown.reason is None:
            self._shutdown.wake.clear()
            if aside.done():
                aside.result()
            if self._time.known and self._clock.monotonic() >= self._next_sweep:
                self._begin_takeover(State.SEALED)
            nobody_left = self._takeover.has_ended and await self._unless_unavailable(self._takeover_ended())
            most = self._messages_wanted()
            leases: Sequence[Lease] = self._siblings.due(most, self._users) if most > 0 else ()
            if not leases:
                leases = await self._source.lease(most, self._most_possible(), self._lead_time.outlook())
                self._found_nobody = most > 0 and not leases
            for lease in leases:
                await self._start_or_keep(lease)
            if leases:
                continue
            if not self._tasks and await self._is_finished(follow, nobody_left):
                return
            if not self._tasks and not self._takeover.under_way and self._users_left() == 0:
                self._shutdown.request(
                    MaxUsersReached(
                        f"{self._settled} users were worked on, as asked", "run again to go on with the others"
                    )
                )
                return
            await self._pause()

    def _messages_wanted(self) -> int:
        """How many messages to lease now: limited by free slots, and by what is possible."""
        return min(self._admission.free, self._most_possible())

    def _most_possible(self) -> int:
        """How many messages could be worked on now, by ``concurrency`` and by ``max_users``.

        None before the time is known, by which their deadlines are judged.
        """
        if not self._time.known:
            return 0
        to_call = self._under_way - len(self._aside)
        return min(self._config.concurrency - to_call, self._users_left())

    def _users_left(self) -> int:
        """How many more users may be started before ``max_users`` is reached; ``concurrency`` if there is no limit."""
        if self._config.max_users is None:
            return self._config.concurrency
        return max(0, self._config.max_users - self._settled - self._under_way)

    @property
    def _under_way(self) -> int:
        """How many leased messages are worked on."""
        return len(self._tasks) - len(self._finishing)

    async def _pause(self) -> None:
        """Wait until there may be something to do, at most ``poll`` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.poll):
                await self._shutdown.wake.wait()

    # --- one message --------------------------------------------------------------------------------------------------

    async def _start_or_keep(self, lease: Lease) -> None:
        if not self._must_wait(lease.request.username):
            self._start(lease)
        else:
            await self._keep(lease, LOOK_AGAIN_AFTER)

    async def _keep(self, lease: Lease, delay: float) -> None:
        """Keep the message leased until its user may be tried; where too many are kept, give it back for ``delay``."""
        if not self._siblings.is_full:
            self._siblings.add([lease])
        else:
            self._stats.given_back()
            await self._queue.give_back(lease, delay)

    def _must_wait(self, username: str) -> bool:
        """Whether the user is worked on already, or was found not to be free a moment ago."""
        return username in self._users or self._siblings.rests(username)

    def _start(self, lease: Lease) -> None:
        if not self._warned_of_sessions and lease.request.kind is CredentialKind.SESSION:
            self._warned_of_sessions = True
            log.warning("sessions_without_handoff", cure=HANDOFF_CURE)
        self._users.add(lease.request.username)
        slot = self._admission.take()
        leased_at = self._clock.monotonic()

        def called() -> None:
            if slot.release():
                self._lead_time.took(leased_at)

        def ended() -> None:
            if slot.release() and too_late(lease.request, self._clock.utc()):  # it died on the way to its call
                self._lead_time.took(leased_at)

        scope = CancellationScope(on_call=called)
        task = self._start_task(self._work_on(lease, scope), scope)
        task.add_done_callback(lambda _: ended())

    def _may_settle_aside(self) -> int:
        """How many dead requests may be settled now. With ``max_users``, those who can be called come first.

        None before the time is known: nobody is taken for dead by our clock alone.
        """
        if not self._time.known:
            return 0
        if self._config.max_users is None:
            return max(0, round_of(self._breaker.ledger_latency) - len(self._aside))
        return self._users_left() if self._found_nobody else 0

    async def _settle_aside(self, lease: Lease) -> asyncio.Task[None] | None:
        """Begin to settle a dead request, without a slot; ``None`` where its user must wait."""
        if lease.request.expires_at > self._clock.utc() or self._must_wait(lease.request.username):
            await self._start_or_keep(lease)  # it lives where the queue knows it by another deadline than its own
            return None
        self._users.add(lease.request.username)
        scope = CancellationScope()
        task = self._start_task(self._work_on(lease, scope), scope)
        self._aside.add(task)
        return task

    def _start_task(self, work: Coroutine[Any, Any, None], scope: CancellationScope) -> asyncio.Task[None]:
        task = scope.task = asyncio.create_task(work)
        self._tasks[task] = scope
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._aside.discard(task)
        self._finishing.discard(task)
        self._shutdown.wake.set()

    async def _work_on(self, lease: Lease, scope: CancellationScope) -> None:
        username, rests_for, is_settled = lease.request.username, 0.0, False
        try:
            verdict = await self._pipeline.enrol(lease.request, scope)
            self._stats.set_aside(username, now=isinstance(verdict, SetAside))
            match verdict:
                case Done(state, reason):
                    self._settled += 1
                    if self._failure_rate and (stop := self._failure_rate.settled(state, reason)):
                        self._shutdown.request(stop)
                    await self._queue.acknowledge(lease)
                    is_settled = True
                case Duplicate():
                    self._refusals.forget(username)
                    await self._acknowledge_duplicates([lease])
                    is_settled = True
                case GiveBack(delay):
                    rests_for = delay
                    self._stats.given_back()
                    await self._queue.give_back(lease, delay)
                case SetAside(delay):
                    rests_for = delay
                    await self._keep(lease, delay)
        except WorkerError as error:
            self._shutdown.request(error)
        except Exception:
            self._stats.bugs += 1
            log.exception("bug", username=username)
            rests_for = BUG_PAUSE
            await self._contain_bug(lease, scope)
        finally:
            if is_settled and (lease.others or username in self._siblings) and self._shutdown.reason is None:
                self._start_task(self._settle_others(username), CancellationScope())
            else:
                self._release(username, rests_for)

    def _release(self, username: str, rests_for: float = 0.0) -> None:
        """Nobody works on the user any more; their other messages may be tried after so many seconds."""
        self._users.discard(username)
        self._refusals.ended(username)
        self._siblings.released(username, rests_for)
        if rests_for > 0:
            asyncio.get_running_loop().call_later(rests_for, self._shutdown.wake.set)

    async def _acknowledge_duplicates(self, leases: Sequence[Lease]) -> None:
        self._stats.duplicate(len(leases))
        await self._ledger.count(duplicates=len(leases))
        await asyncio.gather(*(self._queue.acknowledge(lease) for lease in leases))

    async def _settle_others(self, username: str) -> None:
        """Acknowledge the duplicates among a user's other messages, now that the user has an outcome."""
        rests_for = 0.0
        try:
            while self._shutdown.reason is None and await self._settle_page(username):
                pass
        except WorkerError as error:
            self._shutdown.request(error)
        except Exception:
            self._stats.bugs += 1
            log.exception("bug", username=username)
            rests_for = BUG_PAUSE
        finally:
            self._release(username, max(rests_for, self._rest_between_tries(username)))

    def _rest_between_tries(self, username: str) -> float:
        """Seconds until a user's next request is tried: above 0 where the user had several turns, and others wait."""
        if username not in self._siblings:
            del self._tries[username]
            return 0.0
        self._tries[username] += 1
        if self._tries[username] < TRIES_AT_ONCE or self._found_nobody or not self._config.rate:
            return 0.0
        return min(LONGEST_REST, 1 / (SHARE_OF_ONE * self._config.rate))

    async def _settle_page(self, username: str) -> bool:
        """Whether there were messages, and all of them duplicates: then there may be more."""
        leases = self._siblings.take(username)
        try:
            leases += await self._queue.lease_others(username, max(0, OTHERS_AT_ONCE - len(leases)))
            if not leases:
                return False
            # The row is read after the messages were leased: another worker may have written it since our outcome.
            are_duplicates = await self._pipeline.duplicates([lease.request for lease in leases])
            found = [lease for lease, is_duplicate in zip(leases, are_duplicates, strict=True) if is_duplicate]
            left = [lease for lease, is_duplicate in zip(leases, are_duplicates, strict=True) if not is_duplicate]
            if found:
                await self._acknowledge_duplicates(found)
            leases = left
            return not leases
        finally:
            self._siblings.add(leases)

    async def _contain_bug(self, lease: Lease, scope: CancellationScope) -> None:
        """Release the user and give the message back, so that a bug in one user's work does not affect the others."""
        try:
            try:
                await self._pipeline.crashed(scope)
            finally:
                await self._queue.give_back(lease, BUG_PAUSE)
        except WorkerError as error:
            self._shutdown.request(error)
        except Exception as bug:  # noqa: BLE001 - it was logged the first time
            self._shutdown.request(WorkerError(f"giving a user back after a bug met another bug: {type(bug).__name__}"))

    # --- what dead workers left ---------------------------------------------------------------------------------------

    async def _is_finished(self, follow: asyncio.Event | None, nobody_left: bool) -> bool:
        """Whether no worker has an unfinished user and no message waits.

        ``nobody_left``: a pass over all unfinished rows has just ended, and there was none; without it one is begun.
        """
        # Asked while following too: an SQS queue counts as empty only after several questions over some time, and a run
        # that is interrupted asks only once more at its end.
        is_empty = await self._queue.is_empty()
        if not is_empty or (follow is not None and not follow.is_set()):
            return False
        if not nobody_left:
            self._begin_takeover(*UNFINISHED)
            return False
        return await self._unless_unavailable(self._nobody_is_unfinished()) and await self._queue.is_empty()

    async def _nobody_is_unfinished(self) -> bool:
        return not (await self._ledger.recount()).unfinished

    async def _unless_unavailable(self, query: Awaitable[bool | int]) -> bool:
        """Return whether the query found something; ``False`` too while the ledger is unavailable.

        Raises ``LedgerUnavailable`` when that lasts longer than ``ledger_patience``.
        """
        try:
            found = await query
        except LedgerUnavailable as error:
            self._ledger_outage.failed(error)
            self._ledger_outage.check()
            return False
        self._ledger_outage.recovered()
        return bool(found)

    def _begin_takeover(self, *states: State) -> None:
        if self._takeover.begin(states):
            self._next_sweep = self._clock.monotonic() + self._config.sweep

    async def _takeover_ended(self) -> bool:
        return self._takeover.found_nobody()

    def is_free(self, row: Enrolment) -> bool:
        """See ``takeover.Work``. Before the time is known, by which claims are judged, nobody is free."""
        return self._time.known and row.username not in self._users and self._pipeline.is_free(row)

    def finish(self, row: Enrolment) -> asyncio.Task[None]:
        """See ``takeover.Work``."""
        scope = CancellationScope()
        self._users.add(row.username)
        task = self._start_task(self._finish(row, scope), scope)
        self._finishing.add(task)
        return task

    async def _finish(self, row: Enrolment, scope: CancellationScope) -> None:
        try:
            await self._pipeline.finish(row, scope)
        except WorkerError as error:
            self._shutdown.request(error)
        except Exception:
            self._stats.bugs += 1
            log.exception("bug", username=row.username)
        finally:
            self._release(row.username)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def _wind_down(self) -> None:
        """Give back users who only wait, let the others finish for ``grace`` seconds, and then cut off their calls."""
        await self._takeover.stop()
        if not self._tasks:
            return
        for scope in list(self._tasks.values()):
            scope.stop(hurry=False)
        all_ended = asyncio.ensure_future(asyncio.wait(set(self._tasks)))
        hurried = asyncio.ensure_future(self._shutdown.hurry.wait())
        await asyncio.wait({all_ended, hurried}, timeout=self._config.grace, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        for scope in list(self._tasks.values()):
            scope.stop(hurry=True)
        await asyncio.wait({all_ended}, timeout=HURRY_TIMEOUT)
        if self._tasks:
            log.error("left_behind", users=len(self._tasks), cure="the next run takes them over")
        all_ended.cancel()
