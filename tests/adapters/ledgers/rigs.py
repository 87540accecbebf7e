"""The ledgers under test: whoever adds one adds a way to open it here, and the suite does the rest."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import pytest

from tests.support.emulators import Emulator, fresh
from tests.support.messages import PARSER, POOL
from worker.adapters.ledgers.dynamodb import reads as dynamodb_reads
from worker.adapters.ledgers.dynamodb.ledger import DynamoLedger
from worker.adapters.ledgers.dynamodb.schema import definition
from worker.adapters.ledgers.sqlite.ledger import SqliteLedger
from worker.adapters.queues.sqlite.queue import SqliteQueue
from worker.adapters.sqlite.database import Database
from worker.adapters.sqlite.liveness import Liveness
from worker.core.ports import Beginning, FigureStore, Ledger, LedgerStats, LookedAt, Roster
from worker.pacing.pace import PaceStore

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

STAMP = {"endpoint": "amazonaws.com", "region": "eu-central-1", "user pool": POOL}
COUNT_EVERY = 0.05
"""Seconds between two writes of a worker's counts."""
PAGE = 40
"""Items that one request looks at."""


def forget_the_tally(connection: sqlite3.Connection) -> None:
    """Take from a file what counts its rows, so that it is like one of an earlier version."""
    for kind, name in connection.execute("SELECT type, name FROM sqlite_schema").fetchall():
        if kind == "trigger" or name in {"tally", "late_writes"}:
            connection.execute(f"DROP {kind} {name}")


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteLedger]:
    """The embedded ledger in this file, for one worker."""
    database = Database(path)
    ledger = SqliteLedger(database, Liveness(path, "one"))
    try:
        await ledger.open(STAMP)
        yield ledger
    finally:
        await database.close()


class WholeLedger(Ledger, LedgerStats, LookedAt, Beginning, Roster, PaceStore, FigureStore, Protocol):
    """All that a ledger is asked for."""

    @property
    def sign_in_pace(self) -> PaceStore: ...

    async def forget(self, name: str) -> None: ...

    async def restamp(self, name: str, value: str, instead_of: str) -> bool: ...


class OpenLedger(Protocol):
    """Opens the one ledger of a test, for one worker; several may have it open at once."""

    def __call__(
        self, worker: str = "one", *, stamp: Mapping[str, str] = STAMP, must_exist: bool = False
    ) -> AbstractAsyncContextManager[WholeLedger]: ...


@pytest.fixture(params=["sqlite", "sqlite, one file with the queue", "dynamodb, moto", "dynamodb, ministack"])
async def open_ledger(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OpenLedger]:
    async with AsyncExitStack() as stack:
        if request.param.startswith("sqlite"):
            yield _sqlite(tmp_path / "rollout.db", with_queue=request.param != "sqlite")
            return
        request.getfixturevalue("aws_credentials")
        emulator: Emulator = request.getfixturevalue(request.param.removeprefix("dynamodb, "))
        monkeypatch.setattr(dynamodb_reads, "PAGE", PAGE)
        aws = await stack.enter_async_context(emulator.aws())
        dynamodb = in_turn(await aws.dynamodb(), emulator, asyncio.Lock())
        yield _dynamodb(dynamodb, await create_table(dynamodb))


@pytest.fixture
def crowd(request: pytest.FixtureRequest) -> int:
    """So many rows that they are read in several pages."""
    return 3 * PAGE if "dynamodb" in request.node.name else 1100


def _sqlite(path: Path, *, with_queue: bool) -> OpenLedger:
    @asynccontextmanager
    async def opened(
        worker: str = "one", *, stamp: Mapping[str, str] = STAMP, must_exist: bool = False
    ) -> AsyncIterator[WholeLedger]:
        liveness = Liveness(path, worker)
        database = Database(path)
        ledger = SqliteLedger(database, liveness)
        try:
            await ledger.open(stamp, must_exist=must_exist)
            if with_queue:
                await SqliteQueue(database, PARSER, holder=worker, is_dead=liveness.is_dead, visibility=60.0).open()
            with liveness:
                yield ledger
        finally:
            await database.close()

    return opened


def in_turn(dynamodb: DynamoDBClient, emulator: Emulator, turn: asyncio.Lock) -> DynamoDBClient:
    """The client; for moto one request at a time of all clients that share ``turn``.

    What moto undoes with a transaction is all others' work too, and of two updates of an item at once it loses one.
    """
    return cast("DynamoDBClient", _InTurn(dynamodb, turn)) if emulator.name == "moto" else dynamodb


class _InTurn:
    def __init__(self, dynamodb: DynamoDBClient, turn: asyncio.Lock) -> None:
        self._dynamodb = dynamodb
        self._turn = turn

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        async def called(**arguments: Any) -> Any:
            async with self._turn:
                return await getattr(self._dynamodb, operation)(**arguments)

        return called


async def create_table(dynamodb: DynamoDBClient) -> str:
    """A new table that nobody used; its name."""
    name = fresh("rollout")
    await dynamodb.create_table(**definition(name))
    return name


def _dynamodb(dynamodb: DynamoDBClient, table: str) -> OpenLedger:
    @asynccontextmanager
    async def opened(
        worker: str = "one", *, stamp: Mapping[str, str] = STAMP, must_exist: bool = False
    ) -> AsyncIterator[WholeLedger]:
        ledger = DynamoLedger(dynamodb, table, worker, count_every=COUNT_EVERY)
        await ledger.open(stamp, must_exist=must_exist)
        try:
            yield ledger
        finally:
            await ledger.close()

    return opened


@pytest.fixture
async def ledger(open_ledger: OpenLedger) -> AsyncIterator[WholeLedger]:
    async with open_ledger() as opened:
        yield opened
