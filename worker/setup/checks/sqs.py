"""What ``check`` asks SQS about the queue of requests: does it exist, is it encrypted, how long does it keep messages,
and how often may a message be received.

No message is received, because that raises its receive count and hides it from workers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from worker.adapters.aws import queue
from worker.adapters.checks.findings import Finding, advice, fails, ok
from worker.adapters.checks.probes import Probe, permissions
from worker.adapters.checks.seen import Seen
from worker.setup.resources import MIN_RECEIVES, MIN_RETENTION, RECEIVES, RETENTION

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

Attributes = Mapping[str, str]
"""A queue's attributes, as GetQueueAttributes returns them."""

_NO_HANDLE = "mfa-worker-check"
"""A receipt handle that no message has: SQS refuses it only after it has checked the permission."""
_VISIBLE = "ApproximateNumberOfMessages"
"""The attribute that says how many messages could be received now."""
_COUNTS = (_VISIBLE, "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
"""The attributes that together say how many messages are on a queue (SQS API, GetQueueAttributes)."""


async def look_at_queue(sqs: SQSClient, url: str, *, visibility: float) -> tuple[list[Finding], Seen]:
    """Check the queue of requests; ``visibility`` in seconds. Raises ``QueueUnavailable``, also if there is none."""
    attributes = await queue.attributes_of(sqs, url)
    waiting = sum(int(attributes.get(name, 0)) for name in _COUNTS)
    tried = await permissions(
        "queue",
        [
            Probe("sqs:DeleteMessage", sqs.delete_message(QueueUrl=url, ReceiptHandle=_NO_HANDLE), queue.INVALID),
            Probe(
                "sqs:ChangeMessageVisibility",
                sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=_NO_HANDLE, VisibilityTimeout=0),
                queue.INVALID,
            ),
            queue.sending(sqs, url, without="push and run --input cannot put requests here"),
        ],
        {"sqs:ReceiveMessage": "it would take messages"},
    )
    return [*judged("queue", attributes, holds_credentials=True), *_hidden(attributes, visibility), *tried], Seen(
        waiting
    )


async def look_at_dead_letters(sqs: SQSClient, url: str) -> list[Finding]:
    """Check the dead-letter queue, to which the worker writes malformed messages. Raises ``QueueUnavailable``."""
    attributes = await queue.attributes_of(sqs, url)
    number = int(attributes.get(_VISIBLE, 0))
    found = judged("dead letters", attributes, holds_credentials=False)
    if number:
        cure = "look at their reasons; redrive those that were requests once their users have new credentials"
        found.append(advice("dead letters", f"{number:,} messages are there", cure))
    return [*found, *await permissions("dead letters", [queue.sending(sqs, url)])]


def judged(about: str, attributes: Attributes, *, holds_credentials: bool) -> list[Finding]:
    """Check that a queue is as safe as ``init`` makes one; ``holds_credentials``: it is the queue of requests."""
    found = queue.judged(about, attributes)
    if holds_credentials:
        found += [_redrive_policy(attributes), _retention(attributes)]
    return found


def _redrive_policy(attributes: Attributes) -> Finding:
    policy: Mapping[str, object] = {}
    with suppress(ValueError):
        policy = json.loads(attributes.get("RedrivePolicy") or "{}")
    target = str(policy.get("deadLetterTargetArn", "")).rpartition(":")[2]
    if not target:
        said = "no dead-letter queue: a message that kills workers comes back until it is too old"
        return advice("queue", said, f"mfa-worker init makes one; maxReceiveCount {RECEIVES}")
    receives = int(str(policy.get("maxReceiveCount", 0)))
    if receives < MIN_RECEIVES:
        said = (
            f"maxReceiveCount is {receives}: waiting for a user whom another worker claims counts, and so does giving "
            f"back, so that requests which nobody tried would end in {target}"
        )
        return fails("queue", said, f"set it to {RECEIVES}")
    return ok("queue", f"dead letters go to {target} after {receives} receives")


def _retention(attributes: Attributes) -> Finding:
    seconds = int(attributes.get("MessageRetentionPeriod", 0))
    if seconds < MIN_RETENTION:
        said = f"messages are kept for {_hours(seconds)}: requests vanish before they are worked on"
        return fails("queue", said, f"set MessageRetentionPeriod to {RETENTION}")
    if seconds > RETENTION:
        said = f"messages are kept for {_hours(seconds)}, and an access token lives 24 h at most"
        return advice("queue", said, f"credentials should not outlive their use: MessageRetentionPeriod {RETENTION}")
    return ok("queue", f"messages are kept for {_hours(seconds)}")


def _hidden(attributes: Attributes, visibility: float) -> list[Finding]:
    delay = int(attributes.get("DelaySeconds", 0))
    if delay:
        said = f"every message is delayed by {delay} s, while its credential ages"
        return [advice("queue", said, "set DelaySeconds to 0")]
    return [ok("queue", f"leased messages are hidden for {visibility:g} s, renewed by the worker that leased them")]


def _hours(seconds: int) -> str:
    return f"{seconds / 3600:g} h"
