"""Users who are known before anybody asks for them: visible and counted, and never in the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.support.dynamodb_wire import Rollout, refusal, rollout_behind_a_wire
from tests.support.emulators import Emulator
from tests.support.rows import NASTY_NAMES, row
from worker.adapters.ledgers.dynamodb.ledger import DynamoLedger
from worker.core.clock import SystemClock
from worker.core.errors import LedgerUnavailable
from worker.core.model import Lost, State, Written
from worker.pacing.pacer import SharedPacer


@pytest.fixture
async def rollout(emulator: Emulator) -> AsyncIterator[Rollout]:
    async with rollout_behind_a_wire(emulator) as made:
        yield made


async def roster(ledger: DynamoLedger) -> list[str]:
    return sorted([username async for username in ledger.unrequested()])


async def test_the_roster_holds_whoever_was_added_and_adding_again_adds_nobody(rollout: Rollout) -> None:
    names = [f"user {number:03}" for number in range(230)]
    async with rollout.opened() as ledger:
        assert await ledger.add_to_roster([*NASTY_NAMES, *names[:100], names[0]]) == len(NASTY_NAMES) + 100
        rollout.wire.asked.clear()
        assert await ledger.add_to_roster(iter(names)) == 130
        assert await ledger.add_to_roster(names) == 0
        assert rollout.wire.asked["TransactWriteItems"] <= 8
        assert await roster(ledger) == sorted([*names, *NASTY_NAMES])
        assert await ledger.roster_count() == 230 + len(NASTY_NAMES)
        assert (await ledger.counts()).accepted == 0


async def test_adding_touches_nobody_who_has_a_row(rollout: Rollout) -> None:
    async with rollout.opened() as ledger:
        await ledger.put(stands := row(), None)
        assert await ledger.add_to_roster(["ana", "ben"]) == 1
        assert await ledger.read("ana") == stands
        assert await roster(ledger) == ["ben"]


async def test_a_request_takes_its_user_off_the_roster(rollout: Rollout) -> None:
    names = [f"user {number}" for number in range(15)]
    async with rollout.opened("one") as ledger, rollout.opened("two") as other:
        assert await other.add_to_roster([*names, "nobody asks"]) == 16
        assert await other.roster_count() == 16
        assert await ledger.read(names[0]) is None
        puts = await asyncio.gather(*(ledger.put(row(name), None) for name in names))
        assert [type(put) for put in puts] == [Written] * 15
        assert await roster(ledger) == ["nobody asks"]
        assert await ledger.roster_count() == 1
        assert (await ledger.recount()).states == {State.IN_PROGRESS: 15}
        assert await ledger.roster_count() == 1
        assert not [name for name in await rollout.counters() if name.startswith("base")]


async def test_whoever_is_only_on_the_roster_has_no_row_to_replace(rollout: Rollout) -> None:
    async with rollout.opened() as ledger:
        await ledger.add_to_roster(["ana"])
        assert await ledger.put(row(), "some version") == Lost(None)
        assert [each async for each in ledger.unfinished()] == []


async def test_a_roster_whose_answers_were_lost_is_counted_again(rollout: Rollout) -> None:
    names = [f"user {number}" for number in range(30)]
    async with rollout.opened() as ledger:
        rollout.wire.lose["TransactWriteItems"] = 1
        await ledger.add_to_roster(names)
        await ledger.recount()
        assert await ledger.roster_count() == 30
        assert await roster(ledger) == sorted(names)


async def test_a_roster_that_the_service_does_not_take_is_a_ledger_away(rollout: Rollout) -> None:
    rollout.wire.say["TransactWriteItems"] = lambda _: refusal("ThrottlingException")
    async with rollout.opened(tries=1) as ledger:
        with pytest.raises(LedgerUnavailable, match="ThrottlingException"):
            await ledger.add_to_roster(f"user {number}" for number in range(1000))


async def test_workers_on_hosts_that_share_no_clock_keep_to_one_rate(
    ministack: Emulator, aws_credentials: None
) -> None:
    sends: list[float] = []
    rate = 40

    async def work(rollout: Rollout, began: float) -> None:
        async with (
            rollout.opened(monotonic=lambda: time.monotonic() + began) as ledger,
            SharedPacer(ledger, rate, SystemClock()) as pacer,
        ):
            while time.monotonic() < end:
                await pacer.acquire()
                sends.append(time.monotonic())

    async with rollout_behind_a_wire(ministack) as rollout:
        end = time.monotonic() + 5
        await asyncio.gather(work(rollout, -1e5), work(rollout, 3e6))
    sends.sort()
    settled = [send for send in sends if send > end - 3.5]
    assert len(settled) >= 0.7 * 3.5 * rate
    most = max(sum(1 for other in settled[index:] if other < send + 1) for index, send in enumerate(settled))
    assert most <= 1.1 * rate
