"""The queues under test: whoever adds one adds a way to open it here, and the suite does the rest."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from tests.contract.messages import PARSER, Pipe, push_raw
from worker.ports import Inbox, Queue
from worker.queues.sqlite import SqliteQueue
from worker.queues.stream import StreamQueue
from worker.sqlite import Database

VISIBILITY = 0.8
"""Seconds for which the embedded queues under test hide a leased message."""


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
        assert isinstance(queue, SqliteQueue)
        assert queue._heartbeat is not None
        queue._heartbeat.cancel()
        queue._heartbeat = None

    async def put_aside(self) -> list[tuple[str, str, int]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute("SELECT reason, digest, number FROM put_aside ORDER BY digest").fetchall()


@pytest.fixture
def sqlite_queues(tmp_path: Path) -> SqliteQueues:
    return SqliteQueues(tmp_path / "queue.db")


class Queues(Protocol):
    """One queue that outlives its workers, and several of them at it."""

    def open(self, worker: str = "one") -> AbstractAsyncContextManager[WholeQueue]:
        """Open it for a worker; leaving closes it."""
        ...

    async def vanish(self, queue: WholeQueue) -> None:
        """From here on nobody keeps what this worker holds."""
        ...

    async def put_aside(self) -> list[tuple[str, str, int]]:
        """Reason, digest and number of the malformed messages, by digest."""
        ...


@pytest.fixture(params=["sqlite"])
def queues(request: pytest.FixtureRequest) -> Queues:
    """A queue that outlives its workers."""
    found: Queues = request.getfixturevalue(f"{request.param}_queues")
    return found


@pytest.fixture
async def queue(queues: Queues) -> AsyncIterator[WholeQueue]:
    async with queues.open() as opened:
        yield opened


@dataclass
class Intake:
    """Where the worker leases from, how its producers give it messages, well-formed or not, and where bad ones go."""

    queue: Queue
    give: Callable[[Sequence[bytes]], Awaitable[None]]
    put_aside: Callable[[], Awaitable[list[tuple[str, str, int]]]]


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
