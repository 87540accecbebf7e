"""What ``check`` asks SQS about the queue of requests: does it exist, is it encrypted, how long does it keep messages,
and how often may a message be received.

No message is received, because that raises its receive count and hides it from workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from worker.adapters.aws import queue
from worker.adapters.aws.sqs import is_encrypted
from worker.adapters.checks.findings import Finding, advice, fails, ok
from worker.adapters.checks.probes import Probe, permissions
from worker.adapters.checks.seen import Seen
from worker.adapters.queues.sqs import fitness
from worker.adapters.queues.sqs.attributes import COUNTS
from worker.adapters.queues.sqs.dead_letters import dead_letter_queues
from worker.core.errors import QueueUnavailable
from worker.core.words import duration
from worker.settings.queue_urls import named

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

_DEAD_LETTERS = "dead letters"
"""What findings about the dead-letter queues are about."""
Attributes = Mapping[str, str]
"""A queue's attributes, as GetQueueAttributes returns them."""

_NO_HANDLE = "mfa-worker-check"
"""A receipt handle that no message has: SQS refuses it only after it has checked the permission."""
_VISIBLE = "ApproximateNumberOfMessages"
"""The attribute that says how many messages could be received now."""


async def look_at_queue(sqs: SQSClient, url: str, *, visibility: float) -> tuple[list[Finding], Seen]:
    """Check the queue of requests; ``visibility`` in seconds. Raises ``QueueUnavailable``, also if there is none."""
    attributes = await queue.attributes_of(sqs, url)
    waiting = sum(int(attributes.get(name, 0)) for name in COUNTS)
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
    return [*judged("queue", url, attributes, holds_credentials=True), _hidden(visibility), *tried], Seen(waiting)


async def look_at_dead_letters(sqs: SQSClient, url: str, dead_letter_url: str | None) -> list[Finding]:
    """Check where dead letters of the queue at ``url`` go, and notes on malformed messages, without receiving any.

    Raises ``QueueUnavailable``.
    """
    try:
        of_requests = await queue.attributes_of(sqs, url)
    except QueueUnavailable:  # another question says why
        of_requests = {}
    found: list[Finding] = []
    for each in dead_letter_queues(url, of_requests, dead_letter_url):
        attributes = await queue.attributes_of(sqs, each.url)
        found += judged(_DEAD_LETTERS, each.url, attributes, holds_credentials=False)
        troubles = fitness.dead_letter_troubles(each.url, attributes, of_requests)
        found += [
            (fails if trouble.loses else advice)(_DEAD_LETTERS, trouble.said, trouble.cure) for trouble in troubles
        ]
        if number := int(attributes.get(_VISIBLE, 0)):
            said = f"{number:,} messages are in {named(each.url).name}: notes on malformed messages, or dead letters"
            found.append(
                advice(_DEAD_LETTERS, said, "mfa-worker status tells them apart, redrive brings requests back")
            )
        if each.has_notes:
            found += await permissions(_DEAD_LETTERS, [queue.sending(sqs, each.url)])
    return found


async def look_at_sources(sqs: SQSClient, url: str) -> list[Finding]:
    """Look whether the queue of requests is the dead-letter queue of another. Raises what the SDK raises."""
    found = (await sqs.list_dead_letter_source_queues(QueueUrl=url)).get("queueUrls", [])
    if not found:
        return []
    said = f"it is the dead-letter queue of {named(found[0]).name}: what that one gives up comes here as requests"
    return [advice("queue", said, "give that queue a dead-letter queue of its own")]


def judged(about: str, url: str, attributes: Attributes, *, holds_credentials: bool) -> list[Finding]:
    """Check that a queue is as safe as ``init`` makes one; ``holds_credentials``: it is the queue of requests."""
    if not holds_credentials:
        return queue.judged(about, attributes)
    troubles = fitness.troubles(url, attributes)
    found = [(fails if each.loses else advice)(about, each.said, each.cure) for each in troubles]
    return [*found, *_as_it_should_be(about, attributes)]


def _as_it_should_be(about: str, attributes: Attributes) -> Iterator[Finding]:
    if is_encrypted(attributes):
        yield from (each for each in queue.judged(about, attributes) if not each.fails)
    policy = fitness.redrive_policy(attributes)
    target = named(policy.target).name
    if not target:
        said = "no dead-letter queue: a message that kills workers comes back until it is too old"
        yield advice(about, said, f"mfa-worker init makes one; maxReceiveCount {fitness.RECEIVES}")
    elif policy.receives >= fitness.MIN_RECEIVES:
        yield ok(about, f"dead letters go to {target} after {policy.receives} receives")
    kept = int(attributes.get("MessageRetentionPeriod") or 0)
    if fitness.MIN_RETENTION <= kept <= fitness.RETENTION:
        yield ok(about, f"messages are kept for {duration(kept)}")


def _hidden(visibility: float) -> Finding:
    return ok("queue", f"leased messages are hidden for {visibility:g} s, renewed by the worker that leased them")
