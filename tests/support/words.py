"""A database of words, for the tests of everything that databases have in common."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from worker.adapters.sqlite.database import Database
from worker.core.errors import LedgerUnavailable

SCHEMA = "CREATE TABLE IF NOT EXISTS words (word TEXT PRIMARY KEY);"


def add(connection: sqlite3.Connection, words: Sequence[str]) -> Sequence[int]:
    """How many words waited together."""
    connection.executemany("INSERT INTO words VALUES (?)", [(word,) for word in words])
    return [len(words)] * len(words)


def words(connection: sqlite3.Connection) -> list[str]:
    return [word for (word,) in connection.execute("SELECT word FROM words ORDER BY rowid")]


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Database]:
    database = Database(path)
    try:
        await database.open(SCHEMA, LedgerUnavailable)
        yield database
    finally:
        await database.close()
