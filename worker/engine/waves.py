"""Waves: ``run --only FILE`` works on some named users alone, so that a rollout can begin with a few.

Such a run sees a queue and a ledger in which nobody but the named users exists. Nothing else changes.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import structlog

from worker.core.errors import MaxUsersReached, UsageError
from worker.core.model import Counts, Enrolment, State
from worker.core.ports import Backlog, CountedLedger, Lease, Ledger, Queue
from worker.engine.shutdown import Shutdown
from worker.requests.usernames import usernames

log = structlog.get_logger()

Wave = frozenset[str]
"""The users who alone are worked on."""

HIDDEN_FOR = 120.0
"""Seconds for which an SQS message of another user is hidden, from all workers: long enough not to see it again and
again, short enough for the run that follows the wave."""
MAX_HIDDEN = 20_000
"""Messages hidden at once: a standard queue has at most about 120,000 that are received and not deleted (SQS developer
guide, quotas), those of other workers included."""
MAX_NAMED = 5
"""Users named as examples in one log line."""


def read_wave(path: Path) -> Wave:
    """The users of ``--only``. Raises ``UsageError`` where the file is not readable, names nobody, or holds else."""
    try:
        with path.open("rb") as file:
            named = list(usernames(file))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "name a file of usernames, one a line") from None
    if None in named:
        raise UsageError(
            f"{path} holds lines that are no usernames ({named.count(None)} of {len(named)})",
            "name users as ListUsers prints them, one a line, in UTF-8",
        )
    if not named:
        raise UsageError(f"{path} names nobody", "name users as ListUsers prints them, one a line")
    return frozenset(name for name in named if name is not None)


class WaveLedger:
    """The ledger for a loop that works on some users alone: of the unfinished rows it shows only theirs."""

    def __init__(self, ledger: CountedLedger, usernames: Collection[str]) -> None:
        self._ledger, self._usernames = ledger, usernames
        self.put = ledger.put
        self.read = ledger.read
        self.is_dead = ledger.is_dead
        self.counts = ledger.counts
        self.rows = ledger.rows
        self.count = ledger.count

    async def unfinished(self) -> AsyncIterator[Enrolment]:
        """See ``ports.Ledger``."""
        async for row in self._ledger.unfinished():
            if row.username in self._usernames:
                yield row

    async def recount(self) -> Counts:
        """The named users who are unfinished, counted; nobody else."""
        states: Counter[State] = Counter()
        async for row in self.unfinished():
            states[row.state] += 1
        return Counts(states, {})


class WaveQueue:
    """``Queue`` over one that cannot search for some users' messages (SQS): others' go back, hidden for a while.

    It counts as empty when all the named users have an outcome of this run, or none of their messages came for
    ``quiet`` seconds. Every message that is looked at counts as received: a redrive policy needs a ``maxReceiveCount``
    that allows for that, and a wave among very many others is better given a queue of its own.
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
        """Messages of theirs that are leased now."""
        self._seen_at = now()
        """When a message of theirs was here for the last time (monotonic seconds)."""
        self._hidden: deque[tuple[float, int]] = deque()
        """Until when how many messages of others are hidden."""
        self._hidden_now = 0

    async def lease(self, most: int) -> Sequence[Lease]:
        """See ``ports.Queue``."""
        now = self._now()
        while self._hidden and self._hidden[0][0] <= now:
            self._hidden_now -= self._hidden.popleft()[1]
        if self._hidden_now >= MAX_HIDDEN:
            return ()
        ours: list[Lease] = []
        others = 0
        while not ours and self._hidden_now + others < MAX_HIDDEN and (leases := await self._queue.lease(most)):
            for lease in leases:
                if lease.request.username in self._usernames:
                    ours.append(lease)
                else:
                    await self._queue.give_back(lease, HIDDEN_FOR)
                    others += 1
        if others:
            self._hidden.append((now + HIDDEN_FOR, others))
            self._hidden_now += others
        if ours:
            self._seen_at = self._now()
            self._leased += len(ours)
        return ours

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
        """Of all users: SQS cannot count the named ones' alone."""
        return await self._queue.backlog()

    async def is_empty(self) -> bool:
        """Whether no message of the named users is to be expected any more."""
        if self._leased:
            return False
        return not self._without_outcome or self._now() - self._seen_at >= self._quiet or await self._queue.is_empty()

    async def close(self) -> None:
        """See ``ports.Queue``."""
        await self._queue.close()


@runtime_checkable
class _Selective(Protocol):
    """A queue that finds some users' messages by itself."""

    async def only(self, usernames: Collection[str]) -> None:
        """See ``queues.sqlite``."""
        ...


async def select(queue: Queue, wave: Wave, *, quiet: float) -> Queue:
    """The queue as it looks where nobody but these users exists; ``quiet``: see ``WaveQueue``."""
    if not isinstance(queue, _Selective):
        return WaveQueue(queue, wave, quiet=quiet)
    await queue.only(wave)
    return queue


async def conclude(ledger: Ledger, wave: Wave, counts: Counts, backlog: Backlog, shutdown: Shutdown) -> None:
    """Nobody of the wave is left to work on: name who had no request, and end the run by 5 where others wait."""
    missing = [username for username in sorted(wave) if await ledger.read(username) is None]
    if missing:
        log.warning(
            "no_request",
            cause=f"{len(missing)} of {len(wave)} named users have no request",
            such_as=missing[:MAX_NAMED],
            cure="sign them in and push a request for each, or correct the names: they are Cognito's, no aliases",
        )
    if backlog.waiting or counts.unfinished:
        shutdown.request(
            MaxUsersReached("all named users are worked on", "run without --only to go on with the others")
        )
