"""The embedded ledger: one table of users in a SQLite file on a local disk."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import islice
from typing import Any

import structlog

from worker.adapters.confirmed_lines import Confirmed
from worker.adapters.ledgers.found import refuse, refuse_another
from worker.adapters.ledgers.guarded import before_of, kind_of, read_before, read_kind
from worker.adapters.ledgers.reading import known_state, readable
from worker.adapters.ledgers.sqlite import tally
from worker.adapters.ledgers.sqlite.figures import SCHEMA as FIGURES_SCHEMA
from worker.adapters.ledgers.sqlite.figures import SqliteFigures
from worker.adapters.ledgers.sqlite.look import look
from worker.adapters.ledgers.sqlite.mark import SCHEMA as MARK_SCHEMA
from worker.adapters.ledgers.sqlite.mark import Mark
from worker.adapters.ledgers.sqlite.pace import SCHEMA as PACE_SCHEMA
from worker.adapters.ledgers.sqlite.pace import SqlitePace
from worker.adapters.ledgers.sqlite.row_checksum import TRIGGER, checksum, is_damaged
from worker.adapters.sqlite.database import Database, Work
from worker.adapters.sqlite.erasing import empty_log
from worker.adapters.sqlite.liveness import Liveness
from worker.adapters.sqlite.reading import fetched
from worker.adapters.sqlite.soundness import within
from worker.adapters.sqlite.waiting import users_waiting
from worker.core import history
from worker.core.errors import LedgerUnavailable, PersonMustAct, RowDamaged, RowUnreadable, WorkerError
from worker.core.figures import Minute
from worker.core.model import (
    Activation,
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
    digest_of,
)
from worker.core.ports import Found, WaitingUsers, Workers
from worker.core.rules import is_whole
from worker.core.settled import load as load_settled
from worker.pacing.pace import Pace, PaceStore

log = structlog.get_logger()

_SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    username TEXT PRIMARY KEY, version TEXT NOT NULL, state TEXT NOT NULL, reason TEXT, since REAL NOT NULL,
    generation INTEGER NOT NULL, worker TEXT, lease_until REAL NOT NULL, doubt INTEGER NOT NULL, crashes INTEGER NOT
    NULL, before TEXT, request_id TEXT, kind TEXT, settled TEXT NOT NULL,
    sealed_generation INTEGER, attempt_id TEXT, associated_at TEXT, session_expires_at REAL, blob BLOB, replaces TEXT,
    detail TEXT, activation BLOB, events TEXT, digest BLOB, checksum INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS unfinished ON users (username) WHERE state IN ('in_progress', 'sealed');
CREATE INDEX IF NOT EXISTS activation_pending ON users (username) WHERE reason = 'activation_pending';
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stamp (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS roster (username TEXT PRIMARY KEY) WITHOUT ROWID;
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
    "activation",
    "events",
    "digest",
    "checksum",
    "replaces",
)
"""The columns of ``users`` in the order in which they are read and written. The last one, the version that a write
replaces, is only written: the condition of the write compares it."""
_LATER_COLUMNS = {
    "detail": "TEXT",
    "activation": "BLOB",
    "events": "TEXT",
    "digest": "BLOB",
    "checksum": "INTEGER",
}
"""Columns of ``users`` that ledgers of earlier versions lack, with their types; they get them when they are opened. A
worker of an earlier version beside us leaves in them what stands there, but for the checksum (``row_checksum``)."""
_CHECKSUM = _COLUMNS.index("checksum")
_SELECT = f"SELECT {', '.join(_COLUMNS[:-1])} FROM users"  # noqa: S608 - our own names
_UNFINISHED = f"""
{_SELECT} INDEXED BY unfinished WHERE state IN ('in_progress', 'sealed') AND username > :after
UNION ALL
{_SELECT} INDEXED BY activation_pending WHERE reason = 'activation_pending'
    AND state NOT IN ('in_progress', 'sealed') AND username > :after
