"""Brings dead letters back to the queue of requests: each is sent there, and only then deleted where it was.

An interruption between the two leaves a copy, which the ledger recognises as a duplicate; several redrives at once do
the same, and no more. SQS's own StartMessageMoveTask is not used: it would move the worker's notes too, and a Session
would count as new. What is no request stays.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from worker.adapters.aws.sqs import in_batches, send_all
from worker.adapters.batching import some_at_once
from worker.adapters.queues.sqs.attributes import QUEUE, attributes_of, count
from worker.adapters.queues.sqs.copies import copy_of
from worker.adapters.queues.sqs.dead_letters import WHAT, DeadLetters, Letter, kind_of, receive, release
from worker.adapters.queues.sqs.fitness import refuse_unfit
from worker.adapters.queues.sqs.producer import MAX_BYTES
from worker.core.errors import Malformed, UsageError
from worker.requests.message import Parser

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

HIDDEN_FOR = 60
"""Seconds for which a received dead letter is hidden from other redrives: sending and deleting ten take far less. After
a kill it is the time until the next redrive sees them."""
AT_ONCE = 4
"""Batches that are moved at the same time: with an answer in 20 ms, some 600 messages a second."""
POLL = 2
"""Seconds for which one poll waits for a message."""
WAITS_FOR = 70.0
"""The most seconds to wait for messages that somebody else has received: longer than ``HIDDEN_FOR``."""


@dataclass(slots=True)
class Redriven:
    """What became of the messages of the dead-letter queues."""

    brought_back: int = 0
    notes: int = 0
    """The worker's own notes on malformed messages, which stay."""
    foreign: int = 0
    """Dead letters of other queues, which stay."""
    malformed: Counter[str] = field(default_factory=Counter)
    """Messages that are no requests, which stay: how many, by reason."""
    refused: Counter[str] = field(default_factory=Counter)
    """Requests that the queue did not take, which stay: how many, by SQS's code."""
    hidden: int = 0
    """Messages that somebody else has received, and so were not seen (approximate)."""


class Redrive:
    """Moves the dead letters of the queue at ``url``. ``progress`` is called now and then with what was done so far."""

    def __init__(
        self,
        sqs: SQSClient,
        url: str,
        dead_letter_url: str | None,
        parser: Parser,
        progress: Callable[[Redriven], None] = lambda _: None,
    ) -> None:
        self._sqs = sqs
        self._url = url
        self._dead_letter_url = dead_letter_url
        self._parser = parser
        self._progress = progress
        self._done = Redriven()

    async def run(self) -> Redriven:
        """Move all of them, and return how many.

        Raises ``UsageError`` if the queue is unfit (they would come back) or has no dead-letter queue,
        ``QueueUnavailable``.
        """
        attributes = await attributes_of(self._sqs, self._url)
        refuse_unfit(self._url, attributes)
        found = DeadLetters(self._sqs, self._url, attributes, self._dead_letter_url)
        if not found.queues:
            raise UsageError(
                "the queue has no dead-letter queue, so there are no dead letters",
                "mfa-worker init makes one, or set queue.dead_letter_url",
            )
        await found.refuse_unfit()
        arn = str(attributes.get("QueueArn") or self._url)
        for queue in found.queues:
            await self._empty(queue.url, arn)
        return self._done

    async def _empty(self, url: str, queue_arn: str) -> None:
        stay: dict[str, str] = {}
        """Message id → the newest receipt handle of what stays."""
        deadline = time.monotonic() + WAITS_FOR

        async def move_on(_: int) -> None:
            while messages := await receive(self._sqs, url, hidden_for=HIDDEN_FOR, wait=POLL):
                came = [message for message in messages if message["MessageId"] not in stay]
                stay.update((message["MessageId"], message["ReceiptHandle"]) for message in messages)
                if not came:
                    return
                moved = await self._moved(url, [each for each in came if self._is_ours(each, queue_arn)])
                for message_id in moved:
                    del stay[message_id]
                self._progress(self._done)

        try:
            while True:
                await some_at_once(move_on, range(AT_ONCE), AT_ONCE)
                left = await count(self._sqs, url, what=WHAT) - len(stay)
                if left <= 0 or time.monotonic() >= deadline:
                    break
                await asyncio.sleep(POLL)
        finally:
            await release(self._sqs, url, list(stay.values()))
        self._done.hidden += max(0, left)

    def _is_ours(self, message: Mapping[str, Any], queue_arn: str) -> bool:
        """Whether it is a request of our queue; otherwise it is counted, and stays."""
        match kind_of(message, queue_arn):
            case Letter.NOTE:
                self._done.notes += 1
                return False
            case Letter.FOREIGN:
                self._done.foreign += 1
                return False
            case Letter.DEAD:
                try:
                    self._parser.parse(str(message["Body"]).encode("utf-8", "surrogatepass"), time.time())
                except Malformed as malformed:
                    self._done.malformed[str(malformed)] += 1
                    return False
                return True

    async def _moved(self, url: str, messages: Sequence[Mapping[str, Any]]) -> list[str]:
        """Send the messages to the queue, then delete them; return the ids of those that were sent."""
        moved: list[str] = []
        copies = [(message, copy_of(message)) for message in messages]
        for some in in_batches(copies, lambda each: len(each[1]["MessageBody"].encode()), MAX_BYTES):
            entries = [entry for _, entry in some]
            refused = await send_all(self._sqs.send_message_batch, self._url, entries, what=QUEUE)
            self._done.refused.update(refused.values())
            sent = [message for number, (message, _) in enumerate(some) if number not in refused]
            handles = [{"ReceiptHandle": message["ReceiptHandle"]} for message in sent]
            self._done.brought_back += len(sent)
            moved += [message["MessageId"] for message in sent]
            await send_all(self._sqs.delete_message_batch, url, handles, what=WHAT)
        return moved
