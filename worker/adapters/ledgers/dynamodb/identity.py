"""The mark of a ledger in DynamoDB: the table's own id, which AWS gives to each table, stamped in the table.

A table that is restored from a backup or from a point in time is always a new one (developer guide, "Restoring a
table"), and so is an import or a copy under the same name: the id that stands in it is then another table's. A replica
of a global table has an id of its own as well, so the workers of one rollout must all use one Region's table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from worker.adapters.aws.errors import faults
from worker.adapters.ledgers.dynamodb.schema import KEY, mistakes
from worker.core.errors import LedgerUnavailable, PersonMustAct, UsageError

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

IDENTITY = "identity"
"""The key of the item with the table's id."""
TABLE_ID = "table_id"
"""Attribute (S): the id of the table in which the rows were written (API reference, TableDescription, ``TableId``)."""
WHAT = "the ledger"
"""What errors call the table."""


class Identity:
    """The id of one table, and the one that is stamped in it."""

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._dynamodb, self._table = dynamodb, table

    async def refusal(self) -> PersonMustAct | None:
        """The error if the table is a copy of another. A table without a stamp gets it.

        Raises ``UsageError`` or ``LedgerUnavailable`` if no ledger can work with the table (see ``schema.mistakes``).
        Needs ``dynamodb:DescribeTable`` and ``UpdateItem``.
        """
        described = await self._described()
        for mistake in mistakes(described):
            raise (LedgerUnavailable if mistake.passes else UsageError)(mistake.said, mistake.cure)
        own = _id_of(described)
        with faults(LedgerUnavailable, WHAT):
            answer = await self._dynamodb.update_item(
                TableName=self._table,
                Key={KEY: {"S": IDENTITY}},
                UpdateExpression="SET #id = if_not_exists(#id, :own)",
                ExpressionAttributeNames={"#id": TABLE_ID},
                ExpressionAttributeValues={":own": {"S": own}},
                ReturnValues="ALL_NEW",
            )
            stamped = answer["Attributes"][TABLE_ID]["S"]
        return None if stamped == own else self._copy(own, stamped)

    async def looked(self) -> PersonMustAct | None:
        """The error if the table is a copy of another, for whoever only reads. Raises ``LedgerUnavailable``.

        Needs ``dynamodb:DescribeTable`` and ``GetItem``.
        """
        own = _id_of(await self._described())
        with faults(LedgerUnavailable, WHAT):
            answer = await self._dynamodb.get_item(
                TableName=self._table, Key={KEY: {"S": IDENTITY}}, ConsistentRead=True
            )
        stamped = answer.get("Item", {}).get(TABLE_ID, {}).get("S", own)
        return None if stamped == own else self._copy(own, stamped)

    def _copy(self, own: str, stamped: str) -> PersonMustAct:
        return PersonMustAct(
            f"the table {self._table} (id {own}) is a copy of another one (id {stamped}): what was done since that "
            "copy was made is not in it. Users whom it calls delivered may hold a dead secret",
            "use the table that was worked with last, or bring this one up to date: mfa-worker recover shows how",
        )

    async def adopt(self) -> None:
        """Stamp the table with its own id, whatever was there. Raises ``LedgerUnavailable``."""
        own = _id_of(await self._described())
        with faults(LedgerUnavailable, WHAT):
            await self._dynamodb.put_item(TableName=self._table, Item={KEY: {"S": IDENTITY}, TABLE_ID: {"S": own}})

    async def _described(self) -> Mapping[str, Any]:
        with faults(LedgerUnavailable, WHAT):
            return (await self._dynamodb.describe_table(TableName=self._table))["Table"]


def _id_of(described: Mapping[str, Any]) -> str:
    """The table's id; where a stand-in for DynamoDB gives none, its name and the time at which it was made."""
    return str(described.get("TableId") or f"{described['TableArn']} {described['CreationDateTime'].isoformat()}")
