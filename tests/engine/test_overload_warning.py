"""An overload is said early, once, and again when it has changed much."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.virtual_time import VirtualTime
from worker.core.errors import QueueUnavailable
from worker.core.model import Reason, State
from worker.core.ports import Deadlines
from worker.core.stats import RunStats
from worker.engine.overload import FIRST_LOOK, LOOK_EVERY, OverloadWarning


class Waiting:
    """A queue whose requests all have the same deadline, ten seconds from now."""

    def __init__(self, clock: VirtualTime, number: int, *, are_all: bool = True) -> None:
        self.clock, self.number, self.are_all = clock, number, are_all
        self.is_away = False
        self.looks = 0

    async def deadlines(self, now: float) -> Deadlines:
        self.looks += 1
        if self.is_away:
            raise QueueUnavailable("away")
        return Deadlines([(now + 10.0, self.number)] if self.number else (), are_all=self.are_all)


def rig(number: int, calls: int = 1, **more: Any) -> tuple[VirtualTime, Waiting, RunStats, OverloadWarning]:
    clock = VirtualTime()
    queue, stats = Waiting(clock, number, **more), RunStats(clock)
    return clock, queue, stats, OverloadWarning(queue, clock, stats, 25.0, calls)  # type: ignore[arg-type]


async def test_it_says_how_many_are_lost_and_what_helps() -> None:
    _, __, ___, warning = rig(1000)
    with capture_logs() as logs:
        await warning.look()
    [line] = logs
    assert line["event"] == "overload"
    assert "750 of 1,000" in line["cause"]
    for cure in ("access tokens", "worker.feed", "--input -", "AuthSessionValidity"):
        assert cure in line["cure"]


async def test_where_a_user_costs_more_calls_fewer_users_are_served() -> None:
    _, __, ___, warning = rig(1000, calls=2)
    with capture_logs() as logs:
        await warning.look()
    said = "at 25 calls/s, 2 calls a user: 12.5 users/s about 875 of 1,000 requests expire before their turn"
    assert logs[0]["cause"] == said


async def test_a_ticket_that_expired_counts_once() -> None:
    _, __, stats, warning = rig(10, are_all=False)
    for _ in range(30):
        stats.settled(State.NEEDS_SESSION, Reason.CREDENTIAL_EXPIRED)
    with capture_logs() as logs:
        await warning.look()
    assert "30 of 40" in logs[0]["cause"]


async def test_it_is_said_again_only_when_it_has_grown_much() -> None:
    """That fewer are to be lost, because the others have died as was said, is no news."""
    _, queue, __, warning = rig(1000)
    said = []
    for number in (1000, 1100, 900, 1900, 1900, 400, 100, 100):
        queue.number = number
        with capture_logs() as logs:
            await warning.look()
        said.append(logs[0]["event"] if logs else None)
    assert said == ["overload", None, None, "overload", None, None, "overload_over", None]


@pytest.mark.parametrize("number", [0, 250, 252])
async def test_a_queue_that_can_be_served_is_no_overload(number: int) -> None:
    _, __, ___, warning = rig(number)
    with capture_logs() as logs:
        await warning.look()
    assert logs == []


async def test_a_queue_that_tells_only_of_some_adds_what_expired_meanwhile() -> None:
    _, __, stats, warning = rig(10, are_all=False)
    for _ in range(30):
        stats.settled(State.NEEDS_SESSION, Reason.SESSION_EXPIRED)
    with capture_logs() as logs:
        await warning.look()
        await warning.look()
    assert [line["event"] for line in logs] == ["overload", "overload_over"]
    assert "30 of 40" in logs[0]["cause"]


def test_a_queue_that_is_away_is_looked_at_again_later() -> None:
    clock, queue, _, warning = rig(1000)
    queue.is_away = True

    async def main() -> None:
        task = asyncio.create_task(warning.run())
        await asyncio.sleep(FIRST_LOOK + 0.1)
        queue.is_away = False
        with capture_logs() as logs:
            await asyncio.sleep(2.5 * LOOK_EVERY)
        assert [line["event"] for line in logs] == ["overload"]
        assert queue.looks == 3
        task.cancel()

    clock.run(main())
