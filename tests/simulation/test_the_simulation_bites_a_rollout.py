"""For every rule of ordering of sign-ins and activation: a worker that breaks it is caught.

See ``test_the_simulation_bites``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.simulation.mutants import must_be_caught
from tests.simulation.mutants_of_a_rollout import MUTANTS
from tests.simulation.scenario import Disturbance, Fault, Message, Scenario, Wrong, random_rollout
from tests.simulation.test_every_crash_point_of_a_rollout import ANN, PASSWORDS, TICKETS
from worker.core.config import ActivationMode

MAX_SCENARIOS = 600
LOST = (Fault("verify", 1, Wrong.LOST_REPLY, 3),)
WRONG = (Fault("verify", 1, Wrong.WRONG_CODE, 9),)
LIKELY: dict[str, Scenario] = {
    "verifies an older secret": replace(TICKETS, messages=(ANN, replace(ANN, replace=True, arrives=9.0))),
    "verifies with the Session that the wrong code spent": replace(PASSWORDS, faults=WRONG[:1]),
    "keeps a new Session to itself": replace(PASSWORDS, faults=WRONG),
    "takes a lost verification for none": replace(PASSWORDS, faults=LOST),
    "leaves the blob of a dead secret": replace(PASSWORDS, faults=WRONG),
    "sends the same wrong code again": replace(PASSWORDS, faults=WRONG),
    "tries codes for ever": replace(TICKETS, faults=WRONG),
    "signs in for ever": replace(PASSWORDS, messages=(ANN,), faults=(Fault("associate", 1, Wrong.LOST_REPLY, 30),)),
    "sends a refused credential again": replace(
        TICKETS, wrong_credentials=("ann",), messages=(ANN, *(Message(f"u{n}", signs_in=True) for n in range(4)))
    ),
    "forgets at a takeover what may have been sent": replace(PASSWORDS, messages=(Message("ann"),), flow="none"),
    "prefers before it has recorded the verification": replace(PASSWORDS, activation=ActivationMode.PREFER),
}
CAUGHT_BY = {
    "verifies before it delivers": "activation verified",
    "erases before it settles": "blob",
    "acknowledges before the user is active": "4",
    "signs in before it claims": "sign-in",
    "does not look before it calls": "sign-in",
    "verifies an older secret": "activation",
    "verifies with the Session that the wrong code spent": "activation",
    "keeps a new Session to itself": "activation",
    "prefers before it has recorded the verification": "activation",
    "forgets at a takeover what may have been sent": "verified",
    "takes a lost verification for none": "verified",
    "leaves the blob with who is active": "blob",
    "leaves the blob of a dead secret": "blob",
    "sends the same wrong code again": "activation",
    "tries codes for ever": "activation",
    "signs in for ever": "sign-in",
    "sends a refused credential again": "sign-in",
}


def scenarios_for(name: str) -> Iterator[Scenario]:
    """Where to look for a violation, likeliest first."""
    for scenario in [LIKELY[name]] if name in LIKELY else [TICKETS, PASSWORDS]:
        yield scenario
        for step in range(1, 81):
            yield replace(scenario, disturbances=(Disturbance(step, "kill"),))
    yield from map(random_rollout, range(MAX_SCENARIOS))


@pytest.mark.parametrize("name", MUTANTS)
def test_a_worker_is_caught_that(name: str) -> None:
    must_be_caught(MUTANTS[name], scenarios_for(name), CAUGHT_BY[name])


def test_every_mutant_says_who_must_catch_it() -> None:
    assert CAUGHT_BY.keys() == MUTANTS.keys() >= LIKELY.keys()
