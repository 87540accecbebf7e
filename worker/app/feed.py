"""``worker.feed``: the way in for a migration script written in Python, from settings to an open feed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from worker.core.clock import SystemClock
from worker.requests.backpressure import SHARE_IN_ORDER, SHARE_WITHOUT_ORDER, FeedConfig
from worker.requests.feed import Feed
from worker.settings import Settings
from worker.telemetry import logs


@asynccontextmanager
async def feed(settings: Settings) -> AsyncIterator[Feed]:
    """A feed into the queue of these settings, which ``worker.settings.load`` gives.

    Raises ``UsageError``, ``DependencyUnavailable``, ``PersonMustAct``.
    """
    from worker.app.stores import open_stores  # only now: it brings the AWS SDK

    if not structlog.is_configured():  # its default writes to standard output, which is the script's own
        logs.configure(settings.log.format, settings.log.level)
    exact = settings.queue.kind == "sqlite"
    config = FeedConfig(
        rate=settings.rate.effective,
        session_validity=settings.cognito.session_validity,
        call_timeout=settings.cognito.call_timeout,
        min_validity=settings.channel.min_validity,
        share=SHARE_IN_ORDER if exact else SHARE_WITHOUT_ORDER,
        lag=0.0 if exact else settings.queue.empty_after,
    )
    async with (
        open_stores(settings) as stores,
        Feed(stores.queue, stores.ledger, stores.parser, SystemClock(), config) as opened,
    ):
        yield opened
