"""Whether a database is what SQLite wrote: it has no checksums, and notices damage only where it happens to look.

``integrity_check`` reads the whole file: two seconds for a million users and as many messages. So it ends when its
time is up.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
_STEPS = 50_000
"""Instructions of SQLite's machine between two looks at the clock: some milliseconds."""


def within(connection: sqlite3.Connection, seconds: float, look: Callable[[], Result]) -> Result | None:
    """``look()``, which asks the connection; ``None`` if the time was up before. Raises ``sqlite3.Error``."""
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    try:
        return look()
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_INTERRUPT:
            raise
        return None
    finally:
        connection.set_progress_handler(None, 0)


def first_flaw(connection: sqlite3.Connection) -> str | None:
    """What is wrong with the file, in SQLite's words; ``None``: nothing. Raises ``sqlite3.Error``."""
    (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    return None if said == "ok" else str(said).replace("\n", " ")
