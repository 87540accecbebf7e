"""One rate for all workers of a rollout.

Workers reserve slices of one shared timeline (see ``schedule``), each its next one when its last one begins: so they
take turns. In its slices, and only there, a worker sends at the shared rate; what it does not use is lost, never saved
up. Answers of "too many requests" lower the shared rate at once; while all goes well it rises again, slowly, never
above what was configured.

``acquire`` is called before each request; within a worker one caller waits for its turn and all others wait behind a
lock. A task of its own, ``_keep``, talks to the ledger: it reserves the next slice before it is needed, and writes down
that the rate was cut. ``limiter`` keeps apart what one worker sends.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Self

from worker.core.errors import LedgerUnavailable
from worker.core.ports import Clock
from worker.core.resilience.backoff import Backoff, retry
from worker.pacing.limiter import MEMORY, RateLimiter
from worker.pacing.pace import Pace, PaceStore
from worker.pacing.schedule import MARGIN, MAX_LAG, SHARED_MARGIN, Grant, Slice, TooMany, cut, plan

TOUCHING = 0.001
"""Seconds between two of a worker's slices below which they are treated as one: rounding between two clocks."""

FORGET = 0.8
"""What remains, with each reservation, of a longer lag measured before: after ten of them a tenth.

So one slow answer of the ledger is allowed for until it is clear that it was the only one.
"""

RESERVE_BACKOFF = Backoff(first=0.1, longest=1.0)
"""How a ledger that is unavailable is asked again for a slice: at least once a second, since calls wait for it."""


