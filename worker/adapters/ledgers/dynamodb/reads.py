"""Reading the one table: one user, a page of the index, or everything. All reads of the table itself are consistent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from worker.adapters.aws.errors import faults
from worker.adapters.ledgers.dynamodb.coalescing import Coalescer
from worker.adapters.ledgers.dynamodb.rows import (
    DETAIL,
    REASON,
    RECORDED,
    ROSTER,
    ROW,
    SHARDS,
    STATE,
    USER,
    VERSION,
    Bucket,
    Item,
    bucket_of,
    user_key,
    username_of,
)
from worker.adapters.ledgers.dynamodb.schema import KEY, SHARD, UNFINISHED
from worker.core.errors import LedgerUnavailable
from worker.core.model import State
from worker.core.resilience.backoff import Backoff, retry

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

BATCH = 100
"""The highest number of items in one BatchGetItem (DynamoDB developer guide)."""
PAGE = 1000
"""Items that one request reads: limited so that parsing does not block the event loop for long (AWS's limit is 1
MB)."""
SEGMENTS = 4
"""Parts of the table that are counted in parallel."""
ATTEMPTS = 6
"""How often BatchGetItem is sent, while it is throttled, for the items that it left out; then the caller gets an
error."""
BACKOFF = Backoff(first=0.05, longest=0.8)
"""Pauses between these attempts: 1.5 s in all. AWS asks for exponential backoff (API reference, BatchGetItem)."""


class _AnsweredInPart(LedgerUnavailable):
    """Some of the items are missing from the answer.

    Only this failure is retried here: the SDK has retried all others already.
    """


class Reads:
    """Everything that reads the table. All methods raise ``LedgerUnavailable``."""

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._dynamodb, self._table = dynamodb, table
        self._coalescer: Coalescer[str, Item | None] = Coalescer(self._one, self._many)

    async def user(self, username: str) -> Item | None:
        """The user's current item; requests are batched when many wait."""
        return await self._coalescer.do(username, username)

    async def close(self) -> None:
        """Wait for the answers to all requests."""
        await self._coalescer.close()

    async def _one(self, username: str) -> Item | None:
        return await self.item(user_key(username))

    async def _many(self, usernames: Sequence[str]) -> Sequence[Item | LedgerUnavailable | None]:
        found = await self.users(usernames)
        return [found.get(username) for username in usernames]

    async def item(self, key: Item) -> Item | None:
        """The item with that key."""
        with faults(LedgerUnavailable, "the ledger"):
            answer = await self._dynamodb.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        item: Item | None = answer.get("Item")
        return item

    async def users(self, usernames: Sequence[str]) -> dict[str, Item]:
        """The items of up to ``BATCH`` different users, by username; users without an item are left out."""
        return {username_of(item): item for item in await self.items([user_key(username) for username in usernames])}

    async def items(self, keys: Sequence[Item]) -> list[Item]:
        """The items with up to ``BATCH`` different keys, in no particular order; those that are not there left out."""
        found: list[Item] = []
        left: Any = {self._table: {"Keys": list(keys), "ConsistentRead": True}}

        async def ask_for_what_is_left() -> None:
            nonlocal left
            with faults(LedgerUnavailable, "the ledger"):
                answer = await self._dynamodb.batch_get_item(RequestItems=left)
                found.extend(answer["Responses"].get(self._table, ()))
            left = answer.get("UnprocessedKeys")
            if left:
                raise _AnsweredInPart(
                    "the ledger answers only in part: it is throttled", "raise the table's capacity, or wait"
                )

        await retry(ask_for_what_is_left, on=_AnsweredInPart, backoff=BACKOFF, attempts=ATTEMPTS)
        return found

    async def unfinished(self) -> AsyncGenerator[Item, None]:
        """Items that the index lists as unfinished, read again from the table; some may be finished by now.

        The index is updated after the table, usually well within a second, so a new item may be missing at first.
        """
        pages = [self._index_page(shard, None) for shard in SHARDS]
        while pages:
            asked = await asyncio.gather(*pages)
            keys = [{KEY: {"S": key}} for keys, _, _ in asked for key in keys]
            for start in range(0, len(keys), BATCH):
                for item in await self.items(keys[start : start + BATCH]):
                    yield item
            pages = [self._index_page(shard, after) for _, shard, after in asked if after]

    async def keys_in(self, shard: str) -> AsyncGenerator[str, None]:
        """The keys of all items in that partition of the index."""
        after: Any = None
        while True:
            keys, _, after = await self._index_page(shard, after)
            for key in keys:
                yield key
            if not after:
                return

    async def _index_page(self, shard: str, after: Any) -> tuple[list[str], str, Any]:
        request: dict[str, Any] = {"ExclusiveStartKey": after} if after else {}
        with faults(LedgerUnavailable, "the ledger"):
            answer = await self._dynamodb.query(
                TableName=self._table,
                IndexName=UNFINISHED,
                KeyConditionExpression="#shard = :shard",
                ExpressionAttributeNames={"#shard": SHARD, "#key": KEY},
                ExpressionAttributeValues={":shard": {"S": shard}},
                ProjectionExpression="#key",
                Limit=PAGE,
                **request,
            )
            return [item[KEY]["S"] for item in answer["Items"]], shard, answer.get("LastEvaluatedKey")

    async def in_state(self, state: State) -> AsyncGenerator[list[Item], None]:
        """Every item in that state, in pages: its ``key``, ``reason``, ``detail`` and ``row``."""
        request = {
            "FilterExpression": "#state = :state",
            "ProjectionExpression": "#key, #reason, #detail, #row",
            "ExpressionAttributeNames": {
                "#key": KEY,
                "#state": STATE,
                "#reason": REASON,
                "#detail": DETAIL,
                "#row": ROW,
            },
            "ExpressionAttributeValues": {":state": {"S": state.value}},
        }
        async for page in self._scan(request):
            yield page

    async def unrequested(self) -> AsyncGenerator[str, None]:
        """Every user who is only on the roster."""
        request = {
            "FilterExpression": "attribute_exists(#roster) AND attribute_not_exists(#version)",
            "ExpressionAttributeNames": {"#roster": ROSTER, "#version": VERSION, "#key": KEY},
            "ProjectionExpression": "#key",
        }
        async for page in self._scan(request):
            for item in page:
                yield username_of(item)

    async def has_users(self) -> bool:
        """Whether a user has a row; the items are read until one is found."""
        request = {
            "FilterExpression": "attribute_exists(#version)",
            "ProjectionExpression": "#key",
            "ExpressionAttributeNames": {"#version": VERSION, "#key": KEY},
        }
        async with aclosing(self._scan(request)) as pages:
            async for page in pages:
                if page:
                    return True
        return False

    async def everything(self) -> AsyncGenerator[list[Item], None]:
        """Every item that is a user's row, whole, in pages."""
        request = {
            "FilterExpression": "begins_with(#key, :user) AND attribute_exists(#version)",
            "ExpressionAttributeNames": {"#key": KEY, "#version": VERSION},
            "ExpressionAttributeValues": {":user": {"S": USER}},
        }
        async for page in self._scan(request):
            yield page

    async def recorded(self) -> AsyncGenerator[list[Item], None]:
        """Every item that is a user's row, in pages: what ``rows.to_recorded`` reads of it."""
        names = {f"#n{number}": name for number, name in enumerate(RECORDED)}
        request = {
            "FilterExpression": "begins_with(#n0, :user) AND attribute_exists(#version)",
            "ProjectionExpression": ", ".join(names),
            "ExpressionAttributeNames": {**names, "#version": VERSION},
            "ExpressionAttributeValues": {":user": {"S": USER}},
        }
        async for page in self._scan(request):
            yield page

    async def count(self) -> Counter[Bucket]:
        """The number of users in each bucket, counted by reading every item."""
        counted = await asyncio.gather(*(self._count_segment(segment) for segment in range(SEGMENTS)))
        return sum(counted, Counter())

    async def _count_segment(self, segment: int) -> Counter[Bucket]:
        request = {
            "ProjectionExpression": "#state, #reason, #detail, #roster",
            "ExpressionAttributeNames": {"#state": STATE, "#reason": REASON, "#detail": DETAIL, "#roster": ROSTER},
            "Segment": segment,
            "TotalSegments": SEGMENTS,
        }
        counted: Counter[Bucket] = Counter()
        async for page in self._scan(request):
            counted.update(found for item in page if (found := bucket_of(item)) is not None)
        return counted

    async def _scan(self, request: dict[str, Any]) -> AsyncGenerator[list[Item], None]:
        after: Any = {}
        while True:
            with faults(LedgerUnavailable, "the ledger"):
                answer = await self._dynamodb.scan(
                    TableName=self._table, ConsistentRead=True, Limit=PAGE, **request, **after
                )
                items = answer["Items"]
            yield items
            if "LastEvaluatedKey" not in answer:
                return
            after = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
