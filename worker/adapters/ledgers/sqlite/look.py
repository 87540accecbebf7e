"""Looks at the file of an embedded ledger before it is opened for work: nothing is created, and nothing is changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from worker.adapters.private_files import look_private
from worker.adapters.sqlite.matching_log import refuse_another_log
from worker.core.errors import UsageError
from worker.core.ports import Found
from worker.core.resilience.backoff import Backoff, retry_in_thread

PATIENCE = 15.0
"""Seconds to wait for another process that is just making the file; as long as ``adapters.sqlite.database`` does."""
BACKOFF = Backoff(first=0.01, longest=0.01)
"""The pause between two looks meanwhile."""
_LEDGER = {"users", "stamp"}
"""Tables that every ledger has."""
_QUEUE = {"messages", "put_aside"}
"""Tables that every queue has, which may be in the same file."""
_BEGUN = {"users", "counters"}
"""Tables that a file may have alone for a moment, while another process makes a ledger in it."""
_UNREADABLE = Found(exists=True, has_users=True)
"""For a file that cannot be read: opening it says why, and nothing is begun in it."""


def look(path: Path) -> Found:
    """Return what is at ``path``; an empty file is none.

    Raises ``UsageError`` for what is no file of ours, such as a folder, a link, or a database of another program, and
    ``PersonMustAct`` for a ledger beside another one's write-ahead log.
    """
    try:
        found = look_private(path, what="the ledger")
        refuse_another_log(path, "the ledger")
    except OSError:
        return _UNREADABLE
    if found is None or not found.st_size:
        return Found()
    try:
        return retry_in_thread(lambda: _look(path), on=_is_busy, backoff=BACKOFF, patience=PATIENCE)
    except (sqlite3.Error, UnicodeDecodeError):
        return _UNREADABLE


def _look(path: Path) -> Found:
    # ``mode=rw`` makes no file. Read-only would be too little: the write-ahead log of a killed worker is read too.
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if not tables:
            return Found()
        if not (tables >= _LEDGER or tables >= _QUEUE or tables <= _BEGUN):
            raise UsageError(
                f"{path} is no ledger: it is the SQLite file of another program",
                "correct ledger.path (and queue.path); a new file is made where there is none",
            )
        if not tables >= _LEDGER:
            return Found()
        (has_users,) = connection.execute("SELECT EXISTS (SELECT 1 FROM users)").fetchone()
        stamp = dict(connection.execute("SELECT name, value FROM stamp"))
        notes = dict(connection.execute("SELECT name, value FROM notes")) if "notes" in tables else {}
        return Found(exists=True, has_users=bool(has_users), stamp=stamp, notes=notes)


def _is_busy(error: BaseException) -> bool:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return isinstance(error, sqlite3.OperationalError) and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
