"""The worker's ports as one simulated process sees them.

Every operation has two steps at which its process may be killed, paused or told to stop: *before* anything leaves the
process, and *after* it is durable, with the reply not yet seen. What has left goes its way whatever becomes of the
process.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

from tests.simulation.history import Call
from tests.simulation.scenario import CALL_TIMEOUT, EPOCH, Operation, Wrong
from tests.simulation.stores import Waiting
from tests.simulation.truth import NO_ANSWER, Course
from worker.core.errors import (
    ChannelUnavailable,
    DependencyUnavailable,
    LedgerUnavailable,
    QueueUnavailable,
    RecordRefused,
)
from worker.core.model import (
    UNFINISHED,
    Counts,
    Enrolment,
    Listed,
    PreferReply,
    Reply,
    Request,
    Sealed,
    Secret,
    State,
    TryAgain,
    VerifyReply,
    WriteResult,
    Written,
)
from worker.core.outlook import UNJUDGED, Outlook
from worker.core.ports import Backlog, Deadlines, Lease, TimeAnswer

if TYPE_CHECKING:
    from tests.simulation.process import Process

Result = TypeVar("Result")
TIME_TAKES = 0.01
"""Seconds that the endpoint takes to tell its time."""


class _Port:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world

    async def _operation(
        self, name: Operation, about: str, unavailable: type[DependencyUnavailable], effect: Callable[[], Result]
    ) -> Result:
        process, world = self._process, self._world
        await process.before(f"{name} {about}".strip())
        wrong = world.wrong(name)
        reply: asyncio.Future[Result] = process.loop.create_future()

        def arrive() -> None:
            if wrong is Wrong.UNAVAILABLE:
                world.tell(process.name, f"{name} {about}: away")
                process.answer(reply, unavailable("away"))
                return
            if wrong is Wrong.RECORD_REFUSED:
                world.tell(process.name, f"{name} {about}: refused for good")
                process.answer(reply, RecordRefused("KeyTooLongError"))
                return
            if wrong is Wrong.UNAVAILABLE_LATE:
                process.answer(reply, unavailable("away"))
                world.after(world.latency() * 50, effect)
                return
            result = effect()
            process.after(f"{name} {about}".strip())
            process.answer(reply, result if wrong is None else unavailable("away"))

        world.after(world.latency(), arrive)
        return await reply


class SimulatedLedger(_Port):
    """``Ledger`` and ``LedgerStats``."""

    async def put(self, row: Enrolment, replaces: str | None) -> WriteResult:
        ledger, process = self._world.ledger, self._process

        def write() -> tuple[WriteResult, int]:
            return ledger.put(process, row, replaces), ledger.number

        result, number = await self._operation("put", f"{row.username} {row.state}", LedgerUnavailable, write)
        if self._world.scenario.marked and isinstance(result, Written):
            await self._mark(number, result.row)
        return result

    async def _mark(self, number: int, row: Enrolment) -> None:
        """Before anybody learns of the write; what kills the process between the two leaves the mark behind."""
        await self._process.before(f"mark {number} {row.username}")
        self._world.mark.write(number, row)

    async def read(self, username: str) -> Enrolment | None:
        rows = self._world.ledger.rows
        return await self._operation("read", username, LedgerUnavailable, lambda: rows.get(username))

    async def unfinished(self) -> AsyncGenerator[Enrolment]:
        process, rows = self._process, self._world.ledger.rows

        def found() -> list[Enrolment]:
            process.looked_at = process.world.now
            return [row for row in rows.values() if row.state in UNFINISHED]

        for row in await self._operation("unfinished", "", LedgerUnavailable, found):
            yield row

    def is_dead(self, worker: str) -> bool:
        return self._world.scenario.deaths_known and self._world.process(worker).is_dead

    async def counts(self) -> Counts:
        raise NotImplementedError

    async def recount(self) -> Counts:
        process, rows = self._process, self._world.ledger.rows

        def counted() -> Counts:
            process.looked_at = process.world.now
            return Counts(Counter(row.state for row in rows.values()), {})

        return await self._operation("unfinished", "", LedgerUnavailable, counted)

    def listed(self, state: State) -> AsyncIterator[Sequence[Listed]]:
        raise NotImplementedError

    async def count(self, *, duplicates: int = 0, malformed: int = 0) -> None:
        self._world.ledger.duplicates += duplicates


class SimulatedQueue(_Port):
    """``Queue``."""

    async def lease(self, most: int, outlook: Outlook = UNJUDGED) -> Sequence[Lease]:
        queue, process = self._world.queue, self._process
        return await self._operation("lease", "", QueueUnavailable, lambda: queue.lease(process, most, outlook))

    async def lease_expired(self, most: int, now: float) -> Sequence[Lease]:
        """Looking costs nothing and cannot fail where nobody is dead: the embedded queue only reads then."""
        queue, process = self._world.queue, self._process
        if not any(message.request.expires_at <= now for message in queue.messages):
            return ()
        return await self._operation(
            "lease", "the dead", QueueUnavailable, lambda: queue.lease_expired(process, most, now)
        )

    async def deadlines(self, now: float) -> Deadlines:
        return Deadlines()

    async def lease_elsewhere(self, most: int) -> Sequence[Lease]:
        queue, process = self._world.queue, self._process
        return await self._operation(
            "lease",
            "elsewhere",
            QueueUnavailable,
            lambda: queue.lease(process, most, Outlook(process.utc()), elsewhere=True),
        )

    async def lease_others(self, username: str, most: int) -> Sequence[Lease]:
        queue, process = self._world.queue, self._process
        return await self._operation(
            "lease", f"others of {username}", QueueUnavailable, lambda: queue.lease_others(process, username, most)
        )

    async def acknowledge(self, lease: Lease) -> None:
        queue, process, message = self._world.queue, self._process, cast("Waiting", lease.receipt)
        await self._operation(
            "acknowledge", lease.request.id, QueueUnavailable, lambda: queue.acknowledge(process, message)
        )

    async def give_back(self, lease: Lease, delay: float) -> None:
        queue, process, message = self._world.queue, self._process, cast("Waiting", lease.receipt)
        await self._operation(
            "give_back", lease.request.id, QueueUnavailable, lambda: queue.give_back(process, message, delay)
        )

    async def backlog(self) -> Backlog:
        raise NotImplementedError

    async def is_empty(self) -> bool:
        process, messages = self._process, self._world.queue.messages

        def looked() -> bool:
            process.counted_at = process.world.now
            return not messages

        return await self._operation("backlog", "", QueueUnavailable, looked)

    async def close(self) -> None:
        raise NotImplementedError


class SimulatedChannel(_Port):
    """``Channel``."""

    async def deliver(self, username: str, sealed: Sealed) -> None:
        channel, process = self._world.channel, self._process
        started_at, pauses = self._world.now, process.pauses

        def append() -> None:
            channel.append(process, username, sealed, started_at, late=process.pauses > pauses)

        try:
            await self._operation("deliver", f"{username} g{sealed.generation}", ChannelUnavailable, append)
        except ChannelUnavailable:
            if sealed.attempt_id not in process.undeliverable:  # else it failed before others succeeded
                process.undeliverable.add(sealed.attempt_id)
                process.channel_is_away = True
            raise
        process.channel_is_away = False


class SimulatedProvider(_Port):
    """``Provider`` and ``TimeSource``."""

    async def ask_time(self) -> TimeAnswer:
        process, world = self._process, self._world
        asked_at = world.now
        await asyncio.sleep(TIME_TAKES)
        if world.now < world.scenario.silent_until:
            return TimeAnswer(told=False, trouble="away")
        if world.scenario.names_time:
            process.clock.heard(math.floor(EPOCH + world.now), world.now - asked_at)
        return TimeAnswer(told=world.scenario.names_time)

    async def verify(self, request: Request, code: Secret) -> VerifyReply:
        raise NotImplementedError

    async def prefer(self, request: Request) -> PreferReply:
        raise NotImplementedError

    async def associate(self, request: Request) -> Reply:
        process, world, cognito = self._process, self._world, self._world.cognito
        about = f"associate {request.username} {request.id}"
        late = await process.before(about)
        if world.scenario.killer == request.username:
            world.kill(process)
            await process.loop.create_future()
        course = cognito.course(world.wrong("associate"), request.username)
        call = cognito.receive(process, request, late=late)
        answer: asyncio.Future[Reply] = process.loop.create_future()

        def act() -> None:
            if call.over:
                return
            cognito.close(call)
            reply = cognito.act(call)
            process.after(about)
            if course.instead is None:
                world.after(
                    course.heard_after - cast("float", course.acts_after), lambda: process.answer(answer, reply)
                )

        self._schedule(call, course, act, answer)
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                reply = await answer
        except TimeoutError:
            reply = NO_ANSWER
        except asyncio.CancelledError:
            cognito.give_up(call)
            raise
        else:
            if world.scenario.names_time:
                process.clock.heard(math.floor(EPOCH + world.now), world.now - call.sent_at)
        call.ambiguous = isinstance(reply, TryAgain) and reply.ambiguous
        call.answered = not call.ambiguous
        return reply

    def _schedule(self, call: Call, course: Course, act: Callable[[], None], answer: asyncio.Future[Reply]) -> None:
        process, world = self._process, self._world
        call.act = act
        if course.acts_after is None:
            world.after(course.heard_after, lambda: world.cognito.close(call))
        else:
            call.acts_at = world.now + course.acts_after
            world.after(course.acts_after, act)
        if course.instead is not None:
            instead = course.instead
            world.tell(process.name, f"associate {call.request.username}: will be told {instead}")
            world.after(course.heard_after, lambda: process.answer(answer, instead))


class SimulatedPacer:
    """``Pacer``: an even pace, and no waiting at all where there is room."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._next = 0.0

    async def acquire(self) -> None:
        now = self._process.world.now
        self._next = max(now, self._next)
        wait, self._next = self._next - now, self._next + 1 / self._process.world.scenario.rate
        if wait > 0:
            await asyncio.sleep(wait)

    def throttled(self, sent_at: float) -> None:
        pass


class OpenSealer:
    """``Sealer`` whose seal the invariants can see through."""

    def seal(self, plaintext: bytes) -> bytes:
        return plaintext

    def sealed_size(self, plaintext: int) -> int:
        return plaintext
