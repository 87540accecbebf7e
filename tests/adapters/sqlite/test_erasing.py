"""Used credentials are gone from every file of the embedded queue soon after they were used, while it stays open."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.processes import until
from worker.adapters.queues.sqlite.queue import SqliteQueue
from worker.adapters.sqlite import erasing
from worker.adapters.sqlite.database import Database
from worker.requests.message import Parser

PARSER = Parser("eu-central-1_Example", 180.0)
SECRET = "never-to-be-found-again"
IDLE, LOADED = 5.0, 30.0
"""Seconds within which used credentials are gone: from an idle worker's files, and from a busy one's."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rollout.db"


@pytest.fixture
async def queue(path: Path) -> AsyncIterator[SqliteQueue]:
    database = Database(path)
    made = SqliteQueue(database, PARSER, holder="w", is_dead=lambda _: False, visibility=30.0)
    await made.open()
    yield made
    await made.close()
    await database.close()


async def push(queue: SqliteQueue, *users: str) -> None:
    bodies = [json.dumps({"username": user, "session": f"{SECRET}-{user}" * 60}).encode() for user in users]
    await queue.push((PARSER.parse(body, 0.0), body) for body in bodies)


async def use_all(queue: SqliteQueue) -> None:
    while leases := await queue.lease(10):
        for lease in leases:
            await queue.acknowledge(lease)


def traces(path: Path, of: str = SECRET) -> list[str]:
    """The files in this one's folder that hold a credential."""
    files = (each for each in sorted(path.parent.iterdir()) if each.is_file())
    return [each.name for each in files if of.encode() in each.read_bytes()]


async def test_an_idle_worker_leaves_no_used_credential_in_its_files(path: Path, queue: SqliteQueue) -> None:
    await push(queue, *(f"user-{number}" for number in range(50)))
    assert traces(path)
    await use_all(queue)
    assert traces(path)  # in the log, and in pages that are free by now

    await until(lambda: not traces(path), within=IDLE)


async def test_what_still_waits_stays(path: Path, queue: SqliteQueue) -> None:
    await push(queue, "ana", "ben")
    (lease, *_) = await queue.lease(1)
    await queue.acknowledge(lease)

    await until(lambda: Path(f"{path}-wal").stat().st_size == 0, within=IDLE)
    assert traces(path) == ["rollout.db"]
    assert not traces(path, of=f"{SECRET}-{lease.request.username}")
    assert (await queue.backlog()).waiting == 1


async def test_a_busy_worker_leaves_it_for_some_seconds(
    path: Path, queue: SqliteQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time runs ten times as fast: the log is looked at every tenth of a second, and emptied after one second."""
    monkeypatch.setattr(erasing, "PERIOD", erasing.PERIOD / 10)
    monkeypatch.setattr(erasing, "LONGEST", erasing.LONGEST / 10)
    await push(queue, "ana")
    await use_all(queue)

    async def write_on() -> None:
        while True:
            await queue.put_aside("reason", "digest")
            await asyncio.sleep(0.01)

    busy = asyncio.create_task(write_on())
    await until(lambda: not traces(path), within=LOADED / 10)
    busy.cancel()


async def test_a_reader_delays_it_only_while_it_reads(path: Path, queue: SqliteQueue) -> None:
    await push(queue, "ana", "ben")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM messages").fetchone() == (2,)
        await use_all(queue)
        await asyncio.sleep(2.5 * erasing.PERIOD)  # long enough for two tries
        assert traces(path)
        await push(queue, "cem")  # nobody who writes is kept waiting
        reader.execute("COMMIT")
        await use_all(queue)
        await until(lambda: not traces(path), within=IDLE)  # although the connection stays open


async def test_a_reader_that_never_ends_is_said_once(
    path: Path, queue: SqliteQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "PERIOD", 0.05)
    monkeypatch.setattr(erasing, "WORTH_SAYING", 0.2)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader, capture_logs() as logs:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchone()
        await push(queue, "ana")
        await use_all(queue)
        await until(lambda: bool(logs), within=IDLE)
        await asyncio.sleep(0.5)
        assert [each["event"] for each in logs] == ["used_requests_not_erased"]
        assert "fuser" in logs[0]["cure"]


async def test_what_a_killed_process_left_is_erased_by_the_next_one_that_only_looks(
    tmp_path: Path, path: Path, queue: SqliteQueue
) -> None:
    await push(queue, "ana")
    await use_all(queue)
    copy = tmp_path / "copy"
    copy.mkdir()
    for each in (path, Path(f"{path}-wal")):  # as a kill leaves them
        (copy / each.name).write_bytes(each.read_bytes())
    assert traces(copy / path.name)

    database = Database(copy / path.name)
    other = SqliteQueue(database, PARSER, holder="x", is_dead=lambda _: False, visibility=30.0)
    await other.open()
    assert await other.is_empty()
    await until(lambda: not traces(copy / path.name), within=IDLE)
    await database.close()
