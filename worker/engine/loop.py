"""The loop that works on many users at once: takes a slot, leases a message, and acknowledges it once all is durable.

::

    slot ─ lease ─ (the pipeline, for one user) ─ acknowledge, give back, or keep for later

The next message is one of a user whose other messages were kept (``other_messages``), or comes from the queue
(``lease_source``). Beside that, requests that have expired are settled without a slot (``expired``), and users whom
dead workers left unfinished are finished (``takeover``). All of it judges by deadlines, so nothing begins before the
time is known (``endpoint_time``). When the run is to end, the loop begins nothing new, gives back the messages of users
who only wait, and lets the others finish (``tasks``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress

import structlog

from worker.core.clock import EndpointClock
from worker.core.config import WorkerConfig
from worker.core.errors import LedgerUnavailable, MaxUsersReached, RowUnreadable, WorkerError
from worker.core.model import CredentialKind, Done, Duplicate, Enrolment, GiveBack, Postpone, State, Verdict
from worker.core.pipeline import LOOK_AGAIN_AFTER, Pipeline
from worker.core.ports import CountedLedger, Lease, Observer, Queue, TimeSource
from worker.core.resilience.backoff import Outage
from worker.core.resilience.breaker import CircuitBreaker
from worker.core.resilience.cancellation import UNWATCHED, CancellationScope
from worker.core.resilience.deliveries import Deliveries
from worker.core.resilience.refusals import Refusals
from worker.core.rules import too_late
from worker.core.stats import RunStats
from worker.engine.admission import AdmissionControl
from worker.engine.endpoint_time import EndpointTime
from worker.engine.expired import ExpiredRequests, round_of
from worker.engine.failure_rate import FailureRate
from worker.engine.lead_time import LeadTime
from worker.engine.lease_source import LeaseSource
from worker.engine.other_messages import OtherMessages
from worker.engine.overload import OverloadWarning
from worker.engine.shutdown import Shutdown
from worker.engine.takeover import EVERYBODY, WITH_A_SECRET, Takeover
from worker.engine.tasks import Kind, Tasks
from worker.engine.watchdog import watch

log = structlog.get_logger()

BUG_PAUSE = 1.0
"""Seconds until a message is visible again after a bug. Without a pause it would be leased again at once, and a bug
that always happens would repeat as fast as the loop runs."""
UNREADABLE_REST = 60.0
"""Seconds until a message is visible again whose user's row cannot be read: only a person can change that."""
UNREADABLE_PATIENCE = 5.0
"""Seconds since the last outcome after which a run ends that has nothing left but such users: time for what other
workers give back, and no more, since whoever runs it again goes on."""
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
        sign_in_takes: Callable[[], float] = lambda: 0.0,
        observer: Observer | None = None,
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
        self._observer = observer
        self._time = EndpointTime(time_source, clock, stats, shutdown, config.endpoint_patience)
        self._tasks = Tasks(shutdown.wake.set)
        self._users: set[str] = set()
        """The usernames of the users who are worked on."""
        users_per_second = config.users_per_second
        self._others = OtherMessages(queue, pipeline.duplicates, self._acknowledge_duplicates, clock, users_per_second)
        self._admission = AdmissionControl(
            config.ahead,
            users_per_second,
            lambda: breaker.ledger_latency + sign_in_takes(),
            shutdown.wake.set,
        )
        spacing = 1 / users_per_second if users_per_second else 0.0
        self._lead_time = LeadTime(clock, spacing, lambda: max(breaker.held_up_until, deliveries.held_up_until))
        self._found_nobody = False
        """Whether the queue had nobody to call for when it was asked last."""
        self._settled = 0
        """How many users this loop brought to an outcome."""
        self._takeover = Takeover(ledger, self, clock, shutdown.wake.set)
        self._next_sweep = 0.0
        self._ledger_outage = Outage(config.ledger_patience, clock.monotonic)
        self._warned_of_sessions = not config.warn_of_sessions
        self._unreadable: RowUnreadable | None = None
        """The first row that could not be read, of a user for whom there is a message."""

    async def run(self, follow: asyncio.Event | None = None) -> None:
        """Work until no worker has anything left to do, or ``shutdown`` has a reason.

        With ``follow``, an empty queue does not end the run until that event is set.
        """
        watchdog = asyncio.create_task(
            watch(
                self._clock,
                lambda: self.waiting_for,
                self._stats,
                self._shutdown,
                self._config.watchdog,
                lambda: bool(self._tasks),
            )
        )
        expired = asyncio.create_task(
            ExpiredRequests(self._queue, self._clock, self._settle_expired, self._may_settle_expired).run()
        )
        expired.add_done_callback(lambda _: self._shutdown.wake.set())
        overload = OverloadWarning(
            self._queue, self._clock, self._stats, self._config.rate, self._config.activation.calls
        )
        warning = asyncio.create_task(overload.run())
        asking = asyncio.create_task(self._time.learn())
        try:
            while not self._time.has_asked and self._shutdown.reason is None:
                self._shutdown.wake.clear()
                await self._pause()
            await self._work(follow, expired)
        except WorkerError as error:
            self._shutdown.request(error)
        finally:
            watchdog.cancel()
            asking.cancel()
            warning.cancel()
            expired.cancel()
            await asyncio.wait([expired, warning])  # what is leased meanwhile is given back when the queue closes
            await self._takeover.stop()
            await self._tasks.wind_down(self._config.grace, self._shutdown.hurry)

    async def _work(self, follow: asyncio.Event | None, expired: asyncio.Task[None]) -> None:
        while self._shutdown.reason is None:
            self._shutdown.wake.clear()
            if expired.done():
                expired.result()
            if self._time.known and self._clock.monotonic() >= self._next_sweep:
                self._begin_takeover(WITH_A_SECRET)
            nobody_left = self._takeover.has_ended and await self._unless_unavailable(self._takeover_ended())
            most = self._messages_wanted()
            leases: Sequence[Lease] = self._others.due(most, self._users) if most > 0 else ()
            if not leases:
                leases = await self._source.lease(most, self._most_possible(), self._lead_time.outlook())
                self._found_nobody = most > 0 and not leases
            for lease in leases:
                await self._start_or_keep(lease)
            self._stats.claimed_elsewhere = None if leases or self._tasks else self._takeover.claimed_elsewhere
            if leases:
                continue
            if not self._tasks and await self._is_finished(follow, nobody_left):
                return
            unreadable = self._unreadable or self._takeover.unreadable
            waited = self._stats.since_outcome > UNREADABLE_PATIENCE
            if unreadable and waited and not self._tasks and follow is None:
                self._shutdown.request(unreadable)
                return
            if not self._tasks and not self._takeover.under_way and self._users_left() == 0:
                self._shutdown.request(
                    MaxUsersReached(
                        f"{self._settled} users were worked on, as asked", "run again to go on with the others"
                    )
                )
                return
            await self._pause()

    # --- asked by those who watch -------------------------------------------------------------------------------------

    @property
    def under_way(self) -> int:
        """How many users are worked on."""
        return len(self._tasks)

    @property
    def knows_time(self) -> bool:
        """Whether deadlines can be judged (``EndpointTime.known``): before that nobody is called."""
        return self._time.known

    @property
    def waiting_for(self) -> str | None:
        """What keeps calls from leaving at this moment, in words; ``None`` where nothing does."""
        return self._breaker.waiting_for or self._deliveries.waiting_for

    # --- how many messages --------------------------------------------------------------------------------------------

    def _messages_wanted(self) -> int:
        """How many messages to lease now: limited by free slots, and by what is possible."""
        return min(self._admission.free, self._most_possible())

    def _most_possible(self) -> int:
        """How many messages could be worked on now, by ``concurrency`` and by ``max_users``.

        None before the time is known, by which their deadlines are judged.
        """
        if not self._time.known:
            return 0
        to_call = self._under_way - self._tasks.number(Kind.EXPIRED)
        return min(self._config.concurrency - to_call, self._users_left())

    def _users_left(self) -> int:
        """How many more users may be started before ``max_users`` is reached; ``concurrency`` if there is no limit."""
        if self._config.max_users is None:
            return self._config.concurrency
        return max(0, self._config.max_users - self._settled - self._under_way)

    @property
    def _under_way(self) -> int:
        """How many leased messages are worked on."""
        return len(self._tasks) - self._tasks.number(Kind.TAKEOVER)

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
        if not self._others.is_full:
            self._others.add([lease])
        else:
            self._stats.given_back()
            await self._queue.give_back(lease, delay)

    def _must_wait(self, username: str) -> bool:
        """Whether the user is worked on already, or was found not to be free a moment ago."""
        return username in self._users or self._others.rests(username)

    def _start(self, lease: Lease) -> None:
        if not self._warned_of_sessions and lease.request.kind is CredentialKind.SESSION:
            self._warned_of_sessions = True
            log.warning("sessions_without_handoff", cure=HANDOFF_CURE)
        self._begins(lease.request.username)
        slot = self._admission.take()
        leased_at = self._clock.monotonic()

        def called() -> None:
            if slot.release():
                self._lead_time.took(leased_at)

        def ended() -> None:
            if slot.release() and too_late(lease.request, self._clock.utc()):  # it died on the way to its call
                self._lead_time.took(leased_at)

        scope = self._scope(lease.request.username, "enrol", on_call=called)
        task = self._tasks.start(Kind.MESSAGE, self._work_on(lease, scope), scope)
        task.add_done_callback(lambda _: ended())

    def _may_settle_expired(self) -> int:
        """How many expired requests may be settled now. With ``max_users``, those who can be called come first.

        None before the time is known: nobody is taken for dead by our clock alone.
        """
        if not self._time.known:
            return 0
        if self._config.max_users is None:
            return max(0, round_of(self._breaker.ledger_latency) - self._tasks.number(Kind.EXPIRED))
        return self._users_left() if self._found_nobody else 0

    async def _settle_expired(self, lease: Lease) -> asyncio.Task[None] | None:
        """Begin to settle an expired request, without a slot; ``None`` where its user must wait."""
        if lease.request.expires_at > self._clock.utc() or self._must_wait(lease.request.username):
            await self._start_or_keep(lease)  # it lives where the queue knows it by another deadline than its own
            return None
        self._begins(lease.request.username)
        scope = self._scope(lease.request.username, "expire")
        return self._tasks.start(Kind.EXPIRED, self._work_on(lease, scope), scope)

    def _scope(self, username: str, work: str, *, on_call: Callable[[], None] = lambda: None) -> CancellationScope:
        """The scope of one user's task; ``work``: what it does, for whoever watches."""
        scope = CancellationScope(on_call)
        if self._observer is not None:
            scope.way = self._observer.begins(username, work) or UNWATCHED
        return scope

    async def _work_on(self, lease: Lease, scope: CancellationScope) -> None:
        username, rests_for, is_settled, outcome = lease.request.username, 0.0, False, "error"
        began = self._clock.monotonic()
        try:
            verdict = await self._pipeline.enrol(lease.request, scope)
            began = self._stats.postponed(username, now=isinstance(verdict, Postpone), began=began)
            outcome = _outcome(verdict)
            match verdict:
                case Done(state, reason):
                    self._settled += 1
                    self._stats.finished_after(self._clock.monotonic() - began)
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
                case Postpone(delay):
                    rests_for = delay
                    await self._keep(lease, delay)
        except RowUnreadable as unreadable:
            rests_for = UNREADABLE_REST
            await self._leave_unreadable(lease, unreadable)
        except WorkerError as error:
            self._shutdown.request(error)
        except Exception:
            self._stats.bugs += 1
            log.exception("bug", username=username)
            rests_for = BUG_PAUSE
            await self._contain_bug(lease, scope)
        finally:
            scope.way.ended(outcome)
            if is_settled and (lease.has_others or username in self._others) and self._shutdown.reason is None:
                self._tasks.start(Kind.MESSAGE, self._settle_others(username), CancellationScope())
            else:
                self._release(username, rests_for)

    def _begins(self, username: str) -> None:
        """The work on the user begins."""
        self._users.add(username)
        self._stats.in_flight = len(self._users)

    def _release(self, username: str, rests_for: float = 0.0) -> None:
        """Nobody works on the user any more; their other messages may be tried after so many seconds."""
        self._users.discard(username)
        self._stats.in_flight = len(self._users)
        self._refusals.ended(username)
        self._others.released(username, rests_for)
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
            await self._others.settle(username, lambda: self._shutdown.reason is None)
        except WorkerError as error:
            self._shutdown.request(error)
        except Exception:
            self._stats.bugs += 1
            log.exception("bug", username=username)
            rests_for = BUG_PAUSE
        finally:
            between_tries = self._others.rest_between_tries(username, nobody_waits=self._found_nobody)
            self._release(username, max(rests_for, between_tries))

    async def _leave_unreadable(self, lease: Lease, unreadable: RowUnreadable) -> None:
        """Give the message back: it waits for a version that can read the user's row, and nobody waits for it."""
        if self._unreadable is None:
            self._unreadable = unreadable
            log.warning("row_unreadable", cause=str(unreadable), cure=unreadable.hint)
        try:
            await self._queue.give_back(lease, UNREADABLE_REST)
        except WorkerError as error:
            self._shutdown.request(error)

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
            self._begin_takeover(EVERYBODY)
            return False
        return await self._unless_unavailable(self._nobody_is_unfinished()) and await self._queue.is_empty()

    async def _nobody_is_unfinished(self) -> bool:
        return not (await self._ledger.recount()).unfinished

    async def _unless_unavailable(self, query: Awaitable[bool]) -> bool:
        """Return the answer of ``query``; ``False`` while the ledger is unavailable.

        Raises ``LedgerUnavailable`` when that lasts longer than ``ledger_patience``.
        """
        try:
            answer = await query
        except LedgerUnavailable as error:
            self._ledger_outage.failed(error)
            self._ledger_outage.check()
            return False
        self._ledger_outage.recovered()
        return answer

    def _begin_takeover(self, states: Collection[State]) -> None:
        if self._takeover.begin(states):
            self._next_sweep = self._clock.monotonic() + self._config.sweep

    async def _takeover_ended(self) -> bool:
        return self._takeover.found_nobody()

    def is_free(self, row: Enrolment) -> bool:
        """See ``takeover.Work``. Before the time is known, by which claims are judged, nobody is free."""
        if not self._time.known or row.username in self._users or not self._pipeline.is_free(row):
            return False
        return self._takeover.is_last or not self._pipeline.waits_for_message(row)

    def free_in(self, row: Enrolment) -> float:
        """See ``takeover.Work``."""
        return self._pipeline.free_in(row)

    def finish(self, row: Enrolment) -> asyncio.Task[None]:
        """See ``takeover.Work``."""
        scope = self._scope(row.username, "finish")
        self._begins(row.username)
        return self._tasks.start(Kind.TAKEOVER, self._finish(row, scope, self._takeover.is_last), scope)

    async def _finish(self, row: Enrolment, scope: CancellationScope, is_last: bool) -> None:
        try:
            await self._pipeline.finish(row, scope, may_come=not is_last)
        except WorkerError as error:
            self._shutdown.request(error)
        except Exception:
            self._stats.bugs += 1
            log.exception("bug", username=row.username)
        finally:
            scope.way.ended("finished")
            self._release(row.username)


def _outcome(verdict: Verdict) -> str:
    """In one word, or ``state:reason``."""
    match verdict:
        case Done(state, None):
            return state.value
        case Done(state, reason):
            return f"{state.value}:{reason}"
        case Duplicate():
            return "duplicate"
        case GiveBack():
            return "given_back"
        case Postpone():
            return "postponed"
