"""Lets a run be asked how it is: on this host always, and over HTTP where ``metrics.port`` says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial

import structlog

from worker.app.stores import Stores
from worker.core.model import Counts
from worker.core.ports import Queue
from worker.core.stats import RunStats
from worker.engine.loop import WorkerLoop
from worker.engine.shutdown import Shutdown
from worker.engine.tasks import HURRY_TIMEOUT
from worker.extras import require
from worker.settings import Settings
from worker.telemetry.metrics.on_host import answering
from worker.telemetry.metrics.watched import Watched

log = structlog.get_logger()

Observe = Callable[[Stores, Queue, WorkerLoop], AbstractAsyncContextManager[None]]
"""For ``async with`` around the work of the loop: these stores are open now, and this loop works on this queue."""


@asynccontextmanager
async def monitored(settings: Settings, stats: RunStats, shutdown: Shutdown) -> AsyncIterator[Observe]:
    """Answer on this host, and on ``metrics.port``, while the body runs.

    Raises ``UsageError``, before anything was touched.
    """
    watched = Watched(
        stats,
        watchdog=settings.run.watchdog,
        ending_takes=settings.run.grace + HURRY_TIMEOUT,
        ending=lambda: None if shutdown.reason is None else int(shutdown.reason.exit_code),
    )
    with answering(watched):
        if not settings.metrics.port:
            yield lambda _stores, _queue, loop: _working(watched, loop)
            return
        require("metrics", "prometheus_client", "metrics.port")
        from worker.telemetry.metrics.listening import is_for_others, listen, url
        from worker.telemetry.metrics.server import serve

        sockets = listen(settings.metrics.host, settings.metrics.port)
        reach = "whoever reaches this machine" if is_for_others(sockets) else "this machine alone"
        async with serve(sockets, watched):
            log.info("metrics_served", url=f"{url(sockets[0])}/metrics", to=reach)
            yield partial(_observed, watched)


@asynccontextmanager
async def _working(watched: Watched, loop: WorkerLoop) -> AsyncIterator[None]:
    watched.work = loop
    try:
        yield
    finally:
        watched.work, watched.has_worked = None, True


@asynccontextmanager
async def _observed(watched: Watched, stores: Stores, queue: Queue, loop: WorkerLoop) -> AsyncIterator[None]:
    """Count the rollout from time to time, too."""
    from worker.telemetry.metrics.refreshing import Refreshing

    async def count() -> Counts:
        counts = await stores.ledger.counts()
        duplicates, malformed = await stores.queue.counted()
        return replace(
            counts, duplicates=counts.duplicates + duplicates, malformed=counts.malformed + malformed, dead_letters=None
        )

    watched.skew = lambda: stores.clock.skew
    watched.malformed = lambda: stores.queue.malformed_found
    refreshing = asyncio.create_task(
        Refreshing(watched, queue, stores.clock, count, stores.queue.dead_letters).run(), name="metrics"
    )
    try:
        async with _working(watched, loop):
            yield
    finally:
        refreshing.cancel()
        await asyncio.wait([refreshing])
