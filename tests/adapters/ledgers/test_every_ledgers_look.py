"""What every ledger says to those who watch: the counts, who is alive, and the pace that is allowed."""

from __future__ import annotations

import time
from dataclasses import replace

from tests.adapters.ledgers.rigs import OpenLedger, WholeLedger
from tests.support.rows import row
from worker.core.model import State
from worker.core.ports import Workers
from worker.pacing.pace import Pace


async def test_without_a_queue_in_it_a_ledger_tells_its_counts_alone(ledger: WholeLedger) -> None:
    await ledger.put(row(), None)
    counts, waiting = await ledger.counts_and_waiting(10)
    assert counts == await ledger.counts()
    assert waiting is None or waiting.messages == 0


async def test_the_pace_is_told_where_somebody_sent_of_late(open_ledger: OpenLedger) -> None:
    async with open_ledger("one") as worker, open_ledger("two") as watcher:
        assert await watcher.allowed() is None
        now = worker.shared_time()
        await worker.change_pace(lambda _: Pace(now, 12.5, now, 1))
        await watcher.allowed()
        await worker.change_pace(lambda pace: pace and replace(pace, reserved_until=now + 1, version=pace.version + 1))
        assert await watcher.allowed() == 12.5


async def test_a_pace_of_an_hour_ago_is_none(open_ledger: OpenLedger) -> None:
    async with open_ledger("one") as worker:
        then = worker.shared_time() - 3_600
        await worker.change_pace(lambda _: Pace(then, 12.5, then, 1))
        await worker.allowed()
        assert await worker.allowed() is None


async def test_who_holds_users_is_alive_as_far_as_can_be_known(ledger: WholeLedger) -> None:
    now = time.time()
    rows = [
        row("ana", worker="one", lease_until=now + 60),
        row("ben", worker="one", lease_until=now + 60),
        row("cyd", worker="two", lease_until=now + 60),
        row("dan", worker="three", lease_until=now - 60),
        row("eve", state=State.DELIVERED),
    ]
    for each in rows:
        await ledger.put(each, None)
    workers = await ledger.workers()
    assert workers == (Workers(1, are_exact=True) if workers.are_exact else Workers(2, are_exact=False))
