"""The ledger as ``open --against-ledger`` reads it: nothing is opened to be written, and nothing is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager

from worker.app.beginning import ledger_name
from worker.app.stores import aws_target, mark_path, stamp
from worker.core.model import Recorded
from worker.core.ports import SecretsRecorded
from worker.requests.usernames import is_username
from worker.settings import Settings


class RecordedSecrets:
    """``sealing.genuine.Ledger`` of these settings. ``usernames``: only these are asked for; ``None``: all."""

    def __init__(self, settings: Settings, usernames: Sequence[str] | None) -> None:
        self._settings = settings
        self._usernames = None if usernames is None else [each for each in usernames if is_username(each)]
        self.name = ledger_name(settings)

    def check(self) -> None:
        """See ``SecretsRecorded``. This runs an event loop of its own."""
        asyncio.run(self._check())

    def read(self, take: Callable[[Sequence[Recorded]], None]) -> None:
        """Give every page to ``take``. This runs an event loop of its own; raises what ``check`` does."""
        asyncio.run(self._read(take))

    async def _check(self) -> None:
        async with _opened(self._settings) as ledger:
            await ledger.check()

    async def _read(self, take: Callable[[Sequence[Recorded]], None]) -> None:
        async with _opened(self._settings) as ledger, aclosing(ledger.read(self._usernames)) as pages:
            async for page in pages:
                take(page)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[SecretsRecorded]:
    if settings.ledger.kind == "sqlite":
        from worker.adapters.ledgers.sqlite.recorded import SqliteRecorded

        yield SqliteRecorded(settings.ledger.path, stamp(settings), mark_path(settings))
        return
    from worker.adapters.aws.session import Aws
    from worker.adapters.ledgers.dynamodb.recorded import DynamoRecorded

    assert settings.ledger.table is not None
    async with Aws(aws_target(settings)) as aws:
        yield DynamoRecorded(await aws.dynamodb(), settings.ledger.table, stamp(settings))
