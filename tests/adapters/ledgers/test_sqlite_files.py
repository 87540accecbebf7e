"""What the SQLite ledger promises beyond the port: it takes over the files of earlier versions as they are."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from tests.adapters.ledgers.rigs import STAMP, forget_the_tally
from tests.support.rows import row, sealed
from worker.adapters.ledgers.sqlite.ledger import SqliteLedger
from worker.adapters.ledgers.sqlite.recorded import SqliteRecorded
from worker.adapters.sqlite.database import Database
from worker.adapters.sqlite.liveness import Liveness
from worker.core.model import Reason, State, Written


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteLedger]:
    database = Database(path)
    try:
        ledger = SqliteLedger(database, Liveness(path, "one"))
        await ledger.open(STAMP)
        yield ledger
    finally:
        await database.close()


async def test_a_file_without_the_later_columns_gets_them_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "rollout.db"
    old = row(state=State.SEALED, sealed=sealed())
    async with opened(path) as ledger:
        await ledger.put(old, None)
    with closing(sqlite3.connect(path)) as connection:
        forget_the_tally(connection)
        connection.execute("ALTER TABLE users DROP COLUMN detail")

    refused = row("ben", State.FAILED, reason=Reason.REFUSED, detail="ForbiddenException")
    async with opened(path) as ledger:
        assert await ledger.read("ana") == old
        assert await ledger.put(refused, None) == Written(refused)
        assert await ledger.read("ben") == refused


async def test_a_digest_stays_with_its_own_secret_whatever_an_earlier_version_writes(tmp_path: Path) -> None:
    path = tmp_path / "rollout.db"
    async with opened(path) as ledger:
        await ledger.put(row("ana", State.SEALED, sealed=sealed(5)), None)
        await ledger.put(row("ben", State.DELIVERED, sealed=sealed(5, blob=b"")), None)
    with closing(sqlite3.connect(path, isolation_level=None)) as earlier:  # it knows no column "digest"
        earlier.execute("UPDATE users SET state = 'delivered', blob = x'' WHERE username = 'ana'")
        earlier.execute("UPDATE users SET sealed_generation = 6, attempt_id = 'another' WHERE username = 'ben'")
    async with opened(path) as ledger:
        ana, ben = await ledger.read("ana"), await ledger.read("ben")
    assert ana is not None
    assert ana.sealed == sealed(5, blob=b""), "what we recorded, and it delivered"
    assert ben is not None
    assert ben.sealed is not None
    assert ben.sealed.digest == "", "of its own secret nobody knows the digest"


async def test_a_damaged_row_is_told_of_as_such_and_hides_nobody(tmp_path: Path) -> None:
    path = tmp_path / "rollout.db"
    async with opened(path) as ledger:
        for name in ("ana", "ben", "cem"):
            await ledger.put(row(name, State.DELIVERED, sealed=sealed(5, blob=b"")), None)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE users SET digest = 'text' WHERE username = 'ana'")
        connection.execute("UPDATE users SET since = 'long ago' WHERE username = 'ben'")
    pages = SqliteRecorded(path, STAMP, tmp_path / "mark").read(None)
    assert [(each.username, each.state) async for page in pages for each in page] == [
        ("ana", "unreadable"),
        ("ben", "unreadable"),
        ("cem", "delivered"),
    ]
