"""A wave: the messages of some chosen users only, found without reading those of the others, however many there are.

The usernames and the ids of their messages are kept in temporary tables of the writing connection, so no other process
sees them. Messages that are pushed later have higher ids, because SQLite never uses an id twice (AUTOINCREMENT); so
each search for new messages only looks at ids above the last one seen.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

_SCHEMA = (
    "CREATE TEMP TABLE IF NOT EXISTS wave_users (username TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TEMP TABLE IF NOT EXISTS wave (deadline REAL, id INTEGER, PRIMARY KEY (deadline, id)) WITHOUT ROWID",
    "CREATE TEMP TABLE IF NOT EXISTS wave_seen (id INTEGER)",
)


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
    connection: sqlite3.Connection, most: int, holder: str, now: float, latest: float
) -> Sequence[tuple[int, str, bytes, int]]:
    """Up to ``most`` messages that may be leased (id, username, body, 1), earliest deadline first.

    A message is hidden until its ``visible_at``; a value later than ``latest`` can only come from a wrong clock, so the
    message counts as visible. Messages of users of whom somebody has leased another one are left out.
    """
    _find_new_messages(connection)
    held = {
        username
        for (username,) in connection.execute(
            "SELECT username FROM main.messages WHERE holder IS NOT NULL "
            "AND (holder = ? OR visible_at > ? AND visible_at <= ?)",
            (holder, now, latest),
        )
    }
    found: list[tuple[int, str, bytes, int]] = []
    deleted: list[tuple[float, int]] = []
    for deadline, id_, username, body, is_visible in connection.execute(
        "SELECT deadline, id, username, body, (visible_at <= ? OR visible_at > ?) AND holder IS NOT ? FROM "
        "(SELECT w.deadline, w.id, m.username, m.body, m.visible_at, m.holder "
        "FROM temp.wave w LEFT JOIN main.messages m ON m.id = w.id ORDER BY w.deadline, w.id)",
        (now, latest, holder),
    ):
        if body is None:
            deleted.append((deadline, id_))
        elif is_visible and username not in held:
            found.append((id_, username, body, 1))
            held.add(username)
            if len(found) == most:
                break
    connection.executemany("DELETE FROM temp.wave WHERE deadline = ? AND id = ?", deleted)
    return found


def sample(
    connection: sqlite3.Connection, most: int, holder: str, now: float, latest: float
) -> Sequence[tuple[int, str, bytes, int]]:
    """Like ``visible``, but from anywhere in the wave, and only messages of credentials that are not dead."""
    _find_new_messages(connection)
    return connection.execute(
        "SELECT m.id, m.username, m.body, 1 FROM temp.wave w CROSS JOIN main.messages m ON m.id = w.id "
        "WHERE w.deadline > ? AND (m.visible_at <= ? OR m.visible_at > ?) AND m.holder IS NOT ? "
        "AND m.username NOT IN (SELECT username FROM main.messages WHERE holder IS NOT NULL "
        "AND (holder = ? OR visible_at > ? AND visible_at <= ?)) ORDER BY random() LIMIT ?",
        (now, now, latest, holder, holder, now, latest, most),
    ).fetchall()


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
