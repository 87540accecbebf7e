"""The properties that a rollout's queues and table on AWS should have, and how the table is made.

The CloudFormation template (see ``cloudformation``) uses the same properties, because it names them as the API does.
What a channel needs on AWS is in its folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults, is_missing
from worker.adapters.aws.queue import DAY
from worker.adapters.ledgers.dynamodb.schema import definition
from worker.adapters.queues.sqs.fitness import RECEIVES, RETENTION
from worker.core.errors import LedgerUnavailable
from worker.core.resilience.backoff import Backoff, retry
from worker.settings.stores import ChannelSettings

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

DEAD_LETTER_RETENTION = 4 * DAY
"""Seconds that dead letters are kept: longer than a weekend, but not much, because they may be whole requests."""
TABLE_PATIENCE = 120.0
"""The most seconds to wait until a new table is ready."""
EVERY_SECOND = Backoff(first=1.0, longest=1.0)
"""A person waits for the table, so it is asked for without growing pauses."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a rollout needs on AWS; ``None``: it does not need that."""

    queue: str | None = None
    """The name of the queue of requests."""
    dead_letters: str | None = None
    """The name of the dead-letter queue."""
    table: str | None = None
    """The name of the ledger's table."""
    channel: ChannelSettings | None = None
    """The settings of a channel that is on AWS."""
    visibility: int = 60
    """The visibility timeout of the queue of requests, in seconds."""
    pool: str | None = None
    """The user pool, if the worker makes signed calls to it; it is not made."""
    pool_parts: frozenset[str] = frozenset()
    """Which ones, as parts of a policy (``setup.policies``)."""

    def __bool__(self) -> bool:
        return any((self.queue, self.table, self.channel))


# --- properties -------------------------------------------------------------------------------------------------------


def queue_properties(wanted: Wanted, dead_letters_arn: Any) -> dict[str, Any]:
    """Return the properties of the queue of requests: encrypted, kept for a day, and with many receives allowed."""
    return {
        "SqsManagedSseEnabled": True,
        "MessageRetentionPeriod": RETENTION,
        "VisibilityTimeout": wanted.visibility,
        "ReceiveMessageWaitTimeSeconds": 20,  # long polling: the longest that SQS allows
        "RedrivePolicy": {"deadLetterTargetArn": dead_letters_arn, "maxReceiveCount": RECEIVES},
    }


def dead_letters_properties() -> dict[str, Any]:
    """Return the properties of the queue for malformed messages and for those that were received too often."""
    return {"SqsManagedSseEnabled": True, "MessageRetentionPeriod": DEAD_LETTER_RETENTION}


def table_properties(name: str) -> dict[str, Any]:
    """Return the properties of the ledger's table, which is protected against deletion by mistake."""
    return {**definition(name), "DeletionProtectionEnabled": True}


# --- making what is missing -------------------------------------------------------------------------------------------


async def table(dynamodb: DynamoDBClient, name: str) -> bool:
    """Make the table if it is missing, and wait until it is ready; return whether it was made.

    Raises ``LedgerUnavailable``.
    """
    with faults(LedgerUnavailable, f"the table {name}"):
        made = False
        try:
            await dynamodb.describe_table(TableName=name)
        except ClientError as error:
            if not is_missing(error):
                raise
            try:
                await dynamodb.create_table(**table_properties(name))
                made = True
            except ClientError as late:
                if code(late) != "ResourceInUseException":  # somebody else is making it now
                    raise
        await _wait_until_active(dynamodb, name)
        if made:
            await _protect(dynamodb, name)
        return made


async def _wait_until_active(dynamodb: DynamoDBClient, name: str) -> None:
    async def check() -> None:
        status = (await dynamodb.describe_table(TableName=name))["Table"].get("TableStatus")
        if status != "ACTIVE":
            raise LedgerUnavailable(f"the table {name} is {status} still", "run mfa-worker init again in a minute")

    await retry(check, on=LedgerUnavailable, backoff=EVERY_SECOND, patience=TABLE_PATIENCE)


async def _protect(dynamodb: DynamoDBClient, name: str) -> None:
    """Turn backups on; a new table takes that only after a while."""

    def is_too_early(error: BaseException) -> bool:
        return isinstance(error, ClientError) and code(error) == "ContinuousBackupsUnavailableException"

    async def protect() -> None:
        await dynamodb.update_continuous_backups(
            TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
        )

    await retry(protect, on=is_too_early, backoff=EVERY_SECOND, patience=TABLE_PATIENCE)
