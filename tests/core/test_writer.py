"""Writing until it is known what became of it: a ledger that is unavailable, slow, or silent about what it did."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from tests.support.rows import row
from tests.support.virtual_time import VirtualTime
from worker.core.errors import ExitCode, LedgerUnavailable, PersonMustAct
from worker.core.model import Enrolment, Lost, WriteResult, Written
from worker.core.resilience.breaker import CircuitBreaker
from worker.core.resilience.refusals import Refusals
from worker.core.resilience.writer import LedgerWriter

Result = TypeVar("Result")


class Trouble:
    """What goes wrong with the next writes: before they apply, after, or by taking long."""

    def __init__(self) -> None:
        self.before = 0
        self.after = 0
        self.seconds = 0.0
        self.error: Exception = LedgerUnavailable("disk full")


class MemoryLedger:
    """Rows and the ports' compare-and-set."""

    def __init__(self, trouble: Trouble) -> None:
        self.rows: dict[str, Enrolment] = {}
        self.trouble = trouble
        self.tries: list[float] = []

    async def put(self, row: Enrolment, replaces: str | None) -> WriteResult:
        await self._wait()
        stands = self.rows.get(row.username)
        if stands is not None and stands.version == row.version:
            answer: WriteResult = Written(stands, repeated=True)
        elif (stands.version if stands else None) != replaces:
            answer = Lost(stands)
        else:
            self.rows[row.username] = row
            answer = Written(row)
        if self.trouble.after:
            self.trouble.after -= 1
            raise self.trouble.error
        return answer

    async def read(self, username: str) -> Enrolment | None:
        await self._wait()
        return self.rows.get(username)

    async def _wait(self) -> None:
        self.tries.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.trouble.seconds)
        if self.trouble.before:
            self.trouble.before -= 1
            raise self.trouble.error


class Bench:
    def __init__(self, virtual: VirtualTime) -> None:
        self.virtual = virtual
        self.trouble = Trouble()
        self.ledger = MemoryLedger(self.trouble)
        refusals = Refusals(virtual, lambda _: None)
        self.breaker = CircuitBreaker(virtual, lambda _: None, refusals, patience=60.0, refusal_patience=45.0)
        self.writer = LedgerWriter(self.ledger, "me", self.breaker, virtual, patience=60.0)  # type: ignore[arg-type]

    def run(self, main: Coroutine[Any, Any, Result]) -> Result:
        return self.virtual.run(main)

    def put(self, row: Enrolment, replaces: Enrolment | None = None) -> WriteResult:
        return self.run(self.writer.put(row, replaces))

    @property
    def open(self) -> bool:
        return self.breaker.admits(probe=False)


@pytest.fixture
def bench(virtual: VirtualTime) -> Bench:
    return Bench(virtual)


def test_every_write_has_a_version_of_its_own(bench: Bench) -> None:
    first = bench.put(row())
    second = bench.put(row(), first.row)
    assert first.row is not None
    assert second.row is not None
    assert first.row.version != second.row.version
    assert {version.partition(":")[0] for version in (first.row.version, second.row.version)} == {"me"}
    assert isinstance(first, Written)
    assert isinstance(second, Written)
    assert not first.repeated
    assert not second.repeated
    assert bench.ledger.rows["ana"] == second.row


def test_a_write_that_applied_without_saying_so_is_success(bench: Bench) -> None:
    bench.trouble.after = 1
    put = bench.put(row())
    assert put == Written(bench.ledger.rows["ana"], repeated=True)
    assert len(bench.ledger.tries) == 2


def test_a_write_that_lost_is_told_what_stands(bench: Bench) -> None:
    stands = bench.put(row()).row
    assert bench.put(row()) == Lost(stands)


def test_a_write_that_applied_and_was_overtaken_meanwhile_is_lost(bench: Bench) -> None:
    """Somebody else went on from what was written: neither repeating nor overwriting may follow."""
    bench.trouble.after = 1
    other = row()

    async def main() -> WriteResult:
        asyncio.get_running_loop().call_later(0.05, bench.ledger.rows.__setitem__, "ana", other)
        return await bench.writer.put(row(), None)

    assert bench.run(main()) == Lost(other)


