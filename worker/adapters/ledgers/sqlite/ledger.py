"""The embedded ledger: one table of users in a SQLite file on a local disk."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from functools import cache, partial
from itertools import islice
from typing import Any

from worker.adapters.ledgers.reading import known_state, readable
from worker.adapters.ledgers.sqlite import tally
from worker.adapters.ledgers.sqlite.mark import SCHEMA as MARK_SCHEMA
from worker.adapters.ledgers.sqlite.mark import Mark
from worker.adapters.sqlite.database import Database, Work
from worker.adapters.sqlite.liveness import Liveness
from worker.core.errors import LedgerUnavailable, RowUnreadable, UsageError, WorkerError
from worker.core.model import (
    Counts,
    CredentialKind,
    Enrolment,
    Listed,
    Lost,
    Reason,
    Sealed,
    State,
    WriteResult,
    Written,
)
from worker.core.settled import load as load_settled
from worker.pacing.pace import Pace

_SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    username TEXT PRIMARY KEY, version TEXT NOT NULL, state TEXT NOT NULL, reason TEXT, since REAL NOT NULL,
    generation INTEGER NOT NULL, worker TEXT, lease_until REAL NOT NULL, doubt INTEGER NOT NULL, crashes INTEGER NOT
    NULL, before TEXT, request_id TEXT, kind TEXT, settled TEXT NOT NULL,
    sealed_generation INTEGER, attempt_id TEXT, associated_at TEXT, session_expires_at REAL, blob BLOB, replaces TEXT,
    detail TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS unfinished ON users (username) WHERE state IN ('in_progress', 'sealed');
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stamp (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS roster (username TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shared_pace (
    id INTEGER PRIMARY KEY CHECK (id = 1), reserved_until REAL NOT NULL, rate REAL NOT NULL, changed_at REAL NOT NULL,
    version INTEGER NOT NULL, length REAL NOT NULL
);
"""
_COLUMNS = (
    "username",
    "version",
    "state",
    "reason",
    "since",
    "generation",
    "worker",
    "lease_until",
    "doubt",
    "crashes",
    "before",
    "request_id",
    "kind",
    "settled",
    "sealed_generation",
    "attempt_id",
    "associated_at",
    "session_expires_at",
    "blob",
    "detail",
    "replaces",
)
"""The columns of ``users`` in the order in which they are read and written. The last one, the version that a write
replaces, is only written: the condition of the write compares it."""
_LATER_COLUMNS = {"detail": "TEXT"}
"""Columns of ``users`` that ledgers of earlier versions lack, with their types; they get them when they are opened."""
_SELECT = f"SELECT {', '.join(_COLUMNS[:-1])} FROM users"  # noqa: S608 - our own names
_PAGE = 500
"""Rows of one read: few enough to occupy the reading thread only briefly, and to need little memory."""
_LONG_PAGE = 5_000
"""Rows of one read that takes only a few columns of each, for a command that lists users: 5 ms and less than 2 MB."""
_ROSTER_PAGE = 5_000
"""Usernames that are added to the roster in one commit: few enough not to delay other writes for long."""
_HAS_NO_ROW = "NOT EXISTS (SELECT 1 FROM users WHERE users.username = roster.username)"


