"""The table at the end of a rollout: what of it outlives it, and how it is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults, is_missing
from worker.core.errors import LedgerUnavailable
from worker.core.resilience.backoff import Backoff, retry

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

PATIENCE = 120.0
"""The most seconds to wait until a change of the table is done, so that the next one is taken."""
EVERY_SECOND = Backoff(first=1.0, longest=1.0)
"""A person waits, so it is asked for without growing pauses."""
BUSY = "ResourceInUseException"
"""The code while the table is being made, changed or deleted (API reference, UpdateTable, DeleteTable)."""


async def backup_days(dynamodb: DynamoDBClient, table: str) -> int:
    """For how many days AWS can restore the table as it was (point-in-time recovery); 0: not at all.

    Raises ``LedgerUnavailable``.
    """
    with faults(LedgerUnavailable, f"the table {table}"):
        answer = await dynamodb.describe_continuous_backups(TableName=table)
    found: Any = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    if found.get("PointInTimeRecoveryStatus") != "ENABLED":
        return 0
    return int(found.get("RecoveryPeriodInDays") or 35)


async def is_there(dynamodb: DynamoDBClient, table: str) -> bool:
    """Whether the table exists and is not being deleted already. Raises ``LedgerUnavailable``."""
    with faults(LedgerUnavailable, f"the table {table}"):
        try:
            found = (await dynamodb.describe_table(TableName=table))["Table"]
        except ClientError as error:
            if is_missing(error):
                return False
            raise
    return found.get("TableStatus") != "DELETING"


async def delete(dynamodb: DynamoDBClient, table: str) -> None:
    """Take the protection from the table, and delete it with all that is in it. Raises ``LedgerUnavailable``.

    It is no error if the table is gone, or is being deleted.
    """

    async def once() -> None:
        found: Any = (await dynamodb.describe_table(TableName=table))["Table"]
        if found.get("TableStatus") == "DELETING":
            return
        if found.get("DeletionProtectionEnabled"):
            await dynamodb.update_table(TableName=table, DeletionProtectionEnabled=False)
        await dynamodb.delete_table(TableName=table)

    with faults(LedgerUnavailable, f"the table {table}"):
        try:
            await retry(once, on=_is_busy, backoff=EVERY_SECOND, patience=PATIENCE)
        except ClientError as error:
            if not is_missing(error):
                raise


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, ClientError) and code(error) == BUSY
