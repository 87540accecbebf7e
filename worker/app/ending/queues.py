"""The queues of a rollout at its end: what waits in them, and which of them other queues use too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.settings import Settings

if TYPE_CHECKING:
    from worker.adapters.aws.queue_ending import Waiting
    from worker.adapters.aws.session import Aws


@dataclass(slots=True)
class Queues:
    """The queue of requests and those of dead letters, as they are found."""

    requests: int = 0
    malformed: int = 0
    """Messages in the list of malformed ones, which an embedded queue has."""
    dead: int = 0
    """Messages in the dead-letter queues that are ours alone."""
    on_sqs: list[tuple[str, Waiting]] = field(default_factory=list)
    """Those on SQS, each with the words for it."""


async def look_at_sqs(settings: Settings, aws: Aws) -> Queues:
    """Look at the queue of requests and its dead-letter queues; those that are gone are left out.

    Raises ``QueueUnavailable``.
    """
    from worker.adapters.aws.queue import attributes_of
    from worker.adapters.aws.queue_ending import look
    from worker.adapters.queues.sqs.dead_letters import dead_letter_queues

    sqs, url, found = await aws.sqs(), settings.queue.url or "", Queues()
    ours = await look(sqs, url, "the queue of requests")
    if ours:
        found.requests = ours.messages
        found.on_sqs.append(("the queue of requests", ours))
    attributes = await attributes_of(sqs, url) if ours else {}
    for queue in dead_letter_queues(url, attributes, settings.queue.dead_letter_url):
        if there := await look(sqs, queue.url, "the dead-letter queue", ours=url):
            found.on_sqs.append(("the dead-letter queue", there))
            found.dead += 0 if there.shared_with else there.messages
    return found
