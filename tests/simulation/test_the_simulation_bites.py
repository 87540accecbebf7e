"""For every rule of ordering and fencing: a worker that breaks it is caught, where the real one passes.

Each mutant is looked for in the same scenarios: a hand-made rollout that is likely to show it, disturbed at every step,
and then random ones. It must be caught by one of the invariants named for it, and the unchanged worker must pass the
scenario that caught it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from tests.simulation import mutants
from tests.simulation.mutants import MUTANTS, must_be_caught
from tests.simulation.scenario import Disturbance, Fault, Message, Scenario, Wrong, random_scenario

MAX_SCENARIOS = 1_500
TOKEN, SESSION = Message("ann", token=True), Message("ann")
REPLACED = Scenario((TOKEN, replace(TOKEN, replace=True)), rounds=0)
TWO_WORKERS = Scenario((replace(TOKEN, copies=2),), workers=2, rounds=0)
MARKED = replace(REPLACED, marked=True, faults=(Fault("associate", 2, Wrong.TIMED_OUT, 5),))
SILENT = (Fault("associate", 1, Wrong.LOST, 20),)

LIKELY: dict[str, Scenario] = {
    "delivers what the ledger damaged": Scenario((TOKEN,), rounds=0),
    "erases the digest with the record": Scenario((TOKEN,), rounds=0),
    "tells of events by its own clock": replace(TWO_WORKERS, skews=(-30.0, 30.0)),
    "does not tell of the delivery": Scenario((TOKEN,), rounds=0),
    "forgets what happened when it takes over a secret": Scenario(
        (TOKEN,), faults=(Fault("deliver", 1, Wrong.UNAVAILABLE, 40),)
    ),
    "skips a user in doubt": Scenario(
        (TOKEN,), faults=(Fault("associate", 1, Wrong.LOST_REPLY), Fault("associate", 2, Wrong.DISABLED)), rounds=0
    ),
    "calls a user delivered whose record was refused": replace(
        REPLACED, faults=(Fault("deliver", 2, Wrong.RECORD_REFUSED),)
    ),
    "may be cancelled while it writes": random_scenario(634),
    "forgets what was left on the wire": random_scenario(482),
    "records without the version condition": TWO_WORKERS,
    "says nothing when overtaken": TWO_WORKERS,
    "trusts every clock": replace(
        TWO_WORKERS, skews=(-30.0, 30.0), faults=(Fault("associate", 1, Wrong.LOST_REPLY, 3),)
    ),
    "takes over from the dead without waiting": Scenario((TOKEN,), faults=(Fault("associate", 1, Wrong.TIMED_OUT),)),
    "counts the wait from before the death": replace(
        TWO_WORKERS,
        messages=(TOKEN, replace(TOKEN, life=900.0, arrives=5.2)),
        one_at_a_time=False,
        faults=(Fault("associate", 1, Wrong.THROTTLED, 10), Fault("associate", 11, Wrong.TIMED_OUT, 3)),
    ),
    "takes its own write for another's": Scenario(
        (replace(SESSION, life=20.0),), faults=(Fault("put", 1, Wrong.UNAVAILABLE_DONE),)
    ),
    "honours a replacement that another carried on": random_scenario(315),
    "calls under any claim": Scenario((TOKEN,), faults=SILENT, rounds=0),
    "honours a replacement twice": replace(REPLACED, messages=(TOKEN, replace(TOKEN, replace=True, again=30.0))),
    "restores a replacement in doubt": replace(REPLACED, faults=(Fault("associate", 2, Wrong.TIMED_OUT, 20),)),
    "looks at the deadline before the ledger": Scenario((TOKEN, replace(TOKEN, life=5.0, arrives=20.0))),
    "delivers dead sessions": Scenario((SESSION,), faults=(Fault("deliver", 1, Wrong.UNAVAILABLE, 40),)),
    "tries a deadly user for ever": Scenario((TOKEN,), killer="ann"),
    "forgets the request that it doubts": replace(
        TWO_WORKERS,
        messages=(TOKEN, replace(TOKEN, life=900.0, arrives=5.2)),
        one_at_a_time=False,
        faults=(Fault("associate", 2, Wrong.TIMED_OUT, 5),),
    ),
    "retries while the last attempt may act": Scenario((TOKEN,), faults=(Fault("associate", 1, Wrong.RESET, 3),)),
    "forgets settled requests too early": replace(
        REPLACED, messages=(TOKEN, replace(TOKEN, replace=True), replace(TOKEN, replace=True, again=30.0))
    ),
    "takes a live request for a duplicate": Scenario((replace(TOKEN, life=0.5), TOKEN)),
    "believes its own clock": Scenario((Message("ann", life=50.0),), skews=(55.0,), names_time=True),
    "judges before it knows the time": Scenario(
        (Message("ann", life=50.0),), skews=(55.0,), names_time=True, silent_until=20.0
    ),
    "issues without bound": Scenario(
        tuple(Message(f"u{number}", token=True) for number in range(4)),
        faults=(Fault("deliver", 1, Wrong.UNAVAILABLE, 40),),
        rate=1.0,
    ),
    "calls for Sessions into an absent channel": Scenario(
        tuple(Message(f"u{number}") for number in range(4)), faults=(Fault("deliver", 1, Wrong.UNAVAILABLE, 40),)
    ),
    "blames a user before others got through": Scenario((TOKEN,), refused=("ann",)),
    "tries a refused user for ever": Scenario(
        (TOKEN, *(Message(f"u{number}", token=True, arrives=2.0 * number) for number in range(20))), refused=("ann",)
    ),
    "writes the mark before the ledger": MARKED,
    "names who is replaced after the call": MARKED,
    "forgets whose replacement was lost": MARKED,
    "recovers without the names": MARKED,
    "recovers without the channel": replace(MARKED, faults=()),
    "takes over from itself": random_scenario(458),
    "calls for whoever dies first": Scenario(
        (*(Message(f"u{number}", life=-1.0) for number in range(200)), TOKEN), rounds=0
    ),
    "never uses whom it passed over": Scenario(  # at a call in five seconds, the last of six waited for twenty
        (
            *(Message(f"u{number}", token=True) for number in range(6)),
            Message("bob", token=True, arrives=60.0, life=72.5),
        ),
        rounds=0,
        is_quick=True,
        rate=0.2,
    ),
}
CAUGHT_BY = {
    "delivers what the ledger damaged": "16",
    "erases the digest with the record": "15",
    "tells of events by its own clock": "history",
    "does not tell of the delivery": "history",
    "forgets what happened when it takes over a secret": "history",
    "skips a user in doubt": "6",
    "calls a user delivered whose record was refused": "2 4 15",
    "calls for whoever dies first": "13",
    "never uses whom it passed over": "13",
    "acknowledges before it settles": "4",
    "delivers before it records": "4",
    "calls before it claims": "1",
    "may be cancelled while it writes": "6 10",
    "records without the version condition": "2 5 6 10",
    "takes over without waiting": "1",
    "takes over from the dead without waiting": "1",
    "counts the wait from before the death": "1",
    "trusts every clock": "1",
    "forgets what was left on the wire": "1",
    "looks at the deadline before the ledger": "5",
    "takes its own write for another's": "10",
    "calls under any claim": "1",
    "says nothing when overtaken": "2",
    "honours a replacement twice": "5",
    "honours a replacement that another carried on": "7",
    "does not raise the generation": "3",
    "restores a replacement in doubt": "2 5 6",
    "leaves unfinished rows": "8 11",
    "delivers dead sessions": "9",
    "tries a deadly user for ever": "12",
    "forgets the request that it doubts": "4",
    "retries while the last attempt may act": "1",
    "forgets settled requests too early": "5",
    "takes a live request for a duplicate": "4",
    "blames a user before others got through": "13",
    "tries a refused user for ever": "13",
    "takes over from itself": "1 10",
    "writes the mark before the ledger": "14",
    "names who is replaced after the call": "2",
    "forgets whose replacement was lost": "2",
    "recovers without the names": "2",
    "recovers without the channel": "2",
    "believes its own clock": "time",
    "judges before it knows the time": "time",
    "issues without bound": "undelivered",
    "calls for Sessions into an absent channel": "undelivered",
}


def scenarios_for(name: str) -> Iterator[Scenario]:
    """Where to look for a violation, likeliest first."""
    if scenario := LIKELY.get(name):
        yield scenario
        disturbances: tuple[Disturbance, ...] = (
            Disturbance(0, "kill"),
            Disturbance(0, "pause", 200.0),
            Disturbance(0, "pause", 45.0),
            Disturbance(0, "hurry"),
        )
        if "damaged" in name:
            disturbances = (Disturbance(0, "damage"), *disturbances)
        if scenario.marked:
            for step, back, purge in product(range(1, 121), (1, 3, 6), (True, False)):
                yield replace(scenario, disturbances=(Disturbance(step, "restore", back=back, purge=purge),))
        for disturbance, step in product(disturbances, range(1, 121)):
            yield replace(scenario, disturbances=(replace(disturbance, step=step),))
    yield from map(random_scenario, range(MAX_SCENARIOS))


@pytest.mark.parametrize("name", MUTANTS)
def test_a_worker_is_caught_that(name: str) -> None:
    must_be_caught(MUTANTS[name], scenarios_for(name), CAUGHT_BY[name])


def test_every_mutant_says_who_must_catch_it() -> None:
    assert CAUGHT_BY.keys() == MUTANTS.keys() >= LIKELY.keys()
    assert mutants.__doc__
