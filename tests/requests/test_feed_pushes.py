"""What a feed does with what is pushed: together, durably, and what is malformed put aside."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from tests.support.feeding import World, request
from tests.support.virtual_time import VirtualTime
from worker.core.errors import LedgerUnavailable, Malformed, QueueUnavailable
from worker.core.model import State
from worker.requests.feed import BATCH

# --- pushing ----------------------------------------------------------------------------------------------------------


def test_pushes_that_come_together_travel_together(virtual: VirtualTime) -> None:
    world = World(virtual, rate=0.0)
    world.latency = 0.05

    async def main() -> None:
        async with world.feed() as feed:
            await asyncio.gather(*(feed.push(request()) for _ in range(BATCH + 100)))

    virtual.run(main())

    assert world.pushes == [BATCH, 100]


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


@pytest.mark.parametrize(
    "error", [QueueUnavailable("the queue is unavailable"), LedgerUnavailable("the ledger is unavailable")]
)
def test_who_pushes_or_waits_hears_that_a_store_is_unavailable_and_may_try_again(
    virtual: VirtualTime, error: Exception
) -> None:
    world = World(virtual, rate=0.0)

    async def main() -> None:
        async with world.feed() as feed:
            world.error = error
            outcomes = await asyncio.gather(feed.push(request()), feed.room(), feed.room(), return_exceptions=True)
            assert all(outcome is error for outcome in outcomes)
            world.error = None
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
        "import sys, worker; assert 'worker.requests.feed' not in sys.modules; from worker import feed; "
        "assert 'aioboto3' not in sys.modules; assert callable(feed) and callable(worker.feed)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
