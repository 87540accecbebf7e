"""The feed: credentials are minted just in time, so that none dies waiting and the workers never starve."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.conftest import VirtualTime
from worker.errors import LedgerAway, Malformed, QueueAway
from worker.feeding import LOOKS, PAGE, Feed
from worker.model import Enrolment, Put, Request, State
from worker.ports import Backlog, Pace, Pushed
from worker.requests import Parser
from worker.room import LEAST, MARGIN, Terms

VALIDITY = 180.0
TERMS = Terms(rate=20.0, session_validity=VALIDITY)
_numbers = itertools.count()


class World:
    """A queue, the workers that drain it at ``rate`` users/s, and the pace that they agreed on, all in virtual time."""

    def __init__(self, virtual: VirtualTime, *, rate: float, lag: float = 0.0) -> None:
        self.virtual = virtual
        self.rate = rate
        self.pace: float | None = None
        self.lag = lag
        self.messages: list[Request] = []
        """In the order of their deadlines, as long as all live equally long."""
        self.foreign = 0
        """Messages that somebody else pushed."""
        self.waits: list[float] = []
        """Seconds from push to call."""
        self.dead = 0
        self.idle = 0.0
        """Seconds for which the workers had nothing to do."""
        self.looks = 0
        self.pushes: list[int] = []
        self.bodies: list[bytes] = []
        self.aside: list[tuple[str, str]] = []
        self.away: Exception | None = None
        self.latency = 0.0
        self.rows: dict[str, State] = {}
        self._known: dict[str, float] = {}
        self._history: list[tuple[float, int]] = [(0.0, 0)]

    # --- the depot ---

    async def push(self, requests: Iterable[tuple[Request, bytes]]) -> Pushed:
        await asyncio.sleep(self.latency)
        if self.away:
            raise self.away
        page = [(request, body) for request, body in requests if request.id not in self._known]
        duplicates = 0
        for request, body in page:
            self._known[request.id] = self.virtual.now
            self.messages.append(request)
            self.bodies.append(body)
        self.pushes.append(len(page))
        self._changed()
        return Pushed(len(page), duplicates)

    async def put_aside(self, reason: str, digest: str) -> None:
        self.aside.append((reason, digest))

    async def backlog(self) -> Backlog:
        self.looks += 1
        if self.away:
            raise self.away
        seen = [waiting for at, waiting in self._history if at <= max(0.0, self.virtual.now - self.lag)]
        return Backlog((seen[-1] if self.lag else len(self.messages)) + self.foreign)

    # --- the ledger ---

    async def read_pace(self) -> Pace | None:
        return None if self.pace is None else Pace(0.0, self.pace, 0.0)

    async def put_pace(self, pace: Pace) -> bool:
        raise AssertionError("a feed reserves nothing")

    def shared_time(self) -> float:
        return self.virtual.now

    async def put(self, row: Enrolment, replaces: str | None) -> Put:
        raise AssertionError("a feed writes no row")

    async def read(self, username: str) -> Enrolment | None:
        return Enrolment(username, self.rows[username], 0.0, 1) if username in self.rows else None

    async def unfinished(self) -> Iterator[Enrolment]:  # type: ignore[override]
        raise AssertionError("a feed asks for nobody else")

    def gone(self, worker: str) -> bool:
        return False

    # --- the workers ---

    async def work(self, until: float) -> None:
        while self.virtual.now < until:
            if self.rate == 0:
                await asyncio.sleep(0.25)
                continue
            await asyncio.sleep(1 / self.rate)
            if not self.messages:
                self.idle += 1 / self.rate
                continue
            request = self.messages.pop(0)
            self._changed()
            self.waits.append(self.virtual.now - self._known[request.id])
            self.dead += request.expires_at - self.virtual.utc() < TERMS.call_timeout

    def _changed(self) -> None:
        self._history.append((self.virtual.now, len(self.messages)))

    def feed(self, terms: Terms = TERMS) -> Feed:
        parser = Parser("eu-central-1_AbCdEfGhI", terms.session_validity)
        return Feed(self, self, parser, self.virtual, terms)  # type: ignore[arg-type]


def request(**keys: object) -> dict[str, object]:
    """A message that nobody pushed before."""
    number = next(_numbers)
    return {"username": f"user-{number}", "session": f"{number:040}", **keys}


async def mint(feed: Feed, until: float, virtual: VirtualTime, seconds: float = 0.001) -> None:
    """A script that signs a user in within so many seconds, and pushes."""
    while virtual.now < until:
        await asyncio.sleep(seconds)
        await feed.push(request())


@contextmanager
def ending(*tasks: asyncio.Task[None]) -> Iterator[None]:
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


# --- the rule ---------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    rate=st.sampled_from([0.5, 2.0, 20.0, 50.0]),
    validity=st.sampled_from([90.0, 180.0, 900.0]),
    scripts=st.integers(1, 8),
    minting=st.floats(0.001, 0.1),
    halved_at=st.floats(0, 120),
)
def test_no_credential_dies_waiting_and_no_worker_starves_even_where_the_rate_is_halved(
    rate: float, validity: float, scripts: int, minting: float, halved_at: float
) -> None:
    virtual, end = VirtualTime(), 200.0
    world = World(virtual, rate=rate)
    minting = min(minting, 0.5 * scripts / rate)

    async def main() -> None:
        async with world.feed(Terms(rate=rate, session_validity=validity)) as feed:
            tasks = [asyncio.create_task(mint(feed, end, virtual, minting)) for _ in range(scripts)]
            with ending(*tasks):
                working = asyncio.create_task(world.work(end))
                await asyncio.sleep(halved_at)
                world.rate = world.pace = rate / 2
                await working

    virtual.run(main())

    assert world.dead == 0
    assert world.idle <= max(0.01 * end, 2 / rate), "the queue ran dry"


@given(rate=st.floats(0.1, 1000), usable=st.floats(-1000, 100_000), share=st.sampled_from([1 / 3, 1 / 2]))
def test_what_may_wait_is_always_some_seconds_of_work_and_never_more_than_its_share_of_a_life(
    rate: float, usable: float, share: float
) -> None:
    most = Terms(rate=rate, session_validity=VALIDITY, share=share).most_waiting(rate, usable)

    assert most >= max(2, rate * LEAST)
    assert most - 1 < max(LEAST, rate * LEAST, rate * share * usable)


def test_the_time_out_the_delivery_and_a_margin_are_no_part_of_what_may_be_waited(virtual: VirtualTime) -> None:
    world = World(virtual, rate=0.0)

    async def main() -> None:
        async with world.feed() as feed:
            task = asyncio.create_task(mint(feed, 1e9, virtual))
            with ending(task):
                await asyncio.sleep(9)

    virtual.run(main())

    usable = VALIDITY - TERMS.call_timeout - TERMS.min_validity - MARGIN
    assert len(world.messages) == pytest.approx(20 * usable / 2, abs=2)


def test_an_access_token_may_wait_by_its_own_life(virtual: VirtualTime) -> None:
    world = World(virtual, rate=0.0)
    expires = datetime.fromtimestamp(virtual.utc() + 100, UTC).isoformat()

    async def main() -> None:
        async with world.feed() as feed:

            async def push() -> None:
                while True:
                    await feed.push(request(session=None, access_token="t", expires_at=expires))

            async def mint_tokens() -> None:
                while True:
                    message = request(access_token="header.claims.signature", expires_at=expires)
                    del message["session"]
                    await feed.push(message)

            task = asyncio.create_task(mint_tokens())
            with ending(task):
                await asyncio.sleep(5)

    virtual.run(main())

    assert len(world.messages) == pytest.approx(20 * (100 - TERMS.call_timeout - MARGIN) / 2, abs=2)


def test_many_who_mint_at_once_overshoot_by_no_more_than_they_hold(virtual: VirtualTime) -> None:
    world = World(virtual, rate=20.0)
    short = Terms(rate=20.0, session_validity=30.0, min_validity=0.0)

    async def main() -> None:
        async with world.feed(short) as feed:
            tasks = [asyncio.create_task(mint(feed, 60, virtual, 0.5)) for _ in range(100)]
            with ending(*tasks):
                await world.work(60)

    virtual.run(main())

    assert max(world.waits[100:]) <= LEAST * short.rate / 20 + 0.5 + 5, "more were let go than there was room for"
    assert sorted(world.waits[200:])[len(world.waits[200:]) // 2] <= 5.5


@pytest.mark.parametrize("join", [0.0, 30.0, 59.0])
def test_counts_that_lag_by_a_minute_let_no_more_in_than_lives(virtual: VirtualTime, join: float) -> None:
    world = World(virtual, rate=0.0, lag=60.0)
    lagging = Terms(rate=20.0, session_validity=VALIDITY, share=1 / 3, lag=60.0)

    async def main() -> None:
        async with world.feed(lagging) as feed:
            tasks = [asyncio.create_task(mint(feed, 400, virtual)) for _ in range(4)]
            with ending(*tasks):
                await asyncio.sleep(join)
                world.rate = 20.0
                await world.work(400)

    virtual.run(main())

    assert world.dead == 0
    assert world.idle <= 4


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_one_look_serves_many_pushes(virtual: VirtualTime) -> None:
    world = World(virtual, rate=20.0)

    async def main() -> None:
        async with world.feed() as feed:
            tasks = [asyncio.create_task(mint(feed, 300, virtual, 0.05)) for _ in range(5)]
            with ending(*tasks):
                await world.work(300)

    virtual.run(main())

    assert len(world.bodies) > 6000
    assert world.looks <= 300 / LOOKS[0] / 5


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
    assert world.looks <= 40


def test_whoever_asks_for_room_after_a_push_that_returned_is_not_held_twice(virtual: VirtualTime) -> None:
    world = World(virtual, rate=20.0)
    short = Terms(rate=20.0, session_validity=30.0)

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


def test_a_dispatcher_that_only_asks_for_room_gets_no_more_than_there_is(virtual: VirtualTime) -> None:
    world = World(virtual, rate=0.0)
    rooms = 0

    async def main() -> None:
        nonlocal rooms
        async with world.feed(Terms(rate=20.0, session_validity=30.0)) as feed:

            async def dispatch() -> None:
                nonlocal rooms
                while True:
                    await feed.room()
                    rooms += 1

            task = asyncio.create_task(dispatch())
            with ending(task):
                await asyncio.sleep(20)

    virtual.run(main())

    assert rooms == LEAST * 20


def test_room_that_was_given_and_not_used_is_given_again(virtual: VirtualTime) -> None:
    world = World(virtual, rate=0.0)

    async def main() -> None:
        async with world.feed(Terms(rate=1.0, session_validity=30.0)) as feed:
            await feed.room()
            await feed.room()
            waiting = asyncio.create_task(feed.room())
            with ending(waiting):
                await asyncio.sleep(20)
                assert not waiting.done()
                await asyncio.wait_for(waiting, 15)

    virtual.run(main())


# --- pushing ----------------------------------------------------------------------------------------------------------


def test_pushes_that_come_together_travel_together(virtual: VirtualTime) -> None:
    world = World(virtual, rate=0.0)
    world.latency = 0.05

    async def main() -> None:
        async with world.feed() as feed:
            await asyncio.gather(*(feed.push(request()) for _ in range(PAGE + 100)))

    virtual.run(main())

    assert world.pushes == [PAGE, 100]


def test_a_push_returns_only_when_its_message_is_durable(virtual: VirtualTime) -> None:
    world = World(virtual, rate=0.0)
    world.latency = 1.0

    async def main() -> None:
        async with world.feed() as feed:
            pushing = asyncio.create_task(feed.push(request()))
            await asyncio.sleep(0.9)
            assert not pushing.done()
            await pushing
            assert len(world.messages) == feed.accepted == 1

    virtual.run(main())


def test_what_was_begun_is_durable_when_the_feed_is_left_and_a_cancelled_push_harms_no_other(
    virtual: VirtualTime,
) -> None:
    world = World(virtual, rate=0.0)
    world.latency = 1.0

    async def main() -> None:
        async with world.feed() as feed:
            first, second, third = (asyncio.create_task(feed.push(request())) for _ in range(3))
            await asyncio.sleep(0.5)
            second.cancel()
            await asyncio.wait([second])
            await first
            assert third.done() or not third.cancelled()
            await third
            asyncio.create_task(feed.push(request())).add_done_callback(lambda task: task.cancelled())
            await asyncio.sleep(0.5)
        assert len(world.messages) == 4

    virtual.run(main())


def test_a_session_without_times_begins_to_age_as_it_is_pushed(virtual: VirtualTime) -> None:
    world = World(virtual, rate=0.0)

    async def main() -> None:
        async with world.feed() as feed:
            await feed.push({"username": "ana", "session": "s" * 40})
            await feed.push(json.dumps({"username": "ben", "session": "t" * 40}).encode())

    virtual.run(main())

    assert all("issued_at" in json.loads(body) for body in world.bodies)


@pytest.mark.parametrize(
    "message",
    [
        b"{",
        b"",
        {"username": "ana"},
        {"username": "ana", "session": "secret-that-is-too-short"[:12]},
        {"username": "ana", "session": b"secret" * 10},
        {"username": "ana", "session": "\ud800" * 40},
        {"username": "ana", "session": {"secret", "set"}},
    ],
)
def test_what_is_malformed_is_put_aside_counted_and_told_without_its_content(
    virtual: VirtualTime, message: dict[str, object] | bytes
) -> None:
    world = World(virtual, rate=0.0)

    async def main() -> None:
        async with world.feed() as feed:
            with pytest.raises(Malformed) as raised:
                await feed.push(message)
            assert feed.malformed == {str(raised.value): 1}
            assert [reason for reason, _ in world.aside] == [str(raised.value)]
            assert "secret" not in str(raised.value)
            assert feed.accepted == 0

    virtual.run(main())


@pytest.mark.parametrize("error", [QueueAway("the queue is away"), LedgerAway("the ledger is away")])
def test_who_pushes_or_waits_hears_that_a_store_is_away_and_may_try_again(
    virtual: VirtualTime, error: Exception
) -> None:
    world = World(virtual, rate=0.0)

    async def main() -> None:
        async with world.feed() as feed:
            world.away = error
            outcomes = await asyncio.gather(feed.push(request()), feed.room(), feed.room(), return_exceptions=True)
            assert outcomes == [error] * 3
            world.away = None
            await feed.push(request())
            await feed.room()

    virtual.run(main())


def test_who_is_done_wants_no_new_credential(virtual: VirtualTime) -> None:
    world = World(virtual, rate=0.0)
    world.rows = {state.value: state for state in State}

    async def main() -> dict[str, bool]:
        async with world.feed() as feed:
            return {name: await feed.wants(name) for name in ("nobody", *world.rows)}

    wanted = virtual.run(main())

    assert {name for name, wants in wanted.items() if wants} == {"nobody", "needs_session", "failed"}


def test_to_name_the_feed_loads_no_sdk() -> None:
    script = (
        "import sys, worker; assert 'worker.feeding' not in sys.modules; from worker import feed; "
        "assert 'aioboto3' not in sys.modules; assert callable(feed) and callable(worker.feed)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
