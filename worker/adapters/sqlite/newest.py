"""The newest record of each user, of as many users as there are: kept in a temporary file that only SQLite knows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from types import TracebackType

from worker.core.older import Shown

Found = tuple[bytes, str | None, int, str, str]
"""A user (SHA-256 of the username, and the username where it is known), then the fields of ``Shown``."""
_KEEP = """
INSERT INTO newest (user, username, generation, attempt_id, associated_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (user) DO UPDATE SET username = coalesce(excluded.username, username), generation = excluded.generation,
    attempt_id = excluded.attempt_id, associated_at = excluded.associated_at
WHERE excluded.generation > newest.generation
"""


class NewestRecords:
    """For each user the record of the highest generation; each can be taken out once."""

    def __enter__(self) -> NewestRecords:
        """Make the file; SQLite deletes it as soon as it is open."""
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute(
            "CREATE TABLE newest (user BLOB PRIMARY KEY, username TEXT, generation INTEGER, attempt_id TEXT, "
            "associated_at TEXT, taken INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID"
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Delete everything."""
        self._connection.close()

    def keep(self, records: Iterable[Found]) -> None:
        """Remember those of these records that are newer than what is known of their user."""
        self._connection.executemany(_KEEP, records)

    def __len__(self) -> int:
        """How many users there are, taken out or not."""
        (number,) = self._connection.execute("SELECT count(*) FROM newest").fetchone()
        return int(number)

    def take(self, user: bytes) -> Shown | None:
        """The record of this user, who is not among ``others`` any more."""
        row = self._connection.execute(
            "SELECT generation, attempt_id, associated_at FROM newest WHERE user = ?", (user,)
        ).fetchone()
        if row is None:
            return None
        self._connection.execute("UPDATE newest SET taken = 1 WHERE user = ?", (user,))
        return Shown(*row)

    def others(self) -> Iterator[tuple[str | None, Shown]]:
        """Everybody who was not taken out: the username, where it is known, and the record."""
        for username, *shown in self._connection.execute(
            "SELECT username, generation, attempt_id, associated_at FROM newest WHERE NOT taken"
        ):
            yield username, Shown(*shown)

    def put_back(self) -> None:
        """Nobody was taken out."""
        self._connection.execute("UPDATE newest SET taken = 0")
