"""Workers that share one pace use the quota together, evenly and fairly, whoever dies, joins or waits; virtual time."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.pace_stores import Fleet
from worker.pacing.schedule import SHARED_MARGIN

START = 1000.0
RATES = [25.0, 100.0, 400.0]
SEEDS = [0, 1, 2]


@pytest.mark.parametrize("on_dynamodb", [False, True])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_workers_use_the_quota_together_evenly_and_fairly(rate: float, workers: int, on_dynamodb: bool) -> None:
    fleet = Fleet(rate, on_dynamodb=on_dynamodb)

    async def work() -> None:
        fleet.join(workers)
        await asyncio.sleep(15)

    fleet.run(work)
    assert fleet.used(START + 2, START + 15) >= 0.99
    assert fleet.keeps_to_the_quota()
    assert fleet.apart(START + 2, START + 15) < 0.15


@pytest.mark.parametrize("on_dynamodb", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("workers", [2, 8])
def test_late_timers_cost_little_of_a_small_quota(workers: int, seed: int, on_dynamodb: bool) -> None:
    fleet = Fleet(25.0, seed=seed, on_dynamodb=on_dynamodb, late=True)

    async def work() -> None:
        fleet.join(workers)
        await asyncio.sleep(20)

    fleet.run(work)
    assert fleet.used(START + 2, START + 20) >= 0.99
    assert fleet.keeps_to_the_quota()


@pytest.mark.parametrize("rate", [50.0, 100.0, 400.0])
@pytest.mark.parametrize("workers", [2, 8])
def test_what_is_too_late_does_not_leave_in_the_next_workers_second(workers: int, rate: float) -> None:
    fleet = Fleet(rate, late=True)

    async def work() -> None:
        fleet.join(workers)
        await asyncio.sleep(15)

    fleet.run(work)
    assert fleet.keeps_to_the_quota()
    assert fleet.used(START + 2, START + 15) >= 0.93


@pytest.mark.parametrize("rate", [0.5, 3.0])
def test_eight_workers_share_the_smallest_rate(rate: float) -> None:
    fleet = Fleet(rate)

    async def work() -> None:
        fleet.join(8)
        await asyncio.sleep(500)

    fleet.run(work)
    assert fleet.used(START + 20, START + 500) >= 0.98
    assert fleet.keeps_to_the_quota()
    assert fleet.apart(START + 20, START + 500) < 0.15


@pytest.mark.parametrize("on_dynamodb", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("workers", "killed"), [(2, 1), (3, 2), (8, 1)])
def test_who_dies_costs_below_a_second_of_the_quota(workers: int, killed: int, seed: int, on_dynamodb: bool) -> None:
    fleet = Fleet(100.0, seed=seed, on_dynamodb=on_dynamodb)

    async def work() -> None:
        fleet.join(workers)
        await asyncio.sleep(6 + fleet.dice.random())
        for sender in fleet.senders[:killed]:
            await sender.kill()
        await asyncio.sleep(START + 17 - fleet.time.now)

    fleet.run(work)
    assert 10 * (1 - SHARED_MARGIN - fleet.used(START + 7, START + 17)) < 0.5 * killed
    assert fleet.keeps_to_the_quota()
    assert fleet.apart(START + 2, START + 17, fleet.senders[killed:]) < 0.15


@pytest.mark.parametrize("on_dynamodb", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("workers", [2, 8])
def test_who_joins_late_has_a_share_after_a_second(workers: int, seed: int, on_dynamodb: bool) -> None:
    fleet = Fleet(100.0, seed=seed, on_dynamodb=on_dynamodb)

    async def work() -> None:
        fleet.join(workers - 1)
        await asyncio.sleep(5)
        fleet.join()
        await asyncio.sleep(15)

    fleet.run(work)
    assert fleet.senders[-1].sends[0] < START + 6.2
    assert fleet.apart(START + 7, START + 20) < 0.15
    assert fleet.used(START + 2, START + 20) >= 0.98
    assert fleet.keeps_to_the_quota()


@pytest.mark.parametrize("on_dynamodb", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_a_ledger_that_answers_slowly_costs_hardly_any_of_the_quota(workers: int, seed: int, on_dynamodb: bool) -> None:
    fleet = Fleet(50.0, seed=seed, on_dynamodb=on_dynamodb)

    async def work() -> None:
        fleet.join(workers)
        await asyncio.sleep(10)
        fleet.store.latency = fleet.store.jitter = 0.15
        await asyncio.sleep(20)
        fleet.store.latency, fleet.store.jitter = 0.005, 0.01
        await asyncio.sleep(30)

    fleet.run(work)
    assert fleet.used(START + 2, START + 60) >= 0.975
    assert fleet.keeps_to_the_quota()
    assert fleet.apart(START, START + 60) < 0.15


@pytest.mark.parametrize("workers", [1, 4])
def test_one_answer_that_takes_long_costs_little_more_than_that(workers: int) -> None:
    fleet = Fleet(50.0)

    async def work() -> None:
        fleet.join(workers)
        await asyncio.sleep(5)
        fleet.store.latency = 8.0
        await asyncio.sleep(1)
        fleet.store.latency = 0.005
        await asyncio.sleep(34)

    fleet.run(work)
    assert fleet.used(START + 24, START + 40) >= 0.97
    assert fleet.keeps_to_the_quota()


@pytest.mark.parametrize("workers", [1, 8])
def test_when_the_ledger_is_away_nobody_sends_and_when_it_is_back_all_do(workers: int) -> None:
    fleet = Fleet(100.0)

    async def work() -> None:
        fleet.join(workers)
        await asyncio.sleep(5)
        fleet.store.unavailable = True
        await asyncio.sleep(20)
        fleet.store.unavailable = False
        await asyncio.sleep(15)

    fleet.run(work)
    assert fleet.traffic.count(START + 6.2, START + 25) == (0, 0)
    assert fleet.used(START + 27, START + 40) >= 0.98
    assert fleet.keeps_to_the_quota()


@pytest.mark.parametrize("workers", [2, 8])
def test_a_write_of_which_nobody_was_told_costs_its_slice_and_no_more(workers: int) -> None:
    fleet = Fleet(100.0)
    fleet.store.mute = 0.02

    async def work() -> None:
        fleet.join(workers)
        await asyncio.sleep(30)

    fleet.run(work)
    assert fleet.used(START + 2, START + 30) >= 0.95
    assert fleet.keeps_to_the_quota()


@pytest.mark.parametrize("workers", [1, 4, 8])
def test_workers_settle_together_where_the_quota_is_lower_than_they_were_told(workers: int) -> None:
    fleet = Fleet(100.0, configured=120.0)

    async def work() -> None:
        fleet.join(workers)
        await asyncio.sleep(60)

    fleet.run(work)
    arrived, admitted = fleet.traffic.count(START + 20, START + 60)
    assert fleet.used(START + 20, START + 60) >= 0.95
    assert arrived - admitted <= 0.005 * arrived


def test_a_worker_with_little_to_do_leaves_the_quota_to_the_others() -> None:
    fleet = Fleet(100.0)

    async def work() -> None:
        fleet.join(1)
        fleet.join(1, busy=lambda: fleet.time.now % 1 < 0.05)
        await asyncio.sleep(20)

    fleet.run(work)
    assert fleet.used(START + 2, START + 20) >= 0.75  # what its slices hold beyond that is lost
    assert fleet.keeps_to_the_quota()
