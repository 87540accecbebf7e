"""More requests than the pace can save: the turns go to those who still can be, and no turn passes unused.

Figures in virtual time; ``tests/benchmarks/overload.py`` measures the same against a server.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.simulation.scenario import Disturbance, Message, Scenario
from tests.simulation.story import check
from tests.simulation.world import World
from worker.core.model import Reason, State

REQUESTS_PER_SECOND = 5.0
"""Of each simulated worker."""
START = 0.5
"""Seconds that a simulated worker takes to its first call, at most."""


def overload(lives: list[float], *, seed: int = 0, workers: int = 1) -> Scenario:
    """A request for each life, all on the queue at the start; nobody signs in again."""
    messages = tuple(Message(f"u{number}", token=number % 2 == 0, life=life) for number, life in enumerate(lives))
    return Scenario(messages, rounds=0, is_quick=True, seed=seed, workers=workers)


def mixed(number: int, oldest: float, validity: float, seed: int = 0) -> list[float]:
    """Lives of credentials of mixed ages; those of negative life are dead."""
    dice = random.Random(seed)
    return [validity - dice.uniform(0, oldest) for _ in range(number)]


def best(lives: list[float], workers: int = 1) -> int:
    """How many any order could call for: the earliest deadline first, whoever cannot be reached left out."""
    called = 0
    for life in sorted(lives):
        called += life - START > called / (workers * REQUESTS_PER_SECOND)
    return called


def saved(world: World) -> int:
    return sum(row.state is State.DELIVERED for row in world.ledger.rows.values())


@pytest.mark.parametrize("seed", range(3))
def test_nearly_as_many_are_saved_as_any_order_could(seed: int) -> None:
    """Each lost turn of these few counts for more than one of a server's, and simulated latencies jump."""
    lives = mixed(150, oldest=18.0, validity=16.0, seed=seed)
    world = check(overload(lives, seed=seed))
    assert saved(world) >= 0.85 * best(lives)
    assert {row.reason for row in world.ledger.rows.values()} == {None, Reason.SESSION_EXPIRED, Reason.TOKEN_EXPIRED}


def test_two_workers_save_together_what_twice_the_pace_could() -> None:
    lives = mixed(240, oldest=14.0, validity=12.0)
    world = check(overload(lives, workers=2))
    assert saved(world) >= 0.8 * best(lives, workers=2)


def test_the_dead_are_never_in_the_way_of_a_call() -> None:
    world = check(overload([*[-5.0] * 200, *[10_000.0] * 10]))
    first = min(call.sent_at for user in world.users.values() for call in user.calls)
    last = max(call.sent_at for user in world.users.values() for call in user.calls)
    assert first <= START
    assert last <= START + 10 / REQUESTS_PER_SECOND + 1.0
    assert saved(world) == 10


def test_nobody_is_concluded_as_expired_before_the_credential_is_dead() -> None:
    lives = mixed(100, oldest=12.0, validity=10.0)
    world = check(overload(lives))
    for user in world.users.values():
        for write in user.writes:
            if write.row.reason in (Reason.SESSION_EXPIRED, Reason.TOKEN_EXPIRED):
                life = lives[int(write.row.username[1:])]
                assert write.at >= life


def test_who_has_a_request_that_lives_is_not_concluded_by_one_that_is_dead() -> None:
    dead_and_alive = (Message("ana", life=-1.0), Message("ana", token=True, life=10_000.0))
    world = check(Scenario((*dead_and_alive, *(Message(f"u{number}") for number in range(20))), rounds=0))
    assert world.ledger.rows["ana"].state is State.DELIVERED
    assert not any(write.row.reason for write in world.users["ana"].writes)


def test_after_a_long_pause_those_who_would_be_too_late_by_it_are_called_while_turns_are_free() -> None:
    """A worker was suspended while a request waited for its turn, so everybody seems to take that long."""
    messages = (*(Message(f"u{number}") for number in range(4)), Message("bob", arrives=400.6, life=411.0))
    for step in range(4, 30):
        world = check(Scenario(messages, disturbances=(Disturbance(step, "pause", 400.0),), rounds=0, is_quick=True))
        assert world.ledger.rows["bob"].state is State.DELIVERED, step


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_in_an_overload_every_invariant_holds(seed: int) -> None:
    dice = random.Random(f"overload {seed}")
    lives = mixed(60, oldest=25.0, validity=20.0, seed=seed)
    what = dice.choice(("kill", "pause", "stop", "hurry"))
    disturbance = Disturbance(dice.randint(1, 300), what, 30.0)  # type: ignore[arg-type]
    scenario = replace(overload(lives, seed=seed), workers=dice.choice((1, 2)), deaths_known=dice.random() < 0.5)
    check(replace(scenario, disturbances=(disturbance,), rounds=1))
