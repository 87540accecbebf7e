"""Rollouts in which some users are always refused or throttled, and the workers are killed, paused and doubled."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.simulation.scenario import Disturbance, Fault, Message, Scenario, Wrong
from tests.simulation.story import check
from worker.core.model import Reason, State

OTHERS = tuple(Message(f"u{number}", token=True, arrives=1.5 * number) for number in range(12))
REFUSED = Scenario((Message("bad", token=True), *OTHERS), refused=("bad",), rounds=0)
TWO_REFUSED = Scenario(
    (Message("bad", token=True, arrives=4.0), Message("evil", token=True, arrives=6.0), *OTHERS),
    refused=("bad", "evil"),
    rounds=0,
)
THROTTLED = replace(REFUSED, refused=(), throttled=("bad",))


@pytest.mark.parametrize(
    ("scenario", "reason"),
    [(REFUSED, Reason.REFUSED), (TWO_REFUSED, Reason.REFUSED), (THROTTLED, Reason.THROTTLED_ALONE)],
    ids=["one refused", "two refused", "one throttled"],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_undisturbed_they_alone_are_left_out_and_each_with_its_reason(
    scenario: Scenario, reason: Reason, workers: int
) -> None:
    world = check(replace(scenario, workers=workers))
    bad = {*scenario.refused, *scenario.throttled}
    rows = world.ledger.rows
    assert {name for name, row in rows.items() if row.state is State.DELIVERED} == rows.keys() - bad
    assert {(rows[name].state, rows[name].reason) for name in bad} == {(State.FAILED, reason)}
    assert all(rows[name].detail for name in bad)


def test_where_nobody_else_is_left_from_the_start_it_is_the_pool_and_nobody_is_blamed() -> None:
    world = check(Scenario(tuple(Message(f"u{n}", token=True) for n in range(4)), refused=("u0", "u1", "u2", "u3")))
    assert world.always_wrong == {}, "a worker stopped for a person"
    assert {row.state for row in world.ledger.rows.values()} == {State.DELIVERED}


@pytest.mark.parametrize("scenario", [REFUSED, THROTTLED], ids=["refused", "throttled"])
def test_a_worker_may_be_killed_at_any_of_its_steps(scenario: Scenario) -> None:
    for step in range(1, 150, 4):
        check(replace(scenario, disturbances=(Disturbance(step, "kill"),)))


def test_whatever_else_goes_wrong_everybody_has_an_outcome_and_nobody_is_blamed_for_the_pool() -> None:
    for seed in range(60):
        dice = random.Random(seed)
        bad = dice.choice((REFUSED, TWO_REFUSED, THROTTLED))
        faults = tuple(
            Fault("associate", dice.randint(1, 20), wrong, dice.choice((1, 2, 5, 8)))
            for wrong in dice.sample((Wrong.FORBIDDEN, Wrong.THROTTLED, Wrong.TIMED_OUT, Wrong.INTERNAL), 2)
        )
        disturbances = tuple(
            Disturbance(dice.randint(1, 150), dice.choice(("kill", "pause", "stop")), 45.0) for _ in range(2)
        )
        check(
            replace(bad, workers=dice.choice((1, 2)), faults=faults, disturbances=disturbances, rounds=1, seed=seed),
            f"seed {seed}",
        )
