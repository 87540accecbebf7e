"""A queue on SQS at the end of a rollout: what waits in it, who else uses it, how it is emptied, how it is deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults, is_missing
from worker.core.errors import QueueUnavailable
from worker.settings.queue_urls import named, same

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

PURGE_EVERY = 60.0
"""Seconds in which a queue can be purged once (API reference, PurgeQueue)."""
ATTEMPTS = 3
"""How often a queue is purged while somebody else purges it too; then their purge took what was there."""
UNKNOWN_QUESTION = "InvalidAction"
"""The code of a stand-in for SQS that does not know whose dead letters a queue has; SQS itself does."""
_COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
"""The attributes of a queue that together say how many messages are in it."""

Pause = Callable[[float], Awaitable[object]]
"""Waits for so many seconds, and says what for."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queue as it is found."""

    url: str
    messages: int
    """About how many there are, hidden and delayed ones included."""
    shared_with: Sequence[str] = ()
    """The names of other queues whose dead letters go there too."""


async def look(sqs: SQSClient, url: str, what: str, *, ours: str | None = None) -> Waiting | None:
    """Look at a queue; ``None`` if there is none. Raises ``QueueUnavailable``.

    ``what``: the words for it in an error. ``ours``: for a dead-letter queue, the URL of the queue of requests.
    """
    with faults(QueueUnavailable, what):
        try:
            answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        found: Any = answer.get("Attributes", {})
        messages = sum(int(found.get(name) or 0) for name in _COUNTS)
        others = [] if ours is None else await _other_sources(sqs, url, ours)
    return Waiting(url, messages, others)


async def _other_sources(sqs: SQSClient, url: str, ours: str) -> list[str]:
    others = []
    try:
        async for page in sqs.get_paginator("list_dead_letter_source_queues").paginate(QueueUrl=url):
            others += [named(each).name for each in page.get("queueUrls", ()) if not same(each, ours)]
    except ClientError as error:
        if code(error) != UNKNOWN_QUESTION:
            raise
    return others


async def purge(sqs: SQSClient, queue: Waiting, what: str, pause: Pause) -> None:
    """Delete every message of a queue, also those that are received just now. Raises ``QueueUnavailable``.

    What was sent before is gone within a minute (API reference, PurgeQueue). Where the queue was purged within the last
    minute, and something has come since, that one is waited for.
    """
    for _ in range(ATTEMPTS - 1):
        if await _purge_once(sqs, queue.url, what) or not queue.messages:
            return
        await pause(PURGE_EVERY + 1)
    with faults(QueueUnavailable, what):
        await sqs.purge_queue(QueueUrl=queue.url)


async def _purge_once(sqs: SQSClient, url: str, what: str) -> bool:
    """``False`` where it was purged within the last minute."""
    with faults(QueueUnavailable, what):
        try:
            await sqs.purge_queue(QueueUrl=url)
        except ClientError as error:
            if code(error).removeprefix("AWS.SimpleQueueService.") != "PurgeQueueInProgress":
                raise
            return False
    return True


async def delete(sqs: SQSClient, url: str, what: str) -> bool:
    """Delete a queue with all that is in it; return whether there was one. Raises ``QueueUnavailable``.

    It takes up to 60 seconds until it is gone everywhere (API reference, DeleteQueue).
    """
    with faults(QueueUnavailable, what):
        try:
            await sqs.delete_queue(QueueUrl=url)
        except ClientError as error:
            if is_missing(error):
                return False
            raise
    return True


async def pause_saying(seconds: float, tell: Callable[[str], object], what: str) -> None:
    """Wait, and say for what."""
    tell(f"{what} was purged within the last minute, and SQS does that once in 60 seconds: waiting")
    await asyncio.sleep(seconds)
