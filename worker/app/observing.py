"""What watches a run beside its progress: figures in the ledger, lines for CloudWatch, OpenTelemetry.

None of it can stop the run, or hold it up for longer than a few seconds at its end.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from worker.app import figures
from worker.app.stores import Stores
from worker.core.errors import UsageError, WorkerError
from worker.core.ports import Observer, Queue
from worker.core.stats import RunStats
from worker.extras import require
from worker.settings import Settings
from worker.telemetry import emf

KEY = "telemetry key"
"""The note in the ledger with the key of the pseudonyms (hexadecimal), so that every run of a rollout gives a user the
same. Whoever can read it can read the usernames beside it."""


@asynccontextmanager
async def observed(settings: Settings, stores: Stores, stats: RunStats, queue: Queue) -> AsyncIterator[Observer | None]:
    """Watch the run on this queue while the body of the ``async with`` runs; yields what watches users' ways, if any.

    Raises ``UsageError`` where an extra is missing.
    """
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(figures.kept(stats, stores.clock, stores.ledger, stores.worker))
        if settings.log.metrics == "emf":
            dimensions = {"UserPool": settings.cognito.user_pool_id}
            await stack.enter_async_context(emf.written(stats, queue.backlog, stores.clock, dimensions))
        observer: Observer | None = None
        if settings.otel.endpoint is not None:
            refuse_without_otel(settings)
            from worker.telemetry.otel.export import exported

            about = {"service.instance.id": stores.worker, "mfa_worker.user_pool_id": settings.cognito.user_pool_id}
            observer = await stack.enter_async_context(
                exported(
                    settings.otel.endpoint,
                    stats,
                    stores.clock,
                    key=await _key(stores),
                    sample=settings.otel.sample,
                    about=about,
                )
            )
        yield observer


def refuse_without_otel(settings: Settings) -> None:
    """Raise ``UsageError`` where the settings name a collector, and the extra is missing."""
    if settings.otel.endpoint is not None:
        try:
            require("otel", "opentelemetry.sdk", "otel.endpoint")
            require("otel", "opentelemetry.exporter.otlp.proto.http", "otel.endpoint")
        except ModuleNotFoundError:  # other packages bring a part of it along
            raise UsageError("otel.endpoint needs the extra otel", "pip install 'mfa-worker[otel]'") from None


async def _key(stores: Stores) -> bytes:
    """The key of this rollout's pseudonyms, made by whoever needs it first; another one where the ledger is away."""
    new = secrets.token_hex(16)
    try:
        if (known := stores.found.notes.get(KEY)) is None and await stores.ledger.note(KEY, new, None):
            known = new
        known = known or (await stores.ledger.look()).notes.get(KEY)
    except WorkerError:
        known = None
    return bytes.fromhex(known or new)
