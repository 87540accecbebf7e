"""The queue on AWS: a standard SQS queue, which forgets nothing, has no order, and may deliver a message twice.

Long polls bring messages ahead of their use, so that the earliest deadline can be picked; a heartbeat hides what is in
flight from others; what is done with is deleted by tens. A lease that is lost all the same stops nothing, and a message
that comes twice becomes a duplicate: the ledger's claim protects the users, not the queue.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from worker.adapters.aws.errors import faults
from worker.adapters.aws.sqs import PATIENCE, send_all
from worker.adapters.queues.sqs.attributes import QUEUE, attributes_of, count, redrives_within
from worker.adapters.queues.sqs.background import Background
from worker.adapters.queues.sqs.emptiness import Emptiness
from worker.adapters.queues.sqs.heartbeat import Heartbeat
from worker.adapters.queues.sqs.inflight import LONGEST, InFlight, Key, Message
from worker.adapters.queues.sqs.producer import SqsProducer
from worker.adapters.queues.sqs.receiver import Receiver
from worker.core.errors import Malformed, QueueUnavailable
from worker.core.model import Request
from worker.core.ports import Backlog, Lease, Pushed
from worker.core.resilience.backoff import Outage
from worker.requests.lines import digest
from worker.requests.message import Parser

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

log = structlog.get_logger()

LONGEST_WAIT = 5
"""Seconds that SQS may hold a poll. It could be 20, but a poll that is open when the process has to end must be heard
out, or the messages it brings stay hidden from everybody; and an idle worker's polls cost a cent a day as it is."""
REDRIVEN_WITHIN = 600.0
"""Seconds in which the queue's own redrive policy has to take a malformed message, or the worker deletes it itself: a
run does not end before the queue is empty."""
_LATE = 15.0
"""Seconds that the answer to a poll may be late."""
_CLOSING = 5.0
"""Seconds for giving back and deleting at the end: with an open poll's wait that is about the ten seconds which Docker
gives a process to end."""


