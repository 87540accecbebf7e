"""One SQLite file as the embedded queue and ledger use it: durable, private, and never on the event loop.

All writes that wait share one commit (``synchronous=FULL``), in the order they came. What is deleted is erased
(``secure_delete``), and a clean close empties the write-ahead log.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from worker.errors import DependencyAway, PersonMustAct
from worker.grouping import Grouped

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection, Sequence[Any]], Sequence[Any]]
"""Does one kind of write for many items, within a transaction that somebody else begins and commits."""

BUSY_TIMEOUT = 15.0
"""Seconds to wait for another process that writes."""
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Database:
    """A connection for writing and one for reading, each with a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writes: Grouped[tuple[Work, Any], Any] = Grouped(self._write_group, "sqlite-write")
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-read")
        self._writing: sqlite3.Connection | None = None
        self._reading: sqlite3.Connection | None = None

    async def open(self, schema: str, away: type[DependencyAway]) -> None:
        """Create the file (0600) where there is none, and ``schema`` within it. Raises ``away``, ``PersonMustAct``."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._reader, self._open, schema)
        except (sqlite3.Error, OSError) as error:
            raise _explained(error, self.path, away) from None

    def _open(self, schema: str) -> None:
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        if self._writing is None:
            self._writing = self._connect()
            self._reading = self._connect()
        self._writing.executescript(schema)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA cache_size = -4000")
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection

    async def write(self, work: Work, item: Any, away: type[DependencyAway], *, patient: bool = False) -> Any:
        """Do ``work`` for ``item``, with everything else that waits; durable when it returns. Raises ``away``."""
        try:
            return await self._writes.submit((work, item), patient=patient)
        except sqlite3.Error as error:
            raise _explained(error, self.path, away) from None

    async def read(self, query: Callable[[sqlite3.Connection], Result], away: type[DependencyAway]) -> Result:
        """The result of ``query`` on the last committed state. Raises ``away``."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader, self._read, query)
        except sqlite3.Error as error:
            raise _explained(error, self.path, away) from None

    def _read(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        assert self._reading is not None
        return query(self._reading)

    def _write_group(self, group: Sequence[tuple[Work, Any]]) -> Sequence[Any]:
        connection = self._writing
        assert connection is not None
        numbers: dict[Work, list[int]] = {}
        for number, (work, _) in enumerate(group):
            numbers.setdefault(work, []).append(number)
        results: list[Any] = [None] * len(group)
        connection.execute("BEGIN IMMEDIATE")
        try:
            for work, mine in numbers.items():
                for number, result in zip(mine, work(connection, [group[n][1] for n in mine]), strict=True):
                    results[number] = result
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return results

    async def close(self) -> None:
        """Finish what waits, empty the write-ahead log, and close."""
        await self._writes.close()
        await asyncio.get_running_loop().run_in_executor(self._reader, self._close)
        self._reader.shutdown()

    def _close(self) -> None:
        for connection in (self._reading, self._writing):
            if connection is None:
                continue
            if connection is self._writing:
                try:
                    connection.execute("PRAGMA busy_timeout = 1000")
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                except sqlite3.Error:
                    pass  # another process reads, or the disk is full: the next clean close will do it
            connection.close()
        self._reading = self._writing = None


def _explained(
    error: sqlite3.Error | OSError, path: Path, away: type[DependencyAway]
) -> DependencyAway | PersonMustAct:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _CORRUPT:
        return PersonMustAct(
            f"{path} is damaged or no SQLite file ({error})",
            "restore it from a backup; do not start over with an empty one, it knows who was delivered",
        )
    return away(f"{path}: {error}", "free space, or make the folder writable, then run again: nothing is lost")


def schema_script(*statements: str) -> str:
    """Statements that create what is missing, as one script."""
    return ";\n".join(statements) + ";"
