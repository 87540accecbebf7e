"""What dead workers left is finished in passes: each row is read once, few are worked on at once, others' are left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

import pytest

from tests.support.rows import row
from tests.support.virtual_time import VirtualTime
from worker.core.errors import LedgerUnavailable
from worker.core.model import UNFINISHED, Enrolment, State, WriteResult
from worker.engine.takeover import AT_ONCE, LONGEST_REST, REST, Takeover

READ = 0.001
"""Seconds that reading one row takes."""
FINISHED_IN = 1.0
"""Seconds that finishing one row takes."""


class Bench:
    """A ledger whose reads are counted, and a loop that finishes rows."""

    def __init__(self, virtual: VirtualTime) -> None:
        self.virtual = virtual
        self.rows: dict[str, Enrolment] = {}
        self.read_rows = 0
        self.others: set[str] = set()
        self.claimed_for = 90.0
        self.at_work = self.most_at_work = 0
        self.away = False
        self.tasks: list[asyncio.Task[None]] = []
        self.ended = asyncio.Event()
        self.takeover = Takeover(self, self, virtual, self.ended.set)

    def left(self, number: int, state: State = State.IN_PROGRESS) -> None:
        self.rows |= {(name := f"{state} {each}"): row(name, state) for each in range(number)}

    async def passed(self, *states: State) -> bool:
        """Make a pass, and wait for what it began to finish; whether it found nobody."""
        assert self.takeover.begin(states or UNFINISHED)
        await self.ended.wait()
        self.ended.clear()
        await asyncio.gather(*self.tasks)
        return self.takeover.found_nobody()

    async def unfinished(self) -> AsyncGenerator[Enrolment]:
        for each in list(self.rows.values()):
            await asyncio.sleep(READ)
            if self.away:
                raise LedgerUnavailable("away", "wait")
            self.read_rows += 1
            yield each

    def free_in(self, row: Enrolment) -> float:
        return self.claimed_for if row.username in self.others else 0.0

    def is_free(self, row: Enrolment) -> bool:
        return row.username not in self.others

    def finish(self, row: Enrolment) -> asyncio.Task[None]:
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        self.tasks.append(asyncio.create_task(self._finished(row)))
        return self.tasks[-1]

    async def _finished(self, row: Enrolment) -> None:
        await asyncio.sleep(FINISHED_IN)
        del self.rows[row.username]
        self.at_work -= 1

    async def put(self, row: Enrolment, replaces: str | None) -> WriteResult:
        raise AssertionError("the loop writes")

    async def read(self, username: str) -> Enrolment | None:
        raise AssertionError("rows come from the list")

    def is_dead(self, worker: str) -> bool:
        raise AssertionError("the loop decides")


@pytest.fixture
def bench(virtual: VirtualTime) -> Bench:
    return Bench(virtual)


def play(bench: Bench, story: Coroutine[Any, Any, None]) -> None:
    bench.virtual.run(story)


def test_each_row_is_read_once_and_finished_however_many_there_are(bench: Bench) -> None:
    async def story() -> None:
        bench.left(10 * AT_ONCE)
        assert not await bench.passed()
        assert (bench.rows, bench.read_rows) == ({}, 10 * AT_ONCE)
        assert await bench.passed()

    play(bench, story())


def test_many_are_finished_together_but_no_more_than_that(bench: Bench) -> None:
    async def story() -> None:
        bench.left(3 * AT_ONCE)
        await bench.passed()
        assert bench.most_at_work == AT_ONCE

    play(bench, story())


def test_it_is_known_for_whom_the_run_waits_and_until_when(bench: Bench) -> None:
    async def story() -> None:
        bench.left(5)
        for name in list(bench.rows)[:2]:
            bench.rows[name] = bench.rows[name]._replace(worker="another")
            bench.others.add(name)
        await bench.passed()
        waited_for = bench.takeover.claimed_elsewhere
        assert waited_for is not None
        assert (waited_for.users, waited_for.workers) == (2, ("another",))
        assert waited_for.until == pytest.approx(bench.virtual.utc() + bench.claimed_for)
        bench.others = set()
        await bench.passed()
        assert bench.takeover.claimed_elsewhere is None

    play(bench, story())


def test_only_a_pass_over_every_unfinished_state_says_that_nobody_is_left(bench: Bench) -> None:
    async def story() -> None:
        bench.left(3)
        assert not await bench.passed(State.SEALED)
        assert len(bench.rows) == 3
        bench.rows.clear()
        assert not await bench.passed(State.SEALED)
        assert await bench.passed()

    play(bench, story())


def test_while_rows_are_left_to_other_workers_looking_takes_a_part_of_the_time_alone(bench: Bench) -> None:
    async def story() -> None:
        bench.left(1000)
        bench.others = set(bench.rows)
        began = bench.virtual.now
        await bench.passed()
        took = bench.virtual.now - began
        assert not bench.takeover.begin(UNFINISHED)
        await asyncio.sleep(REST * took)
        bench.others.clear()
        assert not await bench.passed()
        assert bench.rows == {}
        assert await bench.passed(), "where nobody was left to others, the next pass begins at once"

    play(bench, story())


def test_a_pass_in_which_the_machine_was_suspended_delays_the_next_only_a_little(bench: Bench) -> None:
    async def story() -> None:
        bench.left(2)
        bench.others = set(bench.rows)
        bench.takeover.begin(UNFINISHED)
        bench.virtual.now += 3600.0
        await bench.ended.wait()
        bench.takeover.found_nobody()
        await asyncio.sleep(LONGEST_REST)
        assert bench.takeover.begin(UNFINISHED)
        await bench.takeover.stop()

    play(bench, story())


def test_a_ledger_that_is_away_is_said_and_the_next_pass_begins_anew(bench: Bench) -> None:
    async def story() -> None:
        bench.left(2)
        bench.away = True
        with pytest.raises(LedgerUnavailable):
            await bench.passed()
        bench.away = False
        await bench.passed()
        assert bench.rows == {}

    play(bench, story())


def test_stopped_it_begins_to_finish_nobody_else(bench: Bench) -> None:
    async def story() -> None:
        bench.left(5 * AT_ONCE)
        bench.takeover.begin(UNFINISHED)
        await asyncio.sleep(READ * AT_ONCE / 2)
        await bench.takeover.stop()
        await asyncio.gather(*bench.tasks)
        assert len(bench.rows) > 4 * AT_ONCE

    play(bench, story())
