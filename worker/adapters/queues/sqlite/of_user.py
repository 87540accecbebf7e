"""What waits for one user on the embedded queue, for whoever looks at that user; nothing is leased or changed."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from worker.adapters.sqlite.database import Database
from worker.core.errors import QueueUnavailable

_QUERY = "SELECT count(*), max(deadline) FROM messages INDEXED BY by_user WHERE username = ?"
_HAS_QUEUE = "SELECT 1 FROM sqlite_schema WHERE name = 'messages'"


async def requests_of(path: Path, username: str) -> tuple[int, float]:
    """How many requests wait in the queue at ``path``, and the latest of their deadlines (UTC seconds).

    Raises ``QueueUnavailable``, ``PersonMustAct``.
    """
    if not await asyncio.to_thread(path.exists):
        return 0, 0.0

    def look(connection: sqlite3.Connection) -> tuple[int, float]:
        if connection.execute(_HAS_QUEUE).fetchone() is None:
            return 0, 0.0
        number, last = connection.execute(_QUERY, (username,)).fetchone()
        return number, last or 0.0

    database = Database(path)
    try:
        await database.open("", QueueUnavailable)
        return await database.read(look, QueueUnavailable)
    finally:
        await database.close()
