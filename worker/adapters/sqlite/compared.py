"""What was found in a channel, beside what the ledger says of the same users: as many as there are, in a temporary file
that only SQLite knows. Users go by the SHA-256 of their names, and what is sealed by its own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from worker.core.model import ENROLLED, Recorded
from worker.core.record import user_of

_PAGE = 1_000
"""Records that are looked at together: half a megabyte at most."""
_SCHEMA = """
CREATE TABLE found (id INTEGER PRIMARY KEY, user BLOB, generation INTEGER, digest TEXT, source INTEGER, offset INTEGER,
    number INTEGER);
CREATE TABLE known (id INTEGER PRIMARY KEY, user BLOB, username TEXT, state TEXT, reason TEXT, since REAL,
    generation INTEGER, digest TEXT, opened INTEGER NOT NULL DEFAULT 0);
"""
_INDEXES = """
CREATE INDEX found_user ON found (user);
CREATE UNIQUE INDEX known_user ON known (user);
CREATE INDEX known_digest ON known (digest);
"""
_RESOLVE = """
UPDATE found SET (user, generation) = (SELECT user, generation FROM known WHERE known.digest = found.digest)
WHERE user IS NULL
"""
"""An age file alone does not say whose it is."""
_BOTH = f"""
SELECT found.id, found.user, found.generation, found.digest, source, offset, number,
    known.id, state, reason, known.generation, known.digest, opened
FROM found LEFT JOIN known ON known.user = found.user WHERE found.id > ? ORDER BY found.id LIMIT {_PAGE}
"""  # noqa: S608 - our own number
_MISSING = f"""
FROM known WHERE NOT opened AND state IN ({", ".join(f"'{state.value}'" for state in sorted(ENROLLED))}) AND since < ?
    AND NOT EXISTS (SELECT 1 FROM found WHERE found.user = known.user)
"""  # noqa: S608 - our own names


class InChannel(NamedTuple):
    """A record that was found: what stands around it says whose it is (``None``: nothing does), and which generation.

    ``digest``: of the bytes of the age file; then where it is: the number of the source, and of the block in it.
    """

    user: bytes | None
    generation: int | None
    digest: str
    source: int
    offset: int
    number: int


class InLedger(NamedTuple):
    """What the ledger says of the user of a record (``model.Recorded``)."""

    id: int
    state: str
    reason: str | None
    generation: int | None
    digest: str
    opened: bool
    """Whether this user's record was opened."""


class Compared:
    """Keeps both sides. First ``found`` and ``know``, then ``begin``, then the rest."""

    def __init__(self) -> None:
        """Make the file; SQLite deletes it as soon as it is open."""
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Delete everything."""
        self._connection.close()

    def found(self, records: Iterable[InChannel]) -> None:
        """Keep these records, in this order."""
        insert = "INSERT INTO found (user, generation, digest, source, offset, number) VALUES (?, ?, ?, ?, ?, ?)"
        self._connection.executemany(insert, records)

    def know(self, users: Sequence[Recorded]) -> None:
        """Keep what the ledger says of these users."""
        insert = (
            "INSERT INTO known (user, username, state, reason, since, generation, digest) VALUES (?, ?, ?, ?, ?, ?, ?)"
        )
        self._connection.executemany(insert, ((user_of(each.username), *each) for each in users))

    def begin(self) -> tuple[int, float, int]:
        """All is there: return how many users the ledger told of, when the last of them changed (UTC seconds; 0: there
        is none), and of how many the digest is known.
        """
        self._connection.executescript(_INDEXES)
        self._connection.execute(_RESOLVE)
        users, last, known = self._connection.execute(
            "SELECT count(*), coalesce(max(since), 0), count(nullif(digest, '')) FROM known"
        ).fetchone()
        return users, last, known

    def pages(self) -> Iterator[list[tuple[InChannel, InLedger | None]]]:
        """Every record as it was found, with what the ledger says of its user now; the last page is the first one that
        is empty.
        """
        after = 0
        while page := self._connection.execute(_BOTH, (after,)).fetchall():
            after = page[-1][0]
            yield [(InChannel(*row[1:7]), None if row[7] is None else InLedger(*row[7:])) for row in page]

    def opened(self, users: Iterable[int]) -> None:
        """The records of these users (``InLedger.id``) were opened."""
        self._connection.executemany("UPDATE known SET opened = 1 WHERE id = ?", ((user,) for user in users))

    def missing(self, before: float, most: int) -> tuple[int, list[str]]:
        """Users who were delivered before that time (UTC seconds), and of whom nothing was found: how many, and the
        first of their names.
        """
        (number,) = self._connection.execute(f"SELECT count(*) {_MISSING}", (before,)).fetchone()
        names = self._connection.execute(f"SELECT username {_MISSING} ORDER BY id LIMIT ?", (before, most))
        return number, [name for (name,) in names]
