"""Feeds a queue no faster than its requests can be used, so that no credential expires while it waits.

::

    async with worker.feed(settings) as feed:
        await feed.room()                                             # until the next credential is worth minting
        await feed.push({"username": "ana", "session": await sign_in("ana")})

``room`` is the backpressure: it returns when one more message may wait, by the rule in ``backpressure``. The queue
counts its messages only now and then; in between, the feed adds what it pushes itself. Tickets and passwords do not
age while they wait, so nobody waits for their turn.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, Self
from weakref import WeakKeyDictionary

import structlog

from worker.core.errors import DependencyUnavailable, Malformed
from worker.core.forecast import CURE, a_user_costs
from worker.core.model import SIGNS_IN, CredentialKind, Request, State
from worker.core.ports import Clock, Ledger, Producer, Queue
from worker.core.resilience.backoff import Outage
from worker.pacing.pace import PaceStore
from worker.requests.backpressure import Estimate, FeedConfig
from worker.requests.lines import Line
from worker.requests.message import Parser, line_of
from worker.requests.refused import Aside, Refused

log = structlog.get_logger()

MIN_PAUSE = 0.2
"""The fewest seconds between two counts of the waiting messages: five requests/s are a small load for any queue."""

COUNT_LIFE = 2.0
"""Seconds after which a count is too old to permit a push, and the most seconds until the next one. It is as long as
the work that may always wait (``backpressure.MIN_WORK``), so that workers have work between two counts."""

PERMISSION_LIFE = 30.0
"""Seconds for which a permission to mint a credential is reserved for the caller that got it. If the caller has not
pushed by then, somebody else is permitted instead. It is longer than a sign-in takes."""

PATIENCE = 60.0
"""Seconds for which an unavailable queue or ledger is tried again: as long as a worker tries by default."""

LOOK_EVERY = 10.0
"""Seconds between two looks whether more wait than can be used: a count of the queue each."""

BATCH = 500
"""The most messages in one call of the queue, so that its transactions stay small."""


class FeedQueue(Queue, Producer, Protocol):
    """What a feed needs of a queue: to push to it, and to count what waits."""


class FeedLedger(Ledger, PaceStore, Protocol):
    """What a feed needs of a ledger: the users' rows, and the workers' shared pace."""


class _Push(NamedTuple):
    """One message that waits to be pushed with others, and the future that its caller waits for."""

    request: Request
    body: bytes
    stored: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class _Waiter:
    """A caller that waits for the permission to mint a credential that is usable for so many seconds."""

    usable: float
    permitted: asyncio.Future[None]


class Feed:
    """The producer's end of a queue, for ``async with``; many tasks may push at once.

    Its methods raise ``QueueUnavailable`` or ``LedgerUnavailable`` if the queue or the ledger cannot be reached.
    """

    def __init__(self, queue: FeedQueue, ledger: FeedLedger, parser: Parser, clock: Clock, config: FeedConfig) -> None:
        self._queue = queue
        self._ledger = ledger
        self._parser = parser
        self._clock = clock
        self._config = config
        self._rate = config.users(config.rate)
        """Users/s that the workers can be at."""
        self.is_lasting = config.is_lasting
        """Whether the credential that was pushed last signs its user in when it is their turn."""
        self._said_lasting = False
        self._usable = config.usable(config.session_validity, CredentialKind.SESSION)
        """Seconds for which the credential that was pushed last may wait."""
        self._estimate = Estimate(config.lag)
        self._counted_at = -math.inf
        """When the queue last counted its messages (monotonic seconds)."""
        self._permissions: deque[float] = deque()
        """When each permission that is not used yet was granted (monotonic seconds), the oldest first."""
        self._permitted_by_push: WeakKeyDictionary[asyncio.Task[object], float] = WeakKeyDictionary()
        """The tasks whose last ``push`` already waited for the next permission, and when it returned."""
        self._waiters: list[_Waiter] = []
        self._counting: asyncio.Task[None] | None = None
        self._quiet_since = 0.0
        """When a waiting caller was last permitted to mint, or the log last warned that none is (monotonic seconds)."""
        self._outage = Outage(PATIENCE, clock.monotonic)
        self._to_push: list[_Push] = []
        self._pushing: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = -math.inf
        """When it was last looked whether too many wait (monotonic seconds)."""
        self._said_lost = 0
        self.accepted = 0
        """How many requests were put on the queue."""
        self.duplicates = 0
        """How many requests the queue refused because it had them before."""
        self.malformed: Counter[str] = Counter()
        """How many messages were malformed, by reason."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pushing is not None:
            await asyncio.wait([self._pushing])
        for task in (self._counting, self._looking):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        for waiter in self._waiters:
            waiter.permitted.cancel()

    async def push(self, request: Mapping[str, object] | bytes, *, wait: bool = True) -> None:
        """Put a request (an object, or a line of JSON) on the queue, durably; return when the next one may be pushed.

        With ``wait=False`` it returns as soon as the request is durable, for callers that await ``room`` before the
        next one. A malformed request is put aside and counted; then ``Malformed`` is raised, whose text may be shown.
        """
        raw = request if isinstance(request, bytes) else line_of(request)
        await self._push(lambda: raw, wait=wait, refuse=lambda reason: Aside(reason, self._parser.digest(raw), 1, 0))

    async def push_line(self, line: Line, refused: Refused) -> None:
        """Push a line of a file or a pipe, without waiting; ``refused`` notes it where it is malformed."""
        await self._push(line.message, wait=False, refuse=partial(refused.add, line))

    async def put_aside(self, asides: Iterable[Aside]) -> None:
        """Remember malformed lines that were read."""
        for aside in asides:
            await self._queue.put_aside(*aside)

    async def _push(self, message: Callable[[], bytes], *, wait: bool, refuse: Callable[[str], Aside | None]) -> None:
        self._was_permitted_by_push()
        now = self._clock.utc()
        try:
            parsed, body = self._parser.to_push(message(), now)
        except Malformed as malformed:
            self.malformed[str(malformed)] += 1
            self._use_permission()
            aside = refuse(str(malformed))
            await self.put_aside([aside] if aside else [])
            raise
        life = parsed.expires_at - now
        self._usable = usable = self._config.usable(life, parsed.kind)
        self.is_lasting = parsed.kind in SIGNS_IN
        await self._push_with_others(parsed, body)
        if self.is_lasting:
            return
        self._look_for_overload(life)
        if wait:
            await self._permission(usable)
            if task := asyncio.current_task():
                self._permitted_by_push[task] = self._clock.monotonic()

    async def room(self) -> None:
        """Wait until a new credential can be used in time. Of several callers only as many go on as may push.

        Nobody waits where tickets or passwords are pushed.
        """
        if self.is_lasting:
            self._say_lasting()
        elif not self._was_permitted_by_push():
            await self._permission(self._usable)

    def _say_lasting(self) -> None:
        if not self._said_lasting:
            self._said_lasting = True
            log.info("feed_does_not_wait", cause="tickets and passwords do not age while they wait on the queue")

    def give_up(self) -> None:
        """Return a permission that will not be used because there is nothing to push, so that somebody else gets it."""
        self._use_permission()

    async def wants(self, username: str) -> bool:
        """Whether the user still needs a credential: they have no row in the ledger, failed, or need a session."""
        row = await self._ledger.read(username)
        return row is None or row.state in (State.NEEDS_SESSION, State.FAILED)

    # --- pushing: messages that come close together are pushed in one batch -------------------------------------------

    async def _push_with_others(self, request: Request, body: bytes) -> None:
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._to_push.append(_Push(request, body, stored))
        if self._pushing is None or self._pushing.done():
            self._pushing = asyncio.create_task(self._push_batches())
        await stored

    async def _push_batches(self) -> None:
        while self._to_push:
            batch = [push for push in self._to_push[:BATCH] if not push.stored.cancelled()]
            del self._to_push[:BATCH]
            try:
                pushed = await self._queue.push([(push.request, push.body) for push in batch])
            except Exception as error:  # noqa: BLE001 - raised again in every caller of push
                for push in batch:
                    self._use_permission()
                    if not push.stored.done():
                        push.stored.set_exception(error)
                continue
            self.accepted += pushed.accepted
            self.duplicates += pushed.duplicates
            self._estimate.pushed(pushed.accepted, self._clock.monotonic(), self._rate)
            for push in batch:
                self._use_permission()
                if not push.stored.done():
                    push.stored.set_result(None)

    # --- overload: a caller that does not wait for permissions may push more than can be used -------------------------

    def _look_for_overload(self, life: float) -> None:
        """Every ten seconds, count whether a credential that lives for so many seconds can still have its turn."""
        now = self._clock.monotonic()
        if now - self._looked_at >= LOOK_EVERY and (self._looking is None or self._looking.done()):
            self._looked_at = now
            self._looking = asyncio.create_task(self._warn_of_overload(life))

    async def _warn_of_overload(self, life: float) -> None:
        with suppress(DependencyUnavailable):  # whoever pushes or counts says so
            waiting = (await self._queue.backlog()).waiting
            lost = round(waiting - self._rate * max(0.0, life))
            if lost <= max(1, self._said_lost * 2):
                return
            self._said_lost = lost
            log.warning(
                "overload",
                cause=f"{waiting:,} requests wait, and at {self._pace()} about {lost:,} of them expire before "
                f"their turn: what is pushed now lives {life:.0f} s",
                cure=CURE,
            )

    def _pace(self) -> str:
        """The present pace in words."""
        rate = self._rate * self._config.calls
        return f"{rate:g} calls/s{a_user_costs(rate, self._config.calls)}"

    # --- permissions to mint: one task counts the waiting messages for all callers that want one ----------------------

    async def _permission(self, usable: float) -> None:
        """Wait for the permission to mint a credential that is usable for so many seconds."""
        if not self._waiters and self._try_to_permit(usable):
            return
        waiter = _Waiter(usable, asyncio.get_running_loop().create_future())
        if not self._waiters:
            self._quiet_since = self._clock.monotonic()
        self._waiters.append(waiter)
        if self._counting is None or self._counting.done():
            self._counting = asyncio.create_task(self._permit_waiters())
        try:
            await waiter.permitted
        except asyncio.CancelledError:
            if waiter.permitted.done() and not waiter.permitted.cancelled():  # it will not use its permission
                with suppress(IndexError):
                    self._permissions.pop()
            raise
        finally:
            with suppress(ValueError):
                self._waiters.remove(waiter)

    def _try_to_permit(self, usable: float) -> bool:
        """Grant one permission and return ``True``, if the last count is recent and one more message may wait."""
        now = self._clock.monotonic()
        while self._permissions and self._permissions[0] <= now - PERMISSION_LIFE:
            self._permissions.popleft()
        if now - self._counted_at > COUNT_LIFE or self._waiting() >= self._config.most_waiting(self._rate, usable):
            return False
        self._permissions.append(now)
        return True

    def _use_permission(self) -> None:
        """Remove the oldest permission: its owner has pushed, or has nothing to push."""
        if self._permissions:
            self._permissions.popleft()

    def _was_permitted_by_push(self) -> bool:
        """Whether this task's last push already waited for the next permission; ``True`` only once for each push."""
        task = asyncio.current_task()
        permitted_at = self._permitted_by_push.pop(task, -math.inf) if task else -math.inf
        return self._clock.monotonic() - permitted_at < PERMISSION_LIFE

    def _waiting(self) -> float:
        """Return how many messages wait, including those that somebody was permitted to mint."""
        return self._estimate.waiting(self._clock.monotonic(), self._rate) + len(self._permissions)

    async def _permit_waiters(self) -> None:
        try:
            while self._waiters:
                await asyncio.sleep(self._until_next_count())
                await self._count()
                for waiter in list(self._waiters):
                    if not waiter.permitted.done() and self._try_to_permit(waiter.usable):
                        self._quiet_since = self._clock.monotonic()
                        waiter.permitted.set_result(None)
                        self._waiters.remove(waiter)
                self._warn_if_nobody_is_permitted()
        except Exception as error:  # noqa: BLE001 - raised again in every waiting caller
            for waiter in self._waiters:
                if not waiter.permitted.done():
                    waiter.permitted.set_exception(error)
            self._waiters.clear()

    def _until_next_count(self) -> float:
        """Return the seconds until the workers, at the known rate, have taken a tenth of what may wait."""
        most = max(self._config.most_waiting(self._rate, waiter.usable) for waiter in self._waiters)
        pause = min(COUNT_LIFE, max(MIN_PAUSE, (self._waiting() - 0.9 * most) / self._rate))
        return max(0.0, self._counted_at + pause - self._clock.monotonic())

    async def _count(self) -> None:
        """Ask the queue how many messages wait, and the ledger for the rate; try again for ``PATIENCE`` seconds."""
        accepted_before = self.accepted
        try:
            waiting, pace = (await self._queue.backlog()).waiting, await self._ledger.read_pace()
        except DependencyUnavailable as error:
            self._outage.failed(error)
            self._outage.check()
            await asyncio.sleep(COUNT_LIFE)  # meanwhile nobody is permitted, because the last count is too old
            return
        self._outage.recovered()
        self._rate = self._config.users(self._config.rate if pace is None else pace.rate)
        self._counted_at = self._clock.monotonic()
        self._estimate.counted(waiting, self.accepted - accepted_before, self._counted_at, self._rate)

    def _warn_if_nobody_is_permitted(self) -> None:
        """Log every ten seconds that the feed waits, so that a waiting script does not look broken."""
        if self._waiters and self._clock.monotonic() - self._quiet_since >= 10.0:
            self._quiet_since = self._clock.monotonic()
            log.warning(
                "feed_waits",
                backlog=round(self._waiting()),
                rate=round(self._rate * self._config.calls, 3),
                pace=self._pace(),
                cure="it goes on as soon as workers take what waits; is one running (mfa-worker run)?",
            )
