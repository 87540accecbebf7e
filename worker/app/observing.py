"""What watches a run beside its progress: figures in the ledger, lines for CloudWatch. None of it can stop the run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from worker.app import figures
from worker.app.stores import Stores
from worker.core.ports import Queue
from worker.core.stats import RunStats
from worker.settings import Settings
from worker.telemetry import emf


@asynccontextmanager
async def observed(settings: Settings, stores: Stores, stats: RunStats, queue: Queue) -> AsyncIterator[None]:
    """Watch the run on this queue while the body of the ``async with`` runs."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(figures.kept(stats, stores.clock, stores.ledger, stores.worker))
        if settings.log.metrics == "emf":
            dimensions = {"UserPool": settings.cognito.user_pool_id}
            await stack.enter_async_context(emf.written(stats, queue.backlog, stores.clock, dimensions))
        yield
