"""Erases what was deleted also from the write-ahead log, while the database stays open.

``secure_delete`` overwrites what is deleted, but in the log's newest pages first: the database file, and older parts of
the log, still hold used credentials until a checkpoint has copied those pages and has emptied the log. SQLite itself
checkpoints after 1,000 pages, and never empties the log before the last process closes it. So somebody has to: soon
after the last write, and now and then under load. A checkpoint cannot empty the log while another process reads (an
export, a backup, a forgotten ``sqlite3`` shell); it is then tried again.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import structlog

from worker.core.errors import WorkerError

log = structlog.get_logger()

PERIOD = 1.0
"""Seconds between two looks at the log. Where nothing was written in between, it is emptied."""
LONGEST = 10.0
"""Seconds after which the log is emptied although writes go on. Emptying waits for the disk three times, which beside
the commits of ten seconds cannot be measured."""
WORTH_SAYING = 60.0
"""Seconds for which emptying may fail until it is said: longer than any command of ours reads."""
WAIT = 20
"""Milliseconds that emptying waits for other processes in one try. Nobody can write meanwhile, so it is short."""


def empty_log(connection: sqlite3.Connection) -> bool:
    """Copy the write-ahead log into the database, and cut it to nothing; ``False`` if another process is in the way.

    The first checkpoint does most of the work while others write; the second one needs them to wait.
    """
    (before,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {WAIT}")
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {before}")
    return not busy


class Erasing:
    """Looks at the write-ahead log (``path``) again and again, whoever writes to it, and calls ``empty``."""

    def __init__(self, path: Path, empty: Callable[[], Awaitable[bool]]) -> None:
        self._path = path
        self._empty = empty
        self._written = 0
        """When the log was written to, by its file's time (ns)."""
        self._emptied = time.monotonic()
        """When the log was last seen empty."""
        self._was_said = False

    async def run(self) -> None:
        """Go on until it is cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            await self._look()

    async def _look(self) -> None:
        try:
            found = self._path.stat()
        except OSError:
            return
        now = time.monotonic()
        if found.st_size:
            is_quiet = found.st_mtime_ns == self._written
            self._written = found.st_mtime_ns
            if not is_quiet and now < self._emptied + LONGEST:
                return
            is_empty = False
            with suppress(sqlite3.Error, WorkerError):  # a disk that is full, say: others notice, and say so
                is_empty = await self._empty()
            if not is_empty:
                self._say_late(now)
                return
        self._emptied, self._was_said = time.monotonic(), False

    def _say_late(self, now: float) -> None:
        if now < self._emptied + WORTH_SAYING or self._was_said:
            return
        self._was_said = True
        log.warning(
            "used_requests_not_erased",
            path=str(self._path),
            cause=f"another process has been reading or writing it for {now - self._emptied:.0f} s without a pause",
            cure=f"end it: fuser -v {self._path} lists the processes",
        )
