"""What a rollout keeps on AWS: the names, the properties that it should have, and how what is missing is made.

The same properties go to CloudFormation (see ``cloudformation``), whose names for them are those of the API.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.ledgers.dynamodb.schema import definition
from worker.core.errors import ChannelUnavailable, LedgerUnavailable, QueueUnavailable

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_sqs import SQSClient

DAY = 86_400
"""Seconds."""
RETENTION = DAY
"""Seconds that requests are kept: an access token, the longer lived credential, lives a day at most."""
LEAST_RETENTION = 3_600
"""Seconds below which requests may vanish before a worker comes to them: an access token's usual life."""
DEAD_LETTER_RETENTION = 4 * DAY
"""Seconds that dead letters are kept: over a weekend, and no longer, since they may be whole requests."""
CHANNEL_RETENTION = 14 * DAY
"""Seconds that delivered secrets wait for whoever notifies: as long as SQS can, for nobody has another copy."""
RECEIVES = 1_000
"""How often a request may be received before it is a dead letter: the most that SQS allows ("Amazon SQS dead-letter
queues"), because a request that waits for its user, or is given back, counts as received too."""
LEAST_RECEIVES = 100
"""Receives below which a request may become a dead letter without having been tried, because its user is claimed by
another worker for so long."""
NONCURRENT_DAYS = 7
"""Days for which what was deleted from the bucket can be restored."""
TABLE_PATIENCE = 120.0
"""Seconds that a new table may take to be ready."""

PUBLIC_ACCESS_BLOCK = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
"""A bucket that nobody can open to the public, neither by a policy nor by an ACL."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The names of what a rollout keeps on AWS; ``None``: it has no such thing there."""

    queue: str | None = None
    dead_letters: str | None = None
    table: str | None = None
    bucket: str | None = None
    channel_queue: str | None = None
    secrets: bool = False
    """Whether secrets go to Secrets Manager, where nothing has to be made first."""
    prefix: str = "mfa-worker"
    """What the names of objects and secrets begin with."""
    kms_key_id: str | None = None
    """For the bucket and the secrets; by default AWS's own key for the service."""
    user_pool_id: str = ""
    visibility: int = 60
    """Seconds."""

    def __bool__(self) -> bool:
        return any((self.queue, self.table, self.bucket, self.channel_queue, self.secrets))


def name_in(url: str) -> str:
    """The name of the queue with that URL."""
    return urlsplit(url).path.rpartition("/")[2]


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


def channel_queue_properties() -> dict[str, Any]:
    """The queue that sealed secrets are sent to."""
    return {"SqsManagedSseEnabled": True, "MessageRetentionPeriod": CHANNEL_RETENTION}


def table_properties(name: str) -> dict[str, Any]:
    """The ledger's table, protected against being deleted by mistake."""
    return {**definition(name), "DeletionProtectionEnabled": True}


def bucket_encryption(wanted: Wanted) -> dict[str, Any]:
    """Encryption with KMS and a bucket key, so that not every object costs a call of KMS."""
    default = {"SSEAlgorithm": "aws:kms", **({"KMSMasterKeyID": wanted.kms_key_id} if wanted.kms_key_id else {})}
    return {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": True}


def plain_http_denied(arns: Sequence[Any], service: str) -> dict[str, Any]:
    """A policy statement: nobody talks to ``service`` (``s3``, ``sqs``) unencrypted."""
    return {
        "Sid": "NoPlainHttp",
        "Effect": "Deny",
        "Principal": "*",
        "Action": f"{service}:*",
        "Resource": list(arns) if len(arns) > 1 else arns[0],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def overwriting_denied(objects_arn: Any) -> dict[str, Any]:
    """A bucket policy's statement: objects are added, never replaced ("Enforce conditional writes", S3 user guide)."""
    return {
        "Sid": "OnlyAdded",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": objects_arn,
        "Condition": {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}},
    }


def policy(*statements: Mapping[str, Any]) -> dict[str, Any]:
    """A policy document."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


# --- making what is missing -------------------------------------------------------------------------------------------


async def queue(sqs: SQSClient, name: str, properties: Mapping[str, Any]) -> tuple[str, bool]:
    """The URL of the queue of that name, and whether it was made now. Raises ``QueueUnavailable``."""
    with faults(QueueUnavailable, f"the queue {name}"):
        try:
            return (await sqs.get_queue_url(QueueName=name))["QueueUrl"], False
        except ClientError as error:
            if code(error) not in ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"):
                raise
        attributes = {key: _attribute(value) for key, value in properties.items()}
        url = (await sqs.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"]  # type: ignore[arg-type]
        arn = await queue_arn(sqs, url)
        said = json.dumps(policy(plain_http_denied([arn], "sqs")))
        await sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": said})
        return url, True


async def queue_arn(sqs: SQSClient, url: str) -> str:
    """How policies name the queue. Raises ``QueueUnavailable``."""
    with faults(QueueUnavailable, f"the queue {name_in(url)}"):
        return (await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"]))["Attributes"]["QueueArn"]


def _attribute(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


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


async def bucket(s3: S3Client, wanted: Wanted, region: str) -> bool:
    """Whether the bucket was made now, closed before it can hold anything. Raises ``ChannelUnavailable``."""
    name = wanted.bucket or ""
    with faults(ChannelUnavailable, f"the bucket {name}"):
        try:
            await s3.head_bucket(Bucket=name)
        except ClientError as error:
            if code(error) not in ("404", "NoSuchBucket"):
                raise
        else:
            return False
        where: Any = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            await s3.create_bucket(Bucket=name, **where)
        except ClientError as error:
            if code(error) == "BucketAlreadyOwnedByYou":  # somebody else made it just now, with our account
                return False
            raise
        await _close(s3, name, bucket_encryption(wanted), _partition(region))
        return True


async def _close(s3: S3Client, name: str, encryption: Any, partition: str) -> None:
    arn = f"arn:{partition}:s3:::{name}"
    statements = (plain_http_denied([arn, f"{arn}/*"], "s3"), overwriting_denied(f"{arn}/*"))
    await s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=PUBLIC_ACCESS_BLOCK)  # type: ignore[arg-type]
    await s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [encryption]})
    await s3.put_bucket_policy(Bucket=name, Policy=json.dumps(policy(*statements)))
    await s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    expiry: Any = {
        "ID": "forget",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": NONCURRENT_DAYS},
    }
    await s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [expiry]})


def _partition(region: str) -> str:
    for prefix, partition in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if region.startswith(prefix):
            return partition
    return "aws"
