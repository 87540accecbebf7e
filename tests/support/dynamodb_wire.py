"""A rollout in DynamoDB behind a proxy that can lose answers, and can answer instead of the service."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import aioboto3
from aiobotocore.config import AioConfig

from tests.adapters.ledgers.rigs import COUNT_EVERY, STAMP, create_table, in_turn
from tests.support.emulators import REGION, Emulator
from worker.adapters.ledgers.dynamodb.ledger import DynamoLedger
from worker.adapters.ledgers.dynamodb.rollout import stamping
from worker.adapters.ledgers.dynamodb.schema import KEY

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

Said = tuple[int, Any]
"""A status and a body."""


class Wire:
    """A proxy before an emulator: knows what was asked, can lose answers, and can answer itself."""

    def __init__(self, emulator: Emulator) -> None:
        self._upstream = urlsplit(emulator.url)
        self.asked: Counter[str] = Counter()
        self.lose: Counter[str] = Counter()
        """Answers that get lost once the service acted, by operation."""
        self.say: dict[str, Callable[[Any], Said | None]] = {}
        """What to answer instead of the service, by operation."""
        self.delay = 0.0
        """Seconds that every request takes longer."""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        try:
            while head := await _head(reader):
                body = await reader.readexactly(_length(head))
                operation = _header(head, b"x-amz-target").split(".")[-1]
                self.asked[operation] += 1
                if operation in self.say and (said := self.say[operation](json.loads(body))) is not None:
                    writer.write(_answer(*said))
                    continue
                await asyncio.sleep(self.delay)
                up_writer.write(head + body)
                answer = await _head(up_reader)
                answer += await up_reader.readexactly(_length(answer))
                if self.lose[operation]:
                    self.lose[operation] -= 1
                    return
                writer.write(answer)
        finally:
            writer.close()
            up_writer.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def _header(head: bytes, name: bytes) -> str:
    lines = (line.split(b":", 1) for line in head.splitlines()[1:] if b":" in line)
    return next((text.strip().decode() for key, text in lines if key.strip().lower() == name), "")


def _length(head: bytes) -> int:
    return int(_header(head, b"content-length") or 0)


def _answer(status: int, body: Any) -> bytes:
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} .\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + text


def refusal(code: str, **more: Any) -> Said:
    return 400, {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "no", **more}


class Rollout:
    """One table, with a client that goes straight to it."""

    def __init__(
        self, emulator: Emulator, dynamodb: DynamoDBClient, turn: asyncio.Lock, table: str, wire: Wire, url: str
    ) -> None:
        self.emulator, self.dynamodb, self._turn = emulator, dynamodb, turn
        self.table, self.wire, self._url = table, wire, url

    @asynccontextmanager
    async def opened(
        self,
        worker: str = "one",
        *,
        tries: int = 4,
        every: float = COUNT_EVERY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> AsyncIterator[DynamoLedger]:
        """Its ledger, over the wire, by a client that makes so many tries."""
        config = AioConfig(retries={"mode": "standard", "total_max_attempts": tries})
        async with _session().client("dynamodb", endpoint_url=self._url, config=config) as dynamodb:
            turns = in_turn(cast("DynamoDBClient", dynamodb), self.emulator, self._turn)
            ledger = DynamoLedger(turns, self.table, worker, count_every=every, monotonic=monotonic)
            await ledger.open(STAMP)
            try:
                yield ledger
            finally:
                await ledger.close()

    async def counters(self) -> dict[str, Any]:
        found = await self.dynamodb.get_item(TableName=self.table, Key={KEY: {"S": "counts"}}, ConsistentRead=True)
        return dict(found.get("Item", {}))


@cache
def _session() -> Any:
    """One for all tests, since making it takes longer than most of them."""
    return aioboto3.Session(region_name=REGION)


@asynccontextmanager
async def wired(emulator: Emulator) -> AsyncIterator[tuple[Wire, str]]:
    """A wire to the emulator, and the URL of its near end."""
    wire = Wire(emulator)
    server = await asyncio.start_server(wire.connected, "127.0.0.1", 0)
    async with server:
        yield wire, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def rollout_behind_a_wire(emulator: Emulator, *, begun: bool = True) -> AsyncIterator[Rollout]:
    """A new table; ``begun``: which has the stamp already, as after the first user."""
    async with wired(emulator) as (wire, url), _session().client("dynamodb", endpoint_url=emulator.url) as dynamodb:
        straight = in_turn(dynamodb, emulator, turn := asyncio.Lock())
        table = await create_table(straight)
        if begun:
            await straight.update_item(**stamping(table, STAMP, {}))
        yield Rollout(emulator, straight, turn, table, wire, url)
