"""The queues under test: whoever adds one adds a way to open it here, and the suite does the rest."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.support.emulators import Emulator, fresh
from tests.support.messages import PARSER, Pipe, push_raw
from tests.support.sqs_proxy import Proxy
from worker.adapters.aws.session import Aws, AwsTarget
from worker.adapters.queues.sqlite.queue import SqliteQueue
from worker.adapters.queues.sqs.queue import SqsQueue
from worker.adapters.queues.stream import StreamQueue
from worker.adapters.sqlite.database import Database
from worker.core.clock import SystemClock
from worker.core.ports import Producer, Queue

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

VISIBILITY = 0.8
"""Seconds for which the embedded queues under test hide a leased message."""
SQS_VISIBILITY = 2.0
"""The same for SQS, which counts in whole seconds."""
EMPTY_AFTER = 1.0
"""Seconds for which an SQS queue under test has to look empty."""


class WholeQueue(Queue, Producer, Protocol):
    """Both ends of a queue."""


class SqliteQueues:
    """Several workers at one SQLite queue that hides what is leased for ``VISIBILITY`` seconds."""

    visibility = VISIBILITY
    many = 1201

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dead: set[str] = set()
        """Workers known to be dead."""

    @asynccontextmanager
    async def open(self, worker: str = "one") -> AsyncIterator[SqliteQueue]:
        database = Database(self.path)
        queue = SqliteQueue(database, PARSER, holder=worker, is_dead=self.dead.__contains__, visibility=VISIBILITY)
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

    async def only_work(self, queue: WholeQueue) -> None:
        pass

    async def put_aside(self) -> list[tuple[str, str, int]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute("SELECT reason, digest, number FROM put_aside ORDER BY digest").fetchall()


@pytest.fixture
def sqlite_queues(tmp_path: Path) -> SqliteQueues:
    return SqliteQueues(tmp_path / "queue.db")


class SqsQueues:
    """Several workers at one SQS queue of an emulator, which has a dead-letter queue.

    Unless a test wants ``long_polls``, no poll waits, so that none has to be heard out when a worker closes.
    """

    visibility = SQS_VISIBILITY
    many = 45  # emulators get slow beyond some hundred messages

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.long_polls = False
        self.url = ""
        self.dead_letter_url = ""
        self.malformed = 0
        """As the adapter counted them."""
        self.dead_letters: list[Any] = []
        """As they came to the dead-letter queue, once looked at with ``put_aside``."""
        self._aws: Aws | None = None
        self._users = 0

    @asynccontextmanager
    async def client(self) -> AsyncIterator[SQSClient]:
        """A client of SQS that all share who need one at the same time; the queues exist."""
        if self._aws is None:
            self._aws = await self.emulator.aws().__aenter__()
        self._users += 1
        try:
            sqs = await self._aws.sqs()
            if not self.url:
                encrypted: Any = {"SqsManagedSseEnabled": "true"}
                self.url = (await sqs.create_queue(QueueName=fresh("queue"), Attributes=encrypted))["QueueUrl"]
                self.dead_letter_url = (await sqs.create_queue(QueueName=fresh("dead")))["QueueUrl"]
            yield sqs
        finally:
            self._users -= 1
            if not self._users:
                await self._aws.__aexit__()
                self._aws = None

    @asynccontextmanager
    async def open(self, worker: str = "one", **settings: Any) -> AsyncIterator[SqsQueue]:
        """``settings`` change those of the adapter, ``endpoint`` where SQS is."""
        async with AsyncExitStack() as stack:
            sqs = await stack.enter_async_context(self.client())
            if endpoint := settings.pop("endpoint", None):
                sqs = await stack.enter_async_context(self.at(endpoint))
            usual: dict[str, Any] = {
                "visibility": SQS_VISIBILITY,
                "look_ahead": 20,
                "dead_letter_url": self.dead_letter_url,
                "count_malformed": self._count,
                "empty_after": EMPTY_AFTER,
            }
            to_look = settings.pop("to_look", False)
            queue = SqsQueue(sqs, settings.pop("url", self.url), PARSER, clock=SystemClock(), **(usual | settings))
            if not self.long_polls:
                queue._wait = queue._receiver._wait = 0
            await queue.open(to_look=to_look)
            try:
                yield queue
            finally:
                await queue.close()

    @asynccontextmanager
    async def at(self, endpoint: str) -> AsyncIterator[SQSClient]:
        """A client of its own that finds SQS there."""
        async with Aws(AwsTarget(self.emulator.target.region, endpoints={"sqs": endpoint})) as aws:
            yield await aws.sqs()

    async def _count(self, number: int) -> None:
        self.malformed += number

    async def vanish(self, queue: WholeQueue) -> None:
        assert isinstance(queue, SqsQueue)
        await queue._receiver.close()
        await queue._heartbeat.stop()

    async def only_work(self, queue: WholeQueue) -> None:
        assert isinstance(queue, SqsQueue)
        await queue._receiver.close()

    async def put_aside(self) -> list[tuple[str, str, int]]:
        async with self.client() as sqs:
            while messages := (
                await sqs.receive_message(
                    QueueUrl=self.dead_letter_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
                )
            ).get("Messages"):
                self.dead_letters += messages
        counted = Counter(
            (found["MessageAttributes"]["reason"]["StringValue"], found["MessageAttributes"]["digest"]["StringValue"])
            for found in self.dead_letters
        )
        return sorted(((*pair, number) for pair, number in counted.items()), key=lambda found: found[1])


@pytest.fixture
def sqs_queues(emulator: Emulator) -> SqsQueues:
    """On each emulator."""
    return SqsQueues(emulator)


@pytest.fixture
async def proxy(sqs_queues: SqsQueues) -> AsyncIterator[Proxy]:
    """Between a worker and SQS, for ``sqs_queues.open(endpoint=proxy.url)``."""
    async with Proxy(sqs_queues.emulator.url).running() as running:
        yield running


class Queues(Protocol):
    """One queue that outlives its workers, and several of them at it."""

    @property
    def visibility(self) -> float:
        """Seconds for which a leased message is hidden."""
        ...

    @property
    def many(self) -> int:
        """As many messages as can be pushed in a test."""
        ...

    def open(self, worker: str = "one") -> AbstractAsyncContextManager[WholeQueue]:
        """Open it for a worker; leaving closes it."""
        ...

    async def vanish(self, queue: WholeQueue) -> None:
        """From here on nobody keeps what this worker holds."""
        ...

    async def only_work(self, queue: WholeQueue) -> None:
        """From here on this worker gets no messages, but keeps those that it holds."""
        ...

    async def put_aside(self) -> list[tuple[str, str, int]]:
        """Reason, digest and number of the malformed messages, by digest."""
        ...


@pytest.fixture(params=["sqlite", "sqs on moto", "sqs on ministack"])
def queues(request: pytest.FixtureRequest, tmp_path: Path) -> Queues:
    """A queue that outlives its workers."""
    return _queues(request, tmp_path)


def _queues(request: pytest.FixtureRequest, folder: Path) -> SqliteQueues | SqsQueues:
    kind, _, emulator = request.param.partition(" on ")
    if kind != "sqs":
        return SqliteQueues(folder / "queue.db")
    request.getfixturevalue("aws_credentials")
    return SqsQueues(request.getfixturevalue(emulator))


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
    takes_any_bytes: bool = True


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path / "requests.fifo")
    yield pipe
    pipe.end()


@pytest.fixture(params=["sqlite", "sqs on moto", "sqs on ministack", "stream from a file", "stream from a pipe"])
async def intake(request: pytest.FixtureRequest, tmp_path: Path, pipe: Pipe) -> AsyncIterator[Intake]:
    queues = _queues(request, tmp_path)
    async with queues.open() as behind:
        if not request.param.startswith("stream"):
            is_sqlite = request.param == "sqlite"
            yield Intake(behind, lambda bodies: push_raw(behind, bodies), queues.put_aside, takes_any_bytes=is_sqlite)
            return
        lines = tmp_path / "requests.jsonl"
        lines.touch()
        source = str(lines if request.param.endswith("file") else pipe.path)
        stream = StreamQueue(source, PARSER, SystemClock(), behind, behind)

        async def give(bodies: Sequence[bytes]) -> None:
            data = b"".join(body + b"\n" for body in bodies)
            if request.param.endswith("file"):
                with lines.open("ab") as file:
                    file.write(data)
            else:
                pipe.write(data)
                pipe.end()

        yield Intake(stream, give, queues.put_aside)
        await stream.close()
