"""One SQLite file as the embedded queue and ledger use it: durable, private, and never on the event loop.

All waiting writes share one commit (``synchronous=FULL``), in the order in which they came. Deleted data is overwritten
(``secure_delete``), and the write-ahead log is emptied soon after it was written to (``erasing``), and at the end.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import structlog

from worker.adapters.batching import ThreadBatcher
from worker.adapters.limits import room
from worker.adapters.private_files import close_to_others, sync_folder
from worker.adapters.sqlite.erasing import Erasing, empty_log
from worker.adapters.sqlite.files import SHM, WAL, beside, look
from worker.adapters.sqlite.matching_log import count_commit, refuse_another_log
from worker.adapters.sqlite.reading import is_no_utf8
from worker.adapters.sqlite.soundness import first_flaw, within
from worker.adapters.watched_file import WatchedFile
from worker.core.errors import DependencyUnavailable, LedgerUnavailable, PersonMustAct
from worker.core.resilience.backoff import Backoff, retry_in_thread

log = structlog.get_logger()

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection, Sequence[Any]], Sequence[Any]]
"""Does one kind of write for many items, and returns a result for each; ``Database`` begins and commits the
transaction.
"""

AfterCommit = Callable[[sqlite3.Connection], Exception | None]
"""See ``Database.after_commit``."""

BUSY_TIMEOUT = 15.0
"""Seconds to wait for another process that writes."""
BUSY_TIMEOUT_OF_SQLITE = 20
"""Milliseconds that SQLite itself waits for the lock in one try: it looks after 1, 3, 8 and 18 ms. With a longer
time-out it would look less and less often, and could miss the lock every time other processes write a lot."""
BACKOFF = Backoff(first=0.001, longest=0.001)
"""The pause between two tries: a millisecond, because SQLite has just waited itself."""
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
"""SQLite's codes for a damaged file, or a file of another kind: waiting does not help."""
_BROKEN_SCHEMA = ("no such column", "no such table", "no such index", "no query solution", "malformed database schema")
"""How SQLite's messages begin where a name in the file's own schema is not what it was."""
_BUG = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE}
"""SQLite's codes for mistakes in our statements, which the disk cannot cause; these errors are raised unchanged."""
GONE_CURE = (
    "nobody else is called. Stop all workers, put the file back (with those beside it) or restore a backup, then run "
    "again; never begin with an empty one, it knows who was delivered"
)
"""What to do once a database in use was taken away."""
DAMAGED_CURE = (
    "stop all workers, look after the disk, and restore the newest backup of the file, then: mfa-worker recover. "
    "Without a backup an empty ledger can be recovered from the channel, before any run: docs/operations.md says how"
)
"""What to do about a file that is damaged."""


