"""Feeds a queue no faster than its requests can be used, so that no credential dies waiting for its turn.

::

    async with worker.feed(settings) as feed:
        await feed.room()                                             # until the next credential is worth minting
        await feed.push({"username": "ana", "session": await sign_in("ana")})

How much may wait is decided in ``room``. What waits is asked once for many pushes; in between a feed counts what it
pushes itself.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, Self
from weakref import WeakKeyDictionary

import structlog

from worker.core.errors import DependencyUnavailable, ExitCode, Malformed
from worker.core.model import CredentialKind, Request, State
from worker.core.ports import Clock, Ledger, Producer, Queue
from worker.pacing.pace import PaceStore
from worker.requests.backpressure import Estimate, FeedConfig
from worker.requests.lines import digest
from worker.requests.message import Parser, line_of

log = structlog.get_logger()

LOOKS = 0.2, 2.0
"""Seconds between two looks at the queue: at least, and for which one counts at most."""
TICKET = 30.0
"""Seconds that whoever was told to mint has to push; then somebody else may."""
SAY = 10.0
"""Seconds without room after which the feed says that it waits, and again."""
PATIENCE = 60.0
"""Seconds for which a queue or a ledger that does not say what waits is asked again."""
PAGE = 500


class FeedQueue(Queue, Producer, Protocol):
    """The queue that is fed."""


class FeedLedger(Ledger, PaceStore, Protocol):
    """The ledger with the shared pace."""


@dataclass(slots=True, eq=False)
class _Waiter:
    usable: float
    granted: asyncio.Future[None]


class Feed:
    """The producer's end of a queue, for ``async with``; many tasks may push at once.

    Raises ``QueueUnavailable`` and ``LedgerUnavailable`` from where they come.
    """

    def __init__(self, depot: FeedQueue, book: FeedLedger, parser: Parser, clock: Clock, terms: FeedConfig) -> None:
        self._depot, self._book, self._parser, self._clock, self._terms = depot, book, parser, clock, terms
        self._rate = terms.rate
        self._usable = terms.usable(terms.session_validity, CredentialKind.SESSION)
        """Of the credential that was pushed last."""
        self._estimate = Estimate(terms.lag)
        self._pushed = 0
        self._looked_at = -math.inf
        self._tickets: deque[float] = deque()
        """When somebody was told to mint who has not pushed yet."""
        self._passes: WeakKeyDictionary[asyncio.Task[object], float] = WeakKeyDictionary()
        """Whose push returned, and when: they may mint without asking again."""
        self._waiters: list[_Waiter] = []
        self._looking: asyncio.Task[None] | None = None
        self._moved_at = 0.0
        self._unavailable_since: float | None = None
        self._page: list[tuple[Request, bytes, asyncio.Future[None]]] = []
        self._pushing: asyncio.Task[None] | None = None
        self.accepted = 0
        self.duplicates = 0
        self.malformed: Counter[str] = Counter()
        """By reason."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pushing is not None:
            await asyncio.wait([self._pushing])
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        for waiter in self._waiters:
            waiter.granted.cancel()

    async def push(self, request: Mapping[str, object] | bytes, *, wait: bool = True) -> None:
        """Put a request (as an object, or as a line of JSON) on the queue, durably; return when the next one is due.

        With ``wait=False`` at once, for whoever asks for ``room`` before the next one.
        Raises ``Malformed``, which is put aside and counted, and whose text may be shown.
        """
        self._has_pass()
        raw = request if isinstance(request, bytes) else line_of(request)
        now = self._clock.utc()
        try:
            parsed, body = self._parser.parse(raw, now), self._parser.body(raw, now)
        except Malformed as malformed:
            self.malformed[str(malformed)] += 1
            self._use_ticket()
            await self._depot.put_aside(str(malformed), digest(raw))
            raise
        self._usable = usable = self._terms.usable(parsed.expires_at - now, parsed.kind)
        await self._put(parsed, body)
        if wait:
            await self._room(usable)
            if task := asyncio.current_task():
                self._passes[task] = self._clock.monotonic()

    async def room(self) -> None:
        """Wait until the next credential is worth minting. Of several who wait, only as many go on as there is room."""
        if not self._has_pass():
            await self._room(self._usable)

    def give_up(self) -> None:
        """Whoever was told to mint has nothing to push: somebody else may."""
        self._use_ticket()

    async def wants(self, username: str) -> bool:
        """Whether a new credential of this user would be used: not where the ledger says that all is done."""
        row = await self._book.read(username)
        return row is None or row.state in (State.NEEDS_SESSION, State.FAILED)

    # --- pushing: what comes close together travels together ----------------------------------------------------------

    async def _put(self, request: Request, body: bytes) -> None:
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._page.append((request, body, stored))
        if self._pushing is None or self._pushing.done():
            self._pushing = asyncio.create_task(self._push_pages())
        await stored

    async def _push_pages(self) -> None:
        while self._page:
            page = [each for each in self._page[:PAGE] if not each[2].cancelled()]
            del self._page[:PAGE]
            try:
                pushed = await self._depot.push([(request, body) for request, body, _ in page])
            except Exception as error:  # noqa: BLE001 - whoever pushes is told
                for *_, stored in page:
                    self._use_ticket()
                    if not stored.done():
                        stored.set_exception(error)
                continue
            self.accepted += pushed.accepted
            self.duplicates += pushed.duplicates
            self._pushed += pushed.accepted
            self._estimate.pushed(pushed.accepted, self._clock.monotonic(), self._rate)
            for *_, stored in page:
                self._use_ticket()
                if not stored.done():
                    stored.set_result(None)

    # --- waiting for room: one looks for all --------------------------------------------------------------------------

    async def _room(self, usable: float) -> None:
        if not self._waiters and self._take_ticket(usable):
            return
        waiter = _Waiter(usable, asyncio.get_running_loop().create_future())
        if not self._waiters:
            self._moved_at = self._clock.monotonic()
        self._waiters.append(waiter)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_for_all())
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled():  # told to mint, and will not
                with suppress(IndexError):
                    self._tickets.pop()
            raise
        finally:
            with suppress(ValueError):
                self._waiters.remove(waiter)

    def _take_ticket(self, usable: float) -> bool:
        now = self._clock.monotonic()
        while self._tickets and self._tickets[0] <= now - TICKET:
            self._tickets.popleft()
        if now - self._looked_at > LOOKS[1] or self._waiting() >= self._terms.most_waiting(self._rate, usable):
            return False
        self._tickets.append(now)
        return True

    def _use_ticket(self) -> None:
        """Somebody who was told to mint has."""
        if self._tickets:
            self._tickets.popleft()

    def _has_pass(self) -> bool:
        """Whether this task's last push has said already that the next credential is due; it says so once."""
        task = asyncio.current_task()
        given_at = self._passes.pop(task, -math.inf) if task else -math.inf
        return self._clock.monotonic() - given_at < TICKET

    def _waiting(self) -> float:
        """Messages that wait, with those that will soon."""
        return self._estimate.waiting(self._clock.monotonic(), self._rate) + len(self._tickets)

    async def _look_for_all(self) -> None:
        try:
            while self._waiters:
                await asyncio.sleep(self._until_look())
                await self._look()
                for waiter in list(self._waiters):
                    if not waiter.granted.done() and self._take_ticket(waiter.usable):
                        self._moved_at = self._clock.monotonic()
                        waiter.granted.set_result(None)
                        self._waiters.remove(waiter)
                self._say()
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            for waiter in self._waiters:
                if not waiter.granted.done():
                    waiter.granted.set_exception(error)
            self._waiters.clear()

    def _until_look(self) -> float:
        """Seconds: until there will be some room, by the rate as it is known."""
        most = max(self._terms.most_waiting(self._rate, waiter.usable) for waiter in self._waiters)
        pause = min(LOOKS[1], max(LOOKS[0], (self._waiting() - 0.9 * most) / self._rate))
        return max(0.0, self._looked_at + pause - self._clock.monotonic())

    async def _look(self) -> None:
        before = self._pushed
        try:
            waiting, pace = (await self._depot.backlog()).waiting, await self._book.read_pace()
        except DependencyUnavailable as unavailable:
            self._unavailable_since = self._unavailable_since or self._clock.monotonic()
            lasts = self._clock.monotonic() - self._unavailable_since
            if unavailable.exit_code is ExitCode.PERSON_MUST_ACT or lasts > PATIENCE:
                raise
            await asyncio.sleep(LOOKS[1])  # and nobody is let in by an old count
            return
        self._unavailable_since = None
        self._rate = min(self._terms.rate, pace.rate) if pace is not None else self._terms.rate
        self._looked_at = self._clock.monotonic()
        self._estimate.counted(waiting, self._pushed - before, self._looked_at, self._rate)

    def _say(self) -> None:
        if self._waiters and self._clock.monotonic() - self._moved_at >= SAY:
            self._moved_at = self._clock.monotonic()
            log.warning(
                "feed_waits",
                backlog=round(self._waiting()),
                rate=round(self._rate, 3),
                cure="it goes on as soon as workers take what waits; is one running (mfa-worker run)?",
            )