class SqliteLedger:
    """``Ledger``, ``LedgerStats`` and ``PaceStore`` in one file. Safe for several processes on one host."""

    def __init__(
        self, database: Database, liveness: Liveness, *, gather: float = 0.0, mark: Mark | None = None
    ) -> None:
        """``gather``: for how many seconds a write may wait for others to share their commit, unless it is urgent.

        ``mark``: what shows outside the ledger whether it is an older copy of itself.
        """
        self._database = database
        self._liveness = liveness
        self._gather = gather
        self._mark = mark
        self._put: Work = _put if mark is None else partial(_put_marked, mark=mark)
        if mark is not None:
            database.after_commit(self._put, mark.committed)
            database.after_commit(mark.end_recovery, mark.adopt)

    async def open(self, stamp: Mapping[str, str], *, must_exist: bool = False) -> None:
        """Open the file, and check that it belongs to this rollout: ``stamp`` is written to it at its first use.

        Raises ``UsageError`` if the file is missing but must exist, or has another stamp; ``LedgerUnavailable``,
        ``PersonMustAct``.
        """
        if must_exist and not self._database.path.exists():
            raise UsageError(
                f"the ledger {self._database.path} does not exist",
                "correct ledger.path, or restore the file: it knows who was delivered already",
            )
        await self._database.open(_SCHEMA + MARK_SCHEMA, LedgerUnavailable)
        await self._database.write(_add_later_columns, None, LedgerUnavailable)
        await self._database.write(tally.begin, None, LedgerUnavailable)
        found: Mapping[str, str] = await self._database.write(_stamp, stamp, LedgerUnavailable)
        for name, value in stamp.items():
            if found[name] != value:
                raise UsageError(
                    f"the ledger {self._database.path} belongs to another rollout: "
                    f"its {name} is {found[name]!r}, not {value!r}",
                    "use one ledger (ledger.path) for each endpoint, Region and user pool",
                )
        if self._mark is not None:
            await self._database.write(self._mark.begin, None, LedgerUnavailable)

    async def put(self, row: Enrolment, replaces: str | None) -> WriteResult:
        """See ``ports.Ledger``.

        A secret that is recorded never waits for other writes, because a crash meanwhile would lose it.
        """
        gather = 0.0 if row.state is State.SEALED else self._gather
        if self._mark is not None and self._mark.refusal is not None:
            raise self._mark.refusal
        put: WriteResult | RowUnreadable = await self._database.write(
            self._put, (row, replaces), LedgerUnavailable, gather=gather
        )
        if isinstance(put, RowUnreadable):
            raise put
        return put

    async def read(self, username: str) -> Enrolment | None:
        """See ``ports.Ledger``."""
        return await self._database.read(lambda connection: _read(connection, username), LedgerUnavailable)

    async def unfinished(self) -> AsyncGenerator[Enrolment]:
        """See ``ports.Ledger``."""
        unreadable: RowUnreadable | None = None
        async for page in self._pages(f"{_SELECT} WHERE state IN ('in_progress', 'sealed')", _PAGE):
            for row in page:
                try:
                    found = _enrolment(row)
                except RowUnreadable as error:
                    unreadable = error
                    continue
                yield found
        if unreadable is not None:
            raise unreadable

    def is_dead(self, worker: str) -> bool:
        """See ``ports.Ledger``."""
        return self._liveness.is_dead(worker)

    async def counts(self) -> Counts:
        """See ``ports.LedgerStats``."""
        return await self._database.read(_counts, LedgerUnavailable)

    async def recount(self) -> Counts:
        """See ``ports.LedgerStats``; the same as ``counts``, which the database keeps exact in every transaction."""
        return await self.counts()

    async def listed(self, state: State) -> AsyncIterator[Sequence[Listed]]:
        """See ``ports.LedgerStats``."""
        query = f"SELECT username, reason, since, detail FROM users WHERE state = '{state.value}'"  # noqa: S608 - our own name
        async for page in self._pages(query, _LONG_PAGE):
            yield list(map(Listed._make, page))

    async def count(self, *, duplicates: int = 0, malformed: int = 0) -> None:
        """See ``ports.LedgerStats``."""
        await self._database.write(_count, (duplicates, malformed), LedgerUnavailable)

    async def add_to_roster(self, usernames: Iterable[str]) -> int:
        """See ``ports.Roster``."""
        names, added = iter(usernames), 0
        while page := list(islice(names, _ROSTER_PAGE)):
            added += await self._database.write(_add_to_roster, page, LedgerUnavailable)
        return added

    async def unrequested(self) -> AsyncIterator[str]:
        """See ``ports.Roster``."""
        async for page in self._pages(f"SELECT username FROM roster WHERE {_HAS_NO_ROW}", _LONG_PAGE):  # noqa: S608
            for (username,) in page:
                yield username

    async def roster_count(self) -> int:
        """See ``ports.Roster``."""
        return await self._database.read(tally.unrequested, LedgerUnavailable)

    async def refusal(self) -> WorkerError | None:
        """See ``ports.Recoverable``."""
        return self._mark.refusal if self._mark is not None else None

    def since(self) -> int:
        """See ``ports.Recoverable``."""
        return self._mark.since if self._mark is not None else 0

    async def in_question(self) -> Mapping[str, int]:
        """See ``ports.Recoverable``: the names in the mark."""
        return self._mark.look().names if self._mark is not None else {}

    async def every_row(self) -> AsyncIterator[Enrolment]:
        """See ``ports.Recoverable``."""
        async for page in self._pages(f"{_SELECT} WHERE TRUE", _PAGE):
            for row in page:
                yield _enrolment(row)

    async def is_used(self) -> bool:
        """See ``ports.Recoverable``."""
        return self._liveness.others_live()

    async def begin_recovery(self) -> None:
        """See ``ports.Recoverable``."""
        if self._mark is not None:
            await self._database.write(self._mark.begin_recovery, None, LedgerUnavailable)

    async def end_recovery(self) -> None:
        """See ``ports.Recoverable``."""
        if self._mark is not None:
            await self._database.write(self._mark.end_recovery, None, LedgerUnavailable)

    async def read_pace(self) -> Pace | None:
        """See ``pacing.pace.PaceStore``."""
        return await self._database.read(_read_pace, LedgerUnavailable)

    async def change_pace(self, change: Callable[[Pace | None], Pace | None]) -> Pace | None:
        """See ``pacing.pace.PaceStore``; ``change`` is called once, in the writing transaction."""
        pace: Pace | None = await self._database.write(_change_pace, change, LedgerUnavailable)
        return pace

    def shared_time(self) -> float:
        """See ``pacing.pace.PaceStore``; all workers are on this host, so they share its monotonic clock."""
        return time.monotonic()

    async def _pages(self, select: str, length: int) -> AsyncIterator[Sequence[Any]]:
        """The rows that ``select`` finds, in pages of that length; its first column must be the username."""
        after = ""
        query = f"{select} AND username > ? ORDER BY username LIMIT {length}"
        while True:
            page = await self._database.read(partial(_page, query=query, after=after), LedgerUnavailable)
            if page:
                yield page
            if len(page) < length:
                return
            after = page[-1][0]


