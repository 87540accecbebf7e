"""Dead letters: requests that SQS moved away because they were received too often. Where they are, and how many.

They are in the target of the queue's redrive policy, or in ``queue.dead_letter_url``, which are often the same queue
and also hold the worker's own notes on malformed messages, perhaps even other queues' dead letters. SQS counts all of
them together. So where anything is there, some messages are received to tell which is which, and given back at once.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

import structlog

from worker.adapters.aws.errors import faults
from worker.adapters.aws.sqs import BATCH, in_batches, is_fifo, send_once
from worker.adapters.batching import some_at_once
from worker.adapters.queues.sqs.attributes import COUNTS
from worker.adapters.queues.sqs.fitness import redrive_policy
from worker.core.errors import ExitCode, QueueUnavailable, UsageError
from worker.core.ports import PutAside
from worker.settings.queue_urls import beside, named, same

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

log = structlog.get_logger()

WHAT = "the dead-letter queue"
"""What errors call the dead-letter queue."""
REASON, DIGEST = "reason", "digest"
"""The attributes of a note on a malformed message; its body is the digest again, which no request is."""
MOST_LOOKED_AT = 1_000
"""Messages that are looked at to tell dead letters from notes: more would take longer than a person waits for
``status``; of those beyond, the same share is taken to be dead letters."""
AT_ONCE = 4
"""Polls that are open at the same time while looking."""
HIDDEN_FOR = 20
"""Seconds for which a message that is looked at is hidden, should this process be killed before it gives it back."""
LOOKS_FOR = 5.0
"""The most seconds that a look may take; what another look hides from it is back by then, or counts as unseen."""
GONE_CURE = "create that queue again, or name another one in the RedrivePolicy: mfa-worker init makes one"
"""What to do where the target of the redrive policy does not exist: nobody sees what SQS moves there."""
_RECEIVED: Final = "DeadLetterQueueSourceArn", "SentTimestamp"


class Letter(Enum):
    """What a message in a dead-letter queue is."""

    NOTE = auto()
    """The worker's own note on a malformed message, which is counted in the ledger."""
    FOREIGN = auto()
    """A dead letter of another queue."""
    DEAD = auto()
    """A message of our queue."""


def kind_of(message: Mapping[str, Any], queue_arn: str) -> Letter:
    """What a received message is; it was received with all attributes."""
    texts = {name: each.get("StringValue") for name, each in message.get("MessageAttributes", {}).items()}
    if texts.get(REASON) and texts.get(DIGEST) and texts[DIGEST] == message.get("Body"):
        return Letter.NOTE
    source = message.get("Attributes", {}).get("DeadLetterQueueSourceArn")  # emulators do not say it
    return Letter.FOREIGN if source and not same(source, queue_arn) else Letter.DEAD


@dataclass(frozen=True, slots=True)
class DeadLetterQueue:
    """One queue that dead letters may be in."""

    url: str
    has_notes: bool
    """Whether the worker writes its notes there."""


def dead_letter_queues(
    url: str, attributes: Mapping[str, Any], dead_letter_url: str | None
) -> Sequence[DeadLetterQueue]:
    """Where dead letters of the queue at ``url`` may be, by its attributes and the setting: none, one or two queues."""
    target = redrive_policy(attributes).target
    if not target:
        return [DeadLetterQueue(dead_letter_url, has_notes=True)] if dead_letter_url else []
    if dead_letter_url and same(target, dead_letter_url):
        return [DeadLetterQueue(dead_letter_url, has_notes=True)]
    found = [DeadLetterQueue(beside(url, target), has_notes=False)]
    return [*found, DeadLetterQueue(dead_letter_url, has_notes=True)] if dead_letter_url else found


