"""One user with very many requests: one call, bulk for the rest, and nobody who could still be saved is missed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation.scenario import Fault, Message, Scenario, Wrong
from tests.simulation.story import check
from tests.simulation.world import World
from worker.core.model import Reason, State

TOKEN = Message("ann", token=True)
DEAD = replace(TOKEN, life=0.5)
MANY = 60
AT_ONCE_OR_NOT = pytest.mark.parametrize("one_at_a_time", [True, False], ids=["embedded", "in any order"])


def ledger_operations(world: World) -> int:
    return sum(what.partition("] ")[2].startswith(("put ", "read ")) and "…" in what for _, _, what in world.story)


@AT_ONCE_OR_NOT
@pytest.mark.parametrize("workers", [1, 2])
def test_the_duplicates_of_a_done_user_are_acknowledged_in_bulk(workers: int, one_at_a_time: bool) -> None:
    few, many = [
        check(Scenario((TOKEN,) * number, workers=workers, one_at_a_time=one_at_a_time, rounds=0))
        for number in (2, MANY)
    ]
    for world, number in ((few, 2), (many, MANY)):
        assert world.ledger.rows["ann"].state is State.DELIVERED
        assert len(world.users["ann"].issued) == 1
        assert world.ledger.duplicates == number - 1
    assert ledger_operations(many) <= ledger_operations(few) + 6


@pytest.mark.parametrize("seed", range(3))
def test_a_user_whom_another_worker_holds_is_not_asked_for_with_every_message(seed: int) -> None:
    """Where the queue gives the user's messages to both workers, and the call takes a while."""
    throttled = (Fault("associate", 1, Wrong.THROTTLED, 3),)
    world = check(Scenario((TOKEN,) * 200, workers=2, one_at_a_time=False, faults=throttled, rounds=0, seed=seed))
    assert len(world.users["ann"].issued) == 1
    assert ledger_operations(world) <= 16


@AT_ONCE_OR_NOT
def test_dead_requests_of_a_user_take_one_write(one_at_a_time: bool) -> None:
    world = check(Scenario((DEAD,) * MANY, one_at_a_time=one_at_a_time, rounds=0))
    row = world.ledger.rows["ann"]
    assert (row.state, row.reason) == (State.NEEDS_SESSION, Reason.TOKEN_EXPIRED)
    assert len(world.users["ann"].writes) == 1
    assert len(row.settled.newest) == 1
    assert world.ledger.duplicates == MANY - 1


@AT_ONCE_OR_NOT
def test_among_many_dead_requests_the_one_that_lives_is_tried(one_at_a_time: bool) -> None:
    world = check(Scenario((*(DEAD,) * MANY, TOKEN), one_at_a_time=one_at_a_time, rounds=0))
    assert world.ledger.rows["ann"].state is State.DELIVERED
    assert len(world.users["ann"].calls) == 1


def test_every_replacement_is_honoured_once_however_many_there_are() -> None:
    again = replace(TOKEN, replace=True, again=20.0)
    world = check(Scenario((TOKEN, *(again,) * 8), rounds=0))
    assert len(world.users["ann"].issued) == 9
    assert world.ledger.duplicates == 8


def test_whoever_waits_for_another_of_their_own_requests_does_not_wait_longer() -> None:
    """A second credential is tried as soon as the first one has failed, and not after a pause."""
    world = check(Scenario((DEAD, TOKEN), rounds=0))
    [call] = world.users["ann"].calls
    assert call.sent_at < 2.0


@AT_ONCE_OR_NOT
def test_many_requests_that_each_take_a_call_leave_the_turns_to_others_while_they_wait(one_at_a_time: bool) -> None:
    theirs = (replace(TOKEN, life=5_000.0),) + (replace(TOKEN, life=5_000.0, replace=True),) * 15
    others = tuple(Message(f"u{number}", token=True) for number in range(30))
    world = check(Scenario((*theirs, *others), rate=5.0, one_at_a_time=one_at_a_time, rounds=0))
    last_other = max(world.users[message.user].calls[-1].sent_at for message in others)
    calls = [call.sent_at for call in world.users["ann"].calls]
    assert len(calls) == len(theirs)
    assert sum(sent_at < last_other for sent_at in calls) <= 5
    assert calls[-1] < last_other + 40.0, "and then nothing holds them up"
