"""Which messages of the embedded queue a worker gets next: the SQL behind ``lease`` and ``lease_expired``.

Every search seeks its place in an index by deadline, so whatever lies before or behind it costs nothing: thirty
thousand dead requests do not delay a live one.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from math import inf

from worker.adapters.queues.sqlite import wave
from worker.adapters.queues.sqlite.messages import MAY_BE_LEASED, Found, Viewer
from worker.core.outlook import Outlook

WINDOW = 2000
"""Messages that one search for dead requests looks at: some 5 ms. Dead requests of users who have another one that
lives stay on the queue; without this bound every search would look at all of them again."""
BUCKETS = 720
"""Into so many spans of deadlines ``deadlines`` divides an hour; whoever dies later is counted by the hour."""

NEVER = 1e300
"""UTC seconds later than any deadline; SQLite's shell knows no infinity."""

Position = tuple[float, int]
"""Deadline and id: where a message stands in the order."""
BEGINNING: Position = (-inf, 0)


_OTHERS = "EXISTS (SELECT 1 FROM main.messages o WHERE o.username = m.username AND o.id <> m.id)"
"""Whether the user of the message ``m`` has others. An index answers it in one step."""
_BETWEEN = (
    f"SELECT m.id, m.username, m.body, m.deadline, {_OTHERS} FROM messages m INDEXED BY by_deadline "  # noqa: S608
    f"WHERE {MAY_BE_LEASED} AND m.deadline > :after AND m.deadline <= :up_to "
)
_EARLIEST_FIRST = _BETWEEN + "ORDER BY m.deadline, m.id LIMIT :most"
_LATEST_FIRST = _BETWEEN + "ORDER BY m.deadline DESC, m.id DESC LIMIT :most"
_NEXT = (
    f"SELECT m.id, m.username, m.body, m.deadline, {_OTHERS} FROM messages m "  # noqa: S608
    f"WHERE m.id BETWEEN :low AND :high AND m.deadline > :now AND {MAY_BE_LEASED} ORDER BY m.id LIMIT 1"
)
_EXPIRED = (
    f"SELECT m.id, m.username, CASE WHEN {MAY_BE_LEASED} AND NOT EXISTS (SELECT 1 FROM messages l "  # noqa: S608
    f"INDEXED BY by_user WHERE l.username = m.username AND l.deadline > :dead) THEN m.body END, m.deadline, {_OTHERS} "
    "FROM messages m INDEXED BY by_deadline WHERE (m.deadline, m.id) > (:deadline, :id) AND m.deadline <= :dead "
    "ORDER BY m.deadline, m.id LIMIT :window"
)

_FIRST_DEADLINE = "SELECT min(deadline) FROM messages INDEXED BY by_deadline WHERE deadline > ?"
_DEADLINES = "SELECT max(deadline), count(*) FROM messages INDEXED BY by_deadline WHERE deadline BETWEEN ? AND ?"


def to_call(
    connection: sqlite3.Connection, viewer: Viewer, outlook: Outlook, *, most: int, at_once: int, passed_over: int
) -> Sequence[Found]:
    """Up to ``most`` messages that can still make it, earliest deadline first, then up to ``passed_over`` others.

    ``at_once`` of them are handed out now. The others wait here for their turn, so they must live for longer. Those
    passed over come only where fewer than ``at_once`` were found, and the latest deadline first.
    """
    found: list[Found] = []
    users: set[str] = set()
    after, missing = outlook.passed_over_up_to, 0
    while len(found) < most:
        wanted = most - len(found)
        rows = _between(connection, viewer, after, inf, wanted)
        for row in rows:
            if row.deadline <= (after := outlook.passed_over_in_turn(max(0, len(found) + 1 - at_once))):
                break  # it dies while it waits for its turn; seek the first one that does not
            if row.username not in users:
                users.add(row.username)
                found.append(row)
        else:
            missing = min(at_once - len(found), passed_over) if len(rows) < wanted else 0
            break
    if missing > 0 and outlook.passed_over_up_to > outlook.too_late_up_to:
        for row in _between(
            connection, viewer, outlook.too_late_up_to, outlook.passed_over_up_to, missing, latest_first=True
        ):
            if row.username not in users:
                users.add(row.username)
                found.append(row)
    return found