class SharedPacer:
    """The ``Pacer`` port: at most ``configured`` requests/s by all workers that share ``book``. For ``async with``.

    Raises what the ledger raises, but for ``LedgerUnavailable``: while the ledger is away it waits.
    """

    def __init__(self, book: PaceStore, configured: float, clock: Clock) -> None:
        self._book, self._configured, self._clock = book, configured, clock
        self._limiter = RateLimiter(configured)
        self._turn = asyncio.Lock()
        """Held by the one caller of ``acquire`` whose turn it is."""
        self._grants: deque[Grant] = deque()
        """The slices that are ours and not over, in order of time."""
        self._last = -math.inf
        """When our last slice begins, in monotonic seconds."""
        self._asked = False
        """Whether somebody wants to send, so that a next slice has to be reserved."""
        self._woken = asyncio.Event()
        """Set when ``_keep`` has something to look at: somebody asks, or the rate was cut."""
        self._granted = asyncio.Event()
        """Set when a slice has become ours, or ``_keep`` has ended."""
        self._written = 0
        """The version of the shared pace that we wrote last."""
        self._pace = Pace(0.0, configured, 0.0)
        """The shared pace as we read it last, with our own cuts, written or not yet."""
        self._learnt = 0.0
        """When we learnt of its last cut, in monotonic seconds."""
        self._cuts: list[TooMany] = []
        """Answers of "too many requests" that are not yet written into the shared pace."""
        self._lag = 0.0
        """Seconds that it takes to reserve a slice; slowly forgotten (``FORGET``)."""
        self._write_lag = 0.0
        """Seconds of these that pass after the slice was planned, until it is written."""
        self._owed = 0.0
        """What our last slice owes, in sends (see ``Slice``)."""
        self._most: int | None = None
        """Sends to reserve at most, where there was no use for more; ``None`` without a limit."""
        self.lost = 0
        """Sends that were reserved and not made, while somebody waited for one."""

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep())
        self._keeper.add_done_callback(lambda _: self._granted.set())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
        if not self._keeper.cancelled():
            self._keeper.result()

    @property
    def rate(self) -> float:
        """Requests/s that the quota seems to bear now."""
        return self._pace.rate

    async def acquire(self) -> None:
        """Wait until one request may leave; while the ledger is away, until it is back."""
        async with self._turn:
            since = self._clock.monotonic()
            while True:
                self._ask()
                grant = await self._next_grant(since)
                now = self._clock.monotonic()
                if now + self._limiter.left(alone=now - grant.start > MEMORY) >= grant.end - self._limiter.apart:
                    self._over(grant, since)
                    continue
                await self._limiter.acquire()
                if self._clock.monotonic() < grant.end:
                    grant.left -= 1
                    return

    def throttled(self, sent_at: float) -> None:
        """A request sent at that monotonic moment was answered "too many": slow down, once a round trip."""
        if sent_at <= self._learnt:
            return
        now = self._book.shared_time()
        one = TooMany(now - (self._clock.monotonic() - sent_at), now, self._pace.changed_at)
        self._cuts.append(one)
        self._adopt(cut(self._pace, one, self._configured))
        self._woken.set()

    def _adopt(self, pace: Pace) -> None:
        """From now on, send at this pace."""
        if pace.changed_at != self._pace.changed_at:
            self._learnt = self._clock.monotonic()
        self._pace = pace
        self._limiter.set(pace.rate)

    def _ask(self) -> None:
        """Let the next slice be reserved, once it is time."""
        if not self._asked:
            self._asked = True
            self._woken.set()

    async def _next_grant(self, since: float) -> Grant:
        """Wait for our turn on the timeline. ``since``: when the caller began to wait, in monotonic seconds."""
        while True:
            now = self._clock.monotonic()
            while self._grants and (self._grants[0].end <= now or self._grants[0].left == 0):
                self._over(self._grants[0], since)
            if not self._grants:
                if self._keeper.done():
                    self._keeper.result()
                self._ask()
                self._granted.clear()
                await self._granted.wait()
            elif (early := self._grants[0].start - now) > 0:
                await asyncio.sleep(early)
            else:
                grant = self._grants[0]
                if not grant.begun:
                    self._limiter.begin(now - grant.start)
                    grant.begun = True
                return grant

    def _over(self, grant: Grant, since: float) -> None:
        """The first slice is over, or nothing more fits into it: learn how much of it was of use."""
        self._grants.popleft()
        used = grant.sends - grant.left
        self._most = None if 2 * used >= grant.sends else 2 * used + 1
        if since < grant.end:
            self.lost += grant.left

    async def _keep(self) -> None:
        """Reserve slices before they are needed, only if they are, and write cuts down at once."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._until_needed()):
                    await self._woken.wait()
            self._woken.clear()
            await retry(
                self._write,
                on=LedgerUnavailable,
                backoff=RESERVE_BACKOFF,
                stop_for_person=False,
                monotonic=self._clock.monotonic,
            )

    def _until_needed(self) -> float | None:
        """Seconds until a slice has to be reserved; ``None`` while nobody asks."""
        if not self._asked:
            return None
        return max(0.0, self._last - self._clock.monotonic())

    async def _write(self) -> None:
        """Write what there is to write into the shared pace. Raises ``LedgerUnavailable``."""
        clock, cuts = self._clock, tuple(self._cuts)
        needed = self._until_needed() == 0
        if not needed and not cuts:
            return
        began = planned = clock.monotonic()
        slice_, margin, changed = None, self._limiter.margin, False

        def change(stands: Pace | None) -> Pace | None:
            nonlocal planned, slice_, margin, changed
            pace = stands and _cut(stands, cuts, self._configured)
            if needed:
                planned = clock.monotonic()
                margin = MARGIN if (stands.version if stands else 0) == self._written else SHARED_MARGIN
                now, lag = self._book.shared_time() + self._write_lag, max(self._lag, 2 * (planned - began))
                pace, slice_ = plan(
                    pace, now, self._configured, lag=lag, most=self._most, owed=self._owed, margin=margin
                )
            elif pace is not stands and pace:
                pace = replace(pace, version=pace.version + 1)
            changed = pace is not stands
            return pace

        pace = await self._book.change_pace(change)
        if changed and pace:
            self._written = pace.version
        del self._cuts[: len(cuts)]
        if pace:
            self._adopt(_cut(pace, self._cuts, self._configured))
        if slice_ and pace:
            self._limiter.margin, self._owed = margin, slice_.owed
            now = clock.monotonic()
            self._lag = max(now - began, FORGET * self._lag)
            self._write_lag = min(max(now - planned, FORGET * self._write_lag), MAX_LAG)
            self._grant(slice_.ending(pace.reserved_until))

    def _grant(self, slice_: Slice) -> None:
        """The slice is ours: put it on our own clock."""
        offset = self._clock.monotonic() - self._book.shared_time()
        start, end = slice_.start + offset, slice_.end + offset
        last = self._grants[-1] if self._grants else None
        if last and abs(last.end - start) < TOUCHING:
            last.end = end
            last.sends += slice_.sends
            last.left += slice_.sends
        else:
            self._grants.append(Grant(start, end, slice_.sends, slice_.sends))
        self._last = start
        self._asked = False
        self._granted.set()


def _cut(pace: Pace, answers: Iterable[TooMany], configured: float) -> Pace:
    """The pace after all these answers."""
    for one in answers:
        pace = cut(pace, one, configured)
    return pace
