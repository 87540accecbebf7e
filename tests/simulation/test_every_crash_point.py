"""Small rollouts whose worker is killed at every single step there is, and killed again soon after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from tests.simulation.scenario import Disturbance, Fault, Message, Scenario, Wrong
from tests.simulation.story import check
from tests.simulation.world import World
from worker.core.model import State

SESSION, TOKEN = Message("ann"), Message("bob", token=True)

ROLLOUTS = {
    "a session and a token": Scenario((SESSION, TOKEN)),
    "a token is replaced": Scenario((TOKEN, replace(TOKEN, replace=True))),
    "a session is replaced": Scenario((SESSION, replace(SESSION, replace=True, arrives=9.0))),
    "a message arrives three times": Scenario((replace(TOKEN, copies=3), replace(SESSION, again=3.0))),
    "two credentials for one user": Scenario((SESSION, replace(SESSION, life=500.0), TOKEN)),
    "a session expired before": Scenario((replace(SESSION, life=0.5), TOKEN)),
    "a session expires soon": Scenario((replace(SESSION, life=8.0), TOKEN)),
    "a lost reply to a session": Scenario((SESSION, TOKEN), faults=(Fault("associate", 1, Wrong.LOST_REPLY),)),
    "a lost reply to a token": Scenario((TOKEN,), faults=(Fault("associate", 1, Wrong.TIMED_OUT),)),
    "a lost reply to a replacement": Scenario(
        (TOKEN, replace(TOKEN, replace=True)), faults=(Fault("associate", 2, Wrong.RESET),)
    ),
    "a lost request": Scenario((SESSION, TOKEN), faults=(Fault("associate", 1, Wrong.LOST, 2),)),
    "a failing channel": Scenario((SESSION, TOKEN), faults=(Fault("deliver", 1, Wrong.UNAVAILABLE, 4),)),
    "a channel that does not confirm": Scenario(
        (SESSION, TOKEN), faults=(Fault("deliver", 1, Wrong.UNAVAILABLE_DONE, 2),)
    ),
    "a ledger that does not confirm": Scenario((SESSION, TOKEN), faults=(Fault("put", 2, Wrong.UNAVAILABLE_DONE, 3),)),
    "a ledger that is away": Scenario((SESSION, TOKEN), faults=(Fault("put", 3, Wrong.UNAVAILABLE, 3),)),
    "conflicts, throttling, errors": Scenario(
        (SESSION, TOKEN, Message("cat", token=True)),
        faults=(
            Fault("associate", 1, Wrong.CONFLICT),
            Fault("associate", 2, Wrong.THROTTLED),
            Fault("associate", 3, Wrong.INTERNAL_DONE),
            Fault("associate", 4, Wrong.FORBIDDEN),
        ),
    ),
    "many requests of one user": Scenario(
        (
            *[replace(TOKEN, life=0.5)] * 3,
            *[replace(TOKEN, again=9.0)] * 3,
            *[replace(TOKEN, replace=True, again=9.0)] * 2,
            replace(TOKEN, arrives=4.0),
        )
    ),
    "two workers": Scenario(
        (SESSION, TOKEN, Message("cat"), Message("dan", token=True)), workers=2, skews=(30.0, -30.0)
    ),
}
EVERY_ROLLOUT = pytest.mark.parametrize("rollout", ROLLOUTS.values(), ids=ROLLOUTS)
DEATHS_KNOWN = pytest.mark.parametrize("deaths_known", [True, False], ids=["deaths known", "deaths unknown"])


def steps_of(scenario: Scenario) -> int:
    world = World(scenario)
    world.run()
    return world.steps


def each_with(scenario: Scenario, first: Iterable[Disturbance], *others: Disturbance) -> None:
    for disturbance in first:
        check(replace(scenario, disturbances=(disturbance, *others)))


@EVERY_ROLLOUT
@DEATHS_KNOWN
def test_a_worker_may_be_killed_at_every_step(rollout: Scenario, deaths_known: bool) -> None:
    rollout = replace(rollout, deaths_known=deaths_known)
    each_with(rollout, (Disturbance(step, "kill") for step in range(1, steps_of(rollout) + 1)))


@EVERY_ROLLOUT
def test_a_worker_may_be_killed_at_every_step_and_all_messages_deleted(rollout: Scenario) -> None:
    each_with(rollout, (Disturbance(step, "kill", purge=True) for step in range(1, steps_of(rollout) + 1)))


@EVERY_ROLLOUT
def test_the_next_worker_may_be_killed_soon_after(rollout: Scenario) -> None:
    for step in range(1, min(steps_of(rollout), 40) + 1):
        for soon in (5, 9):
            check(replace(rollout, disturbances=(Disturbance(step, "kill"), Disturbance(step + soon, "kill"))))


@EVERY_ROLLOUT
@pytest.mark.parametrize("what", ["stop", "hurry"])
def test_a_worker_may_be_told_to_stop_at_every_step(rollout: Scenario, what: str) -> None:
    assert what in ("stop", "hurry")
    disturbance = Disturbance(0, "hurry" if what == "hurry" else "stop")
    each_with(rollout, (replace(disturbance, step=step) for step in range(1, steps_of(rollout) + 1)))


@EVERY_ROLLOUT
@pytest.mark.parametrize("seconds", [45.0, 200.0])
def test_a_worker_may_be_paused_at_every_step_while_another_goes_on(rollout: Scenario, seconds: float) -> None:
    rollout = replace(rollout, workers=2, messages=tuple(replace(message, copies=2) for message in rollout.messages))
    each_with(rollout, (Disturbance(step, "pause", seconds) for step in range(1, min(steps_of(rollout), 60) + 1)))


def test_undisturbed_everybody_is_delivered_at_the_first_attempt() -> None:
    world = check(ROLLOUTS["two workers"])
    assert {row.state for row in world.ledger.rows.values()} == {State.DELIVERED}
    assert all(len(user.issued) == 1 for user in world.users.values())


def test_a_user_who_kills_every_worker_is_given_up_after_three() -> None:
    # Ann comes later: whoever was claimed by all three workers too could not be told from Bob.
    world = check(Scenario((TOKEN, replace(TOKEN, user="ann", arrives=25.0)), killer="bob", rounds=0))
    assert world.ledger.rows["bob"].state is State.FAILED
    assert world.ledger.rows["ann"].state is State.DELIVERED
    assert sum(process.killed for process in world.processes) == 3
