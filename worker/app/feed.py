"""``worker.feed``: with it a migration script written in Python pushes requests no faster than workers use them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from worker.app.beginning import say_new
from worker.app.push_time import learn_time
from worker.requests.backpressure import SHARE_IN_ORDER, SHARE_WITHOUT_ORDER, FeedConfig
from worker.requests.feed import Feed
from worker.settings import Settings
from worker.telemetry import logs


@asynccontextmanager
async def feed(settings: Settings) -> AsyncIterator[Feed]:
    """Open a feed into the queue of these settings, which ``worker.settings.load`` returns.

    Raises ``UsageError``, ``DependencyUnavailable``, ``PersonMustAct``.
    """
    from worker.app.stores import open_stores  # imported only when it is needed, because it imports the AWS SDK

    if not structlog.is_configured():  # by default it would write to standard output, which belongs to the script
        logs.configure(settings.log.format, settings.log.level)
    exact = settings.queue.kind == "sqlite"
    config = FeedConfig(
        rate=settings.rate.effective,
        session_validity=settings.cognito.session_validity,
        call_timeout=settings.cognito.call_timeout,
        min_validity=settings.channel.min_validity,
        share=SHARE_IN_ORDER if exact else SHARE_WITHOUT_ORDER,
        lag=0.0 if exact else settings.queue.empty_after,
        calls=settings.calls_per_user,
        is_lasting=settings.sign_in.flow != "none",
    )
    async with open_stores(settings) as stores:
        say_new(settings, stores.found)
        await learn_time(settings, stores.clock)
        async with Feed(stores.queue, stores.ledger, stores.parser, stores.clock, config) as opened:
            yield opened
