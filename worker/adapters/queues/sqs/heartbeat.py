"""Keeps the messages in flight hidden from other workers, for as long as this worker lives.

A failed heartbeat stops nothing: the user is protected by the claim in the ledger, not by the lease of the message. But
where the permission is missing, every message would come again and again, so ``check`` ends the run.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import structlog

from worker.adapters.aws.sqs import Operation, denial, in_batches, send_once
from worker.adapters.batching import some_at_once
from worker.adapters.queues.sqs.attributes import QUEUE
from worker.adapters.queues.sqs.inflight import InFlight, Message
from worker.core.errors import DependencyUnavailable, ExitCode, QueueUnavailable

log = structlog.get_logger()

BEATS = 6
"""Rounds within one visibility. A message is hidden again two rounds after the last time, so one round may fail."""
AT_ONCE = 8
"""Batches sent at the same time: more would only compete with receiving and deleting."""
_TIMEOUT = 5.0
"""Seconds for one batch: the next round tries again anyway."""

HARMLESS = "nothing: it is tried again, and who is in work keeps their claim; if it lasts: mfa-worker check"
"""What to do about a lease that was not renewed."""


class Heartbeat:
    """Renews the visibility (seconds) of the messages ``in_flight`` with ``change`` (ChangeMessageVisibilityBatch).

    ``let_go`` is called with each message that waits here and should go to another worker: it cannot be hidden any
    longer, or no messages have been asked for recently (``is_wanted`` returns ``False``).
    """

    def __init__(
        self,
        change: Operation,
        url: str,
        in_flight: InFlight,
        *,
        visibility: int,
        let_go: Callable[[Message], None],
        is_wanted: Callable[[], bool],
    ) -> None:
        self._change = change
        self._url = url
        self._in_flight = in_flight
        self._visibility = visibility
        self._let_go = let_go
        self._is_wanted = is_wanted
        self._round = asyncio.Lock()
        self._denied: DependencyUnavailable | None = None
        self._task: asyncio.Task[None] | None = None

    def keep_beating(self) -> None:
        """Start the rounds, unless they are running. Raises what has ended them, which can only be a bug."""
        if self._task is None:
            self._task = asyncio.create_task(self._beat())
        elif self._task.done() and not self._task.cancelled():
            self._task.result()

    def check(self) -> None:
        """Raise why no message can be hidden, if a person has to mend it: otherwise every message comes again."""
        if self._denied is not None:
            raise self._denied

    async def between_beats(self) -> None:
        """Wait until no renewal is being sent: it could hide again a message that is given back now."""
        async with self._round:
            pass

    async def stop(self) -> None:
        """Stop the rounds, after waiting for a renewal that is being sent."""
        try:
            await self.between_beats()
        finally:
            if self._task is not None:
                self._task.cancel()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._visibility / BEATS)
            async with self._round:
                await self._renew()

    async def _renew(self) -> None:
        now = time.monotonic()
        renew, let_go = self._in_flight.to_renew(now, is_wanted=self._is_wanted())
        for message in let_go:
            self._let_go(message)
        await some_at_once(self._hide, in_batches(renew), AT_ONCE)

    async def _hide(self, batch: list[Message]) -> None:
        now = time.monotonic()
        handles = [message.handle for message in batch]
        entries = [{"ReceiptHandle": handle, "VisibilityTimeout": self._visibility} for handle in handles]
        try:
            failed = await send_once(self._change, self._url, entries, what=QUEUE, within=_TIMEOUT)
        except QueueUnavailable as unavailable:
            self._failed(len(batch), unavailable)
            return
        self._denied = None
        for number, (message, handle) in enumerate(zip(batch, handles, strict=True)):
            failure = failed.get(number)
            if message.handle != handle:
                continue  # it was received again meanwhile
            if failure is None:
                self._in_flight.hidden(message, now)
            elif (denied := denial(failure, self._change, QueueUnavailable, QUEUE)) is not None:
                self._failed(1, denied)
            elif failure.for_good:
                log.debug("lease_lost", message_id=message.key[0], code=failure.code)
                message.hidden_until = message.received_at = -math.inf
            else:
                log.warning("heartbeat_failed", messages=1, cause=failure.code, cure=HARMLESS)

    def _failed(self, messages: int, unavailable: DependencyUnavailable) -> None:
        log.warning("heartbeat_failed", messages=messages, cause=str(unavailable), cure=unavailable.hint)
        if unavailable.exit_code is ExitCode.PERSON_MUST_ACT:
            self._denied = unavailable
