"""What ``check`` asks of SQS: is the queue there, encrypted, patient enough, and does it forget credentials in time.

No message is received, because that raises its receive count and hides it from workers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from worker.adapters.aws.errors import faults
from worker.core.errors import QueueUnavailable
from worker.setup.checks.findings import Finding, advice, fails, ok
from worker.setup.checks.probes import Probe, permissions
from worker.setup.checks.rollout import Seen
from worker.setup.resources import LEAST_RECEIVES, LEAST_RETENTION, RECEIVES, RETENTION

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

Attributes = Mapping[str, str]

_NO_HANDLE = "mfa-worker-check"
_INVALID = frozenset({"ReceiptHandleIsInvalid", "InvalidParameterValue", "InvalidAddress"})
_COUNTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


async def look_at_queue(sqs: SQSClient, url: str, *, visibility: float) -> tuple[list[Finding], Seen]:
    """The queue of requests. ``visibility`` in seconds. Raises ``QueueUnavailable``, also where there is none."""
    attributes = await attributes_of(sqs, url)
    waiting = sum(int(attributes.get(name, 0)) for name in _COUNTS)
    tried = await permissions(
        "queue",
        [
            Probe("sqs:DeleteMessage", sqs.delete_message(QueueUrl=url, ReceiptHandle=_NO_HANDLE), _INVALID),
            Probe(
                "sqs:ChangeMessageVisibility",
                sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=_NO_HANDLE, VisibilityTimeout=0),
                _INVALID,
            ),
            _sending(sqs, url, without="push and run --input cannot put requests here"),
        ],
        {"sqs:ReceiveMessage": "it would take messages"},
    )
    return [*judged("queue", attributes, holds_credentials=True), *_hidden(attributes, visibility), *tried], Seen(
        waiting
    )


async def look_at_dead_letters(sqs: SQSClient, url: str) -> list[Finding]:
    """The dead-letter queue, as the worker writes to it. Raises ``QueueUnavailable``."""
    attributes = await attributes_of(sqs, url)
    number = int(attributes.get(_COUNTS[0], 0))
    found = judged("dead letters", attributes, holds_credentials=False)
    if number:
        cure = "look at their reasons; redrive those that were requests once their users have new credentials"
        found.append(advice("dead letters", f"{number:,} messages are there", cure))
    return [*found, *await permissions("dead letters", [_sending(sqs, url)])]


async def look_at_channel(sqs: SQSClient, url: str) -> list[Finding]:
    """The queue that sealed secrets are sent to. Raises ``QueueUnavailable``."""
    attributes = await attributes_of(sqs, url)
    found = judged("channel", attributes, holds_credentials=False)
    return [*found, *await permissions("channel", [_sending(sqs, url)])]


async def attributes_of(sqs: SQSClient, url: str) -> Attributes:
    """Everything that a queue says of itself."""
    with faults(QueueUnavailable, f"the queue {url.rpartition('/')[2]}"):
        answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        return {str(name): text for name, text in answer.get("Attributes", {}).items()}


def judged(about: str, attributes: Attributes, *, holds_credentials: bool) -> list[Finding]:
    """Whether a queue is as safe as ``init`` makes one."""
    found = [_encrypted(about, attributes)]
    if attributes.get("FifoQueue") == "true":
        found.append(fails(about, "it is a FIFO queue", "use a standard queue: order is by deadline here"))
    if holds_credentials:
        found += [_redriven(attributes), _forgets(attributes)]
    return found


def _encrypted(about: str, attributes: Attributes) -> Finding:
    if key := attributes.get("KmsMasterKeyId"):
        return ok(about, f"encrypted with the KMS key {key}")
    if attributes.get("SqsManagedSseEnabled") == "true":
        return ok(about, "encrypted with keys of SQS")
    cure = "aws sqs set-queue-attributes --attributes SqsManagedSseEnabled=true --queue-url …"
    return fails(about, "the queue is not encrypted at rest", cure)


def _redriven(attributes: Attributes) -> Finding:
    policy: Mapping[str, object] = {}
    with suppress(ValueError):
        policy = json.loads(attributes.get("RedrivePolicy") or "{}")
    target = str(policy.get("deadLetterTargetArn", "")).rpartition(":")[2]
    if not target:
        said = "no dead-letter queue: a message that kills workers comes back until it is too old"
        return advice("queue", said, f"mfa-worker init makes one; maxReceiveCount {RECEIVES}")
    receives = int(str(policy.get("maxReceiveCount", 0)))
    if receives < LEAST_RECEIVES:
        said = (
            f"maxReceiveCount is {receives}: waiting for a user whom another worker holds counts, and so does giving "
            f"back, so that requests which nobody tried would end in {target}"
        )
        return fails("queue", said, f"set it to {RECEIVES}")
    return ok("queue", f"dead letters go to {target} after {receives} receives")


def _forgets(attributes: Attributes) -> Finding:
    seconds = int(attributes.get("MessageRetentionPeriod", 0))
    if seconds < LEAST_RETENTION:
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
    return [ok("queue", f"leased messages are hidden for {visibility:g} s, renewed by whoever holds them")]


def _hours(seconds: int) -> str:
    return f"{seconds / 3600:g} h"


def _sending(sqs: SQSClient, url: str, *, without: str = "") -> Probe:
    """Sends what no queue takes: a delay above 900 s, and a character that is none. The batch itself is accepted."""
    entry = {"Id": "check", "MessageBody": "\x00", "DelaySeconds": 100_000}
    call = sqs.send_message_batch(QueueUrl=url, Entries=[entry])  # type: ignore[list-item]
    return Probe("sqs:SendMessage", call, _INVALID, without)