class SqsQueue:
    """``Queue`` and ``Producer`` over the standard queue at ``url``.

    ``visibility``: seconds, in effect whole ones, at most 12 hours. ``look_ahead``: messages that may wait here.
    ``dead_letter_url``: where reason and digest of what is malformed go; without it such a message stays for the
    queue's own redrive policy; where that takes longer than ``REDRIVEN_WITHIN`` it is deleted, or no run would end.
    ``count_malformed`` adds to the ledger's count. ``empty_after``: see ``emptiness``.
    """

    def __init__(
        self,
        sqs: SQSClient,
        url: str,
        parser: Parser,
        *,
        visibility: float,
        look_ahead: int,
        dead_letter_url: str | None,
        count_malformed: Callable[[int], Awaitable[None]],
        empty_after: float,
    ) -> None:
        self._sqs = sqs
        self._url = url
        self._parser = parser
        self._visibility = max(1, min(LONGEST, math.ceil(visibility)))
        self._dead_letter_url = dead_letter_url
        self._count_malformed = count_malformed
        self._wait = max(1, min(LONGEST_WAIT, int(empty_after / 2)))
        self._in_flight = InFlight(self._visibility)
        self._emptiness = Emptiness(empty_after)
        self._counting = Outage(PATIENCE)
        self._receiver = Receiver(
            self._receive, lambda: max(1, look_ahead) - self._in_flight.ahead, look_ahead=look_ahead, wait=self._wait
        )
        self._deletes: Background[tuple[Key, str]] = Background(self._delete)
        self._returns: Background[tuple[Key, str, int]] = Background(self._return)
        self._heartbeat = Heartbeat(
            sqs.change_message_visibility_batch,
            url,
            self._in_flight,
            visibility=self._visibility,
            let_go=lambda message: self._put_back(message, 0),
            is_wanted=lambda: time.monotonic() - self._asked_at < self._visibility,
        )
        self._asked_at = 0.0
        self._producer = SqsProducer(sqs, url, dead_letter_url, count_malformed)
        self._has_redrive = True
        self._closed = False

    async def open(self) -> None:
        """Look whether the queue may be used.

        Raises ``QueueUnavailable``, and ``UsageError`` where none or a FIFO one is.
        """
        attributes = await attributes_of(self._sqs, self._url)
        self._has_redrive = redrives_within(REDRIVEN_WITHIN, attributes, self._visibility)

    async def close(self) -> None:
        """Hear out the open polls, give back what is in flight, delete what is done with: in at most ten seconds or so.

        No poll is open any more when nobody has asked for messages for a while, as in the grace after a signal.
        Raises ``QueueUnavailable`` when all of it was tried; what could not be given back comes when its visibility
        ends.
        """
        self._deletes.hurry()
        await self._receiver.close()
        try:
            async with asyncio.timeout(_CLOSING):
                await self._heartbeat.stop()
                for message in self._in_flight.messages():
                    self._put_back(message, 0)
                results = await asyncio.gather(self._returns.flush(), self._deletes.flush(), return_exceptions=True)
        except TimeoutError:
            self._deletes.cancel()
            self._returns.cancel()
            raise QueueUnavailable(
                "the queue did not take back in time what this process held",
                "nothing is lost: the messages come again when their visibility is over",
            ) from None
        finally:
            self._closed = True
        for result in results:
            if isinstance(result, BaseException):
                raise result

    # --- messages that come -------------------------------------------------------------------------------------------

    async def lease(self, most: int) -> Sequence[Lease]:
        """See ``ports.Queue``.

        Raises ``QueueUnavailable`` at once where a person must act, else after a minute of outage.
        """
        self._ask()
        messages = self._in_flight.take(most, time.monotonic())
        if messages:
            self._receiver.want()
        return [Lease(message.request, message) for message in messages]

    def _ask(self) -> None:
        """Have messages polled for; raise what the work behind has been failing with."""
        if self._closed:
            return
        self._asked_at = time.monotonic()
        self._deletes.check()
        self._returns.check()
        self._receiver.want()
        self._heartbeat.keep_beating()

    async def _receive(self, most: int) -> int:
        began = time.monotonic()
        with faults(QueueUnavailable, QUEUE):
            async with asyncio.timeout(self._wait + _LATE):
                answer = await self._sqs.receive_message(
                    QueueUrl=self._url,
                    MaxNumberOfMessages=most,
                    WaitTimeSeconds=self._wait,
                    VisibilityTimeout=self._visibility,
                    MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
                )
        messages: Sequence[Any] = answer.get("Messages", ())
        now = time.monotonic()
        if messages:
            self._emptiness.disturb(now)
            await self._take_in(messages, now)
        elif now - began >= 0.9 * self._wait:  # a reply cut off on its way reads as an empty one, but comes too early
            self._emptiness.polled(began)
        return len(messages)

    async def _take_in(self, messages: Sequence[Any], now: float) -> None:
        malformed: list[tuple[Any, str, str]] = []
        for message in messages:
            key, handle = (message["MessageId"], message.get("MD5OfBody", "")), message["ReceiptHandle"]
            if self._in_flight.is_acknowledged(key):
                log.debug("came_after_delete", message_id=key[0])
                self._deletes.add((key, handle))
            elif not self._in_flight.came(key, handle, now):
                raw = message["Body"].encode("utf-8", "surrogatepass")
                sent = message.get("Attributes", {}).get("SentTimestamp")
                try:
                    request = self._parser.parse(raw, float(sent) / 1000 if sent else time.time())
                except Malformed as reason:
                    malformed.append((message, str(reason), digest(raw)))
                else:
                    self._in_flight.add(key, handle, request, now)
        if malformed:
            await self._discard(malformed)

    async def _discard(self, malformed: Sequence[tuple[Any, str, str]]) -> None:
        """Sent before it is deleted: a crash between the two may put it aside twice, but never loses it."""
        if self._dead_letter_url is not None:
            await self._producer.send_aside([(reason, found) for _, reason, found in malformed], patience=0.0)
        for message, reason, found in malformed:
            if self._dead_letter_url is not None or not self._has_redrive:
                key = message["MessageId"], message.get("MD5OfBody", "")
                self._in_flight.remember(key)
                self._deletes.add((key, message["ReceiptHandle"]))
                if self._dead_letter_url is None:
                    log.warning("malformed_deleted", reason=reason, digest=found, cure="set queue.dead_letter_url")
            elif message.get("Attributes", {}).get("ApproximateReceiveCount", "1") != "1":
                continue
            await self._count_malformed(1)

    # --- messages that go ---------------------------------------------------------------------------------------------

    async def acknowledge(self, lease: Lease) -> None:
        """See ``ports.Queue``; returns before the message is deleted, within a moment, with up to nine others.

        A delete that a crash prevents costs one duplicate and no more, since the outcome is durable; waiting for it
        would cost every user a place among those who are worked on. ``is_empty`` and ``backlog`` know what is pending.
        """
        assert isinstance(lease.receipt, Message)
        if self._in_flight.acknowledge(lease.receipt) and not self._closed:
            self._emptiness.disturb(time.monotonic())
            self._deletes.add((lease.receipt.key, lease.receipt.handle))

    async def _delete(self, batch: list[tuple[Key, str]]) -> None:
        entries = [{"ReceiptHandle": handle} for _, handle in batch]
        refused = await send_all(self._sqs.delete_message_batch, self._url, entries, what=QUEUE)
        self._emptiness.disturb(time.monotonic())
        for number, code in refused.items():
            log.debug("delete_refused", message_id=batch[number][0][0], code=code)

    async def give_back(self, lease: Lease, delay: float) -> None:
        """See ``ports.Queue``; in whole seconds, and by tens as deletes are."""
        assert isinstance(lease.receipt, Message)
        self._put_back(lease.receipt, max(0, math.ceil(min(delay, LONGEST))))

    def _put_back(self, message: Message, delay: int) -> None:
        now = time.monotonic()
        if self._in_flight.drop(message) and message.hidden_until > now and not self._closed:
            self._emptiness.disturb(now)
            self._returns.add((message.key, message.handle, delay))

    async def _return(self, batch: list[tuple[Key, str, int]]) -> None:
        await self._heartbeat.between_beats()
        entries = [{"ReceiptHandle": handle, "VisibilityTimeout": delay} for _, handle, delay in batch]
        refused = await send_all(self._sqs.change_message_visibility_batch, self._url, entries, what=QUEUE)
        self._emptiness.disturb(time.monotonic())
        for number, code in refused.items():
            log.debug("give_back_refused", message_id=batch[number][0][0], code=code)

    # --- how many there are -------------------------------------------------------------------------------------------

    async def backlog(self) -> Backlog:
        """See ``ports.Queue``; never fewer than are in flight."""
        await asyncio.gather(self._deletes.flush(), self._returns.flush())
        return Backlog(max(await count(self._sqs, self._url), len(self._in_flight)))

    async def is_empty(self) -> bool:
        """See ``ports.Queue``, and ``emptiness`` for what it takes. Answers at once, or after one request."""
        self._ask()
        now = time.monotonic()
        if self._in_flight or self._deletes or self._returns:
            self._deletes.hurry()
            self._returns.hurry()
            self._emptiness.disturb(now)
            return False
        if self._emptiness.should_look(now):
            try:
                self._emptiness.looked(now, await count(self._sqs, self._url))
            except QueueUnavailable as unavailable:
                self._counting.failed(unavailable)
                self._counting.check()
                return False
            self._counting.recovered()
        return self._emptiness.is_certain()

    # --- the producer's end -------------------------------------------------------------------------------------------

    async def push(self, requests: Iterable[tuple[Request, bytes]]) -> Pushed:
        """See ``ports.Producer``."""
        pushed = await self._producer.push(requests)
        self._emptiness.disturb(time.monotonic())
        return pushed

    async def put_aside(self, reason: str, digest: str) -> None:
        """See ``ports.Producer``."""
        await self._producer.put_aside(reason, digest)

    async def counted(self) -> tuple[int, int]:
        """See ``ports.QueueStats``; the ledger counts."""
        return 0, 0

    async def sessions(self) -> None:
        """See ``ports.QueueStats``; nobody can look into all messages."""
        return
