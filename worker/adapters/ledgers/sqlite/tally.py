"""How many users are in each state, kept by the database itself, so that asking does not read a million rows.

Triggers count every finished row in the transaction that writes it, whoever writes it: a process of an earlier version
too, or a person with SQL. Unfinished rows are few and have an index, so they are counted when somebody asks, and of a
user's three writes one is counted (measured: 1 % of the CPU that a user takes).

A worker of an earlier version may write beside us. It takes a statement to have written all its rows if the statement
made as many changes, and SQLite counts the triggers' among them. So a row that another worker has changed meanwhile,
which is not written, makes more changes than any statement has rows; then that worker looks at each row alone.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any

EARLIER_ROWS = 256
"""The most rows that a worker of an earlier version writes in one statement (its ``ThreadBatcher``'s ``most``)."""

_BEGIN = (
    # Finished rows by state, reason and detail; '' stands for NULL.
    """
    CREATE TABLE tally (
        state TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, number INTEGER NOT NULL,
        PRIMARY KEY (state, reason, detail)
    ) WITHOUT ROWID
    """,
    """
    CREATE TRIGGER user_is_finished AFTER INSERT ON users WHEN NEW.state NOT IN ('in_progress', 'sealed') BEGIN
        INSERT INTO tally VALUES (NEW.state, coalesce(NEW.reason, ''), coalesce(NEW.detail, ''), 1)
        ON CONFLICT DO UPDATE SET number = number + 1;
    END
    """,
    """
    CREATE TRIGGER user_has_changed AFTER UPDATE ON users
    WHEN (OLD.state NOT IN ('in_progress', 'sealed') OR NEW.state NOT IN ('in_progress', 'sealed'))
        AND (OLD.state, OLD.reason, OLD.detail) IS NOT (NEW.state, NEW.reason, NEW.detail)
    BEGIN
        UPDATE tally SET number = number - 1
        WHERE OLD.state NOT IN ('in_progress', 'sealed')
            AND state = OLD.state AND reason = coalesce(OLD.reason, '') AND detail = coalesce(OLD.detail, '');
        INSERT INTO tally SELECT NEW.state, coalesce(NEW.reason, ''), coalesce(NEW.detail, ''), 1
        WHERE NEW.state NOT IN ('in_progress', 'sealed')
        ON CONFLICT DO UPDATE SET number = number + 1;
    END
    """,
    """
    CREATE TRIGGER user_is_gone AFTER DELETE ON users WHEN OLD.state NOT IN ('in_progress', 'sealed') BEGIN
        UPDATE tally SET number = number - 1
        WHERE state = OLD.state AND reason = coalesce(OLD.reason, '') AND detail = coalesce(OLD.detail, '');
    END
    """,
    "CREATE TABLE late_writes (number INTEGER PRIMARY KEY)",
    f"""
    INSERT INTO late_writes WITH RECURSIVE numbers (number) AS (
        VALUES (0) UNION ALL SELECT number + 1 FROM numbers WHERE number < {EARLIER_ROWS}
    ) SELECT number FROM numbers
    """,  # noqa: S608 - our own number
    """
    CREATE TRIGGER user_was_changed_meanwhile BEFORE INSERT ON users
    WHEN EXISTS (SELECT 1 FROM users WHERE username = NEW.username AND version IS NOT NEW.replaces) BEGIN
        UPDATE late_writes SET number = number;
    END
    """,
    # Users on the roster who have no row.
    """
    INSERT OR REPLACE INTO counters SELECT 'unrequested', count(*) FROM roster
    WHERE NOT EXISTS (SELECT 1 FROM users WHERE users.username = roster.username)
    """,
    """
    CREATE TRIGGER user_was_requested AFTER INSERT ON users
    WHEN EXISTS (SELECT 1 FROM roster WHERE username = NEW.username) BEGIN
        UPDATE counters SET value = value - 1 WHERE name = 'unrequested';
    END
    """,
    """
    CREATE TRIGGER roster_has_grown AFTER INSERT ON roster
    WHEN NOT EXISTS (SELECT 1 FROM users WHERE username = NEW.username) BEGIN
        UPDATE counters SET value = value + 1 WHERE name = 'unrequested';
    END
    """,
)
_FINISHED = """
SELECT state, coalesce(reason, ''), coalesce(detail, '') FROM users WHERE state NOT IN ('in_progress', 'sealed')
"""
_COUNT = """
SELECT state, reason, detail, number FROM tally WHERE number > 0
UNION ALL
SELECT state, reason, detail, count(*) FROM users INDEXED BY unfinished
WHERE state IN ('in_progress', 'sealed') GROUP BY state, reason, detail
"""


def begin(connection: sqlite3.Connection, asked: Sequence[object]) -> Sequence[None]:
    """Begin to count, in a ledger that does not yet; its rows are counted once (a second for a million)."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'tally'").fetchone():
        finished = _finished(connection)
        for statement in _BEGIN:
            connection.execute(statement)
        _insert(connection, finished)
    return [None] * len(asked)


def count_again(connection: sqlite3.Connection, asked: Sequence[object]) -> Sequence[None]:
    """Count all rows anew, whatever the numbers are."""
    connection.execute("DELETE FROM tally")
    _insert(connection, _finished(connection))
    return [None] * len(asked)


def is_right(connection: sqlite3.Connection) -> bool:
    """Whether the numbers are those of the rows, at one moment; as slow as counting them."""
    connection.execute("BEGIN")
    try:
        kept = {tuple(by): number for *by, number in connection.execute("SELECT * FROM tally WHERE number <> 0")}
        return kept == _finished(connection)
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def _finished(connection: sqlite3.Connection) -> Counter[tuple[str, str, str]]:
    return Counter(connection.execute(_FINISHED))  # here, since a GROUP BY would sort all rows in memory


def _insert(connection: sqlite3.Connection, finished: Counter[tuple[str, str, str]]) -> None:
    connection.executemany("INSERT INTO tally VALUES (?, ?, ?, ?)", ((*by, n) for by, n in finished.items()))


def count(connection: sqlite3.Connection) -> Sequence[Sequence[Any]]:
    """The number of users, last, for each state, reason and detail ('' or ``None``: without)."""
    return connection.execute(_COUNT).fetchall()


def unrequested(connection: sqlite3.Connection) -> int:
    """How many users of the roster have no row."""
    (number,) = connection.execute("SELECT value FROM counters WHERE name = 'unrequested'").fetchone()
    return int(number)
