"""How many must be lost, whatever the order."""

from __future__ import annotations

import random

import pytest

from worker.core.forecast import a_user_costs, must_be_lost


def best(deadlines: list[float], rate: float) -> int:
    """How many can be called for, one by one, the earliest deadline first."""
    called = 0
    for deadline in sorted(deadlines):
        called += (called + 1) / rate <= deadline
    return called


@pytest.mark.parametrize(
    ("buckets", "rate", "lost"),
    [
        ([], 25.0, 0),
        ([(10.0, 250)], 25.0, 0),
        ([(10.0, 300)], 25.0, 50),
        ([(10.0, 300), (12.0, 50)], 25.0, 50),
        ([(10.0, 100), (12.0, 300)], 25.0, 100),
        ([(10.0, 500), (3600.0, 1000)], 25.0, 250),
        ([(10.0, 2)], 0.1, 1),
        ([(1e300, 10**9)], 0.1, 0),
        ([(-5.0, 7)], 25.0, 7),
    ],
)
@pytest.mark.parametrize("now", [0.0, 1_700_000_000.0])
def test_what_is_lost_follows_from_deadlines_and_rate(
    buckets: list[tuple[float, int]], rate: float, lost: int, now: float
) -> None:
    assert must_be_lost([(now + deadline, number) for deadline, number in buckets], now, rate) == lost


@pytest.mark.parametrize(
    ("rate", "calls", "said"),
    [
        (25.0, 1, ""),
        (25.0, 2, ", 2 calls a user: 12.5 users/s"),
        (25.0, 3, ", 3 calls a user: 8.33 users/s"),
        (100.0, 3, ", 3 calls a user: 33.3 users/s"),
        (31.0, 3, ", 3 calls a user: 10.3 users/s"),
        (0.1, 3, ", 3 calls a user: 0.03 users/s"),
        (100_000.0, 2, ", 2 calls a user: 50000 users/s"),
    ],
)
def test_what_a_user_costs_is_said_where_it_is_more_than_one_call(rate: float, calls: int, said: str) -> None:
    assert a_user_costs(rate, calls) == said


@pytest.mark.parametrize("seed", range(20))
def test_it_is_what_the_best_order_leaves(seed: int) -> None:
    dice = random.Random(seed)
    deadlines = sorted(dice.uniform(0, 40) for _ in range(dice.randint(0, 400)))
    lost = must_be_lost([(deadline, 1) for deadline in deadlines], 0.0, 5.0)
    assert abs(len(deadlines) - best(deadlines, 5.0) - lost) <= 2, "parts of a call are counted too"
