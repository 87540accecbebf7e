"""What every channel does: what it confirmed has arrived, whole and unchanged, and stays."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.adapters.channels.rigs import ChannelUnderTest, arrival, record
from tests.support.rows import NASTY_NAMES, sealeds, usernames
from worker.core.model import Sealed


async def test_what_was_confirmed_has_arrived(channel: ChannelUnderTest) -> None:
    await channel.channel.deliver("ana", record(1))
    assert await channel.arrived() == [arrival("ana", record(1))]


async def test_nothing_that_has_arrived_is_overwritten(channel: ChannelUnderTest) -> None:
    for generation in (2, 1, 3):
        await channel.channel.deliver("ana", record(generation))
    assert sorted(await channel.arrived()) == [arrival("ana", record(generation)) for generation in (1, 2, 3)]


async def test_the_same_record_again_is_the_same_byte_for_byte(channel: ChannelUnderTest) -> None:
    for _ in range(3):
        await channel.channel.deliver("ana", record(1))
    assert set(await channel.arrived()) == {arrival("ana", record(1))}


async def test_many_at_the_same_time_all_arrive(channel: ChannelUnderTest) -> None:
    records = {f"user {number}": record(number, blob=bytes([number % 256]) * 500) for number in range(channel.many)}
    await asyncio.gather(*(channel.channel.deliver(username, sealed) for username, sealed in records.items()))
    assert sorted(await channel.arrived()) == sorted(arrival(*item) for item in records.items())


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(usernames, sealeds), max_size=5, unique_by=lambda item: item[1].attempt_id))
async def test_records_of_any_users_arrive(channel: ChannelUnderTest, items: list[tuple[str, Sealed]]) -> None:
    await asyncio.gather(*(channel.channel.deliver(username, sealed) for username, sealed in items))
    assert {arrival(*item) for item in items} <= set(await channel.arrived())


async def test_a_name_leads_nowhere_but_to_its_user(channel: ChannelUnderTest) -> None:
    for number, name in enumerate(NASTY_NAMES):
        await channel.channel.deliver(name, record(number))
    assert {username for username, *_ in await channel.arrived()} == set(NASTY_NAMES)
