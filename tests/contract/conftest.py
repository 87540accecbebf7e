"""The adapters under test: whoever adds one adds a way to open it here, and the suites do the rest."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from tests.contract.messages import PARSER, POOL, Pipe, push_raw
from worker.channels.file import FileChannel
from worker.ledgers.sqlite import SqliteLedger
from worker.liveness import Liveness
from worker.ports import Books, Channel, Inbox, Ledger, PaceBook, Queue
from worker.queues.sqlite import SqliteQueue
from worker.queues.stream import StreamQueue
from worker.sqlite import Database

STAMP = {"endpoint": "amazonaws.com", "region": "eu-central-1", "user pool": POOL}
VISIBILITY = 0.8
"""Seconds for which the queues under test hide a leased message."""


# --- ledgers ----------------------------------------------------------------------------------------------------------


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


# --- queues -----------------------------------------------------------------------------------------------------------


class WholeQueue(Queue, Inbox, Protocol):
    """Both ends of a queue."""


class SqliteQueues:
    """Several workers at one SQLite queue that hides what is leased for ``VISIBILITY`` seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dead: set[str] = set()
        """Workers known to be dead."""

    @asynccontextmanager
    async def open(self, worker: str = "one") -> AsyncIterator[SqliteQueue]:
        database = Database(self.path)
        queue = SqliteQueue(database, PARSER, holder=worker, gone=self.dead.__contains__, visibility=VISIBILITY)
        try:
            await queue.open()
            yield queue
            await queue.close()
        finally:
            await database.close()

    async def vanish(self, queue: WholeQueue) -> None:
        """From here on nobody keeps what this worker holds."""
        assert isinstance(queue, SqliteQueue)
        assert queue._heartbeat is not None
        queue._heartbeat.cancel()
        queue._heartbeat = None

    def put_aside(self) -> list[tuple[str, str, int]]:
        """Reason, digest and number of the malformed messages."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute("SELECT reason, digest, number FROM put_aside ORDER BY digest").fetchall()


@pytest.fixture
def sqlite_queues(tmp_path: Path) -> SqliteQueues:
    return SqliteQueues(tmp_path / "queue.db")


@pytest.fixture(params=["sqlite"])
def queues(request: pytest.FixtureRequest) -> SqliteQueues:
    """A queue that outlives its workers."""
    found: SqliteQueues = request.getfixturevalue(f"{request.param}_queues")
    return found


@pytest.fixture
async def queue(queues: SqliteQueues) -> AsyncIterator[WholeQueue]:
    async with queues.open() as opened:
        yield opened


@dataclass
class Intake:
    """Where the worker leases from, how its producers give it messages, well-formed or not, and where bad ones go."""

    queue: Queue
    give: Callable[[Sequence[bytes]], Awaitable[None]]
    put_aside: Callable[[], list[tuple[str, str, int]]]


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path / "requests.fifo")
    yield pipe
    pipe.end()


@pytest.fixture(params=["sqlite", "stream from a file", "stream from a pipe"])
async def intake(
    request: pytest.FixtureRequest, sqlite_queues: SqliteQueues, tmp_path: Path, pipe: Pipe
) -> AsyncIterator[Intake]:
    async with sqlite_queues.open() as behind:
        if request.param == "sqlite":
            yield Intake(behind, lambda bodies: push_raw(behind, bodies), sqlite_queues.put_aside)
            return
        lines = tmp_path / "requests.jsonl"
        lines.touch()
        stream = StreamQueue(str(lines if request.param.endswith("file") else pipe.path), PARSER, behind, behind)

        async def give(bodies: Sequence[bytes]) -> None:
            data = b"".join(body + b"\n" for body in bodies)
            if request.param.endswith("file"):
                with lines.open("ab") as file:
                    file.write(data)
            else:
                pipe.write(data)
                pipe.end()

        yield Intake(stream, give, sqlite_queues.put_aside)
        await stream.close()


# --- channels ---------------------------------------------------------------------------------------------------------


@dataclass
class ChannelUnderTest:
    """A channel, and what has arrived on the other side: username, generation, attempt id and the sealed bytes."""

    channel: Channel
    arrived: Callable[[], Awaitable[list[tuple[str, int, str, bytes]]]]


@pytest.fixture(params=["file"])
async def channel(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ChannelUnderTest]:
    path = tmp_path / "secrets.jsonl"
    file = FileChannel(path)

    async def arrived() -> list[tuple[str, int, str, bytes]]:
        return delivered_lines(path) if path.exists() else []

    yield ChannelUnderTest(file, arrived)
    await file.close()


def delivered_lines(path: Path) -> list[tuple[str, int, str, bytes]]:
    """The whole lines of a file that a file channel wrote."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines() if line]
    return [(a["username"], a["generation"], a["attempt_id"], base64.b64decode(a["sealed"])) for a in lines]
