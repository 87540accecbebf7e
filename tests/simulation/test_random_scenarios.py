"""Rollouts in which a little of everything goes wrong at once, thousands of them, the same ones every time.

``pytest tests/simulation --simulation-scenarios 20000`` looks further, from ``--simulation-from`` on.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.simulation.scenario import CALLING, PLAIN, Disturbance, Fault, Message, Scenario, random_scenario
from tests.simulation.story import check
from worker.core.model import State

BATCH = 50
"""Scenarios that one test plays."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" in metafunc.fixturenames:
        first, scenarios = (metafunc.config.getoption(f"--simulation-{name}") for name in ("from", "scenarios"))
        end = first + scenarios
        batches = [range(start, min(start + BATCH, end)) for start in range(first, end, BATCH)]
        metafunc.parametrize("seeds", batches, ids=[str(batch.start) for batch in batches])


@pytest.mark.timeout(300)
def test_every_invariant_holds_whatever_goes_wrong(seeds: range) -> None:
    for seed in seeds:
        check(random_scenario(seed), f"again: python -m tests.simulation --seed {seed}")


# --- the same, built by hypothesis, so that a failure shrinks to something a person can read --------------------------

SECONDS = st.sampled_from([0.0, 2.0, 20.0, 50.0, 200.0])
MESSAGES = st.builds(
    Message,
    user=st.sampled_from(["ann", "bob"]),
    token=st.booleans(),
    replace=st.booleans(),
    life=st.sampled_from([10_000.0, 180.0, 20.0, 0.0]),
    arrives=SECONDS,
    copies=st.integers(1, 2),
    again=st.none() | SECONDS,
)
DISTURBANCES = st.builds(
    Disturbance,
    step=st.integers(1, 80),
    what=st.sampled_from(["kill", "pause", "stop", "hurry"]),
    seconds=SECONDS,
    purge=st.booleans(),
)
COUNTS = {"first": st.integers(1, 10), "count": st.integers(1, 6)}
FAULTS = st.one_of(
    st.builds(Fault, operation=st.just("associate"), wrong=st.sampled_from(CALLING), **COUNTS),
    st.builds(
        Fault,
        operation=st.sampled_from(
            ["put", "deliver", "read", "lease", "acknowledge", "give_back", "backlog", "unfinished"]
        ),
        wrong=st.sampled_from(PLAIN),
        **COUNTS,
    ),
)
SCENARIOS = st.builds(
    Scenario,
    messages=st.lists(MESSAGES, min_size=1, max_size=4).map(tuple),
    disturbances=st.lists(DISTURBANCES, max_size=3).map(tuple),
    faults=st.lists(FAULTS, max_size=2).map(tuple),
    workers=st.integers(1, 3),
    skews=st.lists(st.sampled_from([0.0, -30.0, 30.0]), min_size=1, max_size=3).map(tuple),
    names_time=st.booleans(),
    deaths_known=st.booleans(),
    one_at_a_time=st.booleans(),
    rounds=st.integers(0, 1),
    seed=st.integers(0, 3),
)


@given(SCENARIOS)
@settings(max_examples=300, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_every_invariant_holds_and_what_does_not_is_small(scenario: Scenario) -> None:
    check(scenario)


@given(
    st.lists(st.builds(Message, user=st.sampled_from(["ann", "bob"]), token=st.booleans()), min_size=1, max_size=3),
    st.lists(st.tuples(SECONDS, st.integers(1, 3), st.none() | SECONDS), min_size=3, max_size=3),
    st.integers(0, 9),
)
@settings(max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_duplicating_reordering_or_delaying_messages_changes_nobodys_outcome(
    messages: list[Message], moves: list[tuple[float, int, float | None]], seed: int
) -> None:
    moved = tuple(
        Message(message.user, message.token, arrives=arrives, copies=copies, again=again)
        for message, (arrives, copies, again) in zip(messages, moves, strict=False)
    )
    for scenario in (Scenario(tuple(messages), seed=seed), Scenario(moved, seed=seed, workers=2)):
        world = check(scenario)
        assert {user: row.state for user, row in world.ledger.rows.items()} == {
            message.user: State.DELIVERED for message in messages
        }
        assert all(len(user.issued) == 1 for user in world.users.values())
