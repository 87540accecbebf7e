"""What else is in the file of an embedded queue: at the end of a rollout a file that holds more is not deleted."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from worker.adapters.sqlite.database import Database
from worker.core.errors import QueueUnavailable

_OURS = frozenset({"messages", "put_aside", "counters", "sqlite_sequence"})
"""The tables that a queue fills."""
_OF_NO_USER = frozenset({"mark", "late_writes"})
"""Tables of a ledger that have rows before any user has one: the first push made both in one file."""


async def holds_more(path: Path) -> Sequence[str]:
    """The names of the tables in this file that hold something, and are no queue's: another rollout's ledger, perhaps.

    There are none if the file does not exist. Raises ``QueueUnavailable``, ``PersonMustAct``.
    """
    if not await asyncio.to_thread(path.exists):
        return ()
    database = Database(path)
    try:
        await database.open("", QueueUnavailable)
        return await database.read(_filled, QueueUnavailable)
    finally:
        await database.close()


def _filled(connection: sqlite3.Connection) -> Sequence[str]:
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return sorted(name for name in names - _OURS - _OF_NO_USER if _has_rows(connection, name))


def _has_rows(connection: sqlite3.Connection, table: str) -> bool:
    quoted = '"' + table.replace('"', '""') + '"'  # a name cannot be a parameter
    return connection.execute(f"SELECT 1 FROM {quoted} LIMIT 1").fetchone() is not None  # noqa: S608
