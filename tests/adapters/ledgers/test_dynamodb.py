"""What only DynamoDB can do to a ledger: answers that get lost, a late index, cancelled transactions, throttling."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from typing import Any
from unittest.mock import Mock

import pytest

from tests.adapters.ledgers.rigs import STAMP
from tests.support.dynamodb_wire import Rollout, Said, refusal, rollout_behind_a_wire
from tests.support.emulators import Emulator, fresh
from tests.support.messages import until
from tests.support.rows import row, sealed, version
from worker.adapters.ledgers.dynamodb import writes as dynamodb_puts
from worker.adapters.ledgers.dynamodb.ledger import DynamoLedger
from worker.adapters.ledgers.dynamodb.rows import ROW, to_item, user_key
from worker.adapters.ledgers.dynamodb.schema import KEY, SHARD
from worker.core.errors import LedgerUnavailable, RecordRefused, UsageError
from worker.core.model import Lost, Reason, State, Written
from worker.pacing.pace import Pace


@pytest.fixture
async def rollout(emulator: Emulator) -> AsyncIterator[Rollout]:
    async with rollout_behind_a_wire(emulator) as made:
        yield made


# --- answers that get lost --------------------------------------------------------------------------------------------


async def test_a_write_that_the_sdk_repeats_because_its_answer_was_lost_is_mine_and_counted_once(
    rollout: Rollout,
) -> None:
    async with rollout.opened() as ledger:
        first, second = row(), row(state=State.SEALED, sealed=sealed())
        assert await ledger.read("ana") is None
        for written, replaces in ((first, None), (second, first.version)):
            rollout.wire.lose["PutItem"] = 1
            assert await ledger.put(written, replaces) == Written(written, repeated=True)
            assert (await ledger.counts()).states == {written.state: 1}
        assert await ledger.put(second, first.version) == Written(second, repeated=True)
        assert (await ledger.counts()).states == {State.SEALED: 1}


async def test_a_write_of_unknown_outcome_is_away_and_repeating_it_tells(rollout: Rollout) -> None:
    async with rollout.opened(tries=1) as ledger:
        rollout.wire.lose["PutItem"] = 1
        with pytest.raises(LedgerUnavailable):
            await ledger.put(first := row(), None)
        assert await ledger.put(first, None) == Written(first, repeated=True)
        assert (await ledger.counts()).states == {State.IN_PROGRESS: 1}


async def test_a_transaction_whose_answer_was_lost_applied_once(rollout: Rollout) -> None:
    async with rollout.opened() as ledger:
        rollout.wire.lose["TransactWriteItems"] = 1
        rows = [row(f"user {number}") for number in range(20)]
        puts = await asyncio.gather(*(ledger.put(row, None) for row in rows))
        assert rollout.wire.lose["TransactWriteItems"] == 0
        assert all(isinstance(put, Written) for put in puts)
        assert [put.row for put in puts] == rows
        assert (await ledger.counts()).states == {State.IN_PROGRESS: 20}


async def test_a_pace_whose_answer_was_lost_is_ours(rollout: Rollout) -> None:
    async with rollout.opened("one") as one, rollout.opened("two") as two:
        ahead = one.shared_time() + 1e6
        paces = Pace(0.1, 1 / 3, 1e-9, 1), Pace(ahead, 2.0, 3.0, 2), Pace(ahead + 1, 2.0, 3.0, 3)
        for before, pace in pairwise((None, *paces)):
            rollout.wire.lose["UpdateItem"] = 1
            change = Mock(return_value=pace)
            assert await one.change_pace(change) == pace
            assert rollout.wire.lose["UpdateItem"] == 0
            change.assert_called_once_with(before)
            assert await two.read_pace() == pace


async def test_a_pace_that_was_deleted_is_begun_anew(rollout: Rollout) -> None:
    async with rollout.opened() as ledger:
        ahead = ledger.shared_time() + 1e6
        await ledger.change_pace(lambda _: Pace(ahead, 2.0, 3.0, 1))
        await rollout.dynamodb.delete_item(TableName=rollout.table, Key={KEY: {"S": "pace"}})
        change = Mock(side_effect=lambda stands: Pace(ahead + 1, 2.0, 3.0, stands.version + 1 if stands else 1))
        assert await ledger.change_pace(change) == await ledger.read_pace() == Pace(ahead + 1, 2.0, 3.0, 1)
        assert change.call_count == 2


# --- alone and together -----------------------------------------------------------------------------------------------


async def test_writes_one_after_another_are_no_transactions(rollout: Rollout) -> None:
    async with rollout.opened() as ledger:
        for number in range(5):
            await ledger.put(row(f"user {number}"), None)
        assert (rollout.wire.asked["PutItem"], rollout.wire.asked["TransactWriteItems"]) == (5, 0)


async def test_many_at_once_are_few_requests_and_each_gets_its_own_answer(rollout: Rollout) -> None:
    async with rollout.opened("one") as ledger, rollout.opened("two") as other:
        standing = {f"user {number}": row(f"user {number}") for number in range(60)}
        await asyncio.gather(*(other.put(each, None) for each in standing.values()))
        for name in standing:
            await ledger.read(name)
        overtaken = {name: row(name, State.SEALED) for name in list(standing)[5::20]}
        for name, each in overtaken.items():
            await other.put(each, standing[name].version)
        rollout.wire.asked.clear()
        new = {name: row(name, State.DELIVERED) for name in standing}
        puts = await asyncio.gather(*(ledger.put(new[name], standing[name].version) for name in standing))
        for name, put in zip(standing, puts, strict=True):
            lost = name in overtaken
            assert put == (Lost(overtaken[name]) if lost else Written(new[name]))
        assert rollout.wire.asked["PutItem"] + rollout.wire.asked["TransactWriteItems"] <= 20
        await other.counts()
        assert (await ledger.counts()).states == {State.DELIVERED: 57, State.SEALED: 3}


async def test_users_who_were_forgotten_here_are_counted_as_rightly(
    rollout: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamodb_puts, "REMEMBERED", 3)
    async with rollout.opened() as ledger:
        first = [row(f"user {number}") for number in range(20)]
        second = [each._replace(state=State.SEALED, version=version()) for each in first]
        await asyncio.gather(*(ledger.put(each, None) for each in first))
        puts = await asyncio.gather(*(ledger.put(b, a.version) for a, b in zip(first, second, strict=True)))
        assert [put.row for put in puts] == second
        assert (await ledger.counts()).states == {State.SEALED: 20}


async def test_members_of_a_transaction_that_conflicts_go_alone(rollout: Rollout) -> None:
    def conflict(asked: Any) -> Said:
        codes = ["None", "TransactionConflict"] * len(asked["TransactItems"])
        reasons = [{"Code": code} for code in codes[: len(asked["TransactItems"])]]
        return refusal("TransactionCanceledException", CancellationReasons=reasons)

    rollout.wire.say["TransactWriteItems"] = conflict
    async with rollout.opened() as ledger:
        rows = [row(f"user {number}") for number in range(12)]
        assert await asyncio.gather(*(ledger.put(each, None) for each in rows)) == [Written(each) for each in rows]
        assert (await ledger.counts()).states == {State.IN_PROGRESS: 12}


@pytest.mark.parametrize("operation", ["PutItem", "TransactWriteItems"])
async def test_throttled_writes_are_away_and_say_only_the_code(rollout: Rollout, operation: str) -> None:
    rollout.wire.say[operation] = lambda _: refusal("ProvisionedThroughputExceededException")
    async with rollout.opened(tries=1) as ledger:
        rows = [row(f"user {number}") for number in range(10)]
        puts = await asyncio.gather(*(ledger.put(each, None) for each in rows), return_exceptions=True)
        unavailable = [put for put in puts if isinstance(put, LedgerUnavailable)]
        assert unavailable
        assert {str(each) for each in unavailable} == {
            f"the ledger cannot be used: ProvisionedThroughputExceededException ({operation})"
        }
        rollout.wire.say.clear()
        again = await asyncio.gather(*(ledger.put(each, None) for each in rows))
        assert all(isinstance(put, Written) for put in again)
        assert (await ledger.counts()).states == {State.IN_PROGRESS: 10}


async def test_a_throttled_batch_is_asked_for_again(rollout: Rollout) -> None:
    throttled = 2

    def part(asked: Any) -> Said | None:
        nonlocal throttled
        throttled -= 1
        return (200, {"Responses": {}, "UnprocessedKeys": asked["RequestItems"]}) if throttled >= 0 else None

    rollout.wire.say["BatchGetItem"] = part
    async with rollout.opened() as ledger:
        rows = [row(f"user {number}") for number in range(10)]
        await asyncio.gather(*(ledger.put(each, None) for each in rows))
        assert sorted([each async for each in ledger.unfinished()]) == rows


# --- the index --------------------------------------------------------------------------------------------------------


async def test_a_late_index_never_says_more_than_is_so(rollout: Rollout) -> None:
    late = to_item(row("late", State.DELIVERED)) | {SHARD: {"S": "0"}}
    await rollout.dynamodb.put_item(TableName=rollout.table, Item=late)
    async with rollout.opened() as ledger:
        await ledger.put(first := row(), None)
        assert [each async for each in ledger.unfinished()] == [first]


async def test_finished_users_are_not_in_the_index(rollout: Rollout) -> None:
    async with rollout.opened() as ledger:
        await ledger.put(first := row(), None)
        await ledger.put(row(state=State.FAILED), first.version)
        found = await rollout.dynamodb.get_item(TableName=rollout.table, Key=user_key("ana"), ConsistentRead=True)
        assert SHARD not in found["Item"]


# --- counting ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def killed(rollout: Rollout) -> Callable[[int], Awaitable[None]]:
    async def kill(users: int) -> None:
        """A worker wrote so many users and counts, and died before it said so."""
        ledger = DynamoLedger(rollout.dynamodb, rollout.table, "dead")
        for number in range(users):
            await ledger.put(row(f"dead {number}", State.FAILED, reason=Reason.REPLY_LOST), None)
        ledger._counters._timer.cancel()  # type: ignore[union-attr]

    return kill


async def test_what_a_killed_worker_did_not_say_is_missing_until_everything_is_counted(
    rollout: Rollout, killed: Callable[[int], Awaitable[None]]
) -> None:
    async with rollout.opened() as ledger:
        await ledger.put(row(), None)
        await killed(3)
        assert (await ledger.counts()).states == {State.IN_PROGRESS: 1}
        counted = await ledger.recount()
        assert counted.states == {State.IN_PROGRESS: 1, State.FAILED: 3}
        assert counted.reasons == {"reply_lost": 3}
        assert await ledger.counts() == counted


async def test_counts_are_never_negative(rollout: Rollout, killed: Callable[[int], Awaitable[None]]) -> None:
    await killed(1)
    async with rollout.opened() as ledger:
        dead = await ledger.read("dead 0")
        assert dead is not None
        await ledger.put(row("dead 0", State.DELIVERED), dead.version)
        assert (await ledger.counts()).states == {State.DELIVERED: 1}
        assert (await ledger.counts()).reasons == {}


async def test_two_that_count_at_once_correct_once(rollout: Rollout, killed: Callable[[int], Awaitable[None]]) -> None:
    await killed(3)
    async with rollout.opened("one") as one, rollout.opened("two") as two, rollout.opened("three") as three:
        await one.put(row(), None)
        counted = await asyncio.gather(one.recount(), two.recount(), three.recount())
        assert {each.accepted for each in counted} == {4}
        assert [(await each.counts()).accepted for each in (one, two, three)] == [4, 4, 4]


async def test_while_somebody_works_nothing_is_corrected(
    rollout: Rollout, killed: Callable[[int], Awaitable[None]]
) -> None:
    async with rollout.opened("one", every=60) as one, rollout.opened("two", every=0.7) as two:
        await two.put(row("first"), None)
        await two.counts()
        await one.put(row("not said yet"), None)
        counting = asyncio.create_task(two.recount())
        await until(lambda: asyncio.sleep(0, rollout.wire.asked["Scan"] > 0))
        await one.counts()
        assert (await counting).accepted == 2
        assert not [name for name in await rollout.counters() if name.startswith("base")]
        assert (await two.counts()).accepted == 2


async def test_counts_are_written_soon_without_anybody_asking(rollout: Rollout) -> None:
    async with rollout.opened("one") as one, rollout.opened("two") as two:
        await one.count(duplicates=2, malformed=1)

        async def said() -> bool:
            counts = await two.counts()
            return (counts.duplicates, counts.malformed) == (2, 1)

        await until(said)


async def test_a_worker_that_ends_leaves_its_counts_and_nothing_else(rollout: Rollout) -> None:
    for number in range(2):
        rollout.wire.lose["UpdateItem"] = 0
        async with rollout.opened(f"worker {number}", every=60) as ledger:
            await ledger.put(row(f"user {number}", State.FAILED, reason=Reason.REPLY_LOST), None)
            await ledger.count(duplicates=1)
            rollout.wire.lose["UpdateItem"] = 1 + number  # the answers to what is written at the end
    counters = await rollout.counters()
    assert not [name for name in counters if name.startswith("worker")]
    assert counters["base failed:reply_lost"] == counters["base duplicates"] == {"N": "2"}


# --- opening ----------------------------------------------------------------------------------------------------------


async def test_of_several_rollouts_that_begin_at_once_one_gets_the_table(rollout: Rollout) -> None:
    opened = await asyncio.gather(
        *(
            DynamoLedger(rollout.dynamodb, rollout.table, "one").open(STAMP | {"user pool": f"pool {number}"})
            for number in range(5)
        ),
        return_exceptions=True,
    )
    refused = [error for error in opened if isinstance(error, UsageError)]
    assert len(refused) == 4
    assert {type(each) for each in opened} == {UsageError, type(None)}


async def test_a_table_that_does_not_exist_is_said_to(rollout: Rollout) -> None:
    with pytest.raises(UsageError, match="does not exist") as raised:
        await DynamoLedger(rollout.dynamodb, fresh("nowhere"), "one").open(STAMP)
    assert raised.value.hint == "create it: mfa-worker init"


# --- large rows -------------------------------------------------------------------------------------------------------


async def test_an_item_of_an_earlier_version_at_the_limit_becomes_small_with_its_next_write(rollout: Rollout) -> None:
    old = row("ana", State.NEEDS_SESSION, reason=Reason.TOKEN_EXPIRED)
    item = to_item(old)
    ids = [f"{number:0256d}" for number in range(1_500)]
    item[ROW]["S"] = json.dumps(json.loads(item[ROW]["S"]) | {"settled": ids})
    await rollout.dynamodb.put_item(TableName=rollout.table, Item=item)
    async with rollout.opened() as ledger:
        found = await ledger.read("ana")
        assert found is not None
        written = found._replace(version=version(), settled=found.settled.add("one more"))
        others = [row(f"user {number}") for number in range(5)]
        puts = [ledger.put(written, found.version), *(ledger.put(other, None) for other in others)]
        assert await asyncio.gather(*puts) == [Written(written), *map(Written, others)]
    stored = await rollout.dynamodb.get_item(TableName=rollout.table, Key=user_key("ana"))
    assert len(str(stored["Item"])) < 16_000


async def test_a_row_that_dynamodb_will_never_take_concerns_nobody_else(rollout: Rollout) -> None:
    async with rollout.opened() as ledger:
        large = row("ana", State.SEALED, sealed=sealed(blob=b"x" * 450_000))
        others = [row(f"user {number}") for number in range(5)]
        puts = [ledger.put(large, None), *(ledger.put(other, None) for other in others)]
        answers = await asyncio.gather(*puts, return_exceptions=True)
        assert isinstance(answers[0], RecordRefused)
        assert answers[1:] == [*map(Written, others)]
        with pytest.raises(RecordRefused):
            await ledger.put(large, None)
