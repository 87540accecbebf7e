"""Ends a run that makes no progress, and one on a machine whose clock is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from worker.core.errors import NoProgress, PersonMustAct
from worker.core.resilience.breaker import CircuitBreaker
from worker.core.stats import RunStats
from worker.engine.shutdown import Shutdown

MAX_SKEW = 60.0
"""Seconds by which our clock may differ from Cognito's. It is a third of the three minutes that a Session lives by
default ("AuthSessionValidity", Cognito API reference); with more, no deadline could be trusted."""


class ClockSkew(Protocol):
    """Something that knows by how much Cognito's clock differs from ours."""

    @property
    def skew(self) -> float | None:
        """Seconds by which Cognito's clock is ahead of ours; ``None`` before Cognito's first answer."""
        ...


async def watch(
    provider: ClockSkew,
    breaker: CircuitBreaker,
    stats: RunStats,
    shutdown: Shutdown,
    longest_idle: float,
    has_work: Callable[[], bool],
) -> None:
    """Check about once a second, until cancelled, and request ``shutdown`` where the run must end.

    ``longest_idle``: seconds for which work may make no progress. ``has_work`` returns whether any user is worked on.
    """
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
