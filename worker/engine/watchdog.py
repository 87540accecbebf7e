"""Ends a run that makes no progress, and one on a machine whose clock is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from worker.core.clock import EndpointClock
from worker.core.errors import NoProgress
from worker.core.stats import RunStats
from worker.engine.shutdown import Shutdown


async def watch(
    clock: EndpointClock,
    waiting_for: Callable[[], str | None],
    stats: RunStats,
    shutdown: Shutdown,
    longest_idle: float,
    has_work: Callable[[], bool],
) -> None:
    """Check about once a second, until cancelled, and request ``shutdown`` where the run must end.

    ``waiting_for`` tells what keeps calls from leaving. ``longest_idle``: seconds for which work may make no progress.
    ``has_work`` returns whether any user is worked on.
    """
    while True:
        await asyncio.sleep(min(1.0, longest_idle / 4))
        stats.waiting_for = waiting_for() or stats.waiting_for
        if wrong := clock.wrong():
            shutdown.request(wrong)
        if not has_work():
            stats.progressed()
        elif stats.idle > longest_idle:
            what = stats.waiting_for or "an answer"
            shutdown.request(
                NoProgress(
                    f"nothing moved for {stats.idle:.0f} s; waiting for {what}",
                    "look there, then run again: nothing is lost",
                )
            )
