"""How much a worker reserves, and that it sends all of that and nothing else, to the millisecond.

In virtual time, whose timers ring on time here.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, ParamSpec

import pytest

from tests.pacing.test_pacer import pacer, until, working
from tests.support.pace_stores import MemoryPaceStore, TickingTime
from worker.core.errors import ExitCode, LedgerUnavailable
from worker.pacing.pace import Pace
from worker.pacing.pacer import FORGET, SharedPacer
from worker.pacing.schedule import FIRST_SLICE, LAGS, MARGIN, SHARED_MARGIN

Arguments = ParamSpec("Arguments")
ALONE, BESIDE = (1 + MARGIN) / 50, (1 + SHARED_MARGIN) / 50
"""Seconds for each send of 50 a second, of a worker that is alone and of one beside others."""


def precisely(test: Callable[Arguments, Coroutine[Any, Any, None]]) -> Callable[Arguments, None]:
    @functools.wraps(test)
    def in_ticking_time(*args: Arguments.args, **options: Arguments.kwargs) -> None:
        TickingTime().run(test(*args, **options))

    return in_ticking_time


class Noting(MemoryPaceStore):
    """Notes by how many seconds each write extends the timeline."""

    def __init__(self, pace: Pace | None = None, **options: Any) -> None:
        super().__init__(pace, **options)
        self.seconds: list[float] = []

    async def change_pace(self, change: Callable[[Pace | None], Pace | None]) -> Pace | None:
        def noted(present: Pace | None) -> Pace | None:
            pace = change(present)
            if pace and (present is None or pace.reserved_until != present.reserved_until):
                self.seconds.append(
                    pace.reserved_until - max(self.shared_time(), present.reserved_until if present else 0)
                )
            return pace

        return await super().change_pace(noted)

    def another_writes(self, *, seconds: float = 0.0) -> None:
        """Another worker reserves so many seconds."""
        assert self.pace
        self.pace = replace(self.pace, version=self.pace.version + 1, reserved_until=self.pace.reserved_until + seconds)


async def one_slice(mine: SharedPacer, store: MemoryPaceStore, used: int, *, latency: float = 0.0) -> None:
    """Have a slice reserved, use so much of it, and begin the next one long after it, from a ledger that is so slow."""
    store.unavailable = False
    for _ in range(max(1, used)):
        waiting = asyncio.create_task(mine.acquire())
        await until(lambda: store.writes > 0)
        store.unavailable = True
        if used:
            await waiting
    waiting.cancel()
    await asyncio.sleep(2)
    waiting = asyncio.create_task(mine.acquire())
    await asyncio.sleep(0.01)
    store.unavailable, store.latency = False, latency
    await waiting


@precisely
async def test_a_worker_leaves_more_unused_while_others_write() -> None:
    store = Noting()
    async with pacer(store, 50) as mine:
        for others in (False, False, True, True, False):
            if others:
                store.another_writes()
            await mine.acquire()
            await asyncio.sleep(1)
    assert store.seconds == pytest.approx([10 * ALONE, 3 * ALONE, 3 * BESIDE, 3 * BESIDE, 3 * ALONE], abs=3e-5)


@pytest.mark.parametrize(("used", "reserved"), [(0, 1), (1, 3), (3, 7), (4, 9), (5, 10), (10, 10)])
@precisely
async def test_who_used_less_than_half_reserves_twice_that_and_one_more(used: int, reserved: int) -> None:
    store = Noting(Pace(time.monotonic() + 0.6, 50.0, 0.0, 1, FIRST_SLICE))
    async with pacer(store, 50) as mine:
        await one_slice(mine, store, used)
        assert store.seconds == pytest.approx([10 * BESIDE, reserved * ALONE], abs=3e-5)
        assert mine.lost == 0, "nobody waited for more"


@precisely
async def test_who_was_busy_for_long_reserves_a_whole_slice_after_a_pause() -> None:
    store = Noting()
    async with pacer(store, 50) as mine:
        while len(store.seconds) < 8:
            await mine.acquire()
        await asyncio.sleep(3)
        await mine.acquire()
        assert store.pace
        assert store.seconds[8:] == pytest.approx([50 * store.pace.length * ALONE], abs=ALONE)


@precisely
async def test_what_is_rounded_off_a_slice_the_next_one_has() -> None:
    store = Noting()
    async with pacer(store, 7) as mine:
        for _ in range(5):
            await mine.acquire()
            await asyncio.sleep(1)
    sends = [seconds * 7 / (1 + MARGIN) for seconds in store.seconds]
    assert sends == pytest.approx([1, 2, 1, 2, 1], abs=0.01), "1.4 each"


@precisely
async def test_a_slice_outlasts_what_reserving_takes_and_begins_when_it_is_written_and_a_slow_answer_is_forgotten() -> (
    None
):
    store = Noting()
    async with pacer(store, 50) as mine:
        await one_slice(mine, store, 5, latency=0.8)
        store.latency = 0.0
        for _ in range(3):
            await asyncio.sleep(5)
            await mine.acquire()
    _, slow, *after = store.seconds
    assert slow == pytest.approx(50 * LAGS * 0.8 * ALONE, abs=0.001)
    begun = [seconds - 3 * ALONE for seconds in after]
    assert begun == pytest.approx([0.4, 0.4 * FORGET, 0.4 * FORGET**2], abs=0.001)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("rate", [3.0, 25.0, 1000.0])
@precisely
async def test_in_a_slice_all_is_sent_that_was_reserved_and_no_more(rate: float, offset: float) -> None:
    store = Noting(offset=offset)
    start = time.monotonic()
    async with working(pacer(store, rate)) as sends:
        await asyncio.sleep(0.001)
        store.unavailable = True
        await asyncio.sleep(1)
    reserved = round(sum(store.seconds) * rate / (1 + MARGIN))
    assert len(sends) == reserved
    for number, moment in enumerate(sends):
        assert -0.004 < moment - start - number * (1 + MARGIN) / rate < 0.001


@precisely
async def test_what_is_reserved_and_not_sent_counts_as_lost_while_somebody_waits() -> None:
    store = Noting(latency=4.0)
    mine = pacer(store, 50)
    async with working(mine):
        await asyncio.sleep(17)
    assert len(store.seconds) == 4, "each is over when the worker hears of it"
    assert mine.lost == 75 + 3 * 1, "a second and a half; then one send at a time"


@pytest.mark.parametrize(("rate", "apart"), [(33.0, 0.01), (100.0, 0.005), (1000.0, 0.0005)])
@precisely
async def test_nothing_leaves_so_late_in_a_slice_that_it_may_meet_the_next_workers(rate: float, apart: float) -> None:
    for before, leaves in ((1.2 * apart, True), (0.8 * apart, False)):
        store = MemoryPaceStore(offset=1e6)
        async with pacer(store, rate) as mine:
            await mine.acquire()
            assert store.pace
            end = store.pace.reserved_until - store.offset
            store.unavailable = True
            await asyncio.sleep(end - before - time.monotonic())
            waiting = asyncio.create_task(mine.acquire())
            await asyncio.sleep(0.5)
            assert waiting.done() is leaves


@precisely
async def test_a_send_that_is_due_after_the_slice_waits_for_the_next_and_takes_nothing_of_it() -> None:
    store = Noting()
    async with pacer(store, 25) as mine:
        await mine.acquire()
        assert store.pace
        end = store.pace.reserved_until
        store.another_writes(seconds=0.02)
        await asyncio.sleep(end - 0.0195 - time.monotonic())
        await mine.acquire()
        assert time.monotonic() == pytest.approx(end - 0.0195, abs=0.001)
        await mine.acquire()
        assert time.monotonic() == pytest.approx(end + 0.02, abs=0.001)


@precisely
async def test_a_reservation_that_the_ledger_put_behind_those_of_others_is_used_there() -> None:
    class Behind(MemoryPaceStore):
        async def change_pace(self, change: Callable[[Pace | None], Pace | None]) -> Pace | None:
            pace = await super().change_pace(change)
            return replace(pace, reserved_until=pace.reserved_until + 0.3) if pace else None

    store, start = Behind(), time.monotonic() + 0.3
    async with working(pacer(store, 25)) as sends:
        await asyncio.sleep(0.001)
        store.unavailable = True
        await asyncio.sleep(1)
    assert sends == pytest.approx([start + number * (1 + MARGIN) / 25 for number in range(5)], abs=0.001)


@precisely
async def test_nothing_leaves_before_the_slice_begins() -> None:
    start = time.monotonic() + 0.002
    async with pacer(MemoryPaceStore(Pace(start, 1000.0, 0.0, 1)), 1000) as mine:
        await mine.acquire()
    assert start <= time.monotonic() < start + 0.001


def sent_in_four_seconds(stall: float | None) -> int:
    """By one worker, which does not get the processor for a tenth of a second then."""
    virtual = TickingTime()

    async def main() -> int:
        async with working(pacer(MemoryPaceStore(), 25)) as sends:
            if stall:
                await asyncio.sleep(stall)
                virtual.now += 0.1
            await asyncio.sleep(1004 - virtual.now)
            return len(sends)

    return virtual.run(main())


def test_who_was_alone_for_a_second_makes_up_for_what_is_late_and_who_may_not_be_does_not() -> None:
    assert sent_in_four_seconds(2.5) == sent_in_four_seconds(None)
    assert sent_in_four_seconds(0.5) == sent_in_four_seconds(None) - 2


@precisely
async def test_too_many_counts_although_another_slice_was_reserved_since_the_request_left() -> None:
    store = MemoryPaceStore()
    async with pacer(store, 100) as mine:
        await mine.acquire()
        sent_at = time.monotonic()
        await asyncio.sleep(1)
        await mine.acquire()
        mine.throttled(sent_at)
        assert mine.rate < 96


@precisely
async def test_a_cut_alone_is_a_write_of_its_own_and_none_where_another_was_faster() -> None:
    store = Noting()
    async with pacer(store, 50) as mine:
        await mine.acquire()
        mine.throttled(time.monotonic())
        await asyncio.sleep(1)
        assert store.pace
        assert (store.writes, store.pace.version, len(store.seconds)) == (2, 2, 1)
        store.pace = replace(store.pace, version=3, changed_at=time.monotonic())
        mine.throttled(time.monotonic())
        await asyncio.sleep(1)
        assert (store.writes, store.pace.version) == (2, 3)


@precisely
async def test_a_ledger_that_refuses_this_worker_is_waited_for_like_one_that_is_away() -> None:
    refused = LedgerUnavailable("not allowed")
    refused.exit_code = ExitCode.PERSON_MUST_ACT

    class Refusing(MemoryPaceStore):
        async def change_pace(self, change: Callable[[Pace | None], Pace | None]) -> Pace | None:
            if time.monotonic() < 1005:
                raise refused
            return await super().change_pace(change)

    async with pacer(Refusing(), 50) as mine:
        await mine.acquire()
    assert 1005 <= time.monotonic() < 1006.1
