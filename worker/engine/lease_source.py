"""Where in the queue the next messages are leased from.

Usually those with the earliest deadlines. But where somebody is refused as if everybody were, only others can tell
whether it is so, and those with the earliest deadlines may have the cause in common: they were pushed together. So
while that is judged, every second message comes from elsewhere in the queue. While the circuit breaker doubts the pool,
a few from elsewhere come although all slots are taken by users who wait for it, and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from worker.core.outlook import Outlook
from worker.core.ports import Lease, Queue
from worker.core.resilience.breaker import CircuitBreaker
from worker.core.resilience.refusals import Refusals


class LeaseSource:
    """Leases from the queue as the state of breaker and refusals demands.

    ``must_wait``: whether nothing may be tried for a user now.
    """

    def __init__(
        self, queue: Queue, breaker: CircuitBreaker, refusals: Refusals, must_wait: Callable[[str], bool]
    ) -> None:
        self._queue = queue
        self._must_wait = must_wait
        self._breaker = breaker
        self._refusals = refusals
        self._turn_elsewhere = False
        """Whether a single message comes from elsewhere: every second one does."""

    async def lease(self, most: int, possible: int, outlook: Outlook) -> Sequence[Lease]:
        """Lease up to ``most`` messages, or up to ``possible`` where users from elsewhere are needed as probes."""
        doubts_pool = self._breaker.doubts_pool
        if doubts_pool:
            # One at a time: the commit of the next lease takes the claim of the one before along, which would wait.
            wanted = min(self._breaker.probes_wanted, possible, 1)
        else:
            wanted = self._half(most) if self._refusals.are_judged else 0
        leases = list(await self._queue.lease_elsewhere(wanted)) if wanted > 0 else []
        if wanted > 0:
            self._breaker.found_elsewhere(len(leases))
        for lease in leases:
            if not self._must_wait(lease.request.username):
                self._refusals.comes_from_elsewhere(lease.request.username)
        if not (doubts_pool and self._refusals.from_elsewhere) and most > len(leases):
            leases += await self._queue.lease(most - len(leases), outlook)
        return leases

    def _half(self, most: int) -> int:
        """Half of so many, odd ones in turn."""
        half = most // 2
        if most % 2:
            self._turn_elsewhere = not self._turn_elsewhere
            half += self._turn_elsewhere
        return half
