"""Conditional writes of users' rows, alone or in transactions; each write gets its own answer.

A write names the version that it replaces, so the SDK may repeat it: if the condition fails because our own row is
there already, the write has succeeded. For counting, the user's bucket before the write must be known. A single write
returns the replaced item, but a transaction does not; so a transaction only contains users whose present row this
process knows, and its conditions make sure of that.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.batching import some_at_once
from worker.adapters.ledgers.dynamodb.coalescing import Coalescer
from worker.adapters.ledgers.dynamodb.counters import Counters
from worker.adapters.ledgers.dynamodb.reads import Reads
from worker.adapters.ledgers.dynamodb.rows import (
    ROSTER,
    VERSION,
    Bucket,
    Item,
    bucket,
    bucket_of,
    to_enrolment,
    to_item,
    user_key,
)
from worker.adapters.ledgers.dynamodb.schema import KEY
from worker.core.errors import LedgerUnavailable, RecordRefused, RowUnreadable
from worker.core.model import Enrolment, Lost, WriteResult, Written

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

REMEMBERED = 10_000
"""For how many users the version and bucket of the present row are remembered."""
TRANSACTION = 100
"""The highest number of items in one transaction (DynamoDB developer guide)."""
ROSTERS_AT_ONCE = 4
"""Transactions of roster entries that are sent at the same time: 2,000 usernames/s, at 0.2 s each."""
REFUSED = "ConditionalCheckFailed"
"""DynamoDB's code for a write in a transaction whose condition was not met; for a single write with ``Exception`` at
its end."""
_ALONE = frozenset({"TransactionConflictException", "TransactionInProgressException", "ValidationException"})
"""Codes with which a transaction fails as a whole although its writes may succeed alone."""

Write = tuple[Enrolment, str | None]
"""A row and the version that it replaces."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The user's row as this process last saw it: its version and its bucket (``None``: there is none)."""

    version: str | None
    bucket: Bucket | None


_NOTHING = _Known(None, None)


