"""The rollout is counted now and then: cheaply, and without harm to the run whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from tests.support.virtual_time import VirtualTime
from worker.core.errors import ExitCode, LedgerUnavailable, PersonMustAct, QueueUnavailable
from worker.core.model import Counts, State
from worker.core.ports import Backlog, Deadlines
from worker.core.stats import RunStats
from worker.telemetry.metrics.refreshing import COST, EVERY, LETTERS_EVERY, Refreshing
from worker.telemetry.metrics.watched import Dependency, Watched


class Stores:
    """A queue and a ledger that count how often they are asked, and fail where they are told to."""

    def __init__(self) -> None:
        self.fails: Exception | None = None
        self.takes = 0.0
        self.asked = self.asked_for_letters = 0
        self.buckets: Sequence[tuple[float, int]] = ((500.0, 2), (900.0, 7))

    async def backlog(self) -> Backlog:
        return Backlog(9)

    async def deadlines(self, now: float) -> Deadlines:
        return Deadlines(self.buckets)

    async def count(self) -> Counts:
        self.asked += 1
        await asyncio.sleep(self.takes)
        if self.fails is not None:
            raise self.fails
        return Counts({State.DELIVERED: self.asked}, {}, malformed=3, dead_letters=None)

    async def letters(self, malformed: int) -> int:
        assert malformed == 3
        self.asked_for_letters += 1
        return 4


@pytest.fixture
def stores() -> Stores:
    return Stores()


@pytest.fixture
def watched(virtual: VirtualTime) -> Watched:
    return Watched(RunStats(virtual), watchdog=300.0, ending_takes=30.0)


async def refreshed(watched: Watched, stores: Stores, virtual: VirtualTime, seconds: float) -> None:
    task = asyncio.create_task(Refreshing(watched, stores, virtual, stores.count, stores.letters).run())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.wait([task])


def test_it_is_counted_every_few_seconds_however_often_somebody_asks(
    watched: Watched, stores: Stores, virtual: VirtualTime
) -> None:
    virtual.run(refreshed(watched, stores, virtual, 10 * EVERY - 1))

    assert stores.asked == 10
    assert watched.rollout is not None
    assert watched.rollout.counts.states == {State.DELIVERED: 10}
    assert (watched.rollout.backlog.waiting, watched.rollout.earliest_deadline) == (9, 500.0)


def test_a_store_that_takes_long_is_asked_rarely(watched: Watched, stores: Stores, virtual: VirtualTime) -> None:
    stores.takes = 2.0
    virtual.run(refreshed(watched, stores, virtual, 10 * COST * 2.0))

    assert stores.asked == 10


def test_dead_letters_are_looked_for_once_a_minute_and_remembered_in_between(
    watched: Watched, stores: Stores, virtual: VirtualTime
) -> None:
    virtual.run(refreshed(watched, stores, virtual, 2 * LETTERS_EVERY - 1))

    assert stores.asked_for_letters == 2
    assert watched.rollout is not None
    assert watched.rollout.counts.dead_letters == 4


def test_without_anybody_who_waits_there_is_no_deadline(watched: Watched, stores: Stores, virtual: VirtualTime) -> None:
    stores.buckets = ()
    virtual.run(refreshed(watched, stores, virtual, 1))

    assert watched.rollout is not None
    assert watched.rollout.earliest_deadline is None


@pytest.mark.parametrize(
    ("error", "noted"),
    [
        (LedgerUnavailable("away", "again"), Dependency.LEDGER),
        (QueueUnavailable("away", "again"), Dependency.QUEUE),
        (PersonMustAct("this role may not look", "let it"), None),
    ],
)
def test_a_store_that_is_away_is_noted_and_the_last_numbers_stay_until_it_is_back(
    watched: Watched, stores: Stores, virtual: VirtualTime, error: Exception, noted: Dependency | None
) -> None:
    async def story() -> None:
        task = asyncio.create_task(Refreshing(watched, stores, virtual, stores.count, stores.letters).run())
        await asyncio.sleep(1)
        stores.fails = error
        await asyncio.sleep(EVERY)
        assert watched.unreadable is noted
        assert watched.rollout is not None
        assert watched.rollout.counts.accepted == 1
        stores.fails = None
        await asyncio.sleep(EVERY)
        assert watched.unreadable is None
        assert watched.rollout.counts.accepted == 3
        task.cancel()
        await asyncio.wait([task])

    virtual.run(story())


def test_a_permission_that_is_missing_is_no_reason_to_call_a_store_away(
    watched: Watched, stores: Stores, virtual: VirtualTime
) -> None:
    stores.fails = QueueUnavailable("this role may not look", "let it")
    stores.fails.exit_code = ExitCode.PERSON_MUST_ACT
    virtual.run(refreshed(watched, stores, virtual, 1))

    assert watched.unreadable is None


def test_a_bug_here_ends_the_counting_with_a_line_in_the_log_and_nothing_else(
    watched: Watched, stores: Stores, virtual: VirtualTime
) -> None:
    stores.fails = ZeroDivisionError()
    with capture_logs() as logged:
        virtual.run(refreshed(watched, stores, virtual, 10 * EVERY))

    assert [line["event"] for line in logged] == ["metrics_not_counted"]
    assert stores.asked == 1
