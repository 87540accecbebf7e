"""The shared paces of an embedded ledger: a table with one row for each.

All workers are on one host, so they share its monotonic clock.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple

from worker.adapters.sqlite.database import Database, Work
from worker.core.errors import LedgerUnavailable
from worker.pacing.pace import Pace
from worker.pacing.schedule import FORGET_AFTER

Change = Callable[[Pace | None], Pace | None]
"""See ``pacing.pace.PaceStore.change_pace``."""

_TABLE = """
CREATE TABLE IF NOT EXISTS {table} (
    id INTEGER PRIMARY KEY CHECK (id = 1), reserved_until REAL NOT NULL, rate REAL NOT NULL, changed_at REAL NOT NULL,
    version INTEGER NOT NULL, length REAL NOT NULL
);
"""
SCHEMA = _TABLE.format(table="shared_pace") + _TABLE.format(table="sign_in_pace")
"""The pace of calls, and that of sign-ins."""


class SqlitePace:
    """``PaceStore`` in one of these tables."""

    def __init__(self, database: Database, table: str) -> None:
        self._database = database
        self._read = f"SELECT reserved_until, rate, changed_at, version, length FROM {table}"  # noqa: S608 - our own
        self._write = f"INSERT OR REPLACE INTO {table} VALUES (1, ?, ?, ?, ?, ?)"  # noqa: S608 - our own
        self._change: Work = self._change_all

    async def read_pace(self) -> Pace | None:
        """See ``pacing.pace.PaceStore``."""
        return await self._database.read(self._found, LedgerUnavailable)

    async def allowed(self) -> float | None:
        """See ``ports.LookedAt``."""
        pace = await self.read_pace()
        is_used = pace is not None and self.shared_time() - pace.reserved_until < FORGET_AFTER
        return pace.rate if pace is not None and is_used else None

    async def change_pace(self, change: Change) -> Pace | None:
        """See ``pacing.pace.PaceStore``; ``change`` is called once, in the writing transaction."""
        pace: Pace | None = await self._database.write(self._change, change, LedgerUnavailable)
        return pace

    def shared_time(self) -> float:
        """See ``pacing.pace.PaceStore``."""
        return time.monotonic()

    def _found(self, connection: sqlite3.Connection) -> Pace | None:
        row = connection.execute(self._read).fetchone()
        return Pace(*row) if row else None

    def _change_all(self, connection: sqlite3.Connection, changes: Sequence[Change]) -> Sequence[Pace | None]:
        paces = []
        for change in changes:
            before = self._found(connection)
            pace = change(before)
            if pace is not None and pace is not before:
                connection.execute(self._write, astuple(pace))
            paces.append(pace)
        return paces
