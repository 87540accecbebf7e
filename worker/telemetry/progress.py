"""Shows the progress of a run: a bar on a terminal, elsewhere a log line now and then.

It only reads the run's statistics. If showing them fails, the run goes on.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TextIO

import structlog

from worker.core.errors import WorkerError
from worker.core.model import State
from worker.core.stats import RunStats
from worker.telemetry.logs import clean
from worker.telemetry.report import left as time_left

log = structlog.get_logger()

REDRAW = 0.5
"""Seconds between two drawings of the bar: each costs about a millisecond, and people do not need more."""

Waiting = Callable[[], Awaitable[int | None]]
"""Counts the waiting messages, leased ones included; returns ``None`` if that is not possible, as with a pipe."""


@asynccontextmanager
async def show(
    stats: RunStats,
    waiting: Waiting,
    *,
    quota: float,
    calls: int = 1,
    interval: float,
    stream: TextIO | None = None,
) -> AsyncIterator[None]:
    """Show the progress while the body of the ``async with`` runs; errors in here never reach the body.

    ``waiting`` is called every ``interval`` seconds; ``quota`` is the configured rate in requests/s, of which a user
    costs ``calls``; ``stream`` is standard error by default.
    """
    out = stream or sys.stderr
    view = _View(stats, waiting, quota, calls)
    drawing = asyncio.create_task(_bar(view, interval, out) if out.isatty() else _lines(view, interval))
    try:
        yield
    finally:
        drawing.cancel()
        (failure,) = await asyncio.gather(drawing, return_exceptions=True)
        if isinstance(failure, Exception):
            log.warning("progress_failed", cause=failure)


@dataclass(slots=True)
class _View:
    """The numbers that the bar and the log lines show."""

    stats: RunStats
    waiting: Waiting
    quota: float
    calls: int
    counted: int | None = None
    """How many messages waited when they were last counted."""
    finished_at_count: int = 0
    """How many messages were finished at that moment."""

    async def count(self) -> None:
        """Count the waiting messages again; if that fails, the last count stays."""
        try:
            self.counted = await self.waiting()
        except WorkerError:
            return
        self.finished_at_count = self.finished

    @property
    def finished(self) -> int:
        """How many messages of this run are finished."""
        return self.stats.done + self.stats.duplicates

    @property
    def outdated(self) -> bool:
        """Whether all messages that were counted are finished, so that a new count may find more."""
        return self.counted is not None and self.finished >= self.finished_at_count + self.counted

    @property
    def total(self) -> int | None:
        """How many messages this run has, as far as is known; ``None`` if they cannot be counted."""
        return None if self.counted is None else max(self.finished, self.finished_at_count + self.counted)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all messages are finished at the present speed; ``None`` if that is not known.

        It is not where all should be finished by now: whoever is left is waited for, and no speed tells how long.
        """
        speed = self.stats.users_per_second
        if self.total is None or self.outdated or speed <= 0:
            return None
        left = (self.total - self.finished) / speed
        return None if self.stats.since_outcome > max(1.0, left) else left


async def _lines(view: _View, interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        await view.count()
        stats, left = view.stats, view.seconds_left
        log.info(
            "progress",
            done=stats.done,
            waiting=view.counted,
            users_per_second=round(stats.users_per_second, 1),
            requests_per_second=round(stats.requests_per_second, 1),
            quota=view.quota,
            **({"sign_ins_per_second": round(stats.sign_ins_per_second, 1)} if stats.sign_ins else {}),
            seconds_left=None if left is None else max(1, round(left)),
            needs_session=stats.states[State.NEEDS_SESSION],
            failed=stats.states[State.FAILED],
            **({"not_activated": stats.not_activated} if stats.not_activated else {}),
            duplicates=stats.duplicates,
            throttled=stats.throttles,
            **({"tried_again_later": stats.tried_again_later} if stats.tried_again_later else {}),
            **({"waiting_for": stats.waiting_for} if stats.waiting_for else {}),
        )


async def _bar(view: _View, interval: float, out: TextIO) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.fields[count]}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[rest]}", markup=False),
    )
    redirect = out is sys.stderr  # then rich prints log lines above the bar
    bar = Progress(
        *columns, console=Console(file=out), auto_refresh=False, redirect_stdout=False, redirect_stderr=redirect
    )
    task = bar.add_task("", total=None, count="", rest="")

    def draw() -> None:
        count, rest = _bar_texts(view)
        bar.update(task, total=view.total, completed=view.finished, count=count, rest=rest)
        bar.refresh()

    with bar:
        try:
            while True:
                await view.count()
                for _ in range(max(1, round(interval / REDRAW))):
                    draw()
                    await asyncio.sleep(REDRAW)
                    if view.outdated:
                        break
        finally:
            draw()


def _bar_texts(view: _View) -> tuple[str, str]:
    """Return the texts before and after the bar."""
    stats, left = view.stats, view.seconds_left
    count = f"{view.finished:,}" + ("" if view.total is None else f" of {view.total:,}")
    rest = [
        f"{stats.requests_per_second:.1f} of {view.quota:g} requests/s",
        f"{stats.users_per_second:.1f} users/s" if view.calls > 1 else "",
        f"{stats.sign_ins_per_second:.1f} sign-ins/s" if stats.sign_ins else "",
        f"{time_left(left)} left" if left is not None else "",
        f"{stats.states[State.NEEDS_SESSION]:,} need a session" if stats.states[State.NEEDS_SESSION] else "",
        f"{stats.states[State.FAILED]:,} failed" if stats.states[State.FAILED] else "",
        f"{stats.not_activated:,} not activated" if stats.not_activated else "",
        f"{stats.tried_again_later:,} tried again later" if stats.tried_again_later else "",
        f"waiting for {clean(stats.waiting_for)}" if stats.waiting_for else "",
    ]
    return count, " · ".join(part for part in rest if part)
