"""The table at the end of a rollout: what of it outlives it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.adapters.aws.errors import faults
from worker.core.errors import LedgerUnavailable

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient


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