# --- in the database's threads ----------------------------------------------------------------------------------------


def _add_later_columns(connection: sqlite3.Connection, asked: Sequence[object]) -> Sequence[None]:
    present = {name for _, name, *_ in connection.execute("PRAGMA table_info(users)")}
    for name, kind in _LATER_COLUMNS.items():
        if name not in present:
            connection.execute(f"ALTER TABLE users ADD COLUMN {name} {kind}")
    return [None] * len(asked)


def _put(
    connection: sqlite3.Connection, puts: Sequence[tuple[Enrolment, str | None]]
) -> Sequence[WriteResult | RowUnreadable]:
    answers: list[WriteResult | RowUnreadable] = []
    for group in _distinct_users(puts):
        if len(group) == 1:
            answers.append(_put_one(connection, *group[0]))
            continue
        connection.execute("SAVEPOINT one_statement")
        if _upsert(connection, group) == len(group):
            answers += [Written(row) for row, _ in group]
        else:  # another worker was faster for some of the users: write one by one to find out for which
            connection.execute("ROLLBACK TO one_statement")
            answers += [_put_one(connection, row, replaces) for row, replaces in group]
        connection.execute("RELEASE one_statement")
    return answers


def _put_marked(
    connection: sqlite3.Connection, puts: Sequence[tuple[Enrolment, str | None]], *, mark: Mark
) -> Sequence[WriteResult | RowUnreadable]:
    answers = _put(connection, puts)
    mark.commits(connection, [answer.row for answer in answers if isinstance(answer, Written)])
    return answers


def _put_one(connection: sqlite3.Connection, row: Enrolment, replaces: str | None) -> WriteResult | RowUnreadable:
    if _upsert(connection, [(row, replaces)]) == 1:
        return Written(row)
    try:
        found = _read(connection, row.username)
    except RowUnreadable as unreadable:  # an answer, not raised: the other writes of this commit are good
        return unreadable
    if found is not None and found.version == row.version:
        return Written(found, repeated=True)
    return Lost(found)


def _distinct_users(
    puts: Sequence[tuple[Enrolment, str | None]],
) -> Iterator[Sequence[tuple[Enrolment, str | None]]]:
    """Split the writes into groups that contain each user once, because a statement does not see its own changes."""
    run: dict[str, tuple[Enrolment, str | None]] = {}
    for put in puts:
        if put[0].username in run:
            yield list(run.values())
            run = {}
        run[put[0].username] = put
    yield list(run.values())


def _upsert(connection: sqlite3.Connection, group: Sequence[tuple[Enrolment, str | None]]) -> int:
    """Write all rows in one statement, and return how many were written.

    One statement takes Python's interpreter lock back only once, which is faster than a statement for each row.
    """
    values = [value for put in group for value in _values(*put)]
    return connection.execute(_upsert_statement(len(group)), values).rowcount  # what triggers do is not in it


@cache
def _upsert_statement(rows: int) -> str:
    names = ", ".join(_COLUMNS)
    marks = ", ".join([f"({', '.join('?' * len(_COLUMNS))})"] * rows)
    updates = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
    return (
        f"INSERT INTO users ({names}) WITH new ({names}) AS (VALUES {marks}) SELECT * FROM new "  # noqa: S608
        "WHERE replaces IS NULL OR EXISTS (SELECT 1 FROM users WHERE users.username = new.username) "
        f"ON CONFLICT (username) DO UPDATE SET {updates} WHERE users.version = excluded.replaces"
    )


