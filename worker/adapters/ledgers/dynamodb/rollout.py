"""The item that says to which rollout the table belongs: its stamp, and what the rollout notes of its beginning.

The stamp is written in one transaction with the first user's row (``writes``), and is marked then: it is followed by
users. Workers of an earlier version wrote a stamp without a mark when they opened the table; whether users follow that
one must be looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.ledgers.dynamodb.rows import Item
from worker.adapters.ledgers.dynamodb.schema import KEY, ROLLOUT
from worker.core.errors import LedgerUnavailable, PersonMustAct, UsageError

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

HAS_USERS = "has users"
"""The mark: an attribute (BOOL) that is written with the first user's row."""
_STAMP = "stamp "
"""Prefix of the attributes with the parts of the stamp."""
_NOTE = "note "
"""Prefix of the attributes with notes (``ledgers.found.Found.notes``)."""
_KEY = {KEY: {"S": ROLLOUT}}


class RolloutItem:
    """Reads and writes the item. All methods raise ``LedgerUnavailable``."""

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._dynamodb, self._table = dynamodb, table

    async def read(self, *, must_exist: bool = False) -> Item:
        """The item; empty if there is none. ``must_exist``: whether the table had to be there (for the advice).

        Raises ``UsageError`` if there is no such table, or its key is another; ``PersonMustAct`` if it is missing and
        had to be there.
        """
        with faults(LedgerUnavailable, "the ledger"):
            try:
                answer = await self._dynamodb.get_item(TableName=self._table, Key=_KEY, ConsistentRead=True)
            except ClientError as error:
                if code(error) == "ResourceNotFoundException" and must_exist:
                    raise PersonMustAct(
                        f"the table {self._table} does not exist here, and it must",
                        "restore it: it knows who was delivered already; or correct ledger.table and aws.region. "
                        "Where no rollout has begun: mfa-worker init",
                    ) from None
                if code(error) == "ResourceNotFoundException":
                    raise UsageError(
                        f"the table {self._table} does not exist",
                        "create it: mfa-worker init; if a rollout has begun in it, restore it from its backup",
                    ) from None
                if code(error) == "ValidationException":
                    raise UsageError(
                        f"the table {self._table} is no ledger: its key is another",
                        "correct ledger.table, or create a table: mfa-worker init",
                    ) from None
                raise
        item: Item = answer.get("Item") or {}
        return item

    async def note(self, name: str, value: str | None, instead_of: str | None) -> bool:
        """See ``DynamoLedger.note``."""
        return await self._change(_NOTE + name, value, instead_of)

    async def restamp(self, name: str, value: str, instead_of: str) -> bool:
        """See ``DynamoLedger.restamp``."""
        return await self._change(_STAMP + name, value, instead_of)

    async def _change(self, attribute: str, value: str | None, instead_of: str | None) -> bool:
        """Set or (``None``) remove an attribute, if it is ``instead_of`` now (``None``: not there); whether it was."""
        values: Item = {}
        if value is not None:
            values[":new"] = {"S": value}
        if instead_of is not None:
            values[":old"] = {"S": instead_of}
        given: Any = {"ExpressionAttributeValues": values} if values else {}
        with faults(LedgerUnavailable, "the ledger"):
            try:
                await self._dynamodb.update_item(
                    TableName=self._table,
                    Key=_KEY,
                    UpdateExpression="REMOVE #changed" if value is None else "SET #changed = :new",
                    ConditionExpression="attribute_not_exists(#changed)" if instead_of is None else "#changed = :old",
                    ExpressionAttributeNames={"#changed": attribute},
                    **given,
                )
            except ClientError as error:
                if code(error) != "ConditionalCheckFailedException":
                    raise
                return False
        return True

    async def forget(self, name: str) -> None:
        """See ``DynamoLedger.forget``."""
        with faults(LedgerUnavailable, "the ledger"):
            await self._dynamodb.update_item(
                TableName=self._table,
                Key=_KEY,
                UpdateExpression="REMOVE #part",
                ExpressionAttributeNames={"#part": _STAMP + name},
            )


def stamp_of(item: Item) -> Mapping[str, str]:
    """The stamp in the item."""
    return {name.removeprefix(_STAMP): value["S"] for name, value in item.items() if name.startswith(_STAMP)}


def notes_of(item: Item) -> Mapping[str, str]:
    """The notes in the item."""
    return {name.removeprefix(_NOTE): value["S"] for name, value in item.items() if name.startswith(_NOTE)}


def is_stamped(item: Item, stamp: Mapping[str, str]) -> bool:
    """Whether the item has the whole stamp, with the mark."""
    return HAS_USERS in item and stamp_of(item).items() >= stamp.items()


def stamping(table: str, stamp: Mapping[str, str], found: Item) -> dict[str, Any]:
    """The arguments of an update that writes stamp and mark, if stamp and mark are still as they were ``found``."""
    names = {f"#n{number}": _STAMP + name for number, name in enumerate(stamp)} | {"#mark": HAS_USERS}
    values: Item = {f":v{number}": {"S": value} for number, value in enumerate(stamp.values())}
    values[":mark"] = {"BOOL": True}
    sets = ", ".join(["#mark = :mark", *(f"#n{number} = :v{number}" for number in range(len(stamp)))])
    conditions = [f"attribute_{'' if HAS_USERS in found else 'not_'}exists(#mark)"]
    for number, name in enumerate(stamp):
        if _STAMP + name in found:
            values[f":f{number}"] = found[_STAMP + name]
            conditions.append(f"#n{number} = :f{number}")
        else:
            conditions.append(f"attribute_not_exists(#n{number})")
    return {
        "TableName": table,
        "Key": _KEY,
        "UpdateExpression": f"SET {sets}",
        "ConditionExpression": " AND ".join(conditions),
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
    }