def expired(
    connection: sqlite3.Connection, viewer: Viewer, after: Position, now: float, most: int
) -> tuple[Sequence[Found], Position]:
    """Up to ``most`` messages that are dead ``now``, of users without one that lives, and where to go on searching.

    From the position ``after`` on. Where the search came to its end, it goes on from the ``BEGINNING``.
    """
    if viewer.wave:
        rows = [row for row in wave.visible(connection, viewer, -inf, now, most) if not _has_live(connection, row, now)]
        return rows, BEGINNING
    found: dict[str, Found] = {}
    looked_at = 0
    window = {"dead": now, "deadline": after[0], "id": after[1], "window": WINDOW}
    for row in connection.execute(_EXPIRED, {**viewer.names(), **window}):
        looked_at += 1
        one = Found(*row)
        after = (one.deadline, one.id)
        if one.body is not None:
            found.setdefault(one.username, one)
            if len(found) == most:
                return list(found.values()), after
    return list(found.values()), after if looked_at == WINDOW else BEGINNING


def others(connection: sqlite3.Connection, viewer: Viewer, username: str, most: int) -> Sequence[Found]:
    """Up to ``most`` messages of one user that nobody holds, in the order of an index: it looks at nobody else's."""
    rows = connection.execute(
        "SELECT id, username, body, deadline, 1 FROM messages WHERE username = :username AND (holder IS NULL OR "
        "holder <> :holder AND (visible_at <= :now OR visible_at > :latest)) LIMIT :most",
        {**viewer.names(), "username": username, "most": most},
    )
    return [Found(*row) for row in rows]


def sample(connection: sqlite3.Connection, viewer: Viewer, most: int) -> Sequence[Found]:
    """Messages of living credentials, each the next one after a random id.

    Each is looked for by itself, because messages that were pushed together may have something in common.
    """
    if viewer.wave:
        return wave.sample(connection, viewer, most)
    first, last = connection.execute("SELECT min(id), max(id) FROM messages").fetchone()
    if last is None:
        return []
    found: dict[str, Found] = {}
    for _ in range(most):
        start = random.randint(first, last)  # noqa: S311 - a sample, not a key
        for low, high in ((start, last), (first, start - 1)):
            row = connection.execute(_NEXT, {**viewer.names(), "low": low, "high": high}).fetchone()
            if row is not None:
                found.setdefault(row[1], Found(*row))
                break
    return list(found.values())


def _has_live(connection: sqlite3.Connection, row: Found, now: float) -> bool:
    (found,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM messages INDEXED BY by_user WHERE deadline > ? AND username = ?)",
        (now, row.username),
    ).fetchone()
    return bool(found)


def any_expired(connection: sqlite3.Connection, now: float) -> bool:
    """Whether any message is dead ``now``, whoever has it."""
    (found,) = connection.execute("SELECT EXISTS (SELECT 1 FROM messages WHERE deadline <= ?)", (now,)).fetchone()
    return bool(found)


def _between(
    connection: sqlite3.Connection,
    viewer: Viewer,
    after: float,
    up_to: float,
    most: int,
    *,
    latest_first: bool = False,
) -> Sequence[Found]:
    """Up to ``most`` messages whose deadline is later than ``after``, and not later than ``up_to``."""
    if viewer.wave:
        return wave.visible(connection, viewer, after, up_to, most, latest_first=latest_first)
    arguments = {**viewer.names(), "after": max(after, -NEVER), "up_to": min(up_to, NEVER), "most": most}
    return [Found(*row) for row in connection.execute(_LATEST_FIRST if latest_first else _EARLIEST_FIRST, arguments)]


def deadlines(connection: sqlite3.Connection, now: float) -> Sequence[tuple[float, int]]:
    """Pairs of a bucket's latest deadline and its number of messages, those dead ``now`` left out."""
    # Bucket by bucket along the index: a GROUP BY would sort all messages in memory.
    width = 3600.0 / BUCKETS
    found: list[tuple[float, int]] = []
    latest = now
    while True:
        (first,) = connection.execute(_FIRST_DEADLINE, (latest,)).fetchone()
        if first is None:
            return found
        number = int(min((first - now) / width, BUCKETS))
        end = now + (number + 1) * width if number < BUCKETS else NEVER
        latest, messages = connection.execute(_DEADLINES, (first, max(end, first))).fetchone()
        found.append((latest, messages))
