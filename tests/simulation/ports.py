"""The worker's ports as one simulated process sees them.

Every operation has two steps at which its process may be killed, paused or told to stop: *before* anything leaves the
process, and *after* it is durable, with the reply not yet seen. What has left goes its way whatever becomes of the
process.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar, cast

from tests.simulation.scenario import Operation, Wrong
from tests.simulation.stores import Waiting
from worker.core.errors import (
    ChannelUnavailable,
    DependencyUnavailable,
    LedgerUnavailable,
    QueueUnavailable,
    RecordRefused,
    RowDamaged,
)
from worker.core.model import (
    Counts,
    Enrolment,
    Listed,
    Sealed,
    State,
    WriteResult,
    Written,
)
from worker.core.outlook import UNJUDGED, Outlook
from worker.core.ports import Backlog, Deadlines, Lease

if TYPE_CHECKING:
    from tests.simulation.process import Process

Result = TypeVar("Result")
OWN_MARK = b"own:"


class Port:
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
                world.after(world.latency() * 50, lambda: _unless_damaged(effect))
                return
            try:
                result: Result | RowDamaged = effect()
            except RowDamaged as damaged:
                result = damaged
            process.after(f"{name} {about}".strip())
            process.answer(reply, result if wrong is None else unavailable("away"))

        world.after(world.latency(), arrive)
        return await reply


def _unless_damaged(effect: Callable[[], object]) -> None:
    with suppress(RowDamaged):
        effect()


class SimulatedLedger(Port):
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
        ledger = self._world.ledger
        return await self._operation("read", username, LedgerUnavailable, lambda: ledger.read(username))

    async def unfinished(self) -> AsyncGenerator[Enrolment]:
        process, rows, damaged = self._process, self._world.ledger.rows, self._world.ledger.damaged

        def found() -> list[Enrolment]:
            process.looked_at = process.world.now
            return [row for row in rows.values() if row.is_unfinished and row.username not in damaged]

        for row in await self._operation("unfinished", "", LedgerUnavailable, found):
            yield row
        for username in damaged:
            raise RowDamaged(username)

    def is_dead(self, worker: str) -> bool:
        return self._world.scenario.deaths_known and self._world.process(worker).is_dead

    async def counts(self) -> Counts:
        raise NotImplementedError

    async def recount(self) -> Counts:
        process, rows = self._process, self._world.ledger.rows

        def counted() -> Counts:
            process.looked_at = process.world.now
            reasons = Counter(str(row.reason) for row in rows.values() if row.reason)
            return Counts(Counter(row.state for row in rows.values()), reasons)

        return await self._operation("unfinished", "", LedgerUnavailable, counted)

    def listed(self, state: State) -> AsyncIterator[Sequence[Listed]]:
        raise NotImplementedError

    async def count(self, *, duplicates: int = 0, malformed: int = 0) -> None:
        self._world.ledger.duplicates += duplicates


class SimulatedQueue(Port):
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


class SimulatedChannel(Port):
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


class SimulatedPacer:
    """``Pacer``: an even pace, and no waiting at all where there is room."""

    def __init__(self, process: Process, rate: float) -> None:
        self._process = process
        self._rate = rate
        self._next = 0.0

    async def acquire(self) -> None:
        now = self._process.world.now
        self._next = max(now, self._next)
        wait, self._next = self._next - now, self._next + 1 / self._rate
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


class MarkingSealer:
    """``OwnSealer`` of the rollout's own identity; the invariants can see through it too (``blob_of``)."""

    def seal(self, plaintext: bytes) -> bytes:
        return OWN_MARK + plaintext

    def open(self, blob: bytes) -> bytes:
        if not blob.startswith(OWN_MARK):
            raise ValueError("not sealed to the rollout's own identity")
        return blob.removeprefix(OWN_MARK)
