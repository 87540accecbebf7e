"""An SQS queue, of requests or of sealed secrets: how it is named, created, and checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.aws.policy import document, plain_http_denied
from worker.adapters.aws.sqs import is_encrypted, is_fifo
from worker.adapters.checks.findings import Finding, fails, ok
from worker.adapters.checks.probes import Probe
from worker.core.errors import QueueUnavailable
from worker.settings.queue_urls import named

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

DAY = 86_400
"""Seconds in a day: SQS takes the retention period of messages in seconds."""

INVALID = frozenset({"ReceiptHandleIsInvalid", "InvalidParameterValue", "InvalidAddress"})
"""Codes with which SQS refuses invalid parameters; it checks the permission before them."""
_NO_QUEUE = frozenset({"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"})
"""Codes for a queue that does not exist."""


def region_and_account(url: str) -> tuple[str, str]:
    """The Region and the account in a queue's URL (SQS developer guide, "Queue and message identifiers").

    Each is empty where the URL has none: of an emulator, of a VPC endpoint.
    """
    host = urlsplit(url).hostname or ""
    region = re.fullmatch(r"sqs(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?", host)
    return (region[1] if region else ""), named(url).account


# --- creating it ------------------------------------------------------------------------------------------------------


async def make(sqs: SQSClient, name: str, properties: Mapping[str, Any]) -> tuple[str, bool]:
    """Create the queue if it is missing; return its URL and whether it was created. Raises ``QueueUnavailable``."""
    with faults(QueueUnavailable, f"the queue {name}"):
        try:
            return (await sqs.get_queue_url(QueueName=name))["QueueUrl"], False
        except ClientError as error:
            if code(error) not in _NO_QUEUE:
                raise
        attributes = {key: _attribute(value) for key, value in properties.items()}
        url = (await sqs.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"]  # type: ignore[arg-type]
        policy = json.dumps(document(plain_http_denied([await arn_of(sqs, url)], "sqs")))
        await sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        return url, True


async def arn_of(sqs: SQSClient, url: str) -> str:
    """The ARN of the queue. Raises ``QueueUnavailable``."""
    with faults(QueueUnavailable, f"the queue {named(url).name}"):
        return (await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"]))["Attributes"]["QueueArn"]


def _attribute(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# --- checking it ------------------------------------------------------------------------------------------------------


async def attributes_of(sqs: SQSClient, url: str) -> Mapping[str, str]:
    """All attributes of a queue. Raises ``QueueUnavailable``, also if there is no queue."""
    with faults(QueueUnavailable, f"the queue {named(url).name}"):
        answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        return {str(name): text for name, text in answer.get("Attributes", {}).items()}


def judged(about: str, attributes: Mapping[str, str]) -> list[Finding]:
    """The findings about a queue for requests or secrets: whether it is as safe as one that ``init`` creates."""
    found = [_encrypted(about, attributes)]
    if is_fifo("", attributes):
        found.append(fails(about, "it is a FIFO queue", "use a standard queue: order is by deadline here"))
    return found


def _encrypted(about: str, attributes: Mapping[str, str]) -> Finding:
    if key := attributes.get("KmsMasterKeyId"):
        return ok(about, f"encrypted with the KMS key {key}")
    if is_encrypted(attributes):
        return ok(about, "encrypted with keys of SQS")
    cure = "aws sqs set-queue-attributes --attributes SqsManagedSseEnabled=true --queue-url …"
    return fails(about, "the queue is not encrypted at rest", cure)


def sending(sqs: SQSClient, url: str, *, without: str = "") -> Probe:
    """A probe of sending, with a message that no queue accepts: a delay above 900 s, and a forbidden character."""
    entry = {"Id": "check", "MessageBody": "\x00", "DelaySeconds": 100_000}
    call = sqs.send_message_batch(QueueUrl=url, Entries=[entry])  # type: ignore[list-item]
    return Probe("sqs:SendMessage", call, INVALID, without)
