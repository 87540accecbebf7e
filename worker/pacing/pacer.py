"""Limits the rate of all workers of a rollout together.

Workers reserve slices of one shared timeline (see ``schedule``). Each reserves its next slice when its last one begins,
so they take turns. In its slices, and only there, a worker sends at the shared rate; what it does not use is lost, and
never saved up. Answers of "too many requests" lower the shared rate at once. While there are none it rises again,
slowly, and never above the configured rate.

``acquire`` is called before each request. Within a worker one caller waits for its turn, and all others wait for a
lock. A background task, ``_keep_reserving``, talks to the ledger: it reserves the next slice before it is needed, and
writes down that the rate was cut. ``limiter`` spaces the requests of one worker.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable
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
"""Seconds between two of a worker's slices below which they are treated as one: so much may be lost to rounding when
times are converted from the shared clock to the worker's own."""

FORGET = 0.8
"""With each reservation, a longer lag that was measured before counts for only this part: after ten, for a tenth.

So the pacer allows for a slow ledger for some time after one slow answer, but not for ever.
"""

RESERVE_BACKOFF = Backoff(first=0.1, longest=1.0)
"""How a ledger that is unavailable is asked again for a slice: at least once a second, since calls wait for it."""


class SharedPacer:
    """The ``Pacer`` port: at most ``configured`` requests/s by all workers that share ``store``. For ``async with``.

    Raises what the ledger raises, except ``LedgerUnavailable``: while the ledger is unavailable it waits.
    """

    def __init__(
        self, store: PaceStore, configured: float, clock: Clock, adapted: Callable[[float], None] = lambda _: None
    ) -> None:
        """``adapted`` is told the shared rate, in requests/s, whenever this worker learns of it."""
        self._store, self._configured, self._clock, self._adapted = store, configured, clock, adapted
        self._limiter = RateLimiter(configured)
        self._turn = asyncio.Lock()
        """Held by the one caller of ``acquire`` whose turn it is."""
        self._grants: deque[Grant] = deque()
        """The slices that belong to this worker and are not over, in order of time."""
        self._last_start = -math.inf
        """When this worker's last slice begins, in monotonic seconds."""
        self._slice_wanted = False
        """Whether somebody wants to send, so that the next slice has to be reserved."""
        self._woken = asyncio.Event()
        """Set when ``_keep_reserving`` has something to do: a slice is wanted, or the rate was cut."""
        self._granted = asyncio.Event()
        """Set when a slice was reserved, or ``_keep_reserving`` has ended."""
        self._written = 0
        """The version of the shared pace that this worker wrote last."""
        self._pace = Pace(0.0, configured, 0.0)
        """The shared pace as it was last read, with this worker's own cuts, also those that are not written yet."""
        self._cut_learnt_at = 0.0
        """When this worker learnt of the last cut, in monotonic seconds."""
        self._cuts: list[TooMany] = []
        """Answers of "too many requests" that are not yet written into the shared pace."""
        self._lag = 0.0
        """Seconds that it takes to reserve a slice; high values are slowly forgotten (``FORGET``)."""
        self._write_lag = 0.0
        """The part of these seconds that passes between planning the slice and its being written."""
        self._owed = 0.0
        """What this worker's last slice owes, in sends (see ``Slice``)."""
        self._most: int | None = None
        """The most sends to reserve, because the last slice was used little; ``None`` without a limit."""
        self.lost = 0
        """Sends that were reserved and not made, while somebody waited for one."""

    async def __aenter__(self) -> Self:
        self._reserving = asyncio.create_task(self._keep_reserving())
        self._reserving.add_done_callback(lambda _: self._granted.set())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reserving.cancel()
        await asyncio.wait([self._reserving])
        if not self._reserving.cancelled():
            self._reserving.result()

    @property
    def rate(self) -> float:
        """The shared rate in requests/s, as far as this worker knows it now."""
        return self._pace.rate

    async def acquire(self) -> None:
        """Wait until one request may leave; while the ledger is unavailable, until it is back."""
        async with self._turn:
            since = self._clock.monotonic()
            while True:
                self._want_slice()
                grant = await self._next_grant(since)
                now = self._clock.monotonic()
                alone = now - grant.start > MEMORY
                if now + self._limiter.wait_time(alone=alone) >= grant.end - self._limiter.apart:
                    self._end_grant(grant, since)
                    continue
                await self._limiter.acquire(alone=alone)
                if self._clock.monotonic() < grant.end:
                    grant.left -= 1
                    return

    def throttled(self, sent_at: float) -> None:
        """Slow down, at most once a round trip: a request sent at that monotonic moment was answered "too many"."""
        if sent_at <= self._cut_learnt_at:
            return
        one = TooMany(self._store.shared_time(), self._pace.changed_at)
        self._cuts.append(one)
        self._adopt(cut(self._pace, one, self._configured))
        self._woken.set()

    def _adopt(self, pace: Pace) -> None:
        """From now on, send at this pace."""
        if pace.changed_at != self._pace.changed_at:
            self._cut_learnt_at = self._clock.monotonic()
        self._pace = pace
        self._limiter.set(pace.rate)
        self._adapted(pace.rate)

    def _want_slice(self) -> None:
        """Have the next slice reserved, as soon as the last one begins."""
        if not self._slice_wanted:
            self._slice_wanted = True
            self._woken.set()

    async def _next_grant(self, since: float) -> Grant:
        """Wait for this worker's turn on the timeline. ``since``: when the caller began to wait (monotonic seconds)."""
        while True:
            now = self._clock.monotonic()
            while self._grants and (self._grants[0].end <= now or self._grants[0].left == 0):
                self._end_grant(self._grants[0], since)
            if not self._grants:
                if self._reserving.done():
                    self._reserving.result()
                self._want_slice()
                self._granted.clear()
                await self._granted.wait()
            elif (early := self._grants[0].start - now) > 0:
                await asyncio.sleep(early)
            else:
                grant = self._grants[0]
                self._limiter.begin(now - grant.start)
                return grant

    def _end_grant(self, grant: Grant, since: float) -> None:
        """Drop the first slice, which is over or used up, and learn from how much of it was used."""
        self._grants.popleft()
        used = grant.sends - grant.left
        self._most = None if 2 * used >= grant.sends else 2 * used + 1
        if since < grant.end:
            self.lost += grant.left

    async def _keep_reserving(self) -> None:
        """Reserve slices before they are needed, and only if they are; write cuts into the shared pace at once."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._until_needed()):
                    await self._woken.wait()
            self._woken.clear()
            await retry(self._write, on=LedgerUnavailable, backoff=RESERVE_BACKOFF, stop_for_person=False)

    def _until_needed(self) -> float | None:
        """Return the seconds until a slice has to be reserved; ``None`` while nobody wants one."""
        if not self._slice_wanted:
            return None
        return max(0.0, self._last_start - self._clock.monotonic())

    async def _write(self) -> None:
        """Write cuts and the next reservation into the shared pace, if any. Raises ``LedgerUnavailable``."""
        clock, cuts = self._clock, tuple(self._cuts)
        needed = self._until_needed() == 0
        if not needed and not cuts:
            return
        began = planned = clock.monotonic()
        slice_, margin, changed = None, self._limiter.margin, False

        def change(present: Pace | None) -> Pace | None:
            nonlocal planned, slice_, margin, changed
            pace = present and _cut(present, cuts, self._configured)
            if needed:
                planned = clock.monotonic()
                margin = MARGIN if (present.version if present else 0) == self._written else SHARED_MARGIN
                now, lag = self._store.shared_time() + self._write_lag, max(self._lag, 2 * (planned - began))
                pace, slice_ = plan(
                    pace, now, self._configured, lag=lag, most=self._most, owed=self._owed, margin=margin
                )
            elif pace is not present and pace:
                pace = replace(pace, version=pace.version + 1)
            changed = pace is not present
            return pace

        pace = await self._store.change_pace(change)
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
        """Add a slice that was reserved, converted to the worker's own clock."""
        offset = self._clock.monotonic() - self._store.shared_time()
        start, end = slice_.start + offset, slice_.end + offset
        last = self._grants[-1] if self._grants else None
        if last and abs(last.end - start) < TOUCHING:
            last.end = end
            last.sends += slice_.sends
            last.left += slice_.sends
        else:
            self._grants.append(Grant(start, end, slice_.sends, slice_.sends))
        self._last_start = start
        self._slice_wanted = False
        self._granted.set()


def _cut(pace: Pace, answers: Iterable[TooMany], configured: float) -> Pace:
    """Return the pace after all these answers."""
    for one in answers:
        pace = cut(pace, one, configured)
    return pace
