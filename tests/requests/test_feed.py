"""The feed: credentials are minted just in time, so that none dies waiting and the workers never starve."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.support.feeding import CONFIG, VALIDITY, World, ending, mint, numbers, request
from tests.support.virtual_time import VirtualTime
from worker.requests.backpressure import MARGIN, MIN_WORK, FeedConfig
from worker.requests.feed import MIN_PAUSE
from worker.requests.message import Parser

# --- the rule ---------------------------------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(
    rate=st.sampled_from([0.5, 5.0, 20.0]),
    validity=st.sampled_from([90.0, 180.0, 900.0]),
    scripts=st.integers(1, 8),
    minting=st.floats(0.001, 0.1),
    halved_at=st.floats(0, 80),
    told=st.booleans(),
)
def test_no_credential_dies_waiting_and_no_worker_starves_even_where_the_rate_is_halved(
    rate: float, validity: float, scripts: int, minting: float, halved_at: float, told: bool
) -> None:
    virtual, end = VirtualTime(), 120.0
    world = World(virtual, rate=rate)
    minting = min(minting, 0.5 * scripts / rate)

    async def main() -> None:
        async with world.feed(FeedConfig(rate=rate, session_validity=validity)) as feed:
            tasks = [asyncio.create_task(mint(feed, end, virtual, minting)) for _ in range(scripts)]
            with ending(*tasks):
                working = asyncio.create_task(world.work(end))
                await asyncio.sleep(halved_at)
                world.rate = rate / 2
                world.pace = rate / 2 if told else None
                await working

    virtual.run(main())

    assert world.dead == 0
    assert world.idle <= max(0.01 * end, 2 / rate), "the queue ran dry"


@given(rate=st.floats(0.1, 1000), usable=st.floats(-1000, 100_000), share=st.sampled_from([1 / 3, 1 / 2]))
def test_what_may_wait_is_always_some_seconds_of_work_and_never_more_than_its_share_of_a_life(
    rate: float, usable: float, share: float
) -> None:
    most = FeedConfig(rate=rate, session_validity=VALIDITY, share=share).most_waiting(rate, usable)

    assert most >= max(2, rate * MIN_WORK)
    assert most - 1 < max(MIN_WORK, rate * MIN_WORK, rate * share * usable)


def test_the_time_out_the_delivery_and_a_margin_are_no_part_of_what_may_be_waited(virtual: VirtualTime) -> None:
    world = World(virtual, rate=0.0)

    async def main() -> None:
        async with world.feed() as feed:
            task = asyncio.create_task(mint(feed, 1e9, virtual))
            with ending(task):
                await asyncio.sleep(9)

    virtual.run(main())

    usable = VALIDITY - CONFIG.call_timeout - CONFIG.min_validity - MARGIN
    assert len(world.messages) == pytest.approx(20 * usable / 2, abs=2)


def test_an_access_token_may_wait_by_its_own_life(virtual: VirtualTime) -> None:
    world = World(virtual, rate=0.0)
    expires = datetime.fromtimestamp(virtual.utc() + 100, UTC).isoformat()

    async def main() -> None:
        async with world.feed() as feed:

            async def mint_tokens() -> None:
                while True:
                    number = next(numbers)
                    await feed.push({"username": "ana", "access_token": f"a.b.{number}", "expires_at": expires})
                    await asyncio.sleep(0.001)

            task = asyncio.create_task(mint_tokens())
            with ending(task):
                await asyncio.sleep(5)

    virtual.run(main())

    assert len(world.messages) == pytest.approx(20 * (100 - CONFIG.call_timeout - MARGIN) / 2, abs=10)


def test_many_who_mint_at_once_overshoot_by_no_more_than_they_are_minting(virtual: VirtualTime) -> None:
    world = World(virtual, rate=20.0)
    short = FeedConfig(rate=20.0, session_validity=30.0, min_validity=0.0)

    async def main() -> None:
        async with world.feed(short) as feed:
            tasks = [asyncio.create_task(mint(feed, 60, virtual, 0.5)) for _ in range(100)]
            with ending(*tasks):
                await world.work(60)

    virtual.run(main())

    assert max(world.waits[100:]) <= MIN_WORK * short.rate / 20 + 0.5 + 5, "more were permitted to mint than may wait"
    assert sorted(world.waits[200:])[len(world.waits[200:]) // 2] <= 5.5


@pytest.mark.parametrize(("join", "idle"), [(0.0, 4.0), (59.0, 20.0)])
def test_counts_that_lag_by_a_minute_let_no_more_in_than_lives_also_where_the_workers_join_late(
    virtual: VirtualTime, join: float, idle: float
) -> None:
    world = World(virtual, rate=0.0, lag=60.0)
    lagging = FeedConfig(rate=20.0, session_validity=VALIDITY, share=1 / 3, lag=60.0)

    async def main() -> None:
        async with world.feed(lagging) as feed:
            tasks = [asyncio.create_task(mint(feed, 300, virtual)) for _ in range(4)]
            with ending(*tasks):
                await asyncio.sleep(join)
                world.rate = 20.0
                await world.work(300)

    virtual.run(main())

    assert world.dead == 0
    assert world.idle <= idle, "once, while the count still shows what was taken long ago"


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_one_count_serves_many_pushes(virtual: VirtualTime) -> None:
    world = World(virtual, rate=20.0)

    async def main() -> None:
        async with world.feed() as feed:
            tasks = [asyncio.create_task(mint(feed, 300, virtual, 0.05)) for _ in range(5)]
            with ending(*tasks):
                await world.work(300)

    virtual.run(main())

    assert len(world.bodies) > 6000
    assert world.counts <= 300 / MIN_PAUSE / 5


def test_where_no_worker_takes_anything_it_keeps_waiting_says_so_and_does_not_spin(virtual: VirtualTime) -> None:
    world = World(virtual, rate=0.0)
    world.foreign = 10_000

    async def main() -> None:
        async with world.feed() as feed:
            pushing = asyncio.create_task(feed.push(request()))
            with ending(pushing):
                await asyncio.sleep(61)
                assert not pushing.done()
                world.foreign = 0
                await asyncio.wait_for(pushing, 2.5)

    with capture_logs() as logs:
        virtual.run(main())

    said = [line for line in logs if line["event"] == "feed_waits"]
    assert 5 <= len(said) <= 6
    assert said[0]["backlog"] == 10_001
    assert said[0]["rate"] == 20.0
    assert world.counts <= 40


def test_whoever_asks_for_room_after_a_push_that_returned_does_not_wait_twice(virtual: VirtualTime) -> None:
    world = World(virtual, rate=20.0)
    short = FeedConfig(rate=20.0, session_validity=30.0)

    async def main() -> None:
        async with world.feed(short) as feed:

            async def script() -> None:
                while True:
                    await feed.room()
                    await asyncio.sleep(0.01)
                    await feed.push(request())

            task = asyncio.create_task(script())
            with ending(task):
                await world.work(60)

    virtual.run(main())

    assert world.idle <= 0.6


def test_a_dispatcher_that_only_asks_for_room_gets_no_more_permissions_than_messages_may_wait(
    virtual: VirtualTime,
) -> None:
    world = World(virtual, rate=0.0)
    permitted = 0

    async def main() -> None:
        nonlocal permitted
        async with world.feed(FeedConfig(rate=20.0, session_validity=30.0)) as feed:

            async def dispatch() -> None:
                nonlocal permitted
                while True:
                    await feed.room()
                    permitted += 1

            task = asyncio.create_task(dispatch())
            with ending(task):
                await asyncio.sleep(20)

    virtual.run(main())

    assert permitted == MIN_WORK * 20


def test_a_permission_that_nobody_used_is_given_again(virtual: VirtualTime) -> None:
    world = World(virtual, rate=0.0)

    async def main() -> None:
        async with world.feed(FeedConfig(rate=1.0, session_validity=30.0)) as feed:
            await feed.room()
            await feed.room()
            waiting = asyncio.create_task(feed.room())
            with ending(waiting):
                await asyncio.sleep(20)
                assert not waiting.done()
                await asyncio.wait_for(waiting, 15)

    virtual.run(main())


def test_a_permission_that_is_given_up_goes_to_the_next(virtual: VirtualTime) -> None:
    world = World(virtual, rate=0.0)

    async def main() -> None:
        async with world.feed(FeedConfig(rate=1.0, session_validity=30.0)) as feed:
            for _ in range(20):
                await feed.room()
                feed.give_up()
            feed.give_up()
            assert virtual.now < 3

    virtual.run(main())


# --- more than can be used --------------------------------------------------------------------------------------------


def test_whoever_pushes_more_than_can_be_used_without_waiting_is_told_what_is_lost_and_what_helps(
    virtual: VirtualTime,
) -> None:
    world = World(virtual, rate=20.0)
    world.foreign = 5000

    async def main() -> None:
        async with world.feed(CONFIG) as feed:
            for _ in range(60):
                await feed.push(request(), wait=False)
                await asyncio.sleep(1.0)

    with capture_logs() as logs:
        virtual.run(main())

    [said] = [line for line in logs if line["event"] == "overload"]
    assert f"about {5001 - 20 * VALIDITY:,.0f} of them expire" in said["cause"]
    for cure in ("access tokens", "worker.feed", "--input -", "AuthSessionValidity"):
        assert cure in said["cure"]


def test_whoever_pushes_what_can_be_used_is_told_nothing(virtual: VirtualTime) -> None:
    world = World(virtual, rate=20.0)

    async def main() -> None:
        async with world.feed(CONFIG) as feed:
            for _ in range(60):
                await feed.push(request(), wait=False)
                await asyncio.sleep(1.0)

    with capture_logs() as logs:
        virtual.run(main())
    assert [line for line in logs if line["event"] == "overload"] == []


# --- what a user costs, and credentials that do not age ---------------------------------------------------------------


def test_where_a_user_costs_two_calls_half_as_many_may_wait_and_the_log_says_so(virtual: VirtualTime) -> None:
    most = []
    for calls in (1, 2):
        config = FeedConfig(rate=25.0, session_validity=VALIDITY, calls=calls)
        world = World(virtual, rate=0.0)

        async def main(world: World = world, config: FeedConfig = config) -> None:
            async with world.feed(config) as feed:
                minting = asyncio.create_task(mint(feed, virtual.now + 60, virtual))
                with ending(minting):
                    await asyncio.sleep(30)

        with capture_logs() as logs:
            virtual.run(main())
        most.append(len(world.messages))
        (said, *_) = [line for line in logs if line["event"] == "feed_waits"]
        assert said["pace"] == ("25 calls/s" if calls == 1 else "25 calls/s, 2 calls a user: 12.5 users/s")
    assert abs(most[0] / 2 - most[1]) <= 2


def test_the_shared_pace_is_shared_by_all_calls_of_a_user() -> None:
    config = FeedConfig(rate=25.0, session_validity=VALIDITY, calls=2)
    assert [config.users(rate) for rate in (10.0, 25.0, 50.0)] == [5.0, 12.5, 12.5]


def test_nobody_waits_for_the_turn_of_a_ticket_or_a_password(virtual: VirtualTime) -> None:
    world = World(virtual, rate=0.0)
    world.foreign = 1_000_000

    async def main() -> None:
        async with world.feed(FeedConfig(rate=20.0, session_validity=VALIDITY, is_lasting=True)) as feed:
            feed._parser = Parser("eu-central-1_AbCdEfGhI", VALIDITY, flow="user_password")
            for number in range(100):
                await feed.room()
                await feed.push({"username": f"user-{number}", "password": "x"})
            waiting = asyncio.create_task(feed.push(request()))
            with ending(waiting):
                await asyncio.sleep(30)
                assert not waiting.done(), "a Session is held back as before"

    with capture_logs() as logs:
        virtual.run(main())
    assert len(world.messages) == 101
    assert [line["event"] for line in logs].count("feed_does_not_wait") == 1
