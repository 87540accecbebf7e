"""The endpoint's time is known before anything is judged: how often it is asked, and what follows from each answer."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from tests.support.virtual_time import VirtualTime
from worker.core.clock import EndpointClock
from worker.core.errors import EndpointUnavailable, ExitCode, PersonMustAct
from worker.core.ports import TimeAnswer
from worker.core.stats import RunStats
from worker.engine.endpoint_time import EndpointTime, ask
from worker.engine.shutdown import Shutdown

AWAY, TIMELESS = TimeAnswer(told=False, trouble="Connection refused"), TimeAnswer(told=False)


class Endpoint:
    """Answers as a test says, in turn: a number is how far its clock is ahead. The last answer is given for ever."""

    def __init__(self, virtual: VirtualTime, *answers: float | TimeAnswer) -> None:
        self.virtual = virtual
        self.clock = EndpointClock(virtual)
        self.asked = 0
        self._answers = answers

    async def ask_time(self) -> TimeAnswer:
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        await asyncio.sleep(0.01)
        if isinstance(answer, TimeAnswer):
            return answer
        self.clock.heard(float(int(self.virtual.utc() + answer)), 0.01)
        return TimeAnswer(told=True)


class Bench:
    """What a run learns, and how it ends."""

    def __init__(self, virtual: VirtualTime, *answers: float | TimeAnswer) -> None:
        self.virtual = virtual
        self.endpoint = Endpoint(virtual, *answers)
        self.shutdown, self.stats = Shutdown(), RunStats(virtual)
        self.time = EndpointTime(self.endpoint, self.endpoint.clock, self.stats, self.shutdown, patience=60.0)
        with structlog.testing.capture_logs() as self.logged:
            virtual.run(self.time.learn())


@pytest.mark.parametrize(("ahead", "asked"), [(0.0, 1), (40.0, 3), (-40.0, 3)])
def test_one_question_is_enough_for_a_clock_that_is_right_and_three_for_one_that_is_not(
    virtual: VirtualTime, ahead: float, asked: int
) -> None:
    bench = Bench(virtual, ahead)
    assert bench.time.known
    assert bench.endpoint.asked == asked
    assert bench.endpoint.clock.skew == pytest.approx(ahead, abs=1.1)
    assert bench.shutdown.reason is None
    assert bench.logged == []


@pytest.mark.parametrize("ahead", [-62.0, 62.0, 7_200.0])
def test_more_than_a_minute_ends_the_run_before_anything_is_known(virtual: VirtualTime, ahead: float) -> None:
    bench = Bench(virtual, ahead)
    assert isinstance(bench.shutdown.reason, PersonMustAct)
    assert not bench.time.known


def test_an_endpoint_that_names_no_time_is_said_once_and_our_clock_counts(virtual: VirtualTime) -> None:
    bench = Bench(virtual, TIMELESS)
    assert bench.time.known
    assert [line["event"] for line in bench.logged] == ["endpoint_told_no_time"]


def test_answers_that_never_agree_count_as_none(virtual: VirtualTime) -> None:
    bench = Bench(virtual, *(3_600.0, -3_600.0, 300.0) * 3)
    assert bench.time.known
    assert bench.endpoint.clock.skew is None
    assert [line["event"] for line in bench.logged] == ["endpoint_told_no_time"]


def test_an_endpoint_that_is_away_for_a_while_is_asked_again_and_nothing_is_known_meanwhile(
    virtual: VirtualTime,
) -> None:
    bench = Bench(virtual, *[AWAY] * 5, 0.0)
    assert bench.time.known
    assert 5.0 < virtual.now < 60.0
    assert bench.stats.waiting_for == ""


def test_an_endpoint_that_stays_away_ends_the_run_when_patience_is_over(virtual: VirtualTime) -> None:
    bench = Bench(virtual, AWAY)
    assert isinstance(bench.shutdown.reason, EndpointUnavailable)
    assert bench.shutdown.reason.exit_code is ExitCode.DEPENDENCY_UNAVAILABLE
    assert 60.0 <= virtual.now < 75.0
    assert "Connection refused" in bench.stats.waiting_for
    assert not bench.time.known


def test_a_bug_while_asking_ends_the_run_and_does_not_hang_it(virtual: VirtualTime) -> None:
    class Broken(Endpoint):
        async def ask_time(self) -> TimeAnswer:
            raise ZeroDivisionError

    endpoint, shutdown, stats = Broken(virtual), Shutdown(), RunStats(virtual)
    learning = EndpointTime(endpoint, endpoint.clock, stats, shutdown, patience=60.0)
    with structlog.testing.capture_logs():
        virtual.run(learning.learn())
    assert shutdown.reason is not None
    assert stats.bugs == 1


def test_whoever_does_not_wait_asks_once(virtual: VirtualTime) -> None:
    endpoint = Endpoint(virtual, AWAY)
    assert virtual.run(ask(endpoint, endpoint.clock)) == AWAY
    assert endpoint.asked == 1