class Writes:
    """Everything that writes users' items. All methods raise ``LedgerUnavailable``; ``put`` also ``RecordRefused``."""

    def __init__(self, dynamodb: DynamoDBClient, table: str, reads: Reads, counters: Counters) -> None:
        self._dynamodb, self._table = dynamodb, table
        self._reads, self._counters = reads, counters
        self._coalescer: Coalescer[Write, WriteResult] = Coalescer(self._alone, self._together)
        self._known: dict[str, _Known] = {}

    def saw(self, username: str, item: Item | None) -> None:
        """Remember the user's present item; of more than ``REMEMBERED`` users the oldest is forgotten."""
        self._remember(username, item[VERSION]["S"] if item and VERSION in item else None, bucket_of(item))

    async def put(self, row: Enrolment, replaces: str | None) -> WriteResult:
        """See ``ports.Ledger``."""
        return await self._coalescer.do((row, replaces), row.username)

    async def close(self) -> None:
        """Wait until all writes have their answers."""
        await self._coalescer.close()

    # --- single writes ------------------------------------------------------------------------------------------------

    async def _alone(self, write: Write) -> WriteResult:
        row, replaces = write
        known = self._known.get(row.username)
        # The replaced item may be large, so it is only requested if it is needed.
        sure = known is not None and replaces is not None and known.version == replaces
        with faults(LedgerUnavailable, "the ledger"):
            try:
                answer: Any = await self._dynamodb.put_item(
                    TableName=self._table, ReturnValues="NONE" if sure else "ALL_OLD", **_put(row, replaces)
                )
            except ClientError as error:
                if code(error) == "ValidationException" and "item size" in str(error).lower():
                    raise RecordRefused("ItemTooLarge") from None  # no outage: waiting would hold up everybody
                if code(error) != REFUSED + "Exception":
                    raise
                put = await self._judge(write, error.response.get("Item"))  # type: ignore[arg-type]
                if put is None:
                    raise LedgerUnavailable(
                        "the ledger changed while it was asked", "run again: nothing is lost"
                    ) from None
                return put
        old = known.bucket if sure and known else bucket_of(answer.get("Attributes"))
        return self._applied(row, old)

    # --- transactions -------------------------------------------------------------------------------------------------

    async def _together(self, writes: Sequence[Write]) -> Sequence[WriteResult | Exception]:
        """Write all users whose present row is known in one transaction, and the others alone.

        A write that made the transaction fail is left out of the next attempt.
        """
        answers: dict[int, WriteResult | Exception] = {}
        left = {number: write for number, write in enumerate(writes) if self._replaced(write)}
        single = {number: write for number, write in enumerate(writes) if number not in left}
        while len(left) > 1:
            replaced = [self._replaced(write) for write in left.values()]
            puts = [_put(row, replaces, old) for (row, replaces), old in zip(left.values(), replaced, strict=True)]
            try:
                reasons = await self._transact(puts)
            except LedgerUnavailable as unavailable:
                answers |= dict.fromkeys(left, unavailable)
                left = {}
                break
            if reasons is None:
                for (number, (row, _)), old in zip(left.items(), replaced, strict=True):
                    answers[number] = self._applied(row, old.bucket if old else None)
                left = {}
            elif guilty := {n: reason for n, reason in zip(left, reasons, strict=False) if _at_fault(reason)}:
                for number, reason in guilty.items():
                    write = left.pop(number)
                    put = await self._judged(write, reason)
                    if put is None:
                        single[number] = write
                    else:
                        answers[number] = put
            else:
                break
        single |= left
        done = await asyncio.gather(*(self._alone(write) for write in single.values()), return_exceptions=True)
        for number, one in zip(single, done, strict=True):
            if isinstance(one, BaseException) and not isinstance(one, Exception):
                raise one
            answers[number] = one
        return [answers[number] for number in range(len(writes))]

    def _replaced(self, write: Write) -> _Known | None:
        """What the write replaces; ``None`` if that is not known.

        A new row of a user of whom nothing is known is assumed to replace nothing; the write's condition checks that.
        """
        row, replaces = write
        known = self._known.get(row.username)
        if known is None and replaces is None:
            return _NOTHING
        return known if known and known.version == replaces else None

    async def _transact(self, puts: Sequence[Item]) -> Sequence[Item] | None:
        """Send one transaction: ``None`` if all writes were applied; otherwise none was.

        Then the result has a reason for each write, or is empty if only the transaction as a whole failed.
        """
        actions: Any = [{"Put": {"TableName": self._table, **put}} for put in puts]
        with faults(LedgerUnavailable, "the ledger"):
            try:
                await self._dynamodb.transact_write_items(
                    TransactItems=actions,
                    ClientRequestToken=uuid.uuid4().hex,  # the SDK's own retry is the same transaction, for ten minutes
                )
            except ClientError as error:
                if code(error) == "TransactionCanceledException":
                    reasons: Any = error.response.get("CancellationReasons", ())
                    return list(reasons)
                if code(error) in _ALONE:
                    return ()
                raise
        return None

    async def _judged(self, write: Write, reason: Item) -> WriteResult | LedgerUnavailable | RowUnreadable | None:
        if reason["Code"] != REFUSED:
            return None
        try:
            return await self._judge(write, reason.get("Item"))
        except (LedgerUnavailable, RowUnreadable) as error:
            return error

    # --- answers ------------------------------------------------------------------------------------------------------

    def _applied(self, row: Enrolment, old: Bucket | None) -> WriteResult:
        new = bucket(row)
        self._counters.move(old, new)
        self._remember(row.username, row.version, new)
        return Written(row)

    async def _judge(self, write: Write, item: Item | None) -> WriteResult | None:
        """What a failed condition means; ``None`` if the row that is there now would not have made it fail."""
        row, replaces = write
        if not item:
            item = await self._reads.item(user_key(row.username))
        found = to_enrolment(item)
        if found is not None and found.version == row.version:
            if replaced := self._replaced(write):  # it was applied before, but not counted, because its answer was lost
                self._counters.move(replaced.bucket, bucket(row))
            self.saw(row.username, item)
            return Written(found, repeated=True)
        self.saw(row.username, item)
        if (found.version if found else None) == replaces:
            return None
        return Lost(found)

    def _remember(self, username: str, version: str | None, bucket: Bucket | None) -> None:
        self._known.pop(username, None)
        self._known[username] = _Known(version, bucket)
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    # --- ports.Roster -------------------------------------------------------------------------------------------------

    async def add_to_roster(self, usernames: Iterable[str]) -> int:
        """See ``ports.Roster``; users who have an item already are not changed."""
        new = 0
        names = iter(usernames)

        async def add(page: Sequence[str]) -> None:
            nonlocal new
            async for added in self._add_page(page):
                self._counters.add(ROSTER, added)
                new += added

        pages = iter(lambda: list(dict.fromkeys(islice(names, TRANSACTION))), [])
        await some_at_once(add, pages, ROSTERS_AT_ONCE)
        return new

    async def _add_page(self, page: Sequence[str]) -> AsyncIterator[int]:
        left = list(page)
        while left:
            reasons = await self._transact([_roster(username) for username in left])
            if reasons is None:
                yield len(left)
                return
            there = {name for name, reason in zip(left, reasons, strict=False) if reason.get("Code") == REFUSED}
            others = [name for name in left if name not in there]
            if len(others) == len(left):  # the transaction failed for another reason: write them one by one
                for username in left:
                    yield await self._add_one(username)
                return
            left = others

    async def _add_one(self, username: str) -> int:
        with faults(LedgerUnavailable, "the ledger"):
            try:
                await self._dynamodb.put_item(TableName=self._table, **_roster(username))
            except ClientError as error:
                if code(error) != REFUSED + "Exception":
                    raise
                return 0
        return 1


def _put(row: Enrolment, replaces: str | None, known: _Known | None = None) -> Item:
    """The arguments of a put: item and condition. With ``known``, the condition requires exactly that present state."""
    put: Item = {"Item": to_item(row), "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    if replaces is not None:
        put["ConditionExpression"] = "#version = :version"
        put["ExpressionAttributeNames"] = {"#version": VERSION}
        put["ExpressionAttributeValues"] = {":version": {"S": replaces}}
    elif known is None:
        put["ConditionExpression"] = "attribute_not_exists(#version)"
        put["ExpressionAttributeNames"] = {"#version": VERSION}
    elif known.bucket is None:
        put["ConditionExpression"] = "attribute_not_exists(#key)"
        put["ExpressionAttributeNames"] = {"#key": KEY}
    else:
        put["ConditionExpression"] = "attribute_exists(#roster) AND attribute_not_exists(#version)"
        put["ExpressionAttributeNames"] = {"#roster": ROSTER, "#version": VERSION}
    return put


def _roster(username: str) -> Item:
    return {
        "Item": user_key(username) | {ROSTER: {"BOOL": True}},
        "ConditionExpression": "attribute_not_exists(#key)",
        "ExpressionAttributeNames": {"#key": KEY},
    }


def _at_fault(reason: Item) -> bool:
    return bool(reason.get("Code", "None") != "None")
