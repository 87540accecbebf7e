"""The ledgers under test: whoever adds one adds a way to open it here, and the suite does the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from tests.contract.messages import PARSER, POOL
from worker.ledgers.sqlite import SqliteLedger
from worker.liveness import Liveness
from worker.ports import Books, Ledger, PaceBook
from worker.queues.sqlite import SqliteQueue
from worker.sqlite import Database

STAMP = {"endpoint": "amazonaws.com", "region": "eu-central-1", "user pool": POOL}


class WholeLedger(Ledger, Books, PaceBook, Protocol):
    """All that a ledger is asked for."""


class OpenLedger(Protocol):
    """Opens the one ledger of a test, for one worker; several may have it open at once."""

    def __call__(
        self, worker: str = "one", *, stamp: Mapping[str, str] = STAMP, must_exist: bool = False
    ) -> AbstractAsyncContextManager[WholeLedger]: ...


@pytest.fixture(params=["sqlite", "sqlite, one file with the queue"])
def open_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> OpenLedger:
    path = tmp_path / "rollout.db"

    @asynccontextmanager
    async def sqlite(
        worker: str = "one", *, stamp: Mapping[str, str] = STAMP, must_exist: bool = False
    ) -> AsyncIterator[WholeLedger]:
        liveness = Liveness(path, worker)
        database = Database(path)
        ledger = SqliteLedger(database, liveness)
        try:
            await ledger.open(stamp, must_exist=must_exist)
            if request.param != "sqlite":
                await SqliteQueue(database, PARSER, holder=worker, gone=liveness.gone, visibility=60.0).open()
            with liveness:
                yield ledger
        finally:
            await database.close()

    return sqlite


@pytest.fixture
async def ledger(open_ledger: OpenLedger) -> AsyncIterator[WholeLedger]:
    async with open_ledger() as opened:
        yield opened
