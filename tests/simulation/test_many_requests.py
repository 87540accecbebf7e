"""One user with very many requests: one call, bulk for the rest, and nobody who could still be saved is missed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation.scenario import Message, Scenario
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
    if one_at_a_time or workers == 1:
        assert ledger_operations(many) <= ledger_operations(few) + 6


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
