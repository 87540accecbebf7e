"""Who waits on an embedded queue, by what an embedded ledger in the same file has of them.

A user may wait with several requests, and may have a row already, so messages and rows cannot simply be added up.
"""

from __future__ import annotations

import sqlite3

from worker.core.ports import WaitingUsers

_HAS_QUEUE = "SELECT 1 FROM sqlite_schema WHERE name = 'messages'"
_MESSAGES = "SELECT count(*) FROM messages"
_UNFINISHED = """
SELECT count(*), coalesce(sum(messages), 0) FROM (
    SELECT (SELECT count(*) FROM messages m INDEXED BY by_user WHERE m.username = u.username) AS messages FROM (
        SELECT username FROM users INDEXED BY unfinished WHERE state IN ('in_progress', 'sealed')
        UNION ALL
        SELECT username FROM users INDEXED BY activation_pending
        WHERE reason = 'activation_pending' AND state NOT IN ('in_progress', 'sealed')
    ) u
) WHERE messages > 0
"""
"""The unfinished users for whom messages wait, and how many those are: by the ledger's indexes of the few of them."""
_USERS = """
WITH waiting AS (SELECT DISTINCT username FROM messages INDEXED BY by_user)
SELECT
    coalesce(sum(u.username IS NULL), 0),
    coalesce(sum(u.state IN ('in_progress', 'sealed') OR u.reason IS 'activation_pending'), 0),
    coalesce(sum(u.state IN ('needs_session', 'failed') OR u.state = 'delivered' AND u.reason IS NOT NULL
        AND u.reason IS NOT 'activation_pending'), 0),
    count(*),
    coalesce(sum(u.username IS NULL AND EXISTS (SELECT 1 FROM roster r WHERE r.username = w.username)), 0)
FROM waiting w LEFT JOIN users u ON u.username = w.username
"""
"""Every user who waits, once: in the order of both tables, so that a page is read once."""


def users_waiting(connection: sqlite3.Connection, most: int) -> WaitingUsers | None:
    """Return who waits; ``None`` where the file holds no queue.

    ``most``: of more messages only those of unfinished users are looked at.
    """
    if connection.execute(_HAS_QUEUE).fetchone() is None:
        return None
    (messages,) = connection.execute(_MESSAGES).fetchone()
    if messages <= most:
        new, unfinished, again, users, on_roster = connection.execute(_USERS).fetchone()
        return WaitingUsers(messages, new, unfinished, again, users - new - unfinished - again, on_roster)
    unfinished, theirs = connection.execute(_UNFINISHED).fetchone()
    return WaitingUsers(messages, messages - theirs, unfinished, are_exact=False)