"""
"""Whoever is unfinished, all of a page from one moment."""
_GENERATION = 8
"""Bytes of the generation before a digest."""
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
        self._pace = SqlitePace(database, "shared_pace")
        self._sign_in_pace = SqlitePace(database, "sign_in_pace")
        self._figures = SqliteFigures(database, gather)
        self._put: Work = _put if mark is None else partial(_put_marked, mark=mark)
        if mark is not None:
            database.after_commit(self._put, mark.committed)
            database.after_commit(self._put_first, self._first_committed)
            database.after_commit(mark.end_recovery, mark.adopt)
        self._stamp: Mapping[str, str] = {}
        self._is_stamped = False
        """Whether the file surely has our stamp, so that rows are written without looking at it."""
        self._has_written = False
        """Whether the last transaction with the stamp wrote a row; it belongs to the writing thread."""

    async def look(self, *, must_exist: bool = False) -> Found:  # noqa: ARG002 - ``open`` refuses what is not there
        """See ``ports.Beginning`` and ``look.look``."""
        return await asyncio.to_thread(look, self._database.path)

    async def has_users(self) -> bool:
        """See ``ports.Beginning``."""
        return (await self.look()).has_users

    async def open(self, stamp: Mapping[str, str], *, must_exist: bool = False, new_rollout: bool = False) -> None:
        """Open the file, and make it if there is none. ``stamp`` is written to it with the first user's row.

        ``new_rollout``: without rows it may take the place of the ledger whose mark is there (``mark``).

        Raises ``UsageError`` if the file has another stamp, or must exist and has no user; ``LedgerUnavailable``,
        ``PersonMustAct``.
        """
        found = await self.look()
        refuse(found, stamp, str(self._database.path), "ledger.path", must_exist=must_exist)
        self._stamp = stamp
        self._is_stamped = found.has_users and found.stamp.items() >= stamp.items()
        await self._database.open(_SCHEMA + PACE_SCHEMA + MARK_SCHEMA + FIGURES_SCHEMA, LedgerUnavailable)
        await self._database.write(_add_later_columns, None, LedgerUnavailable)
        await self._database.write(tally.begin, None, LedgerUnavailable)
        if self._mark is not None:
            self._mark.new_rollout = new_rollout
            await self._database.write(self._mark.begin, None, LedgerUnavailable)

    async def note(self, name: str, value: str | None, instead_of: str | None) -> bool:
        """See ``ports.Beginning``."""
        done: bool = await self._database.write(_note, (name, value, instead_of), LedgerUnavailable)
        return done

    async def forget(self, name: str) -> None:
        """Take that part out of the stamp."""
        await self._database.write(_forget, name, LedgerUnavailable)

    async def restamp(self, name: str, value: str, instead_of: str) -> bool:
        """Change that part of the stamp, if it is ``instead_of`` now; whether it was."""
        done: bool = await self._database.write(_restamp, (name, value, instead_of), LedgerUnavailable)
        if done:
            self._stamp = {**self._stamp, name: value}
        return done

    async def put(self, row: Enrolment, replaces: str | None) -> WriteResult:
        """See ``ports.Ledger``; ``UsageError`` if another rollout has begun in this ledger meanwhile.

        A secret that is recorded never waits for other writes, because a crash meanwhile would lose it.
        """
        gather = 0.0 if row.state is State.SEALED else self._gather
        if self._mark is not None and self._mark.refusal is not None:
            raise self._mark.refusal
        written: WriteResult | RowUnreadable | None
        if self._is_stamped:
            written = await self._database.write(self._put, (row, replaces), LedgerUnavailable, gather=gather)
        else:
            stamp, written = await self._database.write(
                self._put_first, (row, replaces, self._stamp), LedgerUnavailable, gather=gather
            )
            if written is None:
                refuse_another(stamp, self._stamp, str(self._database.path), "ledger.path")
            self._is_stamped = isinstance(written, Written)
        if isinstance(written, RowUnreadable):
            raise written
        assert written is not None
        return written

    def _put_first(
        self, connection: sqlite3.Connection, puts: Sequence[tuple[Enrolment, str | None, Mapping[str, str]]]
    ) -> Sequence[tuple[Mapping[str, str], WriteResult | RowUnreadable | None]]:
        """Write rows and the stamp in one transaction; ``None`` for each where the rows there have another stamp."""
        found, written = _put_with_stamp(connection, puts, self._put)
        self._has_written = written is not None
        answers: Sequence[WriteResult | RowUnreadable | None] = [None] * len(puts) if written is None else written
        return [(found, answer) for answer in answers]

    def _first_committed(self, connection: sqlite3.Connection) -> Exception | None:
        return self._mark.committed(connection) if self._mark is not None and self._has_written else None

    async def read(self, username: str) -> Enrolment | None:
        """See ``ports.Ledger``."""
        return await self._database.read(lambda connection: _read(connection, username), LedgerUnavailable)

    async def unfinished(self) -> AsyncGenerator[Enrolment]:
        """See ``ports.Ledger``."""
        unreadable: RowUnreadable | None = None
        async for page in self._pages(_UNFINISHED, _PAGE):
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

    async def counts_and_waiting(self, most: int) -> tuple[Counts, WaitingUsers | None]:
        """See ``ports.LookedAt``; a queue in another file is not looked at."""
        return await self._database.read(lambda found: _counts_and_waiting(found, most), LedgerUnavailable)

    async def workers(self) -> Workers:
        """See ``ports.LookedAt``: by their locks on this host."""
        return Workers(self._liveness.alive(), are_exact=True)

    async def allowed(self) -> float | None:
        """See ``ports.LookedAt``."""
        return await self._pace.allowed()

    async def listed(self, state: State) -> AsyncIterator[Sequence[Listed]]:
        """See ``ports.LedgerStats``."""
        query = f"SELECT username, reason, since, detail FROM users WHERE state = '{state.value}' AND username > :after"  # noqa: S608
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
        query = f"SELECT username FROM roster WHERE {_HAS_NO_ROW} AND username > :after"  # noqa: S608
        async for page in self._pages(query, _LONG_PAGE):
            for (username,) in page:
                yield username

    async def is_unrequested(self, username: str) -> bool:
        """See ``ports.Roster``."""
        query = f"SELECT EXISTS (SELECT 1 FROM roster WHERE username = ? AND {_HAS_NO_ROW})"  # noqa: S608 - our own
        (found,) = await self._database.read(
            lambda connection: connection.execute(query, (username,)).fetchone(), LedgerUnavailable
        )
        return bool(found)

    async def roster_count(self) -> int:
        """See ``ports.Roster``."""
        return await self._database.read(tally.unrequested, LedgerUnavailable)

    async def put_figures(self, worker: str, minute: Minute) -> None:
        """See ``ports.FigureStore``."""
        await self._figures.put(worker, minute)

    def figures(self) -> AsyncIterator[Minute]:
        """See ``ports.FigureStore``."""
        return self._figures.read()

    async def refusal(self) -> WorkerError | None:
        """See ``ports.Recoverable``."""
        return self._mark.refusal if self._mark is not None else None

    def follow(self, channel: Callable[[], Confirmed | None]) -> None:
        """See ``app.stores.StoredLedger``."""
        if self._mark is not None:
            self._mark.channel = channel

    def confirmed(self) -> Confirmed | None:
        """See ``app.stores.StoredLedger``."""
        return self._mark.confirmed if self._mark is not None else None

    def since(self) -> int:
        """See ``ports.Recoverable``."""
        return self._mark.since if self._mark is not None else 0

    async def in_question(self) -> Mapping[str, int]:
        """See ``ports.Recoverable``: the names in the mark."""
        return self._mark.look().names if self._mark is not None else {}

    async def every_row(self, damaged: list[RowDamaged] | None = None) -> AsyncIterator[Enrolment]:
        """See ``ports.Recoverable``."""
        async for page in self._pages(f"{_SELECT} WHERE username > :after", _PAGE):
            for row in page:
                try:
                    found = _enrolment(row)
                except RowDamaged as error:
                    if damaged is None:
                        raise
                    damaged.append(error)
                    continue
                yield found

    async def examine(self, seconds: float, pause: float = 0.0) -> bool:
        """See ``ports.Recoverable``."""
        end = time.monotonic() + seconds
        is_right = await self._database.read(
            lambda reading: within(reading, seconds, lambda: tally.is_right(reading)), LedgerUnavailable
        )
        if is_right is False:
            raise PersonMustAct(
                f"{self._database.path} is damaged: its counts of users are not those of its rows",
                "stop all workers, look after the disk, then: mfa-worker recover --yes, which counts them again",
            )
        async for page in self._pages(f"{_SELECT} WHERE username > :after", _PAGE):
            for row in page:
                _refuse_damaged(row)
            if time.monotonic() > end:
                return False
            await asyncio.sleep(pause)
        return is_right is not None

    async def is_used(self) -> bool:
        """See ``ports.Recoverable``."""
        return self._liveness.others_live()

    async def begin_recovery(self) -> None:
        """See ``ports.Recoverable``."""
        if self._mark is not None:
            await self._database.write(self._mark.begin_recovery, None, LedgerUnavailable)

    async def end_recovery(self) -> None:
        """See ``ports.Recoverable``."""
        await self._database.write(tally.count_again, None, LedgerUnavailable)
        if self._mark is not None:
            await self._database.write(self._mark.end_recovery, None, LedgerUnavailable)

    async def tidy(self) -> bool:
        """See ``ports.Ending``: the names in the mark, and the write-ahead log."""
        await self._database.write(self._tidy, None, LedgerUnavailable)
        return await self._database.read(empty_log, LedgerUnavailable)

    def _tidy(self, connection: sqlite3.Connection, asked: Sequence[object]) -> Sequence[None]:  # noqa: ARG002
        if self._mark is not None:
            self._mark.tidy()
        return [None] * len(asked)

    async def read_pace(self) -> Pace | None:
        """See ``pacing.pace.PaceStore``."""
        return await self._pace.read_pace()

    async def change_pace(self, change: Callable[[Pace | None], Pace | None]) -> Pace | None:
        """See ``pacing.pace.PaceStore``."""
        return await self._pace.change_pace(change)

    def shared_time(self) -> float:
        """See ``pacing.pace.PaceStore``."""
        return self._pace.shared_time()

    @property
    def sign_in_pace(self) -> PaceStore:
        """The pace of sign-ins, which have a quota of their own."""
        return self._sign_in_pace

    async def _pages(self, select: str, length: int) -> AsyncIterator[Sequence[Any]]:
        """The rows that ``select`` finds, in pages of that length.

        Its first column must be the username, of which it finds those behind ``:after``.
        """
        after = ""
        query = f"{select} ORDER BY username LIMIT {length}"
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
    connection.execute(TRIGGER)
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
    return fetched(connection, query, {"after": after})


def _read(connection: sqlite3.Connection, username: str) -> Enrolment | None:
    rows = fetched(connection, f"{_SELECT} WHERE username = :username", {"username": username})
    return _enrolment(rows[0]) if rows else None


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


def _counts_and_waiting(connection: sqlite3.Connection, most: int) -> tuple[Counts, WaitingUsers | None]:
    connection.execute("BEGIN")  # one moment for all queries
    try:
        return _counts(connection), users_waiting(connection, most)
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


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


def _put_with_stamp(
    connection: sqlite3.Connection, puts: Sequence[tuple[Enrolment, str | None, Mapping[str, str]]], put: Work
) -> tuple[Mapping[str, str], Sequence[WriteResult | RowUnreadable] | None]:
    """Write rows with ``put``, and the stamp; return the stamp that was there, and ``None`` if it is another one."""
    stamp = puts[0][2]
    found = dict(connection.execute("SELECT name, value FROM stamp"))
    (has_users,) = connection.execute("SELECT EXISTS (SELECT 1 FROM users)").fetchone()
    if has_users and any(found.get(name, value) != value for name, value in stamp.items()):
        return found, None
    answers = put(connection, [(row, replaces) for row, replaces, _ in puts])
    if any(isinstance(answer, Written) for answer in answers):
        connection.executemany("INSERT OR REPLACE INTO stamp VALUES (?, ?)", list(stamp.items()))
    return found, answers


def _forget(connection: sqlite3.Connection, names: Sequence[str]) -> Sequence[None]:
    connection.executemany("DELETE FROM stamp WHERE name = ?", [(name,) for name in names])
    return [None] * len(names)


def _restamp(connection: sqlite3.Connection, changes: Sequence[tuple[str, str, str]]) -> Sequence[bool]:
    change = "UPDATE stamp SET value = ? WHERE name = ? AND value = ?"
    return [connection.execute(change, (after, name, before)).rowcount == 1 for name, after, before in changes]


def _note(connection: sqlite3.Connection, notes: Sequence[tuple[str, str | None, str | None]]) -> Sequence[bool]:
    done = []
    for name, value, instead_of in notes:
        found = connection.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        done.append((found[0] if found else None) == instead_of)
        if done[-1] and value is None:
            connection.execute("DELETE FROM notes WHERE name = ?", (name,))
        elif done[-1]:
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))
    return done


# --- a row as columns, and back ---------------------------------------------------------------------------------------


def _values(row: Enrolment, replaces: str | None) -> tuple[Any, ...]:
    """The values of ``_COLUMNS`` for this row."""
    sealed = row.sealed
    values = (
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
        before_of(row),
        row.request_id,
        kind_of(row),
        json.dumps(row.settled.dump()),
        *(
            (sealed.generation, sealed.attempt_id, sealed.associated_at, sealed.session_expires_at, sealed.blob)
            if sealed
            else (None, None, None, None, None)
        ),
        row.detail,
        _packed(row.activation),
        history.dump(row.events) if row.events else None,
        _dump_digest(sealed),
    )
    return (*values, checksum(values), replaces)


def _enrolment(row: Sequence[Any]) -> Enrolment:
    """The row with these values of ``_COLUMNS``, without the last one. Raises ``RowUnreadable``, ``RowDamaged``."""
    _refuse_damaged(row)
    return readable(row[0], row, _converted)


def _say_damaged(username: str, sealed: Sealed) -> None:
    """The core gives the secret up (``rules.damaged``); here somebody is told about the disk."""
    if sealed.blob and not is_whole(sealed):
        log.warning(
            "record_damaged",
            username=username,
            cause="the sealed record in the ledger is not what was written, so it is not delivered",
            cure="look after the disk; the user needs a new sign-in, unless a ticket or a password lives",
        )


def _refuse_damaged(row: Sequence[Any]) -> None:
    if is_damaged(row[:_CHECKSUM], row[_CHECKSUM]):
        raise RowDamaged(str(row[0]), str(row[1]))


def _converted(row: Sequence[Any]) -> Enrolment:
    sealed = None
    if row[15] is not None:
        sealed = Sealed(row[14], row[15], row[16], row[18], row[17], load_digest(row[22], row[14], row[18]))
        _say_damaged(row[0], sealed)
    before, before_reason = read_before(row[10])
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
        before=before,
        before_reason=before_reason,
        request_id=row[11],
        kind=read_kind(row[12]),
        settled=load_settled(json.loads(row[13])),
        sealed=sealed,
        detail=row[19],
        activation=_unpacked(row[20]) if row[20] is not None else None,
        events=history.load_text(row[21]),
    )


def _dump_digest(sealed: Sealed | None) -> bytes | None:
    """``Sealed.digest`` as a value, behind the generation to which it belongs (8 bytes)."""
    if sealed is None or not sealed.digest:
        return None
    return sealed.generation.to_bytes(_GENERATION, "big") + bytes.fromhex(sealed.digest)


def load_digest(value: bytes | None, generation: int, blob: bytes | None) -> str:
    """``Sealed.digest`` of the secret of that generation, from the columns ``digest`` and ``blob``.

    A worker of an earlier version that writes another secret leaves the digest of the one before; that is not it. What
    was stored counts before what the record is now: a disk may have changed it.
    """
    if value is not None and int.from_bytes(value[:_GENERATION], "big") == generation:
        return value[_GENERATION:].hex()
    return digest_of(blob) if blob else ""


def _packed(activation: Activation | None) -> bytes | None:
    """One value: the plain fields as a line of JSON, then the age file."""
    return activation and json.dumps(activation[1:]).encode() + b"\n" + activation.blob


def _unpacked(value: bytes) -> Activation:
    line, _, blob = value.partition(b"\n")
    kind, expires_at, *flags = json.loads(line)
    return Activation(blob, CredentialKind(kind), expires_at, *flags)
