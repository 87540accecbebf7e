"""A worker keeps to the shared rate: it sends in its slices only, and no second holds too much.

In virtual time, whose timers ring late, as real ones do.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, ParamSpec

import pytest
from asyncio_throttle.throttler import Throttler

from tests.support.pace_stores import LateTime, MemoryPaceStore
from worker.core.clock import SystemClock
from worker.pacing.pace import Pace
from worker.pacing.pacer import SharedPacer
from worker.pacing.schedule import CUT, FIRST_SLICE, SLICE

Arguments = ParamSpec("Arguments")


def virtually(test: Callable[Arguments, Coroutine[Any, Any, None]]) -> Callable[Arguments, None]:
    @functools.wraps(test)
    def in_late_time(*args: Arguments.args, **options: Arguments.kwargs) -> None:
        LateTime().run(test(*args, **options))

    return in_late_time


def pacer(store: MemoryPaceStore, rate: float) -> SharedPacer:
    return SharedPacer(store, rate, SystemClock())


@asynccontextmanager
async def working(pacer: SharedPacer, tasks: int = 10) -> AsyncIterator[list[float]]:
    """Many tasks that send as fast as they may; when they did (monotonic seconds)."""
    sends: list[float] = []

    async def work() -> None:
        while True:
            await pacer.acquire()
            sends.append(time.monotonic())

    async with pacer:
        running = [asyncio.create_task(work()) for _ in range(tasks)]
        try:
            yield sends
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)


def largest_second(sends: list[float]) -> int:
    oldest = largest = 0
    for index, moment in enumerate(sends):
        while sends[oldest] <= moment - 1:
            oldest += 1
        largest = max(largest, index - oldest + 1)
    return largest


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("rate", [25, 100, 700])
@virtually
async def test_no_second_holds_more_sends_than_the_rate_and_few_less(rate: int) -> None:
    async with working(pacer(MemoryPaceStore(), rate)) as sends:
        await asyncio.sleep(2.5)
    assert largest_second(sends) <= rate
    assert len(sends) >= 0.95 * rate * 2.5


@virtually
async def test_sends_spread_over_the_second_from_the_start() -> None:
    async with working(pacer(MemoryPaceStore(), 50)) as sends:
        await asyncio.sleep(1)
    distances = sorted(later - earlier for earlier, later in pairwise(sends))
    assert distances[len(distances) // 10] > 0.5 / 50


@virtually
async def test_one_waiter_at_the_throttle_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = most = 0
    acquire = Throttler.acquire

    async def counted(throttler: Throttler) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        try:
            await acquire(throttler)  # type: ignore[no-untyped-call]
        finally:
            inside -= 1

    monkeypatch.setattr(Throttler, "acquire", counted)
    async with working(pacer(MemoryPaceStore(), 50), tasks=500) as sends:
        await until(lambda: len(sends) > 10)
    assert most == 1


@virtually
async def test_a_worker_that_dies_takes_at_most_its_slices_with_it() -> None:
    store = MemoryPaceStore()
    async with working(pacer(store, 50)):
        await asyncio.sleep(0.6)
    assert store.pace
    assert store.pace.reserved_until - store.shared_time() <= 2 * SLICE
    async with pacer(store, 50) as other, asyncio.timeout(3):
        await other.acquire()
        assert time.monotonic() >= store.pace.reserved_until - 2 * SLICE


@virtually
async def test_nobody_sends_in_anothers_slice() -> None:
    store = MemoryPaceStore(Pace(time.monotonic() + 0.5, 25.0, 0.0, 1))
    begin = time.monotonic()
    async with pacer(store, 25) as mine:
        await mine.acquire()
    assert time.monotonic() - begin >= 0.49


@virtually
async def test_a_worker_with_nothing_to_send_reserves_nothing() -> None:
    store = MemoryPaceStore()
    async with pacer(store, 100) as mine:
        await asyncio.sleep(0.05)
        assert store.writes == 0
        await mine.acquire()
        await asyncio.sleep(0.7)
        assert store.writes == 1


@virtually
async def test_who_sends_little_reserves_little_and_nothing_counts_as_lost_that_nobody_waited_for() -> None:
    store = MemoryPaceStore()

    def reserved() -> float:
        assert store.pace
        return store.pace.reserved_until - store.shared_time()

    async with pacer(store, 50) as mine, asyncio.timeout(10):
        await mine.acquire()
        assert reserved() == pytest.approx(FIRST_SLICE, abs=0.01)
        await asyncio.sleep(2)
        await mine.acquire()
        assert reserved() == pytest.approx(3 / 50, abs=0.005), "twice what was used of the last slice, and one more"
        assert mine.lost == 0


@virtually
async def test_while_the_ledger_is_away_nobody_sends_beyond_what_was_reserved() -> None:
    store = MemoryPaceStore()
    async with working(pacer(store, 50)) as sends:
        await asyncio.sleep(0.5)
        store.unavailable = True
        assert store.pace
        reserved = store.pace.reserved_until
        await asyncio.sleep(max(0.0, reserved - time.monotonic()) + 0.3)
        assert max(sends) <= reserved + 0.05  # the moment is noted after the send
        before = len(sends)
        store.unavailable = False
        await until(lambda: len(sends) > before)


@virtually
async def test_the_shared_clock_need_not_be_this_hosts() -> None:
    store = MemoryPaceStore(offset=1e6)
    async with working(pacer(store, 50)) as sends:
        await until(lambda: len(sends) >= 10)


@virtually
async def test_too_many_slows_this_worker_at_once_and_the_others_soon() -> None:
    store = MemoryPaceStore()
    async with pacer(store, 100) as mine, pacer(store, 100) as other, asyncio.timeout(5):
        await mine.acquire()
        sent_at = time.monotonic()
        mine.throttled(sent_at)
        mine.throttled(sent_at)
        assert mine.rate == pytest.approx(CUT * 100, rel=0.01)
        await until(lambda: store.pace is not None and store.pace.rate < 96)
        await other.acquire()
        assert other.rate == pytest.approx(CUT * 100, rel=0.01)
        other.throttled(sent_at)
        assert other.rate == pytest.approx(CUT * 100, rel=0.01)


@virtually
async def test_a_cut_survives_that_the_ledger_is_away() -> None:
    store = MemoryPaceStore()
    async with pacer(store, 100) as mine, asyncio.timeout(5):
        await mine.acquire()
        store.unavailable = True
        mine.throttled(time.monotonic())
        await asyncio.sleep(0.05)
        store.unavailable = False
        await until(lambda: store.pace is not None and store.pace.rate < 96)


@virtually
async def test_a_cancelled_waiter_leaves_its_turn_to_the_next() -> None:
    store = MemoryPaceStore(Pace(time.monotonic() + 0.2, 50.0, 0.0, 1))
    async with pacer(store, 50) as mine, asyncio.timeout(5):
        first, second = (asyncio.create_task(mine.acquire()) for _ in range(2))
        await asyncio.sleep(0.05)
        first.cancel()
        await second
        assert first.cancelled()


@virtually
async def test_a_bug_in_the_ledger_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr(MemoryPaceStore, "change_pace", broken)
    began = time.monotonic()
    with pytest.raises(TypeError, match="a bug"):
        async with pacer(MemoryPaceStore(), 50) as mine, asyncio.timeout(5):
            await mine.acquire()
    assert time.monotonic() - began < 1
