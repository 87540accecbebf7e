"""Ends a run that stands still, or whose clock is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from worker.core.errors import NoProgress, PersonMustAct
from worker.core.resilience.breaker import Gate
from worker.core.stats import Tally
from worker.engine.shutdown import Stopping

MOST_SKEW = 60.0
"""Seconds by which our clock may differ from Cognito's."""


class Skewed(Protocol):
    """Whoever knows by how many seconds Cognito's clock is ahead of ours."""

    @property
    def skew(self) -> float | None:
        """``None`` before the first answer."""
        ...


async def watch(
    provider: Skewed, gate: Gate, tally: Tally, stopping: Stopping, watchdog: float, has_work: Callable[[], bool]
) -> None:
    """Look for ever; ``watchdog``: seconds for which work may wait without any progress."""
    while True:
        await asyncio.sleep(min(1.0, watchdog / 4))
        tally.waiting_for = gate.waiting_for or tally.waiting_for
        skew = provider.skew
        if skew is not None and abs(skew) > MOST_SKEW:
            stopping.request(
                PersonMustAct(
                    f"this machine's clock differs from Cognito's by {skew:+.0f} s, so no deadline can be trusted",
                    "set the clock (NTP), then run again",
                )
            )
        if not has_work():
            tally.progressed()
        elif tally.idle > watchdog:
            what = tally.waiting_for or "an answer"
            stopping.request(
                NoProgress(
                    f"nothing moved for {tally.idle:.0f} s; waiting for {what}",
                    "look there, then run again: nothing is lost",
                )
            )
