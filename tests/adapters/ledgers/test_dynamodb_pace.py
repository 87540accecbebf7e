"""Hosts without a common clock agree on a timeline, in virtual time: skewed, drifting, paused."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError

from tests.support.pace_stores import PaceItem
from tests.support.virtual_time import VirtualTime
from worker.adapters.ledgers.dynamodb.pace import SharedPace
from worker.core.errors import LedgerUnavailable
from worker.pacing.pace import Pace
from worker.pacing.schedule import Slice, plan

RATE = 50.0


class Host:
    """A clock that began somewhere and runs a little fast or slow, with the timeline as this host sees it."""

    def __init__(self, virtual: VirtualTime, service: PaceItem, *, began: float = 0.0, drift: float = 0.0) -> None:
        self._virtual = virtual
        self.began, self.drift = began, drift
        self.pace = SharedPace(cast("Any", service), "table", self.monotonic)
        self.slices: list[tuple[float, float, int]] = []
        """True seconds in which we may send, and how often."""
        self.given: list[Slice] = []
        """The same on the timeline."""

    def monotonic(self) -> float:
        return self.began + self._virtual.now * (1 + self.drift)

    async def work(self, until: float) -> None:
        """Reserve slice after slice, as the pacer does."""
        while self._virtual.now < until:
            reserved: list[tuple[float, float, Slice]] = []

            def reserve(stands: Pace | None, reserved: list[tuple[float, float, Slice]] = reserved) -> Pace:
                now = self.pace.shared_time()
                pace, mine = plan(stands, now, RATE)
                reserved.append((now, self._virtual.now, mine))
                return pace

            pace = await self.pace.change_pace(reserve)
            assert pace
            now, true, mine = reserved[-1]
            mine = mine.ending(pace.reserved_until)
            self.given.append(mine)
            start, end = (true + (moment - now) / (1 + self.drift) for moment in (mine.start, mine.end))
            self.slices.append((start, end, mine.sends))
            await asyncio.sleep(max(0.0, end - 0.3 - self._virtual.now))


def later(stands: Pace | None) -> Pace:
    """One second more is given away."""
    assert stands
    return replace(stands, reserved_until=stands.reserved_until + 1, version=stands.version + 1)


def cut(stands: Pace | None) -> Pace:
    assert stands
    return replace(stands, rate=20.0, changed_at=4.0, version=stands.version + 1)


def most_in_a_second(hosts: list[Host], after: float) -> int:
    """If everybody sends evenly in his slices."""
    sends = sorted(
        start + (end - start) * number / count
        for host in hosts
        for start, end, count in host.slices
        for number in range(count)
    )
    sends = [send for send in sends if send >= after]
    return max(sum(1 for other in sends[index : index + 200] if other < send + 1) for index, send in enumerate(sends))


def lag(hosts: list[Host]) -> float:
    times = [host.pace.shared_time() for host in hosts]
    return max(times) - min(times)


def jitter(seed: int) -> Callable[[], float]:
    chance = random.Random(seed)
    return lambda: chance.uniform(0.001, 0.012)


@pytest.mark.parametrize("seed", range(3))
def test_hosts_that_booted_at_different_times_keep_to_one_rate(virtual: VirtualTime, seed: int) -> None:
    service = PaceItem(jitter(seed))
    hosts = [Host(virtual, service, began=began) for began in (0.0, 5e6, -3e5, 17.0)]

    async def main() -> None:
        await asyncio.gather(*(host.work(20) for host in hosts))
        assert lag(hosts) < 0.03

    virtual.run(main())
    assert all(len(host.slices) >= 5 for host in hosts)
    assert most_in_a_second(hosts, after=1.0) <= RATE * 1.06


def test_clocks_that_drift_are_mended_with_every_look(virtual: VirtualTime) -> None:
    hosts_of = PaceItem(jitter(7))
    hosts = [Host(virtual, hosts_of, began=9e5 * n, drift=drift) for n, drift in enumerate((-1e-4, 0.0, 1e-4))]

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for host in hosts:
                tasks.create_task(host.work(600))
            await asyncio.sleep(5)
            while virtual.now < 595:
                await asyncio.sleep(5)
                assert lag(hosts) < 0.07

    virtual.run(main())
    assert most_in_a_second(hosts, after=2.0) <= RATE * 1.05


def test_whoever_comes_later_joins_within_milliseconds(virtual: VirtualTime) -> None:
    service = PaceItem(jitter(3))
    early, late = Host(virtual, service, began=4e4), Host(virtual, service, began=-2e6)

    async def main() -> None:
        working = asyncio.create_task(early.work(10))
        await asyncio.sleep(4.321)
        begin = virtual.now
        await late.pace.read_pace()
        assert virtual.now - begin <= 1.5
        assert lag([early, late]) < 0.06
        await working

    virtual.run(main())


def test_time_never_goes_back_once_a_timeline_is_known(virtual: VirtualTime) -> None:
    service = PaceItem(jitter(5))
    hosts = [Host(virtual, service, began=began, drift=drift) for began, drift in ((0.0, 1e-3), (1e5, -1e-3))]

    async def main() -> None:
        working = asyncio.gather(*(host.work(30) for host in hosts))
        await asyncio.sleep(2)
        before = [host.pace.shared_time() for host in hosts]
        while not working.done():
            await asyncio.sleep(0.01)
            now = [host.pace.shared_time() for host in hosts]
            assert all(later >= earlier for earlier, later in zip(before, now, strict=True))
            before = now
        await working

    virtual.run(main())


def test_after_a_pause_of_everybody_the_timeline_goes_on_where_it_stood(virtual: VirtualTime) -> None:
    service = PaceItem(jitter(1))

    async def main() -> None:
        before = Host(virtual, service, began=3e5)
        await before.work(5)
        stood = before.pace.shared_time()
        await asyncio.sleep(36_000)
        hosts = [Host(virtual, service, began=7e6), Host(virtual, service, began=1.0)]
        begin = virtual.now
        await asyncio.gather(*(host.work(begin + 10) for host in hosts))
        assert hosts[0].slices[0][0] - begin < 3
        assert stood < hosts[0].pace.shared_time() < stood + 15
        assert most_in_a_second(hosts, after=begin) <= RATE * 1.03

    virtual.run(main())


def test_a_rival_that_began_at_the_same_moment_far_ahead_is_followed(virtual: VirtualTime) -> None:
    service = PaceItem(lambda: 0.005)
    hosts = [Host(virtual, service, began=began) for began in (1e9, 0.0)]

    async def main() -> None:
        await asyncio.gather(*(host.work(5) for host in hosts))
        assert lag(hosts) < 0.01

    virtual.run(main())
    assert most_in_a_second(hosts, after=0.0) <= RATE * 1.03


def test_a_write_whose_answer_was_lost_is_our_own(virtual: VirtualTime) -> None:
    service = PaceItem()
    mine, other = Host(virtual, service).pace, Host(virtual, service, began=100.0).pace

    async def main() -> None:
        for version in range(1, 4):
            service.lose = 1
            change = Mock(return_value=Pace(1.0, 2.0, 3.0, version))
            await mine.change_pace(change)
            assert change.call_count == 1
        assert await other.read_pace() == Pace(1.0, 2.0, 3.0, 3)
        await mine.change_pace(lambda _: Pace(500.0, 2.0, 3.0, 4))
        service.lose = 1
        made = await mine.change_pace(lambda _: Pace(500.5, 2.0, 3.0, 5))
        assert await other.read_pace() == made == Pace(500.5, 2.0, 3.0, 5)

    virtual.run(main())


@pytest.mark.parametrize("seed", range(5))
def test_no_moment_is_given_away_twice_whatever_answers_get_lost(virtual: VirtualTime, seed: int) -> None:
    chance = random.Random(seed)
    service = PaceItem(lambda: chance.choice((0.002, 0.02, 0.3)))
    hosts = [Host(virtual, service, began=began) for began in (0.0, 5e6, -3e5)]

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for host in hosts:
                tasks.create_task(host.work(30))
            while virtual.now < 30:
                await asyncio.sleep(chance.random())
                service.lose = 1

    virtual.run(main())
    given = sorted((one.start, one.end) for host in hosts for one in host.given)
    assert len(given) > 30
    assert all(end <= start + 1e-6 for (_, end), (start, _) in pairwise(given))


def test_who_reserves_meanwhile_comes_first_and_costs_no_second_request(virtual: VirtualTime) -> None:
    service = PaceItem(lambda: 0.01)
    mine, other = Host(virtual, service).pace, Host(virtual, service).pace
    reserve = Mock(side_effect=later)

    async def main() -> None:
        await other.change_pace(lambda _: Pace(100.0, 25.0, 3.0, 1))
        await mine.read_pace()
        made = await asyncio.gather(mine.change_pace(reserve), other.change_pace(reserve))
        assert reserve.call_count == 2
        assert [(pace.reserved_until, pace.version) for pace in made if pace] == [(102.0, 3), (101.0, 2)]

    virtual.run(main())


def test_who_did_not_know_of_a_cut_reserves_anew(virtual: VirtualTime) -> None:
    service = PaceItem(lambda: 0.01)
    mine, other = Host(virtual, service).pace, Host(virtual, service).pace
    reserve = Mock(side_effect=later)

    async def main() -> None:
        await other.change_pace(lambda _: Pace(100.0, 25.0, 3.0, 1))
        await mine.read_pace()
        made, _ = await asyncio.gather(mine.change_pace(reserve), other.change_pace(cut))
        assert [known.args[0].rate for known in reserve.call_args_list] == [25.0, 20.0]
        assert made == Pace(101.0, 20.0, 4.0, 3)

    virtual.run(main())


def test_a_cut_gets_through_however_often_others_reserve(virtual: VirtualTime) -> None:
    service = PaceItem(lambda: 0.3)
    mine, other = Host(virtual, service).pace, Host(virtual, service).pace
    cutting = Mock(side_effect=cut)

    async def main() -> None:
        await other.change_pace(lambda _: Pace(100.0, 25.0, 3.0, 1))
        await mine.read_pace()
        async with asyncio.TaskGroup() as tasks:
            for number in range(20):
                tasks.create_task(other.change_pace(later))
                await asyncio.sleep(0.1)
                if number == 5:
                    tasks.create_task(mine.change_pace(cutting))
        assert cutting.call_count == 1
        assert await mine.read_pace() == Pace(120.0, 20.0, 4.0, 22)

    virtual.run(main())


def test_the_gap_of_a_timeline_that_ran_dry_is_not_added(virtual: VirtualTime) -> None:
    service = PaceItem(lambda: 0.005)
    hosts = [Host(virtual, service, began=began) for began in (0.0, 5e6, -3e5)]

    async def main() -> None:
        await asyncio.gather(*(host.work(5) for host in hosts))
        await asyncio.sleep(5)
        begin = virtual.now
        await asyncio.gather(*(host.work(begin + 0.01) for host in hosts))
        slices = sorted(host.slices[-1] for host in hosts)
        assert begin <= slices[0][0] <= begin + 0.1
        assert all(start == pytest.approx(end, abs=0.05) for (_, end, _), (start, *_) in pairwise(slices))

    virtual.run(main())


def test_nobody_waits_to_join_a_timeline_that_is_his_own_or_none(virtual: VirtualTime) -> None:
    service = PaceItem()

    async def main() -> None:
        pace = Host(virtual, service).pace
        assert await pace.read_pace() is None
        await pace.change_pace(lambda _: Pace(0.1, 1 / 3, 1e-9, 1))
        assert await pace.read_pace() == Pace(0.1, 1 / 3, 1e-9, 1)
        assert service.reads == 3

    virtual.run(main())


def test_a_service_that_says_no_is_a_ledger_away(virtual: VirtualTime) -> None:
    class Throttled(PaceItem):
        async def update_item(self, **request: Any) -> Any:
            raise ClientError({"Error": {"Code": "ThrottlingException"}}, "UpdateItem")

    async def main() -> None:
        with pytest.raises(LedgerUnavailable, match="ThrottlingException"):
            await Host(virtual, Throttled()).pace.change_pace(lambda _: Pace(1.0, 2.0, 3.0, 1))

    virtual.run(main())
