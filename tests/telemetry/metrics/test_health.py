"""``/healthz`` and ``/readyz``: a worker that waits is alive and not ready, and only one that hangs is dead."""

from __future__ import annotations

import pytest

from worker.core.model import State
from worker.core.stats import RunStats
from worker.telemetry.metrics.health import RESERVE, alive, not_ready, stuck
from worker.telemetry.metrics.watched import Dependency, Watched


class Time:
    now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def utc(self) -> float:
        return self.now


class Loop:
    under_way = 2
    knows_time = True
    waiting_for: str | None = None


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def run(time: Time) -> Watched:
    return Watched(RunStats(time), watchdog=300.0, ending_takes=30.0, work=Loop())


def test_a_worker_that_works_is_alive_and_ready(run: Watched) -> None:
    assert (stuck(run), not_ready(run), alive(run)) == (None, None, "ok: working")


def test_one_with_nothing_to_do_is_both_too(run: Watched) -> None:
    run.work = Loop()
    run.work.under_way = 0
    assert (stuck(run), not_ready(run), alive(run)) == (None, None, "ok: nothing to do")


@pytest.mark.parametrize(
    "text",
    [
        "Cognito's endpoint to answer (ClientConnectorError)",
        "Cognito to stop refusing everybody (WAF)",
        "the ledger: away",
        "the channel: full",
    ],
)
def test_one_that_waits_for_something_outside_is_alive_for_as_long_as_it_may_wait(
    run: Watched, time: Time, text: str
) -> None:
    loop = Loop()
    loop.waiting_for = text
    run.work = loop
    time.now += 299

    assert stuck(run) is None
    assert alive(run).startswith("ok: waiting for ")
    assert str(not_ready(run)).startswith("waiting for ")


def test_what_the_reason_says_is_no_text_of_an_error_which_may_name_files_or_users(run: Watched) -> None:
    loop = Loop()
    loop.waiting_for = "the channel: mfa/ana@example.org/1.age cannot be written"
    run.work = loop
    assert not_ready(run) == "waiting for the channel"


def test_it_is_not_ready_before_the_time_is_known_or_while_a_store_cannot_be_read(run: Watched) -> None:
    run.unreadable = Dependency.QUEUE
    assert not_ready(run) == "waiting for the queue"
    loop = Loop()
    loop.knows_time = False
    run.work = loop
    assert not_ready(run) == "waiting for Cognito's endpoint to answer"


def test_it_is_alive_and_not_ready_while_it_opens_ends_and_counts(run: Watched) -> None:
    run.work = None
    assert not_ready(run) == "opening ledger, queue and channel"
    run.has_worked = True
    assert not_ready(run) == "counting, then ending"
    run.ending = lambda: 4
    assert not_ready(run) == "draining after a signal"
    run.ending = lambda: 75
    assert not_ready(run) == "ending with exit code 75: see its log"
    assert stuck(run) is None


def test_a_long_count_at_the_end_is_no_reason_to_kill_it(run: Watched, time: Time) -> None:
    run.work, run.has_worked = None, True
    time.now += 100_000
    assert stuck(run) is None


def test_it_is_stuck_only_once_the_run_should_have_ended_by_itself(run: Watched, time: Time) -> None:
    time.now += 300 + 30 + RESERVE
    assert stuck(run) is None
    time.now += 1
    assert str(stuck(run)).startswith("stuck: 2 users under way, nothing moved for 391 s")
    run.stats.settled(State.DELIVERED)
    assert stuck(run) is None
