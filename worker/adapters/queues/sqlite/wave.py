"""A wave: the messages of some chosen users only, found without reading those of the others, however many there are.

The usernames and the ids of their messages are kept in temporary tables of the writing connection, so no other process
sees them. Messages that are pushed later have higher ids, because SQLite never uses an id twice (AUTOINCREMENT); so
each search for new messages only looks at ids above the last one seen.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

from worker.adapters.queues.sqlite.messages import MAY_BE_LEASED, Found, Viewer

_SCHEMA = (
    "CREATE TEMP TABLE IF NOT EXISTS wave_users (username TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TEMP TABLE IF NOT EXISTS wave (deadline REAL, id INTEGER, PRIMARY KEY (deadline, id)) WITHOUT ROWID",
    "CREATE TEMP TABLE IF NOT EXISTS wave_seen (id INTEGER)",
)
_BETWEEN = (
    "SELECT w.deadline, w.id, m.username, m.body, (m.visible_at <= ? OR m.visible_at > ?) AND m.holder IS NOT ? "
    "FROM temp.wave w LEFT JOIN main.messages m ON m.id = w.id WHERE w.deadline > ? AND w.deadline <= ? "
)
_EARLIEST_FIRST = _BETWEEN + "ORDER BY w.deadline, w.id"
_LATEST_FIRST = _BETWEEN + "ORDER BY w.deadline DESC, w.id DESC"


def begin(connection: sqlite3.Connection, waves: Sequence[Collection[str]]) -> Sequence[None]:
    """Remember the usernames, and find their waiting messages."""
    for statement in _SCHEMA:
        connection.execute(statement)
    for usernames in waves:
        connection.executemany("INSERT OR IGNORE INTO temp.wave_users VALUES (?)", ((name,) for name in usernames))
    connection.execute("DELETE FROM temp.wave_seen")
    connection.execute("INSERT INTO temp.wave_seen SELECT ifnull(max(id), 0) FROM main.messages")
    connection.execute(
        "INSERT OR IGNORE INTO temp.wave SELECT deadline, id FROM temp.wave_users CROSS JOIN main.messages "
        "USING (username)"
    )
    return [None] * len(waves)


def visible(
    connection: sqlite3.Connection,
    viewer: Viewer,
    after: float,
    up_to: float,
    most: int,
    *,
    latest_first: bool = False,
) -> Sequence[Found]:
    """Up to ``most`` messages that may be leased, whose deadline is later than ``after``, and not later than ``up_to``.

    The earliest deadline comes first, or the latest. Messages of users of whom somebody has leased another one are left
    out.
    """
    _find_new_messages(connection)
    held = {
        username
        for (username,) in connection.execute(
            "SELECT username FROM main.messages WHERE holder IS NOT NULL "
            "AND (holder = ? OR visible_at > ? AND visible_at <= ?)",
            (viewer.holder, viewer.now, viewer.latest),
        )
    }
    found: list[Found] = []
    deleted: list[tuple[float, int]] = []
    for deadline, id_, username, body, is_visible in connection.execute(
        _LATEST_FIRST if latest_first else _EARLIEST_FIRST,
        (viewer.now, viewer.latest, viewer.holder, after, up_to),
    ):
        if body is None:
            deleted.append((deadline, id_))
        elif is_visible and username not in held:
            found.append(Found(id_, username, body, deadline, 1))
            held.add(username)
            if len(found) == most:
                break
    connection.executemany("DELETE FROM temp.wave WHERE deadline = ? AND id = ?", deleted)
    return found


def sample(connection: sqlite3.Connection, viewer: Viewer, most: int) -> Sequence[Found]:
    """Like ``visible``, but from anywhere in the wave, and only messages of credentials that are not dead."""
    _find_new_messages(connection)
    rows = connection.execute(
        "SELECT m.id, m.username, m.body, m.deadline, 1 FROM temp.wave w CROSS JOIN main.messages m ON m.id = w.id "  # noqa: S608
        f"WHERE w.deadline > :now AND {MAY_BE_LEASED} ORDER BY random() LIMIT :most",
        {**viewer.names(), "most": most},
    )
    return [Found(*row) for row in rows]


def correct(connection: sqlite3.Connection, id_: int, known: float, right: float) -> None:
    """Note that a message's deadline is another one than was known (UTC seconds)."""
    connection.execute("DELETE FROM temp.wave WHERE deadline = ? AND id = ?", (known, id_))
    connection.execute("INSERT OR IGNORE INTO temp.wave VALUES (?, ?)", (right, id_))


def any_left(connection: sqlite3.Connection, asked: Sequence[object]) -> Sequence[bool]:
    """Whether any message of these users is left, leased ones included."""
    _find_new_messages(connection)
    (left,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM temp.wave w CROSS JOIN main.messages m ON m.id = w.id)"
    ).fetchone()
    return [bool(left)] * len(asked)


def _find_new_messages(connection: sqlite3.Connection) -> None:
    (seen,) = connection.execute("SELECT id FROM temp.wave_seen").fetchone()
    (last,) = connection.execute("SELECT ifnull(max(id), 0) FROM main.messages").fetchone()
    if last > seen:
        connection.execute(
            "INSERT OR IGNORE INTO temp.wave SELECT deadline, id FROM main.messages "
            "WHERE id > ? AND username IN (SELECT username FROM temp.wave_users)",
            (seen,),
        )
        connection.execute("UPDATE temp.wave_seen SET id = ?", (last,))
