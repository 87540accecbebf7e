"""Users who are signed in and activated, whose worker is killed, paused or stopped at every single step there is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation.scenario import Disturbance, Fault, Message, Scenario, Wrong, random_rollout
from tests.simulation.story import check
from tests.simulation.test_every_crash_point import DEATHS_KNOWN, each_with, steps_of
from worker.core.config import ActivationMode
from worker.core.model import Reason, State, WrongCode

ANN, BOB = Message("ann", signs_in=True), Message("bob", signs_in=True)
TICKETS = Scenario((ANN, BOB), flow="custom_auth", activation=ActivationMode.PREFER, names_time=True)
PASSWORDS = Scenario(
    (ANN, BOB), flow="user_password", activation=ActivationMode.VERIFY, requires_mfa=True, names_time=True
)
SESSIONS = replace(PASSWORDS, messages=(Message("ann"), Message("bob", token=True)), flow="none")
BATCH = 50
SCENARIOS = 400
"""Random ones."""

ROLLOUTS = {
    "tickets, preferred": TICKETS,
    "passwords, by Sessions": PASSWORDS,
    "passwords, by tokens": replace(PASSWORDS, requires_mfa=False),
    "passwords, by Sessions, preferred": replace(PASSWORDS, activation=ActivationMode.PREFER),
    "a Session and a token": replace(SESSIONS, activation=ActivationMode.PREFER),
    "a ticket is replaced": replace(TICKETS, messages=(ANN, replace(ANN, replace=True, arrives=9.0))),
    "a session is replaced": replace(
        PASSWORDS, messages=(ANN, Message("bob"), Message("bob", replace=True, arrives=9.0))
    ),
    "who was enrolled before is left alone": replace(TICKETS, enrolled=("ann",)),
    "a wrong ticket": replace(TICKETS, wrong_credentials=("ann",)),
    "a wrong code": replace(PASSWORDS, faults=(Fault("verify", 1, Wrong.WRONG_CODE),)),
    "two wrong codes": replace(TICKETS, faults=(Fault("verify", 1, Wrong.WRONG_CODE, 3),)),
    "lost verifications": replace(PASSWORDS, faults=(Fault("verify", 1, Wrong.LOST_REPLY, 2),)),
    "verifications that act late": replace(
        PASSWORDS, activation=ActivationMode.PREFER, faults=(Fault("verify", 1, Wrong.TIMED_OUT, 2),)
    ),
    "a lost call": replace(PASSWORDS, faults=(Fault("associate", 1, Wrong.LOST_REPLY),)),
    "lost sign-ins": replace(TICKETS, faults=(Fault("begin", 1, Wrong.RESET), Fault("answer", 2, Wrong.TIMED_OUT))),
    "a lost look": replace(TICKETS, faults=(Fault("look", 1, Wrong.INTERNAL, 2),)),
    "a preference that is refused": replace(TICKETS, faults=(Fault("prefer", 1, Wrong.INVALID),)),
    "a channel that is away": replace(PASSWORDS, faults=(Fault("deliver", 1, Wrong.UNAVAILABLE, 8),)),
    "two workers": replace(TICKETS, workers=2, skews=(30.0, -30.0)),
}
EVERY_ROLLOUT = pytest.mark.parametrize("rollout", ROLLOUTS.values(), ids=ROLLOUTS)


@EVERY_ROLLOUT
@DEATHS_KNOWN
def test_a_worker_may_be_killed_at_every_step(rollout: Scenario, deaths_known: bool) -> None:
    rollout = replace(rollout, deaths_known=deaths_known)
    steps = range(1, min(steps_of(rollout), 110) + 1, 1 if deaths_known else 4)
    each_with(rollout, (Disturbance(step, "kill") for step in steps))


@EVERY_ROLLOUT
def test_a_worker_may_be_killed_at_every_step_and_all_messages_deleted(rollout: Scenario) -> None:
    steps = range(1, min(steps_of(rollout), 90) + 1, 3)
    each_with(rollout, (Disturbance(step, "kill", purge=True) for step in steps))


@EVERY_ROLLOUT
def test_the_next_worker_may_be_killed_soon_after(rollout: Scenario) -> None:
    for step in range(1, min(steps_of(rollout), 60) + 1, 4):
        check(replace(rollout, disturbances=(Disturbance(step, "kill"), Disturbance(step + 7, "kill"))))


@EVERY_ROLLOUT
@pytest.mark.parametrize("what", ["stop", "hurry"])
def test_a_worker_may_be_told_to_stop_at_every_step(rollout: Scenario, what: str) -> None:
    disturbance = Disturbance(0, "hurry" if what == "hurry" else "stop")
    steps = range(1, min(steps_of(rollout), 90) + 1, 3)
    each_with(rollout, (replace(disturbance, step=step) for step in steps))


@EVERY_ROLLOUT
@pytest.mark.parametrize("seconds", [45.0, 200.0])
def test_a_worker_may_be_paused_at_every_step_while_another_goes_on(rollout: Scenario, seconds: float) -> None:
    rollout = replace(rollout, workers=2, messages=tuple(replace(message, copies=2) for message in rollout.messages))
    steps = range(1, min(steps_of(rollout), 80) + 1, 4)
    each_with(rollout, (Disturbance(step, "pause", seconds) for step in steps))


@pytest.mark.parametrize("first", range(0, SCENARIOS, BATCH))
def test_every_invariant_holds_whatever_goes_wrong(first: int) -> None:
    for seed in range(first, first + BATCH):
        check(random_rollout(seed), f"again: python -m tests.simulation --rollout --seed {seed}")


@pytest.mark.parametrize("name", ["tickets, preferred", "passwords, by Sessions", "a Session and a token"])
def test_undisturbed_everybody_is_active_at_the_first_attempt(name: str) -> None:
    world = check(ROLLOUTS[name])
    assert {row.state for row in world.ledger.rows.values()} == {State.ACTIVE}
    assert all(len(user.issued) == len(user.verified) == 1 for user in world.users.values())
    assert all(row.activation is None for row in world.ledger.rows.values())


def test_a_wrong_code_is_made_good_in_the_next_time_step() -> None:
    world = check(replace(ROLLOUTS["a wrong code"], rounds=0))
    assert {row.state for row in world.ledger.rows.values()} == {State.ACTIVE}


def test_codes_are_right_at_once_by_a_clock_that_is_wrong_where_the_answers_are_dated() -> None:
    for dated in (True, False):
        world = check(replace(PASSWORDS, skews=(-55.0,), names_time=dated, rounds=0))
        wrong = [call for user in world.users.values() for call in user.others if isinstance(call.reply, WrongCode)]
        assert bool(wrong) is not dated


def test_a_ticket_makes_good_what_was_lost_without_a_new_request() -> None:
    world = check(replace(ROLLOUTS["a lost call"], rounds=0))
    assert {row.state for row in world.ledger.rows.values()} == {State.ACTIVE}


def test_whoever_was_not_activated_with_a_token_goes_on_with_the_same_secret() -> None:
    world = check(replace(ROLLOUTS["two wrong codes"], messages=(ANN,)))
    assert world.ledger.rows["ann"].state is State.ACTIVE
    assert any(write.row.reason is Reason.VERIFY_REFUSED for write in world.users["ann"].writes)
    assert len(world.users["ann"].issued) == 1


def test_who_is_given_up_after_three_deaths_still_goes_on_with_another_request() -> None:
    """Three workers die over the first token, between verifications; the second one is not acknowledged with it."""
    check(random_rollout(886))
