"""What an SQS queue says of itself: whether it will do, how many messages there are, what becomes of bad ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from worker.adapters.aws.errors import faults
from worker.adapters.aws.sqs import TIMEOUT, is_fifo
from worker.core.errors import QueueUnavailable, UsageError

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

QUEUE = "the queue"
"""What errors call the queue of requests."""
_TIMEOUT = 5.0
"""Seconds for one count. It is asked for again anyway, and whoever waits for it holds up the end of the run."""
_COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


async def attributes_of(sqs: SQSClient, url: str) -> Mapping[str, Any]:
    """All attributes. Raises ``QueueUnavailable``, and ``UsageError`` where there is no queue, or a FIFO one."""
    missing = UsageError("there is no queue at queue.url", "correct it, or create it: mfa-worker init")
    with faults(QueueUnavailable, QUEUE, missing):
        async with asyncio.timeout(TIMEOUT):
            answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    found: Mapping[Any, Any] = answer.get("Attributes", {})
    if is_fifo(url, found):
        raise UsageError(
            "queue.url names a FIFO queue, where one user's message holds up others",
            "use a standard queue: the ledger keeps the order that counts",
        )
    return found


async def count(sqs: SQSClient, url: str) -> int:
    """About how many messages there are, whoever holds them. Raises ``QueueUnavailable``."""
    with faults(QueueUnavailable, QUEUE):
        async with asyncio.timeout(_TIMEOUT):
            answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=_COUNTS)
        attributes = answer.get("Attributes", {})
        if not attributes.keys() >= set(_COUNTS):
            raise ValueError("half an answer")
        return sum(int(attributes[name]) for name in _COUNTS)


def redrives_within(seconds: float, attributes: Mapping[str, Any], visibility: int) -> bool:
    """Whether the queue's own redrive policy takes a message that nobody deletes within so many seconds."""
    policy = json.loads(attributes.get("RedrivePolicy") or "{}")
    return bool(policy) and int(policy.get("maxReceiveCount", 0)) * visibility <= seconds