class DeadLetters:
    """Counts them. ``url`` and ``attributes`` are those of the queue of requests."""

    def __init__(self, sqs: SQSClient, url: str, attributes: Mapping[str, Any], dead_letter_url: str | None) -> None:
        self._sqs = sqs
        self._queue_arn = str(attributes.get("QueueArn") or url)
        self.queues = dead_letter_queues(url, attributes, dead_letter_url)
        self._known: dict[str, tuple[int, int]] = {}
        """By URL: how many messages there were when somebody looked, and how many of them were dead letters."""

    async def refuse_unfit(self) -> None:
        """Look at the dead-letter queues, where this role may.

        Raises ``UsageError`` if the one for notes does not exist, is a FIFO queue or the queue itself.
        """
        for queue in self.queues:
            missing = UsageError(
                "there is no queue at queue.dead_letter_url", "correct it, or create it: mfa-worker init"
            )
            try:
                attributes = await self._attributes(queue, missing)
            except UsageError:
                if queue.has_notes:
                    raise
                name = named(queue.url).name
                log.warning("queue_unfit", cause=f"its redrive policy names {name}, which is gone", cure=GONE_CURE)
                continue
            except QueueUnavailable as unavailable:
                if unavailable.exit_code is not ExitCode.PERSON_MUST_ACT:
                    raise
                log.debug("dead_letters_not_looked_at", cause=str(unavailable))  # a pusher may only send there
                continue
            if same(str(attributes.get("QueueArn") or queue.url), self._queue_arn):
                raise UsageError(
                    "the dead-letter queue is the queue itself: each malformed message would come again for ever",
                    "name another queue in queue.dead_letter_url: mfa-worker init makes one",
                )
            if is_fifo(queue.url, attributes):
                raise UsageError(
                    "the dead-letter queue is a FIFO queue, which takes no message of a standard queue",
                    "name a standard queue in queue.dead_letter_url: mfa-worker init makes one",
                )

    async def _attributes(self, queue: DeadLetterQueue, missing: UsageError | None = None) -> Mapping[Any, Any]:
        with faults(QueueUnavailable, WHAT, missing):
            async with asyncio.timeout(LOOKS_FOR):
                answer = await self._sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["All"])
        found: Mapping[Any, Any] = answer.get("Attributes", {})
        return found

    async def count(self, notes: int) -> int | None:
        """About how many there are; ``None`` where that cannot be known. ``notes``: at most so many are notes."""
        found = await asyncio.gather(*(self._count(queue, notes) for queue in self.queues))
        return None if None in found else sum(number or 0 for number in found)

    async def notes(self) -> AsyncGenerator[Sequence[PutAside]]:
        """The worker's own notes on malformed messages, as far as a look sees them. Raises ``QueueUnavailable``."""
        for queue in (each for each in self.queues if each.has_notes):
            attributes = await self._attributes(queue)
            total = sum(int(attributes.get(name) or 0) for name in COUNTS)
            if not total or redrive_policy(attributes).target:  # as in _told_apart
                continue
            seen = await Look(self._sqs, queue.url, min(total, MOST_LOOKED_AT)).messages()
            alike: dict[tuple[str, str], list[float]] = {}
            for note in (each for each in seen if kind_of(each, self._queue_arn) is Letter.NOTE):
                texts = note["MessageAttributes"]
                sent = int(note.get("Attributes", {}).get("SentTimestamp", 0)) / 1000
                alike.setdefault((texts[REASON]["StringValue"], texts[DIGEST]["StringValue"]), []).append(sent)
            yield [PutAside(*which, number=len(sent), last_seen=max(sent)) for which, sent in alike.items()]

    async def _count(self, queue: DeadLetterQueue, notes: int) -> int | None:
        try:
            attributes = await self._attributes(queue)
        except QueueUnavailable as unavailable:
            log.warning("dead_letters_not_looked_at", cause=str(unavailable), cure=unavailable.hint)
            return None
        total = sum(int(attributes.get(name) or 0) for name in COUNTS)
        if not total:
            return 0
        known = self._known.get(queue.url, (0, 0))
        if known[0] == total:
            return known[1]
        return await self._told_apart(queue, attributes, total, notes)

    async def _told_apart(self, queue: DeadLetterQueue, attributes: Mapping[Any, Any], total: int, notes: int) -> int:
        unseen_at_least = max(0, total - notes) if queue.has_notes else total
        if redrive_policy(attributes).target:  # it has a dead-letter queue itself: each look would count there
            return unseen_at_least
        look = Look(self._sqs, queue.url, min(total, MOST_LOOKED_AT))
        try:
            seen = await look.messages()
        except QueueUnavailable as unavailable:
            cure = f"{unavailable.hint}; until then this number may count notes and other queues' messages too"
            log.warning("dead_letters_not_told_apart", cause=str(unavailable), cure=cure)
            return unseen_at_least
        dead = sum(kind_of(message, self._queue_arn) is Letter.DEAD for message in seen)
        unseen = max(0, total - len(seen))
        if not unseen:
            self._known[queue.url] = total, dead
        if not seen or (unseen and not dead and queue.has_notes):
            return min(unseen, unseen_at_least)
        return dead + round(unseen * dead / len(seen))


class Look:
    """Receives up to ``most`` messages of a queue, and gives them back."""

    def __init__(self, sqs: SQSClient, url: str, most: int) -> None:
        self._sqs = sqs
        self._url = url
        self._most = most
        self._found: dict[str, Mapping[str, Any]] = {}
        self._deadline = time.monotonic() + LOOKS_FOR

    async def messages(self) -> Sequence[Mapping[str, Any]]:
        """The messages. Raises ``QueueUnavailable``."""
        try:
            await some_at_once(self._receive_on, range(min(AT_ONCE, math.ceil(self._most / BATCH))), AT_ONCE)
        finally:
            await self._give_back()
        return list(self._found.values())

    async def _receive_on(self, _: int) -> None:
        while len(self._found) < self._most and time.monotonic() < self._deadline:
            for message in await receive(self._sqs, self._url, hidden_for=HIDDEN_FOR, wait=1):
                self._found[message["MessageId"]] = message

    async def _give_back(self) -> None:
        handles = [message["ReceiptHandle"] for message in self._found.values()]
        await release(self._sqs, self._url, handles)


async def receive(sqs: SQSClient, url: str, *, hidden_for: int, wait: int) -> Sequence[Mapping[str, Any]]:
    """One poll of a dead-letter queue, with all attributes of the messages. Raises ``QueueUnavailable``."""
    with faults(QueueUnavailable, WHAT):
        async with asyncio.timeout(wait + 15.0):
            answer = await sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=wait,
                VisibilityTimeout=hidden_for,
                MessageSystemAttributeNames=_RECEIVED,
                MessageAttributeNames=["All"],
            )
    found: Sequence[Any] = answer.get("Messages", ())
    return found


async def release(sqs: SQSClient, url: str, handles: Sequence[str]) -> None:
    """Make received messages visible again, as far as possible: otherwise they come back by themselves."""

    async def show(batch: list[str]) -> None:
        entries = [{"ReceiptHandle": handle, "VisibilityTimeout": 0} for handle in batch]
        with suppress(QueueUnavailable):
            await send_once(sqs.change_message_visibility_batch, url, entries, what=WHAT)

    await some_at_once(show, in_batches(handles), AT_ONCE)
