"""The mark raises no alarm whatever kills the workers; and whatever copy of the ledger is restored, nobody is stale."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import product

import pytest

from tests.simulation.scenario import Disturbance, Fault, Message, Scenario, Wrong, random_scenario
from tests.simulation.story import check
from tests.simulation.test_every_crash_point import EVERY_ROLLOUT, each_with, steps_of
from worker.core.model import State

TOKEN, SESSION = Message("ann", token=True), Message("ann")

REPLACED = {
    "a token is replaced": Scenario((TOKEN, replace(TOKEN, replace=True, arrives=9.0))),
    "a session is replaced": Scenario((SESSION, replace(SESSION, replace=True, arrives=9.0))),
    "the replies to a replacement are lost": Scenario(
        (TOKEN, replace(TOKEN, replace=True, arrives=9.0)),
        faults=(Fault("associate", 2, Wrong.TIMED_OUT, 5),),
        rounds=0,
    ),
    "the reply to a replaced session is lost": Scenario(
        (SESSION, replace(SESSION, replace=True, arrives=9.0)),
        faults=(Fault("associate", 2, Wrong.LOST_REPLY),),
        rounds=0,
    ),
    "a replacement is delivered too late": Scenario(
        (SESSION, replace(SESSION, replace=True, arrives=9.0, life=200.0)),
        faults=(Fault("deliver", 2, Wrong.UNAVAILABLE, 60),),
        rounds=0,
    ),
    "a replacement is refused": Scenario(
        (TOKEN, replace(TOKEN, replace=True, arrives=9.0)), faults=(Fault("associate", 2, Wrong.INVALID),)
    ),
    "a lost replacement and a new sign-in": Scenario(
        (TOKEN, replace(TOKEN, replace=True, arrives=9.0)), faults=(Fault("associate", 2, Wrong.TIMED_OUT, 5),)
    ),
    "two workers": Scenario(
        (TOKEN, Message("bob"), replace(TOKEN, replace=True, arrives=9.0), Message("bob", replace=True, arrives=9.0)),
        workers=2,
    ),
}
EVERY_REPLACEMENT = pytest.mark.parametrize("rollout", REPLACED.values(), ids=REPLACED)


@EVERY_ROLLOUT
def test_a_kill_at_any_step_raises_no_alarm(rollout: Scenario) -> None:
    rollout = replace(rollout, marked=True)
    each_with(rollout, (Disturbance(step, "kill") for step in range(1, steps_of(rollout) + 1)))


@EVERY_ROLLOUT
def test_a_pause_at_any_step_beside_another_worker_raises_no_alarm(rollout: Scenario) -> None:
    rollout = replace(rollout, marked=True, workers=2)
    each_with(rollout, (Disturbance(step, "pause", 45.0) for step in range(1, min(steps_of(rollout), 60) + 1)))


@EVERY_REPLACEMENT
def test_whatever_copy_is_restored_at_whatever_step_nobody_is_stale(rollout: Scenario) -> None:
    rollout = replace(rollout, marked=True)
    every = max(1, steps_of(rollout) // 60)
    for step, back in product(range(1, steps_of(rollout) + 1, every), (1, 2, 4, 7)):
        purge = (step + back) % 2 == 0
        check(replace(rollout, disturbances=(Disturbance(step, "restore", back=back, purge=purge),)))


@EVERY_REPLACEMENT
def test_the_same_after_a_kill_soon_before(rollout: Scenario) -> None:
    rollout = replace(rollout, marked=True)
    every = max(2, steps_of(rollout) // 30)
    for step, back in product(range(1, steps_of(rollout) + 1, every), (1, 3, 6)):
        lost = Disturbance(step + back + 2, "restore", back=back, purge=True)
        check(replace(rollout, disturbances=(Disturbance(step, "kill"), lost)))


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_whatever_else_goes_wrong_nobody_is_stale_after_a_restore(first: int) -> None:
    for seed in range(first, first + 50):
        dice = random.Random(f"restore {seed}")
        scenario = replace(random_scenario(seed), marked=True)
        lost = Disturbance(dice.randint(5, 150), "restore", back=dice.choice((1, 2, 3, 5, 9, 20, 60)))
        check(replace(scenario, disturbances=(*scenario.disturbances, lost)))


def test_who_was_not_being_replaced_is_not_in_doubt() -> None:
    others = tuple(Message(f"u{number}", token=True) for number in range(4))
    scenario = replace(
        REPLACED["the replies to a replacement are lost"],
        messages=(*others, TOKEN, replace(TOKEN, replace=True, arrives=9.0)),
        faults=(Fault("associate", len(others) + 2, Wrong.TIMED_OUT, 5),),
        marked=True,
    )

    world = check(replace(scenario, disturbances=(Disturbance(steps_of(scenario), "restore", back=9),)))

    assert world.was_restored
    assert world.ledger.rows["ann"].state is State.NEEDS_SESSION
    assert {world.ledger.rows[message.user].state for message in others} == {State.DELIVERED}
