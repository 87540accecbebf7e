"""Keeps the worker's figures over time in the ledger while it runs; whatever happens here, the run goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from worker.core.minutes import Minutes
from worker.core.ports import Clock, FigureStore
from worker.core.stats import RunStats

log = structlog.get_logger()

EVERY = 10.0
"""Seconds between two writes of the present minute, which is what a killed worker's figures lack. The minute grows in
its place, so writing more often would make nothing larger."""
LAST = 5.0
"""Seconds that the last write may take when the run ends: with a ledger that answers it takes a tenth of one."""
CURE = "nobody is affected, and it is tried again; figures over time may lack what is not written by the end"
"""What the warning ``figures_not_written`` advises."""


@asynccontextmanager
async def kept(
    stats: RunStats, clock: Clock, store: FigureStore, worker: str, *, every: float = EVERY
) -> AsyncIterator[None]:
    """Write this worker's figures while the body of the ``async with`` runs, and at its end.

    ``every``: seconds between two writes. Errors in here never reach the body; the first one is logged.
    """
    keeping = _Keeping(Minutes(stats, clock), store, worker)
    task = asyncio.create_task(keeping.run(every))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        try:
            async with asyncio.timeout(LAST):
                await keeping.write()
        except TimeoutError:
            keeping.failed(TimeoutError(f"no answer within {LAST:g} s"))


class _Keeping:
    def __init__(self, minutes: Minutes, store: FigureStore, worker: str) -> None:
        self._minutes, self._store, self._worker = minutes, store, worker
        self._has_warned = False

    async def run(self, every: float) -> None:
        while True:
            await asyncio.sleep(self._minutes.until_next(every))
            await self.write()

    async def write(self) -> None:
        """Write what is not written yet. What fails is tried again the next time."""
        try:
            for minute in self._minutes.look():
                await self._store.put_figures(self._worker, minute)
                self._minutes.written(minute)
        except Exception as error:  # noqa: BLE001 - figures are no reason to stop
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Say so, once."""
        if not self._has_warned:
            self._has_warned = True
            log.warning("figures_not_written", cause=str(error) or type(error).__name__, cure=CURE)
