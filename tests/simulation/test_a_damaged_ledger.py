"""Whatever is damaged in the ledger, at whatever step: nobody gets what was not sealed, and nobody is stale."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.simulation.scenario import Disturbance, Scenario, random_scenario
from tests.simulation.story import check
from tests.simulation.test_an_older_ledger import EVERY_REPLACEMENT
from tests.simulation.test_every_crash_point import EVERY_ROLLOUT, each_with, steps_of


@EVERY_ROLLOUT
def test_what_is_sealed_may_be_damaged_at_any_step(rollout: Scenario) -> None:
    steps = steps_of(rollout)
    each_with(rollout, (Disturbance(step, "damage") for step in range(1, steps + 1, max(2, steps // 8))))


@EVERY_REPLACEMENT
def test_a_row_may_be_damaged_at_any_step(rollout: Scenario) -> None:
    rollout, steps = replace(rollout, marked=True), steps_of(rollout)
    for step in range(1, steps + 1, max(2, steps // 6)):
        check(replace(rollout, disturbances=(Disturbance(step, "rot"),)))


@pytest.mark.parametrize("first", [0, 20])
def test_whatever_else_goes_wrong(first: int) -> None:
    for seed in range(first, first + 20):
        dice = random.Random(f"damage {seed}")
        scenario = replace(random_scenario(seed), marked=True)
        what = (Disturbance(dice.randint(5, 150), dice.choice(("rot", "damage"))) for _ in range(2))
        check(replace(scenario, disturbances=(*scenario.disturbances, *what)))
