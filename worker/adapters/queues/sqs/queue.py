"""The queue on AWS: a standard SQS queue, which loses no message, keeps no order, and may deliver a message twice.

Long polls receive messages ahead of their use, at most ten seconds of this worker's work, so that the one with the
earliest deadline can be chosen among those that can still make it. Those about to die are passed over; dead ones take
up hardly any room there, as they are settled at once. A heartbeat keeps all of them hidden from other workers;
finished messages are deleted ten at a time. A message that is given back after the last receive that the redrive policy
allows is sent anew first, or SQS would move it to the dead letters. If a lease is lost nevertheless, nothing breaks,
and a message that is delivered twice becomes a duplicate: the users are protected by the claims in the ledger, not by
the queue.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from worker.adapters.aws.errors import faults
from worker.adapters.aws.sqs import BATCH, PATIENCE, in_batches, send_all
from worker.adapters.queues.sqs.attributes import QUEUE, attributes_of, count, redrives_within
from worker.adapters.queues.sqs.background import Background
from worker.adapters.queues.sqs.copies import LONGEST_DELAY, copy_of
from worker.adapters.queues.sqs.dead_letters import DeadLetters
from worker.adapters.queues.sqs.emptiness import Emptiness
from worker.adapters.queues.sqs.fitness import MIN_RECEIVES, redrive_policy, refuse_unfit
from worker.adapters.queues.sqs.heartbeat import Heartbeat
from worker.adapters.queues.sqs.inflight import LONGEST, InFlight, Key, Message
from worker.adapters.queues.sqs.look_ahead import LookAhead
from worker.adapters.queues.sqs.producer import MAX_BYTES, SqsProducer
from worker.adapters.queues.sqs.receiver import Receiver
from worker.core.errors import Malformed, QueueUnavailable
from worker.core.model import Request
from worker.core.outlook import UNJUDGED, Outlook
from worker.core.ports import Backlog, Clock, Deadlines, Lease, Pushed, PutAside
from worker.core.resilience.backoff import Outage
from worker.requests.message import Parser

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

log = structlog.get_logger()

LONGEST_WAIT = 5
"""Seconds for which SQS may keep a poll open. SQS allows 20, but the process cannot end before the answer to an open
poll has arrived, or the messages in it would stay hidden from all workers. An idle worker's polls cost a cent a day."""
REDRIVEN_WITHIN = 600.0
"""Seconds within which the queue's own redrive policy has to remove a malformed message; if it takes longer, the worker
deletes the message itself, because a run does not end before the queue is empty."""
MOST_DEAD = 1000
"""Dead messages that may wait here to be settled before they take up the room of others: a second's work."""
SECONDS_OF_FEW = 1.0
"""Seconds of this worker's own work that are received ahead where the redrive policy allows few receives."""
COPY_CURE = "it will become a dead letter: raise maxReceiveCount, then bring it back: mfa-worker redrive"
"""What to do about a message that was received for the last time and cannot be sent anew."""
_LATE = 15.0
"""Seconds that the answer to a poll may take in addition to the poll's wait."""
_CLOSING = 5.0
"""Seconds for giving back and deleting at the end: together with the wait of an open poll about the ten seconds that
Docker gives a process to end."""


