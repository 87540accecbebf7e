"""Ends a run in which nothing moves, and one whose clock is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from worker.core.errors import NoProgress, PersonMustAct
from worker.core.resilience.breaker import CircuitBreaker
from worker.core.stats import RunStats
from worker.engine.shutdown import Shutdown

MAX_SKEW = 60.0
"""Seconds by which our clock may differ from Cognito's before deadlines mean nothing: a third of a Session's life."""


class ClockSkew(Protocol):
    """Whoever knows by how many seconds Cognito's clock is ahead of ours."""

    @property
    def skew(self) -> float | None:
        """``None`` before Cognito's first answer."""
        ...


async def watch(
    provider: ClockSkew,
    breaker: CircuitBreaker,
    stats: RunStats,
    shutdown: Shutdown,
    longest_idle: float,
    has_work: Callable[[], bool],
) -> None:
    """Look about once a second, for ever; ``longest_idle``: seconds for which work may wait without any progress."""
    while True:
        await asyncio.sleep(min(1.0, longest_idle / 4))
        stats.waiting_for = breaker.waiting_for or stats.waiting_for
        skew = provider.skew
        if skew is not None and abs(skew) > MAX_SKEW:
            shutdown.request(
                PersonMustAct(
                    f"this machine's clock differs from Cognito's by {skew:+.0f} s, so no deadline can be trusted",
                    "set the clock (NTP), then run again",
                )
            )
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
