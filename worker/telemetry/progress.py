"""Shows the progress of a run: a panel on a terminal, elsewhere a log line now and then.

It only reads the run's statistics, and looks at ledger and queue. If showing them fails, the run goes on.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TextIO

import structlog

from worker.core.errors import Interrupted, WorkerError
from worker.core.model import State
from worker.core.ports import Backlog
from worker.core.stats import RunStats
from worker.core.time_left import QUIET, Rest, is_quiet, seconds_left
from worker.core.words import duration, several, time_of_day
from worker.telemetry.look import Look, Looks
from worker.telemetry.snapshot import Pace, Plan, Snapshot

log = structlog.get_logger()

REDRAW = 0.5
"""Seconds between two drawings of the panel: each costs about two milliseconds, and a terminal that is resized is soon
filled again."""
LOOK_EVERY = 1.0
"""Seconds between two looks at ledger and queue at least."""
LAST_LOOK = 2.0
"""Seconds that the look for the last picture may take."""
COST = 50
"""How many times as long as a look took the pause after it is: beside the run's own work, a fiftieth of a core."""
LONGEST_PAUSE = 5.0
"""Seconds that such a pause lasts at most, however long a look took: on AWS it takes time and hardly any work."""
FEW_CALLS = 20
"""Calls below which it says little yet how many of them were made again."""
TROUBLE_OVER = 3.0
"""Seconds without a word of it after which an outage is over: single calls are let through to see whether it is."""

Looking = Callable[[], Awaitable[Look]]
"""Looks at ledger and queue. May raise ``WorkerError``."""


@asynccontextmanager
async def show(
    stats: RunStats,
    look: Looking,
    plan: Plan,
    stopping: Callable[[], tuple[WorkerError | None, bool]],
    *,
    interval: float,
    stream: TextIO | None = None,
) -> AsyncIterator[None]:
    """Show the progress while the body of the ``async with`` runs; errors in here never reach the body.

    ``stopping`` tells why the run is being stopped, and whether in a hurry. ``interval``: seconds between two log
    lines, where there is no terminal; ``stream`` is standard error by default.
    """
    out = stream or sys.stderr
    view = View(stats, look, plan, stopping)
    drawing = asyncio.create_task(_panel(view, out) if can_draw(out) else _lines(view, interval))
    try:
        yield
    finally:
        drawing.cancel()
        (failure,) = await asyncio.gather(drawing, return_exceptions=True)
        if isinstance(failure, Exception):
            log.warning("progress_failed", cause=failure, cure="the run goes on; mfa-worker status shows how far it is")


def can_draw(out: TextIO) -> bool:
    """Whether that is a terminal on which lines can be drawn anew."""
    return out.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


