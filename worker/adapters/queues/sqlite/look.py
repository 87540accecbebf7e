"""What waits in an embedded queue, for whoever only wants to look: nothing is leased, and no file is made."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from worker.adapters.sqlite.database import Database
from worker.core.errors import QueueUnavailable

_PAGE = 500


async def bodies(path: Path) -> AsyncGenerator[Sequence[bytes]]:
    """Every message, page by page, in the order they were pushed; none if there is no queue in the file, or no file.

    Raises ``QueueUnavailable``, ``PersonMustAct``.
    """
    if not await asyncio.to_thread(path.exists):
        return
    database = Database(path)
    try:
        await database.open("", QueueUnavailable)
        after = 0
        while rows := await database.read(lambda connection, after=after: _page(connection, after), QueueUnavailable):  # type: ignore[misc]
            yield [body for _, body in rows]
            after = rows[-1][0]
    finally:
        await database.close()


def _page(connection: sqlite3.Connection, after: int) -> Sequence[tuple[int, bytes]]:
    there = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'messages'").fetchone()
    if not there:
        return []
    query = "SELECT id, body FROM messages WHERE id > ? ORDER BY id LIMIT ?"
    rows: Sequence[tuple[int, bytes]] = connection.execute(query, (after, _PAGE)).fetchall()
    return rows