class SqsQueue:
    """``Queue`` and ``Producer`` over the standard queue at ``url``.

    ``visibility``: seconds, rounded up to whole ones, at most 12 hours. ``look_ahead``: how many messages may be
    received ahead of their use, at most; with ``seconds_ahead`` only as many as this worker uses in so many seconds
    (see ``look_ahead``). ``dead_letter_url``: the queue that gets reason and digest of each malformed message;
    without it the message is left to the queue's own redrive policy, or deleted if that takes longer than
    ``REDRIVEN_WITHIN``. ``count_malformed`` adds to the ledger's count. ``empty_after``: seconds, see ``emptiness``.
    """

    def __init__(
        self,
        sqs: SQSClient,
        url: str,
        parser: Parser,
        *,
        clock: Clock,
        visibility: float,
        look_ahead: int,
        seconds_ahead: float | None = None,
        dead_letter_url: str | None,
        count_malformed: Callable[[int], Awaitable[None]],
        empty_after: float,
    ) -> None:
        self._sqs = sqs
        self._url = url
        self._parser = parser
        self._clock = clock
        self._visibility = max(1, min(LONGEST, math.ceil(visibility)))
        self._dead_letter_url = dead_letter_url
        self._count_malformed = count_malformed
        self._wait = max(1, min(LONGEST_WAIT, int(empty_after / 2)))
        self._in_flight = InFlight(self._visibility)
        self._most_ahead = max(1, look_ahead)
        self._seconds_ahead = seconds_ahead
        self._receives = math.inf
        """After so many receives the next one moves a message to the dead letters."""
        self._for_copies: Mapping[str, Any] = {}
        """What else to ask for when receiving, where a message may have to be sent anew."""
        self._look_ahead = (
            None
            if seconds_ahead is None
            else LookAhead(self._most_ahead, seconds_ahead, least=BATCH, now=time.monotonic())
        )
        self._emptiness = Emptiness(empty_after)
        self._counting = Outage(PATIENCE)
        self._receiver = Receiver(self._receive, self._room, look_ahead=lambda: self._most_ahead, wait=self._wait)
        self._deletes: Background[tuple[Key, str]] = Background(self._delete)
        self._returns: Background[tuple[Key, str, int]] = Background(self._return)
        self._renewals: Background[tuple[Key, str, Mapping[str, Any]]] = Background(self._renew)
        self._heartbeat = Heartbeat(
            sqs.change_message_visibility_batch,
            url,
            self._in_flight,
            visibility=self._visibility,
            let_go=lambda message: self._put_back(message, 0),
            is_wanted=lambda: time.monotonic() - self._asked_at < self._visibility,
        )
        self._asked_at = 0.0
        self.malformed_found = 0
        self._producer = SqsProducer(sqs, url, dead_letter_url, count_malformed)
        self._has_redrive = True
        self._closed = False

    async def open(self, *, to_look: bool = False) -> None:
        """Check that the queue is there and fit for requests; ``to_look``: only that it is there.

        Raises ``QueueUnavailable``; ``UsageError`` if it does not exist, is a FIFO queue or is unfit (``fitness``).
        """
        attributes = await attributes_of(self._sqs, self._url)
        self._dead_letters = DeadLetters(self._sqs, self._url, attributes, self._dead_letter_url)
        if to_look:
            return
        for trouble in refuse_unfit(self._url, attributes):
            if trouble.loses:
                log.warning("queue_unfit", cause=trouble.said, cure=trouble.cure)
        await self._dead_letters.refuse_unfit()
        self._has_redrive = redrives_within(REDRIVEN_WITHIN, attributes, self._visibility)
        if (policy := redrive_policy(attributes)).target:
            self._receives, self._for_copies = policy.receives, {"MessageAttributeNames": ["All"]}
            if policy.receives < MIN_RECEIVES:
                self._look_less_far()

    def _look_less_far(self) -> None:
        """Receive only a second of work ahead: a kill counts as a receive of all of it."""
        most, seconds = self._most_ahead, self._seconds_ahead or SECONDS_OF_FEW
        self._most_ahead = max(1, min(most, math.ceil(most * SECONDS_OF_FEW / seconds)))
        self._look_ahead = LookAhead(self._most_ahead, SECONDS_OF_FEW, least=BATCH, now=time.monotonic())

    async def close(self) -> None:
        """Wait for open polls, give back the messages in flight, and delete the finished ones, in about ten seconds.

        No poll is open if no messages have been asked for recently, as in the grace period after a signal. Raises
        ``QueueUnavailable`` after everything was tried; messages that could not be given back are received again when
        their visibility ends.
        """
        self._deletes.hurry()
        await self._receiver.close()
        try:
            async with asyncio.timeout(_CLOSING):
                await self._heartbeat.stop()
                for message in self._in_flight.messages():
                    self._put_back(message, 0)
                flushed = self._returns.flush(), self._renewed_and_deleted()
                results = await asyncio.gather(*flushed, return_exceptions=True)
        except TimeoutError:
            for pending in (self._deletes, self._returns, self._renewals):
                pending.cancel()
            raise QueueUnavailable(
                "the queue did not take back in time what this process held",
                "nothing is lost: the messages come again when their visibility is over",
            ) from None
        finally:
            self._closed = True
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _renewed_and_deleted(self) -> None:
        try:
            await self._renewals.flush()
        finally:
            await self._deletes.flush()

    # --- receiving ----------------------------------------------------------------------------------------------------

    async def lease(self, most: int, outlook: Outlook = UNJUDGED) -> Sequence[Lease]:
        """See ``ports.Queue``; the choice is among the messages received ahead, for SQS keeps no order.

        Raises ``QueueUnavailable`` at once if a person must act, otherwise after a minute of outage.
        """
        return self._take(most, lambda most, now: self._in_flight.take(most, now, outlook))

    async def lease_elsewhere(self, most: int) -> Sequence[Lease]:
        """See ``ports.Queue``: any of the messages that were received ahead, since SQS itself has no order."""
        return self._take(most, self._in_flight.take_any)

    def _take(self, most: int, take: Callable[[int, float], Sequence[Message]]) -> Sequence[Lease]:
        self._want()
        now = time.monotonic()
        messages = take(most, now)
        if messages:
            if self._look_ahead:
                self._look_ahead.used(len(messages), now)
            self._receiver.want()
        return self._leases(messages)

    async def lease_expired(self, most: int, now: float) -> Sequence[Lease]:
        """See ``ports.Queue``; the queue can tell of the messages in flight here, and of no others. No request."""
        messages = self._in_flight.take_dead(most, time.monotonic(), now)
        if messages and not self._closed:
            self._receiver.want()
        return [Lease(message.request, message) for message in messages]

    async def deadlines(self, now: float) -> Deadlines:
        """See ``ports.Queue``; SQS tells no deadlines, so these are the messages received ahead."""
        ahead = sorted(self._in_flight.deadlines(now))
        return Deadlines([(deadline, 1) for deadline in ahead], are_all=False)

    def _room(self) -> int:
        """How many more messages may be received ahead: dead ones, which are settled at once, hardly count."""
        wanted = self._look_ahead.messages(time.monotonic()) if self._look_ahead else self._most_ahead
        return wanted - self._in_flight.ahead - max(0, self._in_flight.dead - MOST_DEAD)

    def _want(self) -> None:
        """Start polls as needed; raise what the work in the background has been failing with."""
        if self._closed:
            return
        self._asked_at = time.monotonic()
        for pending in (self._deletes, self._returns, self._renewals, self._heartbeat):
            pending.check()
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
                    **self._for_copies,
                )
            messages: Sequence[Any] = answer.get("Messages", ())
            for message in messages:  # what is no answer of SQS fails here, and is asked again
                message["MessageId"], message["ReceiptHandle"], message["Body"]
        now = time.monotonic()
        if messages:
            self._emptiness.disturb(now)
            await self._take_in(messages, now)
        elif now - began >= 0.9 * self._wait:  # an answer that was cut off looks empty too, but arrives too early
            self._emptiness.polled(began)
        return len(messages)

    async def _take_in(self, messages: Sequence[Any], now: float) -> None:
        malformed: list[tuple[Any, str, str]] = []
        for message in messages:
            key, handle = (message["MessageId"], message.get("MD5OfBody", "")), message["ReceiptHandle"]
            if self._in_flight.is_acknowledged(key):
                log.debug("came_after_delete", message_id=key[0])
                self._deletes.add((key, handle))
            elif not self._in_flight.came(key, handle, now, copy := self._copy(message)):
                raw = message["Body"].encode("utf-8", "surrogatepass")
                sent = message.get("Attributes", {}).get("SentTimestamp")
                sent_at = float(sent) / 1000 if sent else None
                try:
                    request = self._parser.parse(raw, sent_at or self._clock.utc(), latest=sent_at, origin=key[0])
                except Malformed as reason:
                    malformed.append((message, str(reason), self._parser.digest(raw)))
                else:
                    self._in_flight.add(key, handle, request, now, copy)
        if malformed:
            await self._discard(malformed)

    def _copy(self, message: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What to send in place of a message whose next receive would make it a dead letter; else ``None``."""
        received = int(message.get("Attributes", {}).get("ApproximateReceiveCount", "1"))
        return copy_of(message) if received >= self._receives else None

    async def _discard(self, malformed: Sequence[tuple[Any, str, str]]) -> None:
        """Report malformed messages, and delete them unless the redrive policy does.

        Reporting comes first: a crash between the two steps may report a message twice, but never loses it.
        """
        self.malformed_found += len(malformed)
        if self._dead_letter_url is not None:
            await self._producer.send_aside([(reason, found) for _, reason, found in malformed], patience=0.0)
        for message, reason, found in malformed:
            if self._dead_letter_url is not None or not self._has_redrive:
                key = message["MessageId"], message.get("MD5OfBody", "")
                self._in_flight.remember(key)
                self._deletes.add((key, message["ReceiptHandle"]))
                if self._dead_letter_url is None:
                    log.warning(
                        "malformed_deleted",
                        reason=reason,
                        digest=found,
                        cause="the queue has nowhere to put a malformed message aside",
                        cure="set queue.dead_letter_url, mend what writes the requests, and push it again",
                    )
            elif message.get("Attributes", {}).get("ApproximateReceiveCount", "1") != "1":
                continue
            await self._count_malformed(1)

    async def lease_others(self, username: str, most: int) -> Sequence[Lease]:
        """See ``ports.Queue``; among the messages that were received already, for SQS cannot search."""
        return self._leases(self._in_flight.take_of(username, most, time.monotonic()))

    def _leases(self, messages: Sequence[Message]) -> Sequence[Lease]:
        return [
            Lease(message.request, message, self._in_flight.has_ahead(message.request.username)) for message in messages
        ]

    # --- acknowledging and giving back --------------------------------------------------------------------------------

    async def acknowledge(self, lease: Lease) -> None:
        """See ``ports.Queue``; returns before the message is deleted, which happens a moment later, in a batch of ten.

        If a crash prevents the delete, the result is one duplicate, because the outcome is durable already; waiting for
        it would make every user occupy one of the concurrent slots for longer. ``is_empty`` and ``backlog`` take
        pending deletes into account.
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
        """See ``ports.Queue``; ``delay`` is rounded up to whole seconds, and batches are sent as for deletes."""
        assert isinstance(lease.receipt, Message)
        self._put_back(lease.receipt, max(0, math.ceil(min(delay, LONGEST))))

    def _put_back(self, message: Message, delay: int) -> None:
        now = time.monotonic()
        if self._in_flight.drop(message) and message.hidden_until > now and not self._closed:
            self._emptiness.disturb(now)
            if message.copy is None:
                self._returns.add((message.key, message.handle, delay))
            else:
                entry = {**message.copy, "DelaySeconds": min(delay, LONGEST_DELAY)}
                self._renewals.add((message.key, message.handle, entry))

    async def _renew(self, batch: list[tuple[Key, str, Mapping[str, Any]]]) -> None:
        """Send copies of the messages, then delete them: a crash in between leaves one message too many."""
        for some in in_batches(batch, lambda each: len(each[2]["MessageBody"].encode()), MAX_BYTES):
            entries = [entry for _, _, entry in some]
            refused = await send_all(self._sqs.send_message_batch, self._url, entries, what=QUEUE)
            for number, (key, handle, entry) in enumerate(some):
                if number in refused:
                    log.warning("copy_refused", message_id=key[0], code=refused[number], cure=COPY_CURE)
                    self._returns.add((key, handle, entry["DelaySeconds"]))
                else:
                    self._in_flight.remember(key)
                    self._deletes.add((key, handle))
        self._emptiness.disturb(time.monotonic())

    async def _return(self, batch: list[tuple[Key, str, int]]) -> None:
        await self._heartbeat.between_beats()
        entries = [{"ReceiptHandle": handle, "VisibilityTimeout": delay} for _, handle, delay in batch]
        refused = await send_all(self._sqs.change_message_visibility_batch, self._url, entries, what=QUEUE)
        self._emptiness.disturb(time.monotonic())
        for number, code in refused.items():
            log.debug("give_back_refused", message_id=batch[number][0][0], code=code)

    # --- counting -----------------------------------------------------------------------------------------------------

    async def backlog(self) -> Backlog:
        """See ``ports.Queue``; never less than the number of messages in flight."""
        await asyncio.gather(self._renewed_and_deleted(), self._returns.flush())
        return Backlog(max(await count(self._sqs, self._url), len(self._in_flight)))

    async def is_empty(self) -> bool:
        """See ``ports.Queue``, and ``emptiness`` for the conditions. Needs one request at most."""
        self._want()
        now = time.monotonic()
        pending = self._deletes, self._returns, self._renewals
        if self._in_flight or any(pending):
            for each in pending:
                each.hurry()
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

    def watched_for(self) -> float | None:
        """See ``ports.QueueStats``, and ``emptiness``."""
        return self._emptiness.watched_for(time.monotonic())

    # --- ports.Producer and ports.QueueStats --------------------------------------------------------------------------

    async def push(self, requests: Iterable[tuple[Request, bytes]]) -> Pushed:
        """See ``ports.Producer``."""
        pushed = await self._producer.push(requests)
        self._emptiness.disturb(time.monotonic())
        return pushed

    async def put_aside(self, reason: str, digest: str, number: int = 1, before: int = 0) -> None:  # noqa: ARG002
        """See ``ports.Producer``; SQS cannot be asked what it knows, so a file that is read again counts again."""
        await self._producer.put_aside(reason, digest, number)

    def put_aside_list(self) -> AsyncGenerator[Sequence[PutAside]]:
        """See ``ports.QueueStats``: what the dead-letter queue has."""
        return self._dead_letters.notes()

    async def counted(self) -> tuple[int, int]:
        """See ``ports.QueueStats``; always zero, because with this queue the ledger counts."""
        return 0, 0

    async def dead_letters(self, notes: int) -> int | None:
        """See ``ports.QueueStats``."""
        return await self._dead_letters.count(notes)

    async def sessions(self) -> None:
        """See ``ports.QueueStats``; always ``None``, because SQS cannot be searched."""
        return
