"""Settles expired requests beside the calls: without a slot, many at once, and never in the way of anybody alive.

A request whose credential has expired needs no call, only a durable outcome and its message deleted. There may be tens
of thousands of them (an overload, a night's break), and a handful of users at the end of the queue who can still be
saved. Many at once share the ledger's commits and the queue's deletes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from worker.core.ports import Clock, Lease, Queue

AT_ONCE = 256
"""Requests in one round: a whole batch of the embedded ledger and queue (``adapters.batching``), which starts without
waiting for more. With 100, 30,000 took 39 s instead of 4.6. A round keeps the event loop from the calls for some 30 ms
at most (0.13 ms of CPU each, measured), about the pause between two calls."""
FEW = 8
"""Requests in one round while the ledger is slow."""
QUICK = 0.1
"""Seconds that a ledger may take for an answer before the rounds get smaller: claims must not wait behind the dead."""
LOOK_EVERY = 1.0
"""Seconds between two looks at a queue without expired requests: soon enough for the end of a run, which waits for the
last ones to expire, and one read a second costs nothing."""


def round_of(ledger_takes: float) -> int:
    """How many expired requests may be under way while the ledger takes so many seconds for an answer."""
    return max(FEW, int(AT_ONCE * min(1.0, QUICK / max(ledger_takes, QUICK))))


class ExpiredRequests:
    """Leases the expired requests of ``queue``, and has them settled.

    ``settle`` begins to settle one, and returns its task, or ``None`` where that cannot be done now. ``may_begin``
    returns how many may be begun now.
    """

    def __init__(
        self,
        queue: Queue,
        clock: Clock,
        settle: Callable[[Lease], Awaitable[asyncio.Task[None] | None]],
        may_begin: Callable[[], int],
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._settle = settle
        self._may_begin = may_begin
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled; what was begun then goes on. Raises what the queue raises."""
        while True:
            self._under_way = {task for task in self._under_way if not task.done()}
            most = min(AT_ONCE - len(self._under_way), self._may_begin())
            leases = await self._queue.lease_expired(most, self._clock.utc()) if most > 0 else ()
            if not leases:
                await asyncio.sleep(LOOK_EVERY)
                continue
            begun = {task for lease in leases if (task := await self._settle(lease)) is not None}
            if begun:
                self._under_way |= begun
                await asyncio.wait(begun, timeout=LOOK_EVERY)  # one that waits for the channel holds up no other
