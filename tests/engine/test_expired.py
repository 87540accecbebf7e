"""Expired requests are settled many at once, fewer while the ledger is slow, and nobody waits for one that is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.support.virtual_time import EPOCH, VirtualTime
from worker.core.model import CredentialKind, Request, Secret
from worker.core.ports import Lease
from worker.engine.expired import AT_ONCE, FEW, LOOK_EVERY, QUICK, ExpiredRequests, round_of


class Dead:
    """A queue of so many dead requests."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.asked_at: list[float] = []
        self.most: list[int] = []

    async def lease_expired(self, most: int, now: float) -> Sequence[Lease]:
        self.asked_at.append(now - EPOCH)
        self.most.append(most)
        number = min(most, self.left)
        self.left -= number
        request = Request("ana", CredentialKind.SESSION, Secret("s" * 40), "1", 0.0)
        return [Lease(request, None) for _ in range(number)]


def run(queue: Dead, seconds: float, *, takes: float = 0.0, straggler: float = 0.0, may_begin: int = AT_ONCE) -> int:
    """Run for so many seconds; returns the most requests that were under way at once."""
    clock = VirtualTime()
    under_way, most, begun = 0, 0, 0

    async def settle(_: Lease) -> asyncio.Task[None]:
        nonlocal begun
        begun += 1
        number = begun

        async def work() -> None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(straggler if number == 1 and straggler else takes)
            under_way -= 1

        return asyncio.create_task(work())

    async def main() -> None:
        task = asyncio.create_task(ExpiredRequests(queue, clock, settle, lambda: may_begin).run())  # type: ignore[arg-type]
        await asyncio.sleep(seconds)
        task.cancel()

    clock.run(main())
    return most


def test_many_are_under_way_at_once_and_never_more() -> None:
    queue = Dead(1000)
    assert run(queue, 2.0, takes=0.1) == AT_ONCE
    assert queue.left == 0


def test_one_that_takes_long_does_not_hold_up_the_others() -> None:
    queue = Dead(1000)
    run(queue, 5.0, takes=0.1, straggler=1000.0)
    assert queue.left == 0


def test_a_queue_without_dead_requests_is_looked_at_once_a_second() -> None:
    queue = Dead(0)
    run(queue, 10.5)
    assert queue.asked_at == pytest.approx([LOOK_EVERY * second for second in range(11)])


def test_nobody_is_leased_while_none_may_begin() -> None:
    queue = Dead(10)
    run(queue, 5.0, may_begin=0)
    assert queue.asked_at == []


def test_while_the_ledger_is_slow_fewer_are_under_way() -> None:
    assert [round_of(takes) for takes in (0.0, QUICK, 2 * QUICK, 100.0)] == [AT_ONCE, AT_ONCE, AT_ONCE // 2, FEW]
