"""Keeps as many long polls open at an SQS queue as are needed, and none while no leases are asked for.

A poll costs money, and if its answer is never read, its messages stay hidden from all workers. So a poll starts only
while leases are asked for and there is room for a whole batch, and a second one only after the first returned a full
batch.
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
"""The highest number of open polls: with an answer in 20 ms, 4,000 messages/s."""
WANTED = 2.0
"""Seconds for which one call of ``want`` keeps new polls starting: the engine calls it several times a second."""
_TOO_EARLY = 0.1
"""Seconds of pause after a poll that returned empty long before its time, so that such answers cause no busy loop."""
_MARGIN = 2.0
"""Seconds on top of the poll's own wait, after which an open poll is cancelled when closing."""


class Receiver:
    """Starts the polls.

    ``receive`` makes one poll for up to so many messages and returns how many came. ``room`` returns how many more
    messages may be received ahead, ``look_ahead`` how many in all. ``wait``: seconds for which SQS keeps a poll
    open.
    """

    def __init__(
        self,
        receive: Callable[[int], Awaitable[int]],
        room: Callable[[], int],
        *,
        look_ahead: Callable[[], int],
        wait: int,
    ) -> None:
        self._receive = receive
        self._room = room
        self._look_ahead = look_ahead
        self._wait = wait
        self._polls: set[asyncio.Task[None]] = set()
        self._width = 1
        self._wanted_until = 0.0
        self._not_before = 0.0
        self._closing = False
        self._bug: BaseException | None = None
        self.outage = Outage(PATIENCE)

    def want(self) -> None:
        """Note that messages are wanted, and start polls. Raises what polls have been failing with for too long."""
        if self._bug is not None:
            raise self._bug
        self.outage.check()
        self._wanted_until = time.monotonic() + WANTED
        self._begin()

    def _batch(self) -> int:
        """How many messages to ask for in one poll."""
        return max(1, min(BATCH, self._look_ahead()))

    def _begin(self) -> None:
        now = time.monotonic()
        while not self._closing and self._not_before <= now < self._wanted_until and len(self._polls) < self._width:
            batch = self._batch()
            if self._room() - batch * len(self._polls) < batch:
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
        began, batch = time.monotonic(), self._batch()
        try:
            number = await self._receive(batch)
        except QueueUnavailable as unavailable:
            if not self.outage.failures:
                log.warning("queue_away", cause=str(unavailable), cure=unavailable.hint)
            self.outage.failed(unavailable)
            self._width = 1
            self._rest(BACKOFF.pause(self.outage.failures))
            return
        if self.outage.recovered():
            log.info("queue_back")
        if number == batch:
            self._width = min(MOST, self._width + 1)
        else:
            self._width = max(1, self._width - 1) if number else 1
        if not number and time.monotonic() - began < self._wait / 2 + _TOO_EARLY:
            self._rest(_TOO_EARLY)

    def _rest(self, seconds: float) -> None:
        self._not_before = time.monotonic() + seconds
        asyncio.get_running_loop().call_later(seconds + 0.001, self._begin)

    async def close(self) -> None:
        """Start no more polls, and wait for the answers of the open ones: at most their wait and two seconds."""
        self._closing = True
        if self._polls:
            _, late = await asyncio.wait(self._polls, timeout=self._wait + _MARGIN)
            for poll in late:
                poll.cancel()
            if late:
                await asyncio.wait(late)
