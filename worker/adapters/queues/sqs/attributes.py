"""The attributes of the SQS queue of requests: whether it is usable, its number of messages, its redrive policy."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from worker.adapters.aws.errors import faults
from worker.adapters.aws.sqs import TIMEOUT, is_fifo
from worker.adapters.queues.sqs.fitness import redrive_policy
from worker.core.errors import QueueUnavailable, UsageError

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

QUEUE = "the queue"
"""What errors call the queue of requests."""
_TIMEOUT = 5.0
"""Seconds for one count: short, because the count is repeated anyway, and waiting for it delays the end of the run."""
COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
"""The attributes whose sum is the number of messages: visible, leased, and delayed ones."""


async def attributes_of(sqs: SQSClient, url: str) -> Mapping[str, Any]:
    """All attributes of the queue. Raises ``QueueUnavailable``; ``UsageError`` if it is missing or a FIFO queue."""
    missing = UsageError(
        f"there is no queue at queue.url, {url}, or not in this Region",
        "correct queue.url, aws.region or the account; where a rollout begins, create it: mfa-worker init",
    )
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


async def count(sqs: SQSClient, url: str, what: str = QUEUE) -> int:
    """The approximate number of messages, leased ones included; ``what``: the queue in words.

    Raises ``QueueUnavailable``.
    """
    with faults(QueueUnavailable, what):
        async with asyncio.timeout(_TIMEOUT):
            answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=COUNTS)
        attributes = answer.get("Attributes", {})
        if not attributes.keys() >= set(COUNTS):
            raise ValueError("a count is missing from the answer")
        return sum(int(attributes[name]) for name in COUNTS)


def redrives_within(seconds: float, attributes: Mapping[str, Any], visibility: int) -> bool:
    """Whether the queue's redrive policy removes a message that is never deleted within so many seconds."""
    policy = redrive_policy(attributes)
    return bool(policy.target) and policy.receives * visibility <= seconds
