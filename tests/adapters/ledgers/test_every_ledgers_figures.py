"""What every ledger does with figures: those of all workers come back as one, in order, whoever is beside them."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.adapters.ledgers.rigs import OpenLedger, WholeLedger
from tests.support.rows import row
from worker.core.figures import Minute, merged
from worker.core.histogram import CALL_SECONDS, USER_SECONDS, Histogram
from worker.core.model import State

FIRST = 29_000_000
"""A minute of 2025."""


def minute(number: int = FIRST, users: int = 3, longest: float = 1.5) -> Minute:
    latency, waits = Histogram(CALL_SECONDS), Histogram(USER_SECONDS)
    for _ in range(users):
        latency.observe(0.0625)
        waits.observe(longest)
    settled = Counter({"delivered": users, "needs_session:token_expired": 1})
    attempts = Counter({"AssociateSoftwareToken:issued": users, "AssociateSoftwareToken:throttled": 2})
    return Minute(number, settled, attempts, latency, waits, longest, allowed=23.75, configured=25.0)


async def read(ledger: WholeLedger) -> list[Minute]:
    return [minute async for minute in ledger.figures()]


async def test_there_are_no_figures_at_first(ledger: WholeLedger) -> None:
    assert await read(ledger) == []


async def test_what_was_put_is_read_back(ledger: WholeLedger) -> None:
    await ledger.put_figures("one", minute())
    assert await read(ledger) == [minute()]


async def test_a_worker_replaces_its_own_minute_so_repeating_is_harmless(ledger: WholeLedger) -> None:
    await ledger.put_figures("one", minute(users=3))
    await ledger.put_figures("one", minute(users=7))
    await ledger.put_figures("one", minute(users=7))
    assert await read(ledger) == [minute(users=7)]


async def test_the_figures_of_several_workers_add_up(open_ledger: OpenLedger) -> None:
    async with open_ledger("one") as one, open_ledger("two") as two:
        await asyncio.gather(
            one.put_figures("one", minute(users=3, longest=9.5)), two.put_figures("two", minute(users=5, longest=2.0))
        )
        found = await read(two)
    assert found == [merged([minute(users=3, longest=9.5), minute(users=5, longest=2.0)])]
    assert found[0].settled["delivered"] == 8
    assert found[0].longest == 9.5


async def test_minutes_come_oldest_first_and_gaps_stay_gaps(ledger: WholeLedger) -> None:
    numbers = [FIRST + 70, FIRST, FIRST + 59, FIRST + 60, FIRST + 10_000]
    for number in numbers:
        await ledger.put_figures("two" if number % 2 else "one", minute(number))
    assert [each.minute for each in await read(ledger)] == sorted(numbers)


async def test_figures_outlive_the_workers_who_wrote_them(open_ledger: OpenLedger) -> None:
    async with open_ledger("one") as ledger:
        await ledger.put_figures("one", minute())
    async with open_ledger("another") as ledger:
        await ledger.put_figures("another", minute())
        assert await read(ledger) == [merged([minute(), minute()])]


async def test_a_long_rollout_of_several_workers_is_read_whole(ledger: WholeLedger, crowd: int) -> None:
    hours, workers = max(4, crowd // 40), [f"worker-{number}" for number in range(3)]
    for hour in range(hours):
        await asyncio.gather(*(ledger.put_figures(each, minute(FIRST + 60 * hour)) for each in workers))
    found = await read(ledger)
    assert [each.minute for each in found] == [FIRST + 60 * hour for hour in range(hours)]
    assert {each.settled["delivered"] for each in found} == {9}


async def test_figures_are_no_users_and_change_no_count(ledger: WholeLedger) -> None:
    await ledger.put(row(state=State.IN_PROGRESS), None)
    await ledger.put_figures("one", minute())
    assert (await ledger.counts()).accepted == (await ledger.recount()).accepted == 1
    assert [each.username async for each in ledger.unfinished()] == ["ana"]
    assert await ledger.roster_count() == 0
    for state in State:
        assert sum([len(page) async for page in ledger.listed(state)]) == (state is State.IN_PROGRESS)


async def test_a_ledger_with_figures_alone_has_no_user(ledger: WholeLedger) -> None:
    await ledger.put_figures("one", minute())
    assert not await ledger.has_users()
