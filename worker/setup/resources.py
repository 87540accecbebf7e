"""What every rollout on AWS has, as it should be: the queue of requests and the ledger's table, and how they are made.

The same properties go to CloudFormation (see ``cloudformation``), whose names for them are those of the API. What a
channel has is in its folder.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.aws.queue import DAY
from worker.adapters.ledgers.dynamodb.schema import definition
from worker.core.errors import LedgerUnavailable
from worker.settings.stores import ChannelSettings

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

RETENTION = DAY
"""Seconds that requests are kept: an access token, the longer lived credential, lives a day at most."""
MIN_RETENTION = 3_600
"""Seconds below which requests may vanish before a worker comes to them: an access token's usual life."""
DEAD_LETTER_RETENTION = 4 * DAY
"""Seconds that dead letters are kept: over a weekend, and no longer, since they may be whole requests."""
RECEIVES = 1_000
"""How often a request may be received before it is a dead letter: the most that SQS allows ("Amazon SQS dead-letter
queues"), because a request that waits for its user, or is given back, counts as received too."""
MIN_RECEIVES = 100
"""Receives below which a request may become a dead letter without having been tried, because its user is claimed by
another worker for so long."""
TABLE_PATIENCE = 120.0
"""Seconds that a new table may take to be ready."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a rollout keeps on AWS; ``None``: it has no such thing there."""

    queue: str | None = None
    """Its name; so are the next two."""
    dead_letters: str | None = None
    table: str | None = None
    channel: ChannelSettings | None = None
    """The settings of a channel that is on AWS."""
    visibility: int = 60
    """Seconds."""

    def __bool__(self) -> bool:
        return any((self.queue, self.table, self.channel))


# --- properties -------------------------------------------------------------------------------------------------------


def queue_properties(wanted: Wanted, dead_letters_arn: Any) -> dict[str, Any]:
    """The queue of requests: it is encrypted, forgets what is a day old, and lets a request come back very often."""
    return {
        "SqsManagedSseEnabled": True,
        "MessageRetentionPeriod": RETENTION,
        "VisibilityTimeout": wanted.visibility,
        "ReceiveMessageWaitTimeSeconds": 20,  # long polling: the longest that SQS allows
        "RedrivePolicy": {"deadLetterTargetArn": dead_letters_arn, "maxReceiveCount": RECEIVES},
    }


def dead_letters_properties() -> dict[str, Any]:
    """The dead-letter queue: for malformed messages, and for those that were received too often."""
    return {"SqsManagedSseEnabled": True, "MessageRetentionPeriod": DEAD_LETTER_RETENTION}


def table_properties(name: str) -> dict[str, Any]:
    """The ledger's table, protected against being deleted by mistake."""
    return {**definition(name), "DeletionProtectionEnabled": True}


# --- making what is missing -------------------------------------------------------------------------------------------


async def table(dynamodb: DynamoDBClient, name: str) -> bool:
    """Whether the table was made now; it is ready when this returns. Raises ``LedgerUnavailable``."""
    with faults(LedgerUnavailable, f"the table {name}"):
        made = False
        try:
            await dynamodb.describe_table(TableName=name)
        except ClientError as error:
            if code(error) != "ResourceNotFoundException":
                raise
            try:
                await dynamodb.create_table(**table_properties(name))
                made = True
            except ClientError as late:
                if code(late) != "ResourceInUseException":  # somebody else makes it just now
                    raise
        await _until_active(dynamodb, name)
        if made:
            await _protect(dynamodb, name)
        return made


async def _until_active(dynamodb: DynamoDBClient, name: str) -> None:
    deadline = time.monotonic() + TABLE_PATIENCE
    while (status := (await dynamodb.describe_table(TableName=name))["Table"].get("TableStatus")) != "ACTIVE":
        if time.monotonic() > deadline:
            raise LedgerUnavailable(f"the table {name} is {status} still", "run mfa-worker init again in a minute")
        await asyncio.sleep(1)


async def _protect(dynamodb: DynamoDBClient, name: str) -> None:
    deadline = time.monotonic() + TABLE_PATIENCE
    while True:
        try:
            await dynamodb.update_continuous_backups(
                TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
            )
        except ClientError as error:
            if code(error) != "ContinuousBackupsUnavailableException" or time.monotonic() > deadline:
                raise
            await asyncio.sleep(1)  # a new table has them only after a while
        else:
            return
