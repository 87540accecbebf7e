"""What ``status`` says to people: a table that adds up, by whom and how fast it is done, and what is left to do."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from worker.core.model import Counts, State
from worker.core.ports import Backlog, WaitingUsers, Workers
from worker.telemetry import standing
from worker.telemetry.look import Look, Looks
from worker.telemetry.snapshot import Plan
from worker.telemetry.standing import Standing

PLAN = Plan(quota=25.0, users_per_second=25.0)
NOBODY, ONE = Workers(0, are_exact=True), Workers(1, are_exact=True)
COUNTS = Counts(
    {State.DELIVERED: 540, State.NEEDS_SESSION: 49, State.IN_PROGRESS: 12}, {"session_expired": 49}, unrequested=905
)
LOOK = Look(
    100.0,
    COUNTS,
    Backlog(914),
    WaitingUsers(914, new=898, unfinished=6, again=3, done=2, on_roster=898),
    NOBODY,
)


def stands(*looks: Look, plan: Plan = PLAN) -> Standing:
    found = Looks()
    for look in looks:
        found.add(look)
    return Standing(found, plan, 100.0)


def text(*looks: Look, plan: Plan = PLAN) -> str:
    return "\n".join(" ".join(line.split()) for line in standing.lines(stands(*looks, plan=plan)))


def later(look: Look, finished: int = 50) -> Look:
    """Two seconds later, so many were delivered more."""
    states = {**look.counts.states, State.DELIVERED: 540 + finished}
    waiting = look.waiting and replace(look.waiting, messages=914 - finished, new=898 - finished)
    return replace(
        look,
        at=look.at + 2,
        counts=replace(look.counts, states=states),
        backlog=Backlog(look.backlog.waiting - finished),
        waiting=waiting,
    )


def test_nobody_is_counted_twice_and_the_table_adds_up() -> None:
    said = text(LOOK)
    assert re.fullmatch(r"needs? a new sign-in 49", said.splitlines()[1])
    assert "delivered 540\n" in said
    assert (
        "in progress 12\n= users in the ledger 601\n+ waiting, not begun 898\n= users in all 1,499\n"
        "requests that wait 914 among them those of 6 users in progress, 3 users tried again, 2 users served already, "
        "5 more for the same users\n"
    ) in said


def test_where_no_worker_runs_it_says_so_and_how_to_begin_one() -> None:
    said = text(LOOK)
    assert "no worker runs; 37 s left at 25 calls/s" in said
    assert "→ work is left, run again: mfa-worker run" in said


def test_while_workers_run_it_says_how_fast_they_are_and_when_it_ends_and_not_to_run_again() -> None:
    running = replace(LOOK, workers=Workers(2, are_exact=True), allowed=25.0)
    said = text(running, later(running))
    assert "2 workers: 25.0 users/s; quota 25 calls/s" in said
    assert " left, ends about " in said
    assert "run again" not in said


def test_a_worker_that_is_slowed_down_and_one_that_brings_nothing_about() -> None:
    slow = replace(LOOK, workers=ONE, allowed=12.5)
    assert "slowed down to 12.5, as Cognito throttles" in text(slow)
    quiet = [replace(LOOK, workers=ONE, at=100.0 + second) for second in range(0, 61, 2)]
    assert "an outcome: nobody was finished for 60 s; the log of the workers says why" in text(*quiet)


def test_whoever_waits_on_the_queue_was_requested() -> None:
    assert "never requested 7 on the roster, and no request waits for them" in text(LOOK)
    everybody = replace(LOOK, counts=replace(COUNTS, unrequested=898))
    assert "requested" not in text(everybody)
    elsewhere = replace(LOOK, waiting=None)
    assert "on the roster, no row yet 905 their requests may wait on the queue" in text(elsewhere)


def test_sqs_tells_requests_and_no_users() -> None:
    said = text(replace(LOOK, waiting=None, workers=Workers(0, are_exact=False)))
    assert "requests that wait 914 about; those of users in the ledger are among them" in said
    assert "users in all" not in said
    assert "no worker is to be seen; 37 s left at 25 calls/s" in said


def test_that_the_queue_is_watched_at_the_end_is_part_of_the_time() -> None:
    assert "97 s left" in text(replace(LOOK, waiting=None), plan=replace(PLAN, empty_after=60.0))


def test_where_nothing_is_left_nothing_is_said_of_it() -> None:
    done = replace(LOOK, counts=Counts({State.DELIVERED: 5}, {}), backlog=Backlog(0), waiting=WaitingUsers(0, 0, 0))
    assert text(done) == (
        "delivered 5\n= users in the ledger 5\n"
        "→ hand out the secrets, where the key is: mfa-worker open -i KEYFILE --letters letters.pdf"
    )


def test_what_is_listed_below_is_no_step_to_do() -> None:
    stood = stands(replace(LOOK, counts=replace(LOOK.counts, malformed=2)))
    assert any("status --malformed" in line for line in standing.lines(stood))
    assert not any("status --malformed" in line for line in standing.lines(stood, lists_malformed=True))


@pytest.mark.parametrize("trouble", ["", "the ledger is away (since 08:00:00)"])
def test_a_watcher_gets_the_same_as_a_picture_a_line_or_json(trouble: str) -> None:
    running = replace(LOOK, workers=ONE, allowed=25.0)
    found = stands(running, later(running))
    snapshot, line, said = found.snapshot(trouble), standing.line(found, trouble), standing.as_json(found, trouble)
    assert (snapshot.done, snapshot.total) == (636, 1_499)
    assert "636 of 1,499 users" in line
    assert "25.0 users/s, 1 worker" in line
    assert (said["users_done"], said["users_left"], said["users_per_second"], said["workers"]) == (636, 863, 25.0, 1)
    assert said["accepted"] == 651
    if trouble:
        assert snapshot.seconds_left is said["seconds_left"] is None
        assert snapshot.is_trouble
        assert line.endswith("; waits for the ledger is away (since 08:00:00)")
    else:
        assert said["seconds_left"] == pytest.approx(35, abs=1)


def test_after_one_look_a_watcher_is_told_no_speed() -> None:
    running = replace(LOOK, workers=ONE)
    assert "users/s" not in standing.line(stands(running))
    assert standing.as_json(stands(running))["users_per_second"] is None
    assert standing.as_json(stands(running, later(running)))["users_per_second"] == 25.0


def test_before_there_is_a_ledger_a_watcher_sees_what_is_waited_for() -> None:
    assert standing.waiting("a ledger").waits == ("a ledger",)