def _page(connection: sqlite3.Connection, *, query: str, after: str) -> Sequence[Sequence[Any]]:
    return connection.execute(query, (after,)).fetchall()


def _read(connection: sqlite3.Connection, username: str) -> Enrolment | None:
    row = connection.execute(f"{_SELECT} WHERE username = ?", (username,)).fetchone()
    return _enrolment(row) if row else None


def _counts(connection: sqlite3.Connection) -> Counts:
    states: Counter[State] = Counter()
    reasons: Counter[str] = Counter()
    codes: dict[str, Counter[str]] = {}
    for state, reason, detail, number in tally.count(connection):
        states[known_state(state)] += number
        if reason:
            reasons[reason] += number
        if reason and detail:
            codes.setdefault(reason, Counter())[detail] += number
    counted = dict(connection.execute("SELECT name, value FROM counters").fetchall())
    return Counts(states, reasons, counted.get("duplicates", 0), counted.get("malformed", 0), codes)


def _count(connection: sqlite3.Connection, numbers: Sequence[tuple[int, int]]) -> Sequence[None]:
    connection.executemany(
        "INSERT INTO counters VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
        [("duplicates", sum(each for each, _ in numbers)), ("malformed", sum(each for _, each in numbers))],
    )
    return [None] * len(numbers)


def _add_to_roster(connection: sqlite3.Connection, pages: Sequence[Sequence[str]]) -> Sequence[int]:
    added = []
    for page in pages:
        names = ((username,) for username in page)
        added.append(connection.executemany("INSERT OR IGNORE INTO roster VALUES (?)", names).rowcount)
    return added


def _stamp(connection: sqlite3.Connection, stamps: Sequence[Mapping[str, str]]) -> Sequence[Mapping[str, str]]:
    for stamp in stamps:
        connection.executemany("INSERT OR IGNORE INTO stamp VALUES (?, ?)", list(stamp.items()))
    found = dict(connection.execute("SELECT name, value FROM stamp").fetchall())
    return [found] * len(stamps)


def _read_pace(connection: sqlite3.Connection) -> Pace | None:
    row = connection.execute("SELECT reserved_until, rate, changed_at, version, length FROM shared_pace").fetchone()
    return Pace(*row) if row else None


def _change_pace(
    connection: sqlite3.Connection, changes: Sequence[Callable[[Pace | None], Pace | None]]
) -> Sequence[Pace | None]:
    paces = []
    for change in changes:
        before = _read_pace(connection)
        pace = change(before)
        if pace is not None and pace is not before:
            connection.execute("INSERT OR REPLACE INTO shared_pace VALUES (1, ?, ?, ?, ?, ?)", astuple(pace))
        paces.append(pace)
    return paces


# --- a row as columns, and back ---------------------------------------------------------------------------------------


def _values(row: Enrolment, replaces: str | None) -> tuple[Any, ...]:
    """The values of ``_COLUMNS`` for this row."""
    sealed = row.sealed
    return (
        row.username,
        row.version,
        row.state,
        row.reason,
        row.since,
        row.generation,
        row.worker,
        row.lease_until,
        row.doubt,
        row.crashes,
        row.before,
        row.request_id,
        row.kind,
        json.dumps(row.settled.dump()),
        *(
            (sealed.generation, sealed.attempt_id, sealed.associated_at, sealed.session_expires_at, sealed.blob)
            if sealed
            else (None, None, None, None, None)
        ),
        row.detail,
        replaces,
    )


def _enrolment(row: Sequence[Any]) -> Enrolment:
    """The row with these values of ``_COLUMNS``, without the last one. Raises ``RowUnreadable``."""
    return readable(row[0], row, _converted)


def _converted(row: Sequence[Any]) -> Enrolment:
    sealed = Sealed(row[14], row[15], row[16], row[18], row[17]) if row[15] is not None else None
    return Enrolment(
        username=row[0],
        version=row[1],
        state=State(row[2]),
        reason=Reason(row[3]) if row[3] else None,
        since=row[4],
        generation=row[5],
        worker=row[6],
        lease_until=row[7],
        doubt=bool(row[8]),
        crashes=row[9],
        before=State(row[10]) if row[10] else None,
        request_id=row[11],
        kind=CredentialKind(row[12]) if row[12] else None,
        settled=load_settled(json.loads(row[13])),
        sealed=sealed,
        detail=row[19],
    )