@dataclass(slots=True)
class View:
    """What is known of the run and of the whole rollout."""

    stats: RunStats
    look: Looking
    plan: Plan
    stopping: Callable[[], tuple[WorkerError | None, bool]] = lambda: (None, False)
    looks: Looks = field(default_factory=Looks)
    _trouble: str = ""
    _trouble_began: float = 0.0
    """When the outage began (UTC seconds)."""
    _trouble_seen: float = 0.0
    """When it was spoken of last (monotonic seconds)."""
    _began: float = field(default_factory=time.monotonic)

    async def count(self) -> float:
        """Look at ledger and queue, and return how many seconds it took; if that fails, the last look stays."""
        began = time.monotonic()
        with suppress(WorkerError):
            self.looks.add(await self.look())
        return time.monotonic() - began

    @property
    def left(self) -> int | None:
        """Users who are left, as far as is known."""
        last = self.looks.last
        return None if last is None or self.plan.source or self.plan.is_wave else last.left

    def rest(self, trouble: str) -> Rest | None:
        """What is left to do; ``None`` where nobody can know."""
        last, left = self.looks.last, self.left
        if last is None or left is None or self.plan.follow or trouble or self.stopping()[0] is not None:
            return None
        stats, elsewhere = self.stats, self.stats.claimed_elsewhere
        again = min(stats.troubles.total(), stats.requests)
        possible = self.plan.users_per_second * (1 - again / (stats.requests + FEW_CALLS))
        if last.allowed is not None:
            possible *= min(1.0, last.allowed / self.plan.quota)
        seen, seen_for = stats.users_per_second, stats.users_seen_for
        if self.looks.users_per_second > seen:
            seen, seen_for = self.looks.users_per_second, self.looks.seen_for
        to_expire = max(stats.to_expire, last.backlog.expired)
        watched_for = last.watched_for if left == 0 else None
        return Rest(
            max(1.0, left - to_expire) if left else 0.0,
            possible,
            seen,
            seen_for,
            quiet=min(stats.since_outcome, self.looks.quiet(self._began)),
            first_at=max(0.0, elsewhere.until - time.time()) if elsewhere else 0.0,
            then=self.plan.empty_after if watched_for is None else watched_for,
        )

    def trouble(self) -> str:
        """What an outage is about, in words; empty where there is none."""
        now = time.monotonic()
        if self.stats.waiting_for:
            if not self._trouble:
                self._trouble_began = time.time()
            self._trouble, self._trouble_seen = self.stats.waiting_for, now
        elif self._trouble and (now - self._trouble_seen > TROUBLE_OVER or self.stats.since_outcome < 1.0):
            self._trouble = ""
        return self._trouble

    def snapshot(self, *, has_ended: bool = False) -> Snapshot:
        """Everything that the panel shows."""
        stats, plan, last, trouble = self.stats, self.plan, self.looks.last, self.trouble()
        rest = self.rest(trouble)
        return Snapshot(
            now=time.time(),
            counts=last.counts if last else None,
            done=last.done if last else 0,
            total=None if last is None or self.left is None else last.done + last.left,
            is_about=bool(last and last.is_about),
            pace=Pace(
                stats.requests_per_second,
                plan.quota,
                last.allowed if last else None,
                max(stats.users_per_second, self.looks.users_per_second),
                plan.calls,
                stats.sign_ins_per_second,
                stats.throttles,
            ),
            backlog=last.backlog if last else Backlog(0),
            seconds_left=None if rest is None or has_ended else seconds_left(rest),
            elapsed=stats.elapsed,
            waits=tuple(self.waits(trouble, rest)),
            is_trouble=bool(trouble),
            workers=last.workers if last else None,
            to_expire=stats.to_expire,
            stopping="" if has_ended else self._stopping(),
            has_ended=has_ended,
        )

    def _stopping(self) -> str:
        reason, hurries = self.stopping()
        if reason is None:
            return ""
        if hurries:
            return "calls are cut off; what was begun is given back for the next run"
        text = f"users who were begun are finished, in at most {duration(self.plan.grace)}"
        return f"{text}; Ctrl-C again cuts their calls off" if isinstance(reason, Interrupted) else f"{reason}; {text}"

    def waits(self, trouble: str, rest: Rest | None) -> list[str]:
        """Return what the run waits for, in words: an outage first, where there is one."""
        stats, last, waits = self.stats, self.looks.last, []
        if trouble:
            lasted = duration(time.time() - self._trouble_began)
            waits.append(f"{trouble} (since {time_of_day(self._trouble_began)}, {lasted})")
        if elsewhere := stats.claimed_elsewhere:
            users = "1 user whom" if elsewhere.users == 1 else f"{elsewhere.users:,} users whom"
            workers = f"worker{'' if len(elsewhere.workers) == 1 else 's'} {', '.join(elsewhere.workers)}".strip()
            waits.append(
                f"{users} {workers if elsewhere.workers else 'an earlier call'} still claims: taken over at "
                f"{time_of_day(elsewhere.until)}, unless finished before"
            )
        if stats.tried_again_later:
            users = "1 user who is" if stats.tried_again_later == 1 else f"{stats.tried_again_later:,} users who are"
            waits.append(f"{users} refused while others get through; they are tried again")
        if last is not None and last.watched_for is not None and not trouble:
            waits.append(
                f"the queue, which looks empty; SQS counts are approximate, so it is watched for "
                f"{last.watched_for:.0f} s more"
            )
        if not waits and self.plan.follow and self.left == 0:
            waits.append("more requests (--follow)")
        if not waits and rest is not None and rest.users > 0 and is_quiet(rest):
            waits += self._last_ones(rest)
        return waits

    def _last_ones(self, rest: Rest) -> list[str]:
        """What keeps a run that has no outcome for a while, where nothing else is known."""
        if number := self.stats.in_flight:
            return [f"{several(number, 'user')} under way: answers, or the pause before another try"]
        last = self.looks.last
        if last is None or rest.quiet <= QUIET:
            return []
        if last.counts.unfinished:
            return [f"{several(last.counts.unfinished, 'user')} under way at another worker, or at one that ended"]
        others = "another worker, or by one that ended, whose requests come again when their visibility is over"
        return [f"{several(last.backlog.waiting, 'request')} leased by {others} (queue.visibility)"]


async def _lines(view: View, interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        await view.count()
        stats, last, trouble = view.stats, view.looks.last, view.trouble()
        rest = view.rest(trouble)
        left = None if rest is None else seconds_left(rest)
        waits_here = last is not None and not (view.plan.source or view.plan.follow or view.plan.is_wave)
        log.info(
            "progress",
            done=stats.done,
            waiting=last.backlog.waiting if last is not None and waits_here else None,
            users_per_second=round(stats.users_per_second, 1),
            requests_per_second=round(stats.requests_per_second, 1),
            quota=view.plan.quota,
            **({"allowed": round(last.allowed, 1)} if last is not None and last.allowed is not None else {}),
            **({"sign_ins_per_second": round(stats.sign_ins_per_second, 1)} if stats.sign_ins else {}),
            users_done=None if last is None else last.done,
            users_left=view.left,
            seconds_left=None if left is None else max(1, round(left)),
            needs_session=stats.states[State.NEEDS_SESSION],
            failed=stats.states[State.FAILED],
            **({"not_activated": stats.not_activated} if stats.not_activated else {}),
            duplicates=stats.duplicates,
            throttled=stats.throttles,
            **({"tried_again_later": stats.tried_again_later} if stats.tried_again_later else {}),
            **({"waiting_for": stats.waiting_for} if stats.waiting_for else {}),
            **({"waits": waits} if (waits := view.waits("", rest)) else {}),
        )


async def _panel(view: View, out: TextIO) -> None:
    from worker.telemetry.drawing import Drawing

    with Drawing(out) as drawing:
        looking = asyncio.create_task(_keep_looking(view))
        try:
            while True:
                drawing.draw(view.snapshot())
                await asyncio.sleep(REDRAW)
                if looking.done():
                    looking.result()
        finally:
            looking.cancel()
            await asyncio.wait([looking])
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_LOOK):
                    await view.count()
            drawing.draw(view.snapshot(has_ended=True))


async def _keep_looking(view: View) -> None:
    while True:
        took = await view.count()
        await asyncio.sleep(max(LOOK_EVERY, min(COST * took, LONGEST_PAUSE)))