class Database:
    """A connection for writing and one for reading, each with a thread of its own.

    ``what``: the words for the file in errors.
    """

    def __init__(self, path: Path, what: str = "the ledger") -> None:
        self.path = path
        self._what = what
        self._file = WatchedFile(path, what, GONE_CURE, least=1)
        self._beside = [WatchedFile(Path(f"{path}{suffix}"), f"a file of {what}", GONE_CURE) for suffix in (WAL, SHM)]
        self._writes: ThreadBatcher[tuple[Work, Any], Any] = ThreadBatcher(
            self._write_batch, "sqlite-write", prepare=self._begin
        )
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-read")
        self._writing: sqlite3.Connection | None = None
        self._reading: sqlite3.Connection | None = None
        self._erasing: asyncio.Task[None] | None = None
        self._after_commit: dict[Work, AfterCommit] = {}

    def after_commit(self, work: Work, then: AfterCommit) -> None:
        """Call ``then`` in the writing thread after each commit that did ``work``, before anybody learns of it.

        The exception that it returns, if it does, is raised to whoever waits for that work.
        """
        self._after_commit[work] = then

    async def open(self, schema: str, unavailable: type[DependencyUnavailable]) -> None:
        """Create the file (0600) if there is none, and the tables of ``schema`` in it.

        Raises ``UsageError`` for a file that must not be used (``files.look``), ``unavailable``, ``PersonMustAct``.
        """
        try:
            await asyncio.get_running_loop().run_in_executor(self._reader, self._open, schema)
        except (sqlite3.Error, UnicodeDecodeError, OSError) as error:
            raise _explained(error, self.path, unavailable) from None
        if self._erasing is None:
            erasing = Erasing(Path(f"{self.path}-wal"), lambda: self.read(empty_log, unavailable))
            self._erasing = asyncio.create_task(erasing.run())

    async def examine(self, seconds: float) -> bool:
        """Look at the whole file, but for so many seconds at most; return whether it was looked at.

        Raises ``PersonMustAct`` where it is damaged, ``DependencyUnavailable``.
        """
        found = await self.read(
            lambda reading: within(reading, seconds, lambda: (first_flaw(reading),)), LedgerUnavailable
        )
        if found and found[0]:
            raise PersonMustAct(f"{self.path} is damaged ({found[0]})", DAMAGED_CURE)
        return found is not None

    def check(self) -> None:
        """See ``watched_file.Watched``."""
        self._file.check()
        for each in self._beside:
            each.check()

    def _open(self, schema: str) -> None:
        look(self.path, self._what)
        refuse_another_log(self.path, self._what)
        # An existing file must not be opened and closed here: that would release the locks that SQLite has on it for
        # this process (a property of POSIX locks), and the next process to close the file would delete the write-ahead
        # log while we use it.
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            sync_folder(self.path.parent)
        self._file.begin(self.path.lstat())
        # While two processes make the same file, SQLite refuses any statement of one of them without waiting.
        retry_in_thread(lambda: self._prepare(schema), on=_is_busy, backoff=BACKOFF, patience=BUSY_TIMEOUT)
        self._close_to_others()
        for each in self._beside:
            with suppress(FileNotFoundError):  # where the file system bears no write-ahead log
                each.begin(each.path.lstat())
        self.check()

    def _close_to_others(self) -> None:
        for each in (self.path, *beside(self.path)):
            with suppress(FileNotFoundError):
                if close_to_others(each):
                    log.warning(
                        "file_closed_to_others",
                        path=str(each),
                        cause="it could be read by every user of this host, and has the mode 0600 now",
                        cure="if somebody else may have read it, treat the credentials in it as known",
                    )

    def _prepare(self, schema: str) -> None:
        """Connect, and make the tables; may be repeated."""
        if self._writing is None:
            self._writing = self._connect()
        if self._reading is None:
            self._reading = self._connect()
        self._writing.executescript(schema)
        self._reading.execute(f"PRAGMA busy_timeout = {1000 * BUSY_TIMEOUT:.0f}")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=BUSY_TIMEOUT_OF_SQLITE / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute("PRAGMA cache_size = -4000")
            connection.execute("PRAGMA temp_store = MEMORY")
        except BaseException:
            connection.close()
            raise
        return connection

    async def write(
        self, work: Work, item: Any, unavailable: type[DependencyUnavailable], *, gather: float = 0.0
    ) -> Any:
        """Do ``work`` for ``item``, in one commit with the other waiting writes; durable on return.

        ``gather``: for how many seconds this write may wait for others to join it. Raises ``unavailable``, and
        ``PersonMustAct`` where the file was taken away meanwhile.
        """
        try:
            return await self._writes.submit((work, item), gather=gather)
        except (sqlite3.Error, UnicodeDecodeError, OSError) as error:
            raise self._failure(error, unavailable) from None

    async def read(
        self, query: Callable[[sqlite3.Connection], Result], unavailable: type[DependencyUnavailable]
    ) -> Result:
        """Return the result of ``query`` on the last committed state. Raises ``unavailable``."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader, self._read, query)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._failure(error, unavailable) from None

    def _failure(
        self, error: sqlite3.Error | UnicodeDecodeError | OSError, unavailable: type[DependencyUnavailable]
    ) -> Exception:
        """The exception to raise in place of ``error``; where the file was taken away, that is the cause."""
        try:
            self.check()
        except PersonMustAct as taken_away:
            return taken_away
        except OSError:
            pass
        return _explained(error, self.path, unavailable)

    def _read(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        assert self._reading is not None
        return query(self._reading)

    def _begin(self) -> None:
        """Wait until we may write."""
        assert self._writing is not None
        _retry_while_busy(self._writing, "BEGIN IMMEDIATE")

    def _write_batch(self, batch: Sequence[tuple[Work, Any]]) -> Sequence[Any]:
        connection = self._writing
        assert connection is not None
        numbers: dict[Work, list[int]] = {}
        for number, (work, _) in enumerate(batch):
            numbers.setdefault(work, []).append(number)
        results: list[Any] = [None] * len(batch)
        try:
            for work, mine in numbers.items():
                for number, result in zip(mine, work(connection, [batch[n][1] for n in mine]), strict=True):
                    results[number] = result
            count_commit(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self.check()  # what was committed into a file that is gone is not durable
        for work, mine in numbers.items():
            if (then := self._after_commit.get(work)) and (failure := then(connection)):
                for number in mine:
                    results[number] = failure
        return results

    async def close(self) -> None:
        """Finish the waiting writes, empty the write-ahead log, and close the file."""
        if self._erasing is not None:
            self._erasing.cancel()
            await asyncio.gather(self._erasing, return_exceptions=True)
            self._erasing = None
        await self._writes.close()
        await asyncio.get_running_loop().run_in_executor(self._reader, self._close)
        self._reader.shutdown()

    def _close(self) -> None:
        for connection in (self._reading, self._writing):
            if connection is None:
                continue
            if connection is self._writing:
                try:
                    connection.execute("PRAGMA busy_timeout = 1000")
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                except sqlite3.Error:
                    pass  # another process is reading, or the disk is full: the next clean close does it
            connection.close()
        self._reading = self._writing = None


def _retry_while_busy(connection: sqlite3.Connection, statement: str) -> None:
    """Execute the statement, and try again for up to ``BUSY_TIMEOUT`` while another process has the lock."""
    retry_in_thread(lambda: connection.execute(statement), on=_is_busy, backoff=BACKOFF, patience=BUSY_TIMEOUT)


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and _code(error) == sqlite3.SQLITE_BUSY


def _code(error: BaseException) -> int:
    """SQLite's primary error code (the lowest byte of the extended one); 0 if there is none."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _explained(
    error: sqlite3.Error | UnicodeDecodeError | OSError, path: Path, unavailable: type[DependencyUnavailable]
) -> Exception:
    """The exception to raise in place of ``error``: with the path and what to do, except for a bug of ours."""
    code = _code(error)
    if isinstance(error, UnicodeDecodeError):  # the message of an error, which quotes the file
        return PersonMustAct(f"{path} is damaged (SQLite's schema or a text in it)", DAMAGED_CURE)
    if code in _CORRUPT or is_no_utf8(error) or str(error).startswith(_BROKEN_SCHEMA):
        return PersonMustAct(f"{path} is damaged or no SQLite file ({error})", DAMAGED_CURE)
    if code in _BUG or isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return error
    if isinstance(error, FileNotFoundError):
        return unavailable(
            f"{path}: {error.strerror}", f"make the folder {path.parent}, or correct the path in settings"
        )
    if isinstance(error, PermissionError) or code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return unavailable(
            f"{path} cannot be written: {getattr(error, 'strerror', None) or error}",
            f"make {path} and its folder writable for this user (id -un), or name another file in the settings",
        )
    return unavailable(
        f"{path}: {error}",
        f"make file and folder writable for this user, or {room()}: what was confirmed is kept",
    )
