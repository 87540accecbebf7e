"""How far a run is, while it runs: a bar on a terminal, elsewhere a log line now and then.

It reads the run's statistics and changes nothing; where it fails, the run goes on.
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
from worker.telemetry.report import duration

log = structlog.get_logger()

REDRAW = 0.5
"""Seconds between two drawings of the bar: each costs about a millisecond, and people see no more."""

Waiting = Callable[[], Awaitable[int | None]]
"""Counts the messages that wait, leased ones included; ``None`` where nobody can know, as with a pipe."""


@asynccontextmanager
async def show(
    stats: RunStats, waiting: Waiting, *, quota: float, interval: float, stream: TextIO | None = None
) -> AsyncIterator[None]:
    """Show how far the run is, while the body of the ``async with`` runs; what fails in here never reaches the body.

    ``waiting`` is asked every ``interval`` seconds; ``quota`` is the configured rate in requests/s; ``stream`` is
    standard error unless another one is given.
    """
    out = stream or sys.stderr
    view = _View(stats, waiting, quota)
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
    left: int | None = None
    """Messages that waited when they were last counted."""
    worked_then: int = 0
    """Messages that were done with at that moment."""

    async def count(self) -> None:
        """Count the waiting messages again; where they cannot be counted, the last count stays."""
        try:
            self.left = await self.waiting()
        except WorkerError:
            return
        self.worked_then = self.worked

    @property
    def worked(self) -> int:
        """Messages that are done with."""
        return self.stats.done + self.stats.duplicates

    @property
    def outdated(self) -> bool:
        """Whether all messages that were counted are done with: by now there may be more."""
        return self.left is not None and self.worked >= self.worked_then + self.left

    @property
    def total(self) -> int | None:
        """Messages of this run, as far as they are known."""
        return None if self.left is None else max(self.worked, self.worked_then + self.left)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all is done at the present speed; ``None`` where that cannot be said."""
        speed = self.stats.users_per_second
        return None if self.total is None or self.outdated or speed <= 0 else (self.total - self.worked) / speed


async def _lines(view: _View, interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        await view.count()
        stats, left = view.stats, view.seconds_left
        log.info(
            "progress",
            done=stats.done,
            waiting=view.left,
            users_per_second=round(stats.users_per_second, 1),
            requests_per_second=round(stats.requests_per_second, 1),
            quota=view.quota,
            seconds_left=None if left is None else round(left),
            needs_session=stats.states[State.NEEDS_SESSION],
            failed=stats.states[State.FAILED],
            duplicates=stats.duplicates,
            throttled=stats.throttles,
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
    redirect = out is sys.stderr  # lifts log lines above the bar
    bar = Progress(
        *columns, console=Console(file=out), auto_refresh=False, redirect_stdout=False, redirect_stderr=redirect
    )
    task = bar.add_task("", total=None, count="", rest="")

    def draw() -> None:
        count, rest = _bar_texts(view)
        bar.update(task, total=view.total, completed=view.worked, count=count, rest=rest)
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
    """The texts before the bar and after it."""
    stats, left = view.stats, view.seconds_left
    count = f"{view.worked:,}" + ("" if view.total is None else f" of {view.total:,}")
    rest = [
        f"{stats.requests_per_second:.1f} of {view.quota:g} requests/s",
        f"{duration(left)} left" if left is not None else "",
        f"{stats.states[State.NEEDS_SESSION]:,} need a session" if stats.states[State.NEEDS_SESSION] else "",
        f"{stats.states[State.FAILED]:,} failed" if stats.states[State.FAILED] else "",
        f"waiting for {clean(stats.waiting_for)}" if stats.waiting_for else "",
    ]
    return count, " · ".join(part for part in rest if part)
