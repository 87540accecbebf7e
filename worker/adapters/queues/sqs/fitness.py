"""Whether an SQS queue is fit for requests: what of its attributes would lose messages, delay them or show them.

``run`` and ``push`` refuse the worst of it and log the rest, ``check`` and ``init`` show all of it. Nothing here does
I/O.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from worker.adapters.aws.queue import DAY
from worker.adapters.aws.sqs import is_encrypted
from worker.core.errors import UsageError
from worker.core.record import parse_object
from worker.core.shell import command_line
from worker.core.words import duration
from worker.settings.queue_urls import FIFO, named, same

RETENTION = DAY
"""Seconds that the queue should keep requests: an access token, which lives longer than a Session, lives a day at
most."""
MIN_RETENTION = 3_600
"""Seconds of retention below which requests may be deleted before a worker leases them: an access token's usual life.
"""
RECEIVES = 1_000
"""How often a request should be received at most before it becomes a dead letter: the most that SQS allows ("Amazon SQS
dead-letter queues"), because a request that waits for its user, or is given back, counts as received too."""
MIN_RECEIVES = 100
"""The ``maxReceiveCount`` below which receives are few: the worker then receives only a second of work ahead."""
FEWEST_RECEIVES = 5
"""The ``maxReceiveCount`` below which a queue is refused: each kill and each give-back is a receive, and with fewer the
kills of an ordinary day (a deployment, a lost host, a restart) are enough to make dead letters of requests that nobody
tried."""
MIN_SIZE = 64 * 1024
"""Bytes below which ``MaximumMessageSize`` may refuse a request: a token of 16 KiB and 16 KiB of attributes, escaped in
JSON."""


@dataclass(frozen=True, slots=True)
class RedrivePolicy:
    """What SQS does with a message that was received too often."""

    target: str
    """The ARN of the dead-letter queue; empty without a policy."""
    receives: int
    """After so many receives the next one moves the message there; 0 without a policy."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something about a queue of requests that a person should change."""

    said: str
    cure: str
    is_refused: bool = False
    """No request may be put on such a queue, or taken from it."""
    loses: bool = False
    """Requests would be lost: ``check`` fails."""


def redrive_policy(attributes: Mapping[str, Any]) -> RedrivePolicy:
    """The queue's redrive policy; one that cannot be read counts as none."""
    policy: Mapping[str, Any] = {}
    with suppress(ValueError, TypeError):
        policy = parse_object(str(attributes.get("RedrivePolicy") or "{}").encode())
    if not policy.get("deadLetterTargetArn"):
        return RedrivePolicy("", 0)
    receives = 0
    with suppress(ValueError, TypeError, OverflowError):
        receives = int(policy.get("maxReceiveCount") or 0)
    return RedrivePolicy(str(policy["deadLetterTargetArn"]), receives)


def troubles(url: str, attributes: Mapping[str, Any]) -> list[Trouble]:
    """What is wrong with the queue of requests at ``url``, the worst first."""
    found = [*_encryption(url, attributes), *_redrive(url, attributes), *_times(url, attributes)]
    return sorted(found, key=lambda trouble: not trouble.is_refused)


def refuse_unfit(url: str, attributes: Mapping[str, Any]) -> Sequence[Trouble]:
    """Return the troubles that are no reason to refuse the queue. Raises ``UsageError`` for the first one that is."""
    found = troubles(url, attributes)
    for trouble in found:
        if trouble.is_refused:
            raise UsageError(f"the queue at queue.url: {trouble.said}", trouble.cure)
    return found


def _encryption(url: str, attributes: Mapping[str, Any]) -> list[Trouble]:
    if is_encrypted(attributes):
        return []
    said = "it is not encrypted at rest, and requests are credentials in the clear"
    return [Trouble(said, set_attributes(url, SqsManagedSseEnabled="true"), is_refused=True, loses=True)]


def _redrive(url: str, attributes: Mapping[str, Any]) -> list[Trouble]:
    policy = redrive_policy(attributes)
    if not policy.target:
        return []
    target = named(policy.target).name
    arn = str(attributes.get("QueueArn") or url)
    cure = set_attributes(url, RedrivePolicy={"deadLetterTargetArn": policy.target, "maxReceiveCount": str(RECEIVES)})
    other = "name another dead-letter queue in its RedrivePolicy (mfa-worker init makes one), or remove the policy"
    if same(policy.target, arn):
        return [Trouble("its redrive policy names the queue itself", other, is_refused=True, loses=True)]
    if target.endswith(FIFO):
        return [Trouble(f"its redrive policy names the FIFO queue {target}", other, is_refused=True, loses=True)]
    why = (
        f"maxReceiveCount is {policy.receives}, and every kill of a worker and every message that is given back counts "
        f"as a receive: requests that nobody tried would end in {target}"
    )
    if policy.receives < FEWEST_RECEIVES:
        return [Trouble(f"{why}; at least {FEWEST_RECEIVES} are needed", cure, is_refused=True, loses=True)]
    if policy.receives < MIN_RECEIVES:
        return [Trouble(why, cure, loses=True)]
    return []


def dead_letter_troubles(url: str, attributes: Mapping[str, Any], of_requests: Mapping[str, Any]) -> list[Trouble]:
    """What is wrong with a dead-letter queue, at ``url``; ``of_requests``: the attributes of the queue of requests."""
    found, arn = [], str(of_requests.get("QueueArn") or "")
    name = named(url).name
    if arn and same(str(attributes.get("QueueArn") or url), arn):
        cure = "name another queue: mfa-worker init makes one"
        found.append(Trouble(f"{name} is the queue of requests itself", cure, is_refused=True, loses=True))
    if redrive_policy(of_requests).target and not _is_admitted(arn, attributes):
        said = f"the RedriveAllowPolicy of {name} does not admit the queue of requests"
        allow = {"redrivePermission": "byQueue", "sourceQueueArns": [arn]}
        found.append(Trouble(said, set_attributes(url, RedriveAllowPolicy=allow), loses=True))
    kept, kept_there = (int(each.get("MessageRetentionPeriod") or 0) for each in (of_requests, attributes))
    if 0 < kept_there <= kept:
        said = (
            f"{name} keeps messages for {duration(kept_there)}, counted from when they were first sent, and the queue "
            f"of requests for {duration(kept)}: dead letters vanish at once"
        )
        found.append(Trouble(said, set_attributes(url, MessageRetentionPeriod=str(kept + 3 * DAY))))
    if further := redrive_policy(attributes).target:
        said = f"{name} has a dead-letter queue itself ({named(further).name}): what goes there is counted nowhere"
        found.append(Trouble(said, "remove its RedrivePolicy"))
    return found


def _is_admitted(arn: str, attributes: Mapping[str, Any]) -> bool:
    """Whether a dead-letter queue takes the messages of the queue with that ARN (SQS API, RedriveAllowPolicy)."""
    try:
        policy = parse_object(str(attributes.get("RedriveAllowPolicy") or "{}").encode())
    except (ValueError, TypeError):
        return True
    permission, sources = policy.get("redrivePermission", "allowAll"), policy.get("sourceQueueArns")
    return permission == "allowAll" or (permission == "byQueue" and isinstance(sources, list) and arn in sources)


_TIMES: Final = "MessageRetentionPeriod", "DelaySeconds", "MaximumMessageSize"


def _times(url: str, attributes: Mapping[str, Any]) -> list[Trouble]:
    kept, delay, size = (int(attributes.get(name) or 0) for name in _TIMES)
    found = []
    if "MessageRetentionPeriod" in attributes and kept < MIN_RETENTION:
        said = f"messages are kept for {duration(kept)}: requests vanish before they are worked on"
        found.append(Trouble(said, set_attributes(url, MessageRetentionPeriod=str(RETENTION)), loses=True))
    if kept > RETENTION:
        said = f"messages are kept for {duration(kept)}, and an access token lives 24 h at most"
        cure = f"credentials should not outlive their use: {set_attributes(url, MessageRetentionPeriod=str(RETENTION))}"
        found.append(Trouble(said, cure))
    if delay:
        said = f"every message is delayed by {delay} s, while its credential ages"
        found.append(Trouble(said, set_attributes(url, DelaySeconds="0")))
    if "MaximumMessageSize" in attributes and size < MIN_SIZE:
        said = f"messages of more than {size:,} bytes are refused, and a request may have more"
        found.append(Trouble(said, set_attributes(url, MaximumMessageSize=str(256 * 1024))))
    return found


def set_attributes(url: str, **attributes: Any) -> str:
    """The command line that sets these attributes of the queue."""
    values = {name: value if isinstance(value, str) else json.dumps(value) for name, value in attributes.items()}
    words = ("--queue-url", url, "--attributes", json.dumps(values))
    return command_line("aws", "sqs", "set-queue-attributes", *words)
