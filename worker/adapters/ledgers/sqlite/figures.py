"""The figures over time in an embedded ledger: a table with one row for each minute and worker."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby

from worker.adapters.sqlite.database import Database
from worker.core.errors import LedgerUnavailable
from worker.core.figures import Minute, load, merged

SCHEMA = """
CREATE TABLE IF NOT EXISTS figures (
    minute INTEGER NOT NULL, worker TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (minute, worker)
) WITHOUT ROWID;
"""
_PAGE = 1_000
"""Minutes of one read: some 200 bytes for each worker."""


class SqliteFigures:
    """``ports.FigureStore``. ``gather``: seconds for which figures may wait for other writes to share their commit."""

    def __init__(self, database: Database, gather: float) -> None:
        self._database, self._gather = database, gather

    async def put(self, worker: str, minute: Minute) -> None:
        """See ``ports.FigureStore``."""
        row = (minute.minute, worker, minute.dump())
        await self._database.write(_put, row, LedgerUnavailable, gather=self._gather)

    async def read(self) -> AsyncIterator[Minute]:
        """See ``ports.FigureStore``."""
        after: int | None = -1
        while after is not None:
            minutes, after = await self._database.read(partial(_page, after=after), LedgerUnavailable)
            for minute in minutes:
                yield minute


def _put(connection: sqlite3.Connection, rows: Sequence[tuple[int, str, str]]) -> Sequence[None]:
    connection.executemany("INSERT OR REPLACE INTO figures VALUES (?, ?, ?)", rows)
    return [None] * len(rows)


def _page(connection: sqlite3.Connection, *, after: int) -> tuple[Sequence[Minute], int | None]:
    """The next minutes, and the last of them; ``None`` where no more follow."""
    last, number = connection.execute(
        "SELECT max(minute), count(*) FROM "
        "(SELECT DISTINCT minute FROM figures WHERE minute > ? ORDER BY minute LIMIT ?)",
        (after, _PAGE),
    ).fetchone()
    rows = connection.execute(
        "SELECT minute, text FROM figures WHERE minute > ? AND minute <= ? ORDER BY minute", (after, last)
    )
    return list(_summed(rows)), last if number == _PAGE else None


def _summed(rows: Iterable[tuple[int, str]]) -> Iterator[Minute]:
    for number, of_workers in groupby(rows, key=lambda row: row[0]):
        if readable := [found for _, text in of_workers if (found := load(number, text)) is not None]:
            yield merged(readable)
