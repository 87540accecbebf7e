"""Waves: ``run --only FILE`` works on some named users alone, so that a rollout can begin with a few.

Such a run sees only the named users' messages and unfinished rows. Nothing else changes.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from typing import Protocol, runtime_checkable

import structlog

from worker.core.errors import MaxUsersReached
from worker.core.model import Counts, Enrolment, State
from worker.core.outlook import UNJUDGED, Outlook
from worker.core.ports import Backlog, CountedLedger, Deadlines, Lease, Ledger, Queue
from worker.engine.shutdown import Shutdown

log = structlog.get_logger()

Wave = frozenset[str]
"""The usernames of the only users to work on."""

HIDDEN_FOR = 120.0
"""Seconds for which an SQS message of another user is hidden, from all workers: long enough that it is not received
again and again, and short enough that the run after the wave need not wait long."""
MAX_HIDDEN = 20_000
"""Messages hidden at once: a standard queue has at most about 120,000 that are received and not deleted (SQS developer
guide, quotas), those of other workers included."""
MAX_NAMED = 5
"""Users named as examples in one log line."""


class WaveLedger:
    """A ledger that shows only the named users' unfinished rows, and is otherwise the one that it wraps."""

    def __init__(self, ledger: CountedLedger, usernames: Collection[str]) -> None:
        self._ledger, self._usernames = ledger, usernames
        self.put = ledger.put
        self.read = ledger.read
        self.is_dead = ledger.is_dead
        self.counts = ledger.counts
        self.listed = ledger.listed
        self.count = ledger.count

    async def unfinished(self) -> AsyncGenerator[Enrolment]:
        """See ``ports.Ledger``."""
        async with aclosing(self._ledger.unfinished()) as rows:
            async for row in rows:
                if row.username in self._usernames:
                    yield row

    async def recount(self) -> Counts:
        """Count the named users who are unfinished, and nobody else."""
        states: Counter[State] = Counter()
        reasons: Counter[str] = Counter()
        async for row in self.unfinished():
            states[row.state] += 1
            if row.reason is not None:
                reasons[row.reason] += 1
        return Counts(states, reasons)


class WaveQueue:
    """A queue of the named users' messages, over one that cannot search for them (SQS).

    Messages of other users are given back, hidden for ``HIDDEN_FOR`` seconds. The queue counts as empty when all named
    users have an outcome of this run, or none of their messages came for ``quiet`` seconds. Receiving a message to see
    whose it is raises its receive count: a redrive policy needs a ``maxReceiveCount`` that allows for that, and a small
    wave among very many other users should have a queue of its own.
    """

    def __init__(
        self,
        queue: Queue,
        usernames: Collection[str],
        *,
        quiet: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue, self._usernames, self._quiet, self._now = queue, usernames, quiet, now
        self._without_outcome = set(usernames)
        self._leased = 0
        """How many messages of the named users are leased now."""
        self._seen_at = now()
        """When a message of the named users was last leased, acknowledged or given back (monotonic seconds)."""
        self._hidden: deque[tuple[float, int]] = deque()
        """Hidden messages of other users: until when (monotonic seconds), and how many."""
        self._hidden_now = 0
        """How many messages of other users are hidden now."""

    async def lease(self, most: int, outlook: Outlook = UNJUDGED) -> Sequence[Lease]:
        """See ``ports.Queue``."""
        return await self._ours(lambda: self._queue.lease(most, outlook))

    async def lease_expired(self, most: int, now: float) -> Sequence[Lease]:
        """See ``ports.Queue``."""
        return await self._ours(lambda: self._queue.lease_expired(most, now))

    async def deadlines(self, now: float) -> Deadlines:  # noqa: ARG002 - the port's
        """None: SQS cannot tell those of some users alone."""
        return Deadlines(are_all=False)

    async def lease_elsewhere(self, most: int) -> Sequence[Lease]:
        """See ``ports.Queue``."""
        return await self._ours(lambda: self._queue.lease_elsewhere(most))

    async def _ours(self, lease: Callable[[], Awaitable[Sequence[Lease]]]) -> Sequence[Lease]:
        now = self._now()
        while self._hidden and self._hidden[0][0] <= now:
            self._hidden_now -= self._hidden.popleft()[1]
        if self._hidden_now >= MAX_HIDDEN:
            return ()
        ours: list[Lease] = []
        others = 0
        while not ours and self._hidden_now + others < MAX_HIDDEN and (leases := await lease()):
            for found in leases:
                if found.request.username in self._usernames:
                    ours.append(found)
                else:
                    await self._queue.give_back(found, HIDDEN_FOR)
                    others += 1
        if others:
            self._hidden.append((now + HIDDEN_FOR, others))
            self._hidden_now += others
        if ours:
            self._seen_at = self._now()
            self._leased += len(ours)
        return ours

    async def lease_others(self, username: str, most: int) -> Sequence[Lease]:
        """See ``ports.Queue``; asked for named users only."""
        leases = await self._queue.lease_others(username, most)
        self._leased += len(leases)
        return leases

    async def acknowledge(self, lease: Lease) -> None:
        """See ``ports.Queue``."""
        await self._queue.acknowledge(lease)
        self._without_outcome.discard(lease.request.username)
        self._no_longer_leased()

    async def give_back(self, lease: Lease, delay: float) -> None:
        """See ``ports.Queue``."""
        await self._queue.give_back(lease, delay)
        self._no_longer_leased()

    def _no_longer_leased(self) -> None:
        self._leased -= 1
        self._seen_at = self._now()

    async def backlog(self) -> Backlog:
        """The backlog of all users: SQS cannot count the messages of some alone."""
        return await self._queue.backlog()

    async def is_empty(self) -> bool:
        """Whether no more messages of the named users are expected."""
        if self._leased:
            return False
        return not self._without_outcome or self._now() - self._seen_at >= self._quiet or await self._queue.is_empty()

    async def close(self) -> None:
        """See ``ports.Queue``."""
        await self._queue.close()


@runtime_checkable
class _Selective(Protocol):
    """A queue that can search for some users' messages by itself."""

    async def only(self, usernames: Collection[str]) -> None:
        """From now on, lease messages of these users only."""
        ...


async def select(queue: Queue, wave: Wave, *, quiet: float) -> Queue:
    """Return the queue, limited to the messages of these users; ``quiet``: see ``WaveQueue``."""
    if not isinstance(queue, _Selective):
        return WaveQueue(queue, wave, quiet=quiet)
    await queue.only(wave)
    return queue


async def conclude(ledger: Ledger, wave: Wave, counts: Counts, backlog: Backlog, shutdown: Shutdown) -> None:
    """End a wave when nobody in it is left to work on.

    Logs who had no request, and ends the run with exit code 5 if other users wait.
    """
    missing = [username for username in sorted(wave) if await ledger.read(username) is None]
    if missing:
        log.warning(
            "no_request",
            cause=f"{len(missing)} of {len(wave)} named users have no request",
            such_as=missing[:MAX_NAMED],
            cure="push a request for each, or correct the names: they are Cognito's, no aliases",
        )
    if backlog.waiting or counts.unfinished:
        shutdown.request(
            MaxUsersReached("all named users are worked on", "run without --only to go on with the others")
        )