def test_a_ledger_that_is_away_is_asked_again_at_growing_intervals(bench: Bench) -> None:
    bench.trouble.before = 6
    assert isinstance(bench.put(row()), Written)
    assert bench.ledger.tries == pytest.approx([0, 0.1, 0.3, 0.7, 1.5, 3.1, 5.1])
    assert bench.open


@pytest.mark.parametrize("ask", ["put", "read"])
def test_when_patience_is_over_it_is_said_that_the_ledger_is_away(bench: Bench, ask: str) -> None:
    bench.trouble.before = 1_000
    with pytest.raises(LedgerUnavailable, match="disk full"):
        bench.run(bench.writer.put(row(), None) if ask == "put" else bench.writer.read("ana"))
    assert 60 <= bench.virtual.now <= 62.1
    assert bench.open, "what became of the write will never be known; the run ends"


def test_no_call_may_start_while_a_write_is_not_confirmed(bench: Bench) -> None:
    bench.trouble.before = 3
    seen: list[tuple[bool, str | None]] = []

    async def main() -> None:
        writing = asyncio.ensure_future(bench.writer.put(row(), None))
        while not writing.done():
            await asyncio.sleep(0.05)
            seen.append((bench.open, bench.breaker.waiting_for))

    bench.run(main())
    assert set(seen[:-1]) == {(False, "the ledger: disk full")}
    assert seen[-1] == (True, None)


def test_a_write_that_only_takes_long_stops_calls_too(bench: Bench) -> None:
    bench.trouble.seconds = 5.0

    async def main() -> list[bool]:
        writing = asyncio.ensure_future(bench.writer.put(row(), None))
        await asyncio.sleep(1.5)
        seen = [bench.open]
        await asyncio.sleep(1.0)
        seen.append(bench.open)
        await writing
        return [*seen, bench.open]

    assert bench.run(main()) == [True, False, True]


def test_reading_is_as_patient(bench: Bench) -> None:
    stands = bench.put(row()).row
    bench.trouble.before = 3
    assert bench.run(bench.writer.read("ana")) == stands
    assert bench.run(bench.writer.read("nobody")) is None


def test_what_a_person_must_repair_is_not_asked_again(bench: Bench) -> None:
    bench.trouble.before, bench.trouble.error = 1, PersonMustAct("damaged")
    with pytest.raises(PersonMustAct):
        bench.put(row())
    assert len(bench.ledger.tries) == 1
    assert bench.open


def test_a_ledger_that_a_person_must_repair_is_asked_again_all_the_same(bench: Bench) -> None:
    """The write may have taken effect, and a permission may come back."""
    error = LedgerUnavailable("not permitted")
    error.exit_code = ExitCode.PERSON_MUST_ACT
    bench.trouble.before, bench.trouble.error = 3, error
    assert isinstance(bench.put(row()), Written)


def test_each_of_several_operations_under_way_keeps_calls_from_starting(bench: Bench) -> None:
    async def main() -> list[bool]:
        seen = []

        async def one(operation: Coroutine[Any, Any, Any], seconds: float) -> None:
            bench.trouble.seconds = seconds
            await operation

        writer = bench.writer
        operations = (
            writer.put(row("ana"), None),
            writer.read("ben"),
            writer.put(row("cem"), None),
            writer.read("dag"),
        )
        tasks = []
        for operation, seconds in zip(operations, (3.0, 4.0, 5.0, 6.0), strict=True):
            tasks.append(asyncio.ensure_future(one(operation, seconds)))
            await asyncio.sleep(0)
        for task in tasks:
            seen.append(bench.open)
            await task
        return [*seen, bench.open]

    assert bench.run(main()) == [True, False, False, False, True]


def test_a_cancelled_write_stops_no_calls(bench: Bench) -> None:
    bench.trouble.before = 1_000

    async def main() -> bool:
        writing = asyncio.ensure_future(bench.writer.put(row(), None))
        await asyncio.sleep(1.0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        return bench.open

    assert bench.run(main())
