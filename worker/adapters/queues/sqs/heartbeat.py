"""Hides what is in hand from other workers, for as long as this one lives.

A heartbeat that fails stops nothing: the claim in the ledger protects the user, not the lease of the message.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import structlog

from worker.adapters.queues.sqs.batches import Operation, send_once, some_at_once, tens
from worker.adapters.queues.sqs.inflight import InFlight, Message
from worker.core.errors import QueueUnavailable

log = structlog.get_logger()

BEATS = 6
"""In one visibility; what came or was hidden more than two of them ago is hidden anew, so that one may fail."""
_TIMEOUT = 5.0


class Heartbeat:
    """Renews with ``change`` (ChangeMessageVisibilityBatch) what is ``held``; ``visibility`` in seconds.

    ``let_go`` gets what waits here and can be hidden no longer, or that nobody has asked for (``is_wanted``) for long:
    others shall have it.
    """

    def __init__(
        self,
        change: Operation,
        url: str,
        held: InFlight,
        *,
        visibility: int,
        let_go: Callable[[Message], None],
        is_wanted: Callable[[], bool],
    ) -> None:
        self._change = change
        self._url = url
        self._held = held
        self._visibility = visibility
        self._let_go = let_go
        self._is_wanted = is_wanted
        self._round = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def keep_beating(self) -> None:
        """Begin, unless it beats already. Raises what broke it, which can only be a bug."""
        if self._task is None:
            self._task = asyncio.create_task(self._beat())
        elif self._task.done() and not self._task.cancelled():
            self._task.result()

    async def between_beats(self) -> None:
        """Return when no renewal is on its way that could hide anew what is given back."""
        async with self._round:
            pass

    async def stop(self) -> None:
        """Beat no more; a renewal that is on its way is waited for."""
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
        renew, fading = self._held.fading(now, is_wanted=self._is_wanted())
        for message in fading:
            self._let_go(message)
        await some_at_once(self._hide, tens(renew))

    async def _hide(self, batch: list[Message]) -> None:
        now = time.monotonic()
        handles = [message.handle for message in batch]
        entries = [{"ReceiptHandle": handle, "VisibilityTimeout": self._visibility} for handle in handles]
        try:
            failed = await send_once(self._change, self._url, entries, within=_TIMEOUT)
        except QueueUnavailable as unavailable:
            log.warning("heartbeat_failed", messages=len(batch), cause=str(unavailable))
            return
        for number, (message, handle) in enumerate(zip(batch, handles, strict=True)):
            code, is_lost = failed.get(number, ("", False))
            if message.handle != handle:
                continue  # it was received again meanwhile
            if not code:
                self._held.hidden(message, now)
            elif is_lost:
                log.debug("lease_lost", message_id=message.key[0], code=code)
                message.hidden_until = message.received_at = -math.inf
            else:
                log.warning("heartbeat_failed", messages=1, cause=code)
