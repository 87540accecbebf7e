"""What an embedded ledger says of every user's newest secret, for a command that must not change it: the file may be a
copy that somebody carried to the machine where the identity is.

SQLite opens it for reading alone. Where no worker has it open, nothing is made beside it either, and a worker that
begins meanwhile is noticed at the end.
"""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from worker.adapters.ledgers.found import has_no_user, refuse
from worker.adapters.ledgers.reading import recorded
from worker.adapters.ledgers.sqlite.ledger import load_digest
from worker.adapters.ledgers.sqlite.mark import Mark
from worker.adapters.private_files import OTHERS_WRITE
from worker.adapters.sqlite.files import SHM, WAL
from worker.adapters.sqlite.matching_log import refuse_another_log
from worker.core.errors import LedgerUnavailable, PersonMustAct, UsageError
from worker.core.model import Recorded
from worker.core.ports import Found

_PAGE = 5_000
"""Rows of one read: 15 ms, and 4 MB at most."""
_OF_A_LEDGER = {"users", "stamp"}
"""Tables that every ledger has."""
_CURE = "name the rollout's ledger, or a copy of it: -c FILE, or --set ledger.path=FILE"
"""What to do where there is none."""


class SqliteRecorded:
    """``ports.SecretsRecorded`` of one file."""

    def __init__(self, path: Path, stamp: Mapping[str, str], mark: Path) -> None:
        self._path, self._stamp, self._mark = path, stamp, mark

    async def check(self) -> None:
        """See ``ports.SecretsRecorded``."""
        marked = Mark(self._mark)
        said = marked.look()  # before the ledger, which is always written first
        with self._opened() as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if not tables >= _OF_A_LEDGER:
                raise UsageError(f"{self._path} is no ledger", _CURE)
            connection.execute("BEGIN")
            (has_users,) = connection.execute("SELECT EXISTS (SELECT 1 FROM users)").fetchone()
            stamp = dict(connection.execute("SELECT name, value FROM stamp"))
            found = Found(exists=True, has_users=bool(has_users), stamp=stamp)
            refuse(found, self._stamp, str(self._path), "ledger.path", must_exist=False)
            if not has_users:
                raise has_no_user(str(self._path), "ledger.path")
            if "mark" in tables:
                marked.compare(connection, said)
        if marked.refusal is not None:
            raise marked.refusal

    async def read(self, usernames: Sequence[str] | None) -> AsyncGenerator[Sequence[Recorded]]:
        """See ``ports.SecretsRecorded``."""
        with self._opened() as connection:
            columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(users)")}
            digest = "digest" if "digest" in columns else "NULL"  # a ledger of an earlier version
            # ruff: noqa: S608 - our own names
            select = f"SELECT username, state, reason, since, sealed_generation, {digest}, blob FROM users"
            if usernames is not None:
                rows = [connection.execute(f"{select} WHERE username = ?", (name,)).fetchone() for name in usernames]
                yield [_told(row) for row in rows if row]
                return
            page: Sequence[Sequence[object]] = ()
            after = ""
            while True:
                query = f"{select} WHERE username > ? ORDER BY username LIMIT {_PAGE}"
                page = connection.execute(query, (after,)).fetchall()
                yield list(map(_told, page))
                if len(page) < _PAGE:
                    return
                after = str(page[-1][0])

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The file, open for reading. Raises ``UsageError``, ``PersonMustAct``, ``LedgerUnavailable``."""
        try:
            self._look()
            refuse_another_log(self._path, "the ledger")
            before = self._at_rest()
            alone = "" if before is None else "&immutable=1"
            address = f"file:{quote(str(self._path.absolute()))}?mode=ro{alone}"
            with closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=15.0)) as connection:
                yield connection
            if before is not None and self._at_rest() != before:
                raise LedgerUnavailable(
                    f"{self._path} was written while it was read: a worker began meanwhile",
                    "run it again",
                )
        except FileNotFoundError:
            raise UsageError(f"there is no ledger at {self._path}", _CURE) from None
        except OSError as error:
            raise UsageError(f"cannot read the ledger {self._path}: {error.strerror}", _CURE) from None
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_NOTADB:
                raise UsageError(f"{self._path} is no ledger ({error})", _CURE) from None
            if code == sqlite3.SQLITE_CORRUPT:
                raise PersonMustAct(
                    f"the ledger {self._path} is damaged ({error})",
                    "if it is a copy, make a new one; else restore it from a backup",
                ) from None
            raise LedgerUnavailable(f"cannot read the ledger {self._path}: {error}", "run again") from None

    def _look(self) -> None:
        """Raise ``UsageError`` for what is no file, or one that proves nothing; ``OSError``."""
        mode = self._path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise UsageError(f"{self._path} is no ledger: it is no regular file", _CURE)
        if mode & OTHERS_WRITE:
            raise UsageError(
                f"the ledger {self._path} can be changed by every user of this host, so what it knows proves nothing",
                "compare with one that only its owner can change (chmod 600), where it comes from",
            )

    def _at_rest(self) -> tuple[int, int] | None:
        """What tells whether the file was changed, where nobody has it open; ``None``: somebody may have."""
        found = self._path.stat()
        if any(self._path.with_name(self._path.name + suffix).exists() for suffix in (WAL, SHM)):
            return None
        return found.st_size, found.st_mtime_ns


def _told(row: Sequence[Any]) -> Recorded:
    return recorded(row[0], row, _recorded)


def _recorded(row: Sequence[Any]) -> Recorded:
    username, state, reason, since, generation, digest, blob = row
    told = "" if generation is None else load_digest(digest, generation, blob)
    return Recorded(username, state, reason, float(since), generation, told)
