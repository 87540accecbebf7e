"""Which messages of the embedded queue a worker gets next: the SQL behind ``lease`` and ``lease_expired``.

Every search seeks its place in an index by deadline, so whatever lies before or behind it costs nothing: thirty
thousand dead requests do not delay a live one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from math import inf

from worker.adapters.queues.sqlite import wave
from worker.adapters.queues.sqlite.messages import Found, Viewer
from worker.core.outlook import Outlook

WINDOW = 2000
"""Messages that one search for dead requests looks at: some 5 ms. Dead requests of users who have another one that
lives stay on the queue; without this bound every search would look at all of them again."""
BUCKETS = 200
"""Into so many spans of deadlines ``deadlines`` divides an hour; whoever dies later is counted by the hour."""

Position = tuple[float, int]
"""Deadline and id: where a message stands in the order."""
BEGINNING: Position = (-inf, 0)


_BETWEEN = (
    "SELECT id, body, deadline FROM messages INDEXED BY by_deadline "
    "WHERE (visible_at <= ? OR visible_at > ?) AND holder IS NOT ? AND deadline > ? AND deadline <= ? "
)
_EARLIEST_FIRST = _BETWEEN + "ORDER BY deadline, id LIMIT ?"
_LATEST_FIRST = _BETWEEN + "ORDER BY deadline DESC, id DESC LIMIT ?"


def to_call(
    connection: sqlite3.Connection, viewer: Viewer, outlook: Outlook, *, most: int, at_once: int, late: int
) -> Sequence[Found]:
    """Up to ``most`` messages that can still make it, earliest deadline first, then up to ``late`` that hardly can.

    ``at_once`` of them are handed out now. The others wait here for their turn, so they must live for longer. The late
    ones come only where fewer than ``at_once`` were found, and the latest deadline first.
    """
    found: list[Found] = []
    after = outlook.late
    while len(found) < most:
        wanted = most - len(found)
        rows = _between(connection, viewer, after, inf, wanted)
        for row in rows:
            if row.deadline <= (after := outlook.late_as(max(0, len(found) + 1 - at_once))):
                break  # it dies while it waits for its turn; seek the first one that does not
            found.append(row)
        else:
            if len(rows) < wanted:
                break
    if missing := min(at_once - len(found), late):
        found += _between(connection, viewer, outlook.hopeless, outlook.late, missing, latest_first=True)
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
    found: list[Found] = []
    window = connection.execute(
        "SELECT deadline, id, CASE "
        "WHEN (visible_at <= :now OR visible_at > :latest) AND holder IS NOT :holder AND NOT EXISTS "
        "(SELECT 1 FROM messages live INDEXED BY by_user WHERE username = dead.username AND deadline > :dead) "
        "THEN body END FROM messages dead INDEXED BY by_deadline "
        "WHERE (deadline, id) > (:deadline, :id) AND deadline <= :dead ORDER BY deadline, id LIMIT :window",
        {
            "now": viewer.now,
            "latest": viewer.latest,
            "holder": viewer.holder,
            "dead": now,
            "deadline": after[0],
            "id": after[1],
            "window": WINDOW,
        },
    )
    looked_at = 0
    for deadline, id_, body in window:
        looked_at += 1
        after = (deadline, id_)
        if body is not None:
            found.append(Found(id_, body, deadline))
            if len(found) == most:
                return found, after
    return found, after if looked_at == WINDOW else BEGINNING


def _has_live(connection: sqlite3.Connection, row: Found, now: float) -> bool:
    (found,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM messages INDEXED BY by_user WHERE deadline > ? "
        "AND username = (SELECT username FROM messages WHERE id = ?))",
        (now, row.id),
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
    arguments = (viewer.now, viewer.latest, viewer.holder, after, up_to, most)
    return [Found(*row) for row in connection.execute(_LATEST_FIRST if latest_first else _EARLIEST_FIRST, arguments)]


def deadlines(connection: sqlite3.Connection, now: float) -> Sequence[tuple[float, int]]:
    """Pairs of a bucket's latest deadline and its number of messages, those dead ``now`` left out."""
    width = 3600.0 / BUCKETS
    rows = connection.execute(
        "SELECT min(CAST((deadline - ?1) / ?2 AS INTEGER), ?3) AS bucket, max(deadline), count(*) "
        "FROM messages INDEXED BY by_deadline WHERE deadline > ?1 GROUP BY bucket ORDER BY bucket",
        (now, width, BUCKETS),
    )
    return [(latest, number) for _, latest, number in rows]
