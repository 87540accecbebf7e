"""The SQS channel: one message for each secret, with the same JSON object as a line of the file channel.

Waiting messages are sent in batches of up to ten. SQS delivers at least once and keeps no order, so the service that
reads the messages has to compare generations, as every reader of records does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from worker.adapters.aws.error_table import Kind, meaning
from worker.adapters.aws.errors import faults
from worker.adapters.aws.sqs import BATCH, Failure, entry_fault, is_encrypted, is_fifo, send_once
from worker.adapters.batching import Batcher
from worker.core.errors import ChannelUnavailable, RecordRefused, UsageError
from worker.core.model import Sealed
from worker.core.record import record_line
from worker.core.record_size import most_in_line

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

MAX_BYTES = 250_000
"""Bytes of all messages in one request: SQS accepts 1 MiB today, but accepted only 256 KiB before."""
AT_ONCE = 4
"""Requests that are sent at the same time: with an answer in 20 ms, 2,000 records/s."""
CLOSING = 5.0
"""Seconds for the last requests when closing."""
MOST_IN_A_MESSAGE = 262_144
"""Bytes of one message where the queue does not say (SQS developer guide, quotas, before August 2025)."""
INVALID = "InvalidParameterValue"
"""The code of an entry whose message the queue will never take, as it is too long (API reference, SendMessageBatch). Of
a whole request it may mean anything."""
TOO_LONG = frozenset({"AWS.SimpleQueueService.BatchRequestTooLong", "BatchRequestTooLong"})
"""Codes for a batch that is too long; of one message too."""
WHAT = "the SQS queue of the channel"
"""What errors call the queue."""


class SqsChannel:
    """``Channel`` into a standard queue that is encrypted at rest.

    Needs ``sqs:SendMessage`` and ``sqs:GetQueueAttributes``; with a KMS key of your own ``kms:GenerateDataKey`` and
    ``kms:Decrypt``.
    """

    def __init__(self, sqs: SQSClient, url: str) -> None:
        self._sqs = sqs
        self._url = url
        self._most = MOST_IN_A_MESSAGE
        self._messages: Batcher[str, None] = Batcher(
            self._send, most=BATCH, at_once=AT_ONCE, size=len, most_size=MAX_BYTES
        )

    async def open(self) -> None:
        """Check the queue. Raises ``UsageError`` if it is a FIFO queue or not encrypted, ``ChannelUnavailable``."""
        if is_fifo(self._url):
            raise UsageError(
                "the queue of the channel is a FIFO queue",
                "use a standard queue: records carry their order themselves, and a FIFO queue would drop some unseen",
            )
        with faults(ChannelUnavailable, WHAT):
            found = (await self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["All"])).get(
                "Attributes", {}
            )
        if not is_encrypted(found):
            raise UsageError(
                "the queue of the channel is not encrypted at rest",
                "set SqsManagedSseEnabled=true on it, or KmsMasterKeyId: messages say who was enrolled and when",
            )

        self._most = int(found.get("MaximumMessageSize", MOST_IN_A_MESSAGE))

    def most_sealed(self, username: str) -> int:
        """See ``ports.Limited``."""
        return most_in_line(username, self._most)

    async def deliver(self, username: str, sealed: Sealed) -> None:
        """See ``ports.Channel``."""
        await self._messages.submit(record_line(username, sealed).decode("ascii"))

    async def holds_records(self) -> None:
        """See ``OpenableChannel``: what was sent may have been read since, so the queue tells nothing."""

    async def close(self) -> None:
        """Wait a few seconds for messages under way. What does not arrive is delivered later, from the ledger."""
        try:
            async with asyncio.timeout(CLOSING):
                await self._messages.close()
        except TimeoutError:
            self._messages.cancel()
            await self._messages.close()

    async def _send(self, bodies: list[str]) -> Sequence[Exception | None]:
        """Send one batch; return for each message ``None``, or why it was not confirmed."""
        send = self._sqs.send_message_batch
        entries = [{"MessageBody": body} for body in bodies]
        failed = await send_once(
            send, self._url, entries, what=WHAT, unavailable=ChannelUnavailable, of_the_entries=TOO_LONG
        )
        if len(bodies) > 1 and any(failure.code in TOO_LONG for failure in failed.values()):
            return [result for body in bodies for result in await self._send([body])]
        return [_fault(failed.get(number)) for number in range(len(bodies))]


def _fault(failure: Failure | None) -> Exception | None:
    if failure is None:
        return None
    if failure.for_good and (failure.code == INVALID or meaning("sqs", failure.code).kind is Kind.ONE_ITEM):
        return RecordRefused(failure.code)
    return entry_fault(failure.code, "SendMessageBatch", ChannelUnavailable, WHAT)
