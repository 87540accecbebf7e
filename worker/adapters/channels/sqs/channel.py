"""The SQS channel: a message a secret, for a service that notifies; the same object as a line of the file channel.

What waits together leaves together, ten messages a request at most. SQS delivers at least once and keeps no order: the
service that reads them goes by the generation, as every reader does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import fault, faults
from worker.core.errors import ChannelUnavailable, UsageError
from worker.core.model import Sealed
from worker.core.record import line

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient
    from types_aiobotocore_sqs.type_defs import SendMessageBatchRequestEntryTypeDef, SendMessageBatchResultTypeDef

MOST = 10
"""Messages a request (SQS developer guide, quotas)."""
MOST_BYTES = 250_000
"""Bytes a request; SQS takes 1 MiB by now, and took a quarter of that before."""
SENDERS = 4
"""Requests at the same time."""
SENDING, CLOSING = 15.0, 5.0
"""Seconds for a request with all its tries, and for the last ones at the end."""
WHAT = "the SQS queue of the channel"

Waiting = tuple[str, "asyncio.Future[None]"]


class SqsChannel:
    """``Channel`` into a standard queue that is encrypted at rest.

    Needs ``sqs:SendMessage`` and ``sqs:GetQueueAttributes``; with a KMS key of your own ``kms:GenerateDataKey`` and
    ``kms:Decrypt``.
    """

    def __init__(self, sqs: SQSClient, url: str) -> None:
        self._sqs = sqs
        self._url = url
        self._waiting: deque[Waiting] = deque()
        self._senders: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Look at the queue. Raises ``UsageError`` where it is a FIFO one or not encrypted, ``ChannelUnavailable``."""
        if self._url.endswith(".fifo"):
            raise UsageError(
                "the queue of the channel is a FIFO queue",
                "use a standard queue: records carry their order themselves, and a FIFO queue would drop some unseen",
            )
        with faults(ChannelUnavailable, WHAT):
            found = (await self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["All"])).get(
                "Attributes", {}
            )
        if not found.get("KmsMasterKeyId") and found.get("SqsManagedSseEnabled", "").lower() != "true":
            raise UsageError(
                "the queue of the channel is not encrypted at rest",
                "set SqsManagedSseEnabled=true on it, or KmsMasterKeyId: messages say who was enrolled and when",
            )

    async def deliver(self, username: str, sealed: Sealed) -> None:
        """See ``ports.Channel``."""
        sent = asyncio.get_running_loop().create_future()
        self._waiting.append((line(username, sealed).decode("ascii"), sent))
        if len(self._senders) < SENDERS:
            sender = asyncio.create_task(self._send_what_waits())
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        await sent

    async def close(self) -> None:
        """Wait a moment for what is being sent; what is cut off is sealed in the ledger, and delivered again."""
        if self._senders:
            _, late = await asyncio.wait(self._senders, timeout=CLOSING)
            for sender in late:
                sender.cancel()
            if late:
                await asyncio.wait(late)

    async def _send_what_waits(self) -> None:
        while batch := self._next():
            try:
                with faults(ChannelUnavailable, WHAT):
                    reply = await self._send([body for body, _ in batch])
            except ChannelUnavailable as unavailable:
                for _, sent in batch:
                    _settle(sent, unavailable)
            except BaseException:
                for _, sent in batch:
                    sent.cancel()
                raise
            else:
                refused = _refused(reply, len(batch))
                for number, (_, sent) in enumerate(batch):
                    _settle(sent, refused.get(str(number)))

    def _next(self) -> list[Waiting]:
        batch: list[Waiting] = []
        size = 0
        while self._waiting and len(batch) < MOST:
            body, sent = self._waiting[0]
            if batch and size + len(body) > MOST_BYTES:
                break
            self._waiting.popleft()
            if not sent.done():  # or nobody waits for it any more
                batch.append((body, sent))
                size += len(body)
        return batch

    async def _send(self, bodies: list[str]) -> SendMessageBatchResultTypeDef:
        entries: list[SendMessageBatchRequestEntryTypeDef] = [
            {"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)
        ]
        async with asyncio.timeout(SENDING):
            return await self._sqs.send_message_batch(QueueUrl=self._url, Entries=entries)


def _refused(reply: SendMessageBatchResultTypeDef, number: int) -> dict[str, ChannelUnavailable]:
    """By the entry's id, why it was not confirmed."""
    found: dict[str, ChannelUnavailable] = {}
    confirmed = {entry["Id"] for entry in reply.get("Successful", [])}
    codes = {entry["Id"]: entry.get("Code", "") for entry in reply.get("Failed", [])}
    for entry in map(str, range(number)):
        if entry not in confirmed:
            why = codes.get(entry) or "no confirmation"
            cause = ClientError({"Error": {"Code": why}}, "SendMessageBatch")
            found[entry] = fault(cause, ChannelUnavailable, WHAT)  # type: ignore[assignment]
    return found


def _settle(sent: asyncio.Future[None], unavailable: ChannelUnavailable | None) -> None:
    if sent.done():
        return
    if unavailable is None:
        sent.set_result(None)
    else:
        sent.set_exception(unavailable)
