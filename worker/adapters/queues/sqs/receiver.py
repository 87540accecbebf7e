"""Keeps as many long polls open at an SQS queue as the demand needs, and none that nobody waits for.

A poll is a request that costs money and, where it ends unheard, hides messages from everybody. So a poll begins only
while leases are asked for and there is room for a whole batch, and a second one only when the first came back full.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from worker.adapters.aws.sqs import BACKOFF, BATCH, PATIENCE
from worker.core.errors import QueueUnavailable
from worker.core.resilience.backoff import Outage

log = structlog.get_logger()

MOST = 8
"""Polls open at a time, at most: with an answer in 20 ms, 4,000 messages/s."""
WANTED = 2.0
"""Seconds for which one question for messages keeps polls coming: the engine asks several times a second."""
_TOO_EARLY = 0.1
"""Seconds of pause after a poll that came back empty long before its time, so that such answers make no busy loop."""
_MARGIN = 2.0
"""Seconds more than the poll's wait, after which it is abandoned when closing."""


class Receiver:
    """``receive`` makes one poll for up to so many messages and says how many came; ``room`` tells how many more may
    wait here, ``look_ahead`` how many in all; ``wait`` (s) is how long SQS holds a poll.
    """

    def __init__(
        self, receive: Callable[[int], Awaitable[int]], room: Callable[[], int], *, look_ahead: int, wait: int
    ) -> None:
        self._receive = receive
        self._room = room
        self._batch = max(1, min(BATCH, look_ahead))
        self._wait = wait
        self._polls: set[asyncio.Task[None]] = set()
        self._width = 1
        self._wanted_until = 0.0
        self._not_before = 0.0
        self._closing = False
        self._bug: BaseException | None = None
        self.outage = Outage(PATIENCE)

    def want(self) -> None:
        """Somebody asks for messages. Raises what polls have been failing with for too long."""
        if self._bug is not None:
            raise self._bug
        self.outage.check()
        self._wanted_until = time.monotonic() + WANTED
        self._begin()

    def _begin(self) -> None:
        now = time.monotonic()
        while not self._closing and self._not_before <= now < self._wanted_until and len(self._polls) < self._width:
            if self._room() - self._batch * len(self._polls) < self._batch:
                return
            poll = asyncio.create_task(self._poll())
            self._polls.add(poll)
            poll.add_done_callback(self._ended)

    def _ended(self, poll: asyncio.Task[None]) -> None:
        self._polls.discard(poll)
        if not poll.cancelled() and (error := poll.exception()) is not None:
            self._bug = error
        else:
            self._begin()

    async def _poll(self) -> None:
        began = time.monotonic()
        try:
            number = await self._receive(self._batch)
        except QueueUnavailable as unavailable:
            if not self.outage.failures:
                log.warning("queue_away", cause=str(unavailable), cure=unavailable.hint)
            self.outage.failed(unavailable)
            self._width = 1
            self._rest(BACKOFF.pause(self.outage.failures))
            return
        if self.outage.recovered():
            log.info("queue_back")
        if number == self._batch:
            self._width = min(MOST, self._width + 1)
        else:
            self._width = max(1, self._width - 1) if number else 1
        if not number and time.monotonic() - began < self._wait / 2 + _TOO_EARLY:
            self._rest(_TOO_EARLY)

    def _rest(self, seconds: float) -> None:
        self._not_before = time.monotonic() + seconds
        asyncio.get_running_loop().call_later(seconds + 0.001, self._begin)

    async def close(self) -> None:
        """Begin no poll, and hear out those that are open: in no more than their wait and a moment."""
        self._closing = True
        if self._polls:
            _, late = await asyncio.wait(self._polls, timeout=self._wait + _MARGIN)
            for poll in late:
                poll.cancel()
            if late:
                await asyncio.wait(late)
