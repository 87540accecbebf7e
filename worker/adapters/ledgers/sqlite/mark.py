"""The mark of an embedded ledger: a small file outside it, which shows whether the ledger is an older copy of itself.

The ledger counts its commits of users' rows. The number is written to the ledger first, in the commit itself, and then
to the mark, before anybody learns that the commit succeeded. So nothing was done in the world that the mark does not
know of, and after a kill at any moment the mark is at most behind, which is harmless; a ledger that is behind its mark
was restored from a backup, or replaced by a copy. The number is not synced to disk (a power failure may leave the mark
behind), but a name is.

The file begins with a line of fixed length: the ledger's own id and the number, with a checksum. The lines after it
are only appended: ``+ GENERATION "USERNAME"`` for a user who is in question (``core.older``), ``- GENERATION
"USERNAME"`` once a delivery or a certain answer of that generation has settled it. Whoever restores an older ledger
needs these names: it calls their old secret *delivered*. The file is private (0600), as names are.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from worker.adapters.confirmed_lines import Confirmed, dumped, loaded
from worker.adapters.limits import NO_ROOM, room
from worker.adapters.private_files import open_private, sync_folder, write_private
from worker.core.errors import LedgerUnavailable, PersonMustAct, UsageError, WorkerError
from worker.core.model import Enrolment, Sealed, State
from worker.core.older import note, unsure_up_to

SCHEMA = "CREATE TABLE IF NOT EXISTS mark (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;"
"""In the ledger: ``id``, ``number`` (of the last commit of users' rows), ``since`` (see ``Mark.since``), and while an
older ledger is being recovered, ``recovering``; and ``channel``, how far the file of that goes
(``adapters.confirmed_lines``)."""
WHAT = "the mark"
"""What errors call the file."""
_FIRST_LINE = re.compile(rb"(mfa-worker mark 1 ([0-9a-f]{32}) ([0-9]{19})) ([0-9a-f]{8})\n")
_NAME = re.compile(rb'([+-]) ([0-9]{1,19}) ("(?:[\x20!#-\[\]-\x7f]++|\\["\\/bfnrt]|\\u[0-9a-f]{4})*+")')
"""A line with a name, which is a JSON string in ASCII. It goes back over nothing, which would take memory for each
character."""
SPARE_LINES = 1_000
"""So many lines that no longer matter may be in the file, beside as many as there are names, before a worker that
starts writes it anew: some 50 KB."""
_STATES = frozenset(state.value for state in State)
RECOVER = "restore the newest copy of the ledger, or bring this one up to date: mfa-worker recover shows how"
"""What to do about a ledger that is older than its mark."""


@dataclass(slots=True)
class Marked:
    """What a mark says."""

    ledger: str = ""
    """The id of the ledger; empty where the first line cannot be read, so that the mark says nothing of the number."""
    number: int = 0
    names: dict[str, int] = field(default_factory=dict)
    """Who is in question, and up to which generation (``core.older.unsure_up_to``)."""
    lines: int = 0


class Mark:
    """The mark beside one ledger file. Its methods belong to the writing thread of the ledger's database."""

    def __init__(self, path: Path, *, new_rollout: bool = False) -> None:
        self.path = path
        self.new_rollout = new_rollout
        """Whether a ledger without rows may take the place of the one whose mark this is."""
        self.refusal: WorkerError | None = None
        """Why no row may be written: the ledger is older than its mark, or the mark is another ledger's."""
        self.since = 0
        """When the ledger got its id, in milliseconds, as generations are: what the channel shows of before may be
        another ledger's."""
        self._id = ""
        self._number = 0
        self._rows: Sequence[Enrolment] = ()
        self._names: dict[str, int] | None = None
        """Those in the file, as far as this process knows; ``None``: it has not read them."""
        self._is_recovering = False
        self.channel: Callable[[], Confirmed | None] = lambda: None
        """What is surely in the channel's file just now, where it is one on this host."""
        self.confirmed: Confirmed | None = None
        """The same, as the ledger had it when it was opened."""
        self._end = 0
        """Where the channel's file ended when that was written last."""
        self._file: int | None = None

    # --- when the ledger is opened ------------------------------------------------------------------------------------

    def begin(self, connection: sqlite3.Connection, asked: Sequence[object]) -> Sequence[None]:
        """Give the ledger an id, if it has none, and compare it with the mark: see ``refusal``.

        Raises ``UsageError`` where the mark is a link or somebody else's, ``LedgerUnavailable``.
        """
        new = [("id", uuid.uuid4().hex), ("number", 0), ("since", int(time.time() * 1000))]
        connection.executemany("INSERT OR IGNORE INTO mark VALUES (?, ?)", new)
        self.compare(connection, self.look())
        return [None] * len(asked)

    def compare(self, connection: sqlite3.Connection, marked: Marked) -> None:
        """Find out whether the ledger is older than what the mark said, before this transaction began: ``refusal``."""
        found = dict(connection.execute("SELECT name, value FROM mark"))
        self._id, self._number, self.since = found.get("id", ""), found.get("number", 0), found.get("since", 0)
        self.confirmed = loaded(found["channel"]) if "channel" in found else None
        if "recovering" in found:
            self.refusal = PersonMustAct(
                "the recovery of this ledger was interrupted", "finish it: mfa-worker recover --yes"
            )
        elif marked.ledger == self._id:
            self.refusal = self._older(marked.number) or self._mixed(connection, marked.names)
        elif marked.ledger:
            self.refusal = self._another(has_rows=bool(connection.execute("SELECT 1 FROM users LIMIT 1").fetchone()))

    def look(self) -> Marked:
        """What the file says now; nothing where there is none. Raises as ``begin`` does."""
        try:
            descriptor = open_private(self.path, os.O_RDONLY, what=WHAT)
        except FileNotFoundError:
            return Marked()
        except OSError as error:
            raise self._unavailable(error) from None
        with os.fdopen(descriptor, "rb") as file:
            return _parsed(file.read())

    def _older(self, number: int) -> WorkerError | None:
        if self._number >= number:
            return None
        return PersonMustAct(
            f"the ledger is an older copy: it ends with commit {self._number}, and its mark {self.path} tells of "
            f"commit {number}. Users whom it calls delivered may hold a dead secret",
            RECOVER,
        )

    def _mixed(self, connection: sqlite3.Connection, names: dict[str, int]) -> WorkerError | None:
        """The error if a row fell back behind its user's name, which is written after it: pages of two moments."""
        for username, unsure in names.items():
            row = connection.execute("SELECT generation FROM users WHERE username = ?", (username,)).fetchone()
            if row is None or row[0] < unsure:
                return PersonMustAct(
                    f"the ledger is partly an older copy: its mark {self.path} knows of later calls than its rows. "
                    "It was written over while a worker used it, or restored beside another one's write-ahead log",
                    RECOVER,
                )
        return None

    def _another(self, *, has_rows: bool) -> WorkerError | None:
        if has_rows:
            return PersonMustAct(
                f"the mark {self.path} belongs to another ledger: this one is an older copy, or another rollout's",
                f"give another rollout a channel.path of its own; otherwise {RECOVER}",
            )
        if self.new_rollout:
            return None
        return UsageError(
            f"the ledger is new, and {self.path} is the mark of an earlier one, which knows who was delivered already",
            "correct ledger.path, or restore that ledger; to begin a rollout anew: mfa-worker run --new-rollout",
        )

    # --- with each commit ---------------------------------------------------------------------------------------------

    def commits(self, connection: sqlite3.Connection, rows: Sequence[Enrolment]) -> None:
        """Within a transaction that wrote these rows: raise the number."""
        self._rows = rows
        self._note_channel(connection)
        if not self._is_recovering:
            connection.execute("UPDATE mark SET value = value + 1 WHERE name = 'number'")
            (self._number,) = connection.execute("SELECT value FROM mark WHERE name = 'number'").fetchone()

    def _note_channel(self, connection: sqlite3.Connection) -> None:
        known = self.channel()
        if known is not None and known.end != self._end:
            connection.execute("INSERT OR REPLACE INTO mark VALUES ('channel', ?)", (dumped(known),))
            self._end = known.end

    def committed(self, connection: sqlite3.Connection) -> WorkerError | None:
        """After that transaction: write the mark. Return the error, if a name is missing in it now.

        Repeating the write of the row then repairs that. A number that cannot be written is no error: the mark is
        behind, which is harmless, until the next commit.
        """
        if self._is_recovering:
            return None
        try:
            with self._locked() as file:
                is_crowded = self._write(file, connection)
            if is_crowded:
                self._write_anew()
        except OSError as error:
            self._names = None  # the file may not have what they say
            is_named = any(row.state is not State.SEALED and unsure_up_to(row) is not None for row in self._rows)
            return self._unavailable(error) if is_named else None
        except UsageError as error:
            return LedgerUnavailable(str(error), error.hint)
        return None

    def _write(self, file: int, connection: sqlite3.Connection) -> bool:
        """Write what the last transaction changed; return whether the file should be written anew."""
        marked, is_crowded = _first_line(os.pread(file, LENGTH, 0)), False
        if marked.ledger not in ("", self._id):
            if not self.new_rollout:
                raise UsageError(
                    f"{self.path} is another ledger's mark now", "give each rollout a channel.path of its own"
                )
            os.ftruncate(file, 0)
            marked = Marked()
        if not marked.ledger:  # new; or torn in a power failure: then its names stay
            self._append(file, [_plus(*name) for name in _in_question(connection)], durable=True)
            sync_folder(self.path.parent)
            self._names = None
        if self._names is None:
            found = _parsed(os.pread(file, os.fstat(file).st_size, 0))
            self._names, is_crowded = found.names, found.lines > 2 * len(found.names) + SPARE_LINES
        if lines := [line for row in self._rows if (line := _change(row, self._names))]:
            self._append(file, lines, durable=any(line.startswith(b"+") for line in lines))
        if marked.number < self._number:
            os.pwrite(file, _line_of(self._id, self._number), 0)
        return is_crowded

    def _append(self, file: int, lines: Sequence[bytes], *, durable: bool) -> None:
        data, end = b"".join(lines), max(os.fstat(file).st_size, LENGTH)
        if end > LENGTH and os.pread(file, 1, end - 1) != b"\n":
            data = b"\n" + data  # the last line was torn
        written = 0
        while written < len(data):
            written += os.pwrite(file, data[written:], end + written)
        if durable:
            os.fdatasync(file)

    def _write_anew(self) -> None:
        """Leave out of the file the lines that no longer matter. Others see that it was replaced (``_locked``)."""
        with self._locked() as file:
            found = _parsed(os.pread(file, os.fstat(file).st_size, 0))
            lines = [_line_of(found.ledger, found.number), *(_plus(*name) for name in found.names.items())]
            write_private(self.path, b"".join(lines), what=WHAT)

    def tidy(self) -> None:
        """Take the names that no longer matter out of the file, if there is one. Raises ``OSError``, ``UsageError``."""
        marked = self.look()
        if marked.ledger and marked.lines:
            self._write_anew()
            self._names = None

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file that is at the path now, made if there is none, with an exclusive lock on it."""
        while True:
            if self._file is None:
                self._file = open_private(self.path, os.O_RDWR | os.O_CREAT, what=WHAT)
            file = self._file
            fcntl.flock(file, fcntl.LOCK_EX)
            if self._is_at_path(file):
                break
            self.close()
        try:
            yield file
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)

    def _is_at_path(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self.path.lstat())
        except FileNotFoundError:
            return False

    def _unavailable(self, error: OSError) -> LedgerUnavailable:
        cure = f"make {self.path.parent} writable for this user, then run again"
        if error.errno in NO_ROOM:
            cure = f"{room()}: nothing is lost"
        return LedgerUnavailable(f"the ledger's mark {self.path} cannot be written: {error.strerror}", cure)

    def close(self) -> None:
        """Make the number durable, and close the file."""
        if self._file is not None:
            with suppress(OSError):
                os.fdatasync(self._file)
            os.close(self._file)
            self._file = self._names = None

    # --- recovery -----------------------------------------------------------------------------------------------------

    def begin_recovery(self, connection: sqlite3.Connection, asked: Sequence[object]) -> Sequence[None]:
        """Allow rows to be written to an older ledger; until ``end_recovery`` every other command refuses it."""
        connection.execute("INSERT OR REPLACE INTO mark VALUES ('recovering', 1)")
        self.refusal, self._is_recovering = None, True
        return [None] * len(asked)

    def end_recovery(self, connection: sqlite3.Connection, asked: Sequence[object]) -> Sequence[None]:
        """The rows are up to date: count on from the mark's number. ``adopt`` follows, after the commit."""
        number = max(self._number, self.look().number) + 1
        connection.execute("UPDATE mark SET value = ? WHERE name = 'number'", (number,))
        connection.execute("DELETE FROM mark WHERE name IN ('recovering', 'channel')")
        self._number, self._rows = number, ()
        return [None] * len(asked)

    def adopt(self, connection: sqlite3.Connection) -> WorkerError | None:
        """After the commit of ``end_recovery``: the mark is this ledger's from now on, with the names that it has."""
        try:
            with self._locked() as file:
                names = _parsed(os.pread(file, os.fstat(file).st_size, 0)).names
                more = [name for name in _in_question(connection) if name[1] > names.get(name[0], -1)]
                self._append(file, [_plus(*name) for name in more], durable=True)
                os.pwrite(file, _line_of(self._id, self._number), 0)
                os.fdatasync(file)
                sync_folder(self.path.parent)
                self._names = None
        except OSError as error:
            return self._unavailable(error)
        self._is_recovering = False
        return None


def _in_question(connection: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    """Everybody who is in question by the ledger's own rows, with the generation: for a mark that is missing."""
    columns = "username, state, since, generation, sealed_generation"
    secret_but_not_delivered = "attempt_id IS NOT NULL AND state NOT IN ('delivered', 'active')"  # noqa: S105
    for username, state, since, generation, sealed in connection.execute(
        f"SELECT {columns} FROM users WHERE {secret_but_not_delivered}"  # noqa: S608 - our own names
    ):
        known = State(state) if state in _STATES else State.FAILED  # a later version's: an outcome without a delivery
        row = Enrolment(username, known, since, generation, sealed=Sealed(sealed, "", "", b""))
        if (unsure := unsure_up_to(row)) is not None:
            yield username, unsure


# --- the lines of the file --------------------------------------------------------------------------------------------


def _change(row: Enrolment, names: dict[str, int]) -> bytes | None:
    """The line to append for a row that was written, if there is one; ``names`` is changed alike."""
    match note(names, row):
        case True:
            return _plus(row.username, names[row.username])
        case False:
            return b"- %d %s\n" % (row.generation, json.dumps(row.username).encode("ascii"))
        case None:
            return None


def _plus(username: str, unsure: int) -> bytes:
    return b"+ %d %s\n" % (unsure, json.dumps(username).encode("ascii"))


def _line_of(ledger: str, number: int) -> bytes:
    """The first line."""
    said = b"mfa-worker mark 1 %s %019d" % (ledger.encode("ascii"), number)
    return b"%s %08x\n" % (said, crc32(said))


LENGTH = len(_line_of("0" * 32, 0))
"""Bytes of the first line."""


def _first_line(line: bytes) -> Marked:
    parts = _FIRST_LINE.fullmatch(line)
    if parts is None or int(parts[4], 16) != crc32(parts[1]):
        return Marked()
    return Marked(parts[2].decode("ascii"), int(parts[3]))


def _parsed(data: bytes) -> Marked:
    """What a file says. A line that was torn in a power failure is left out: its write had not succeeded."""
    marked = _first_line(data[:LENGTH])
    for line in data[LENGTH:].split(b"\n")[:-1]:
        marked.lines += 1
        if (parts := _NAME.fullmatch(line)) is None or not line.isascii():
            continue
        username, generation = json.loads(parts[3]), int(parts[2])
        known = marked.names.get(username, -1)
        if parts[1] == b"+":
            marked.names[username] = max(known, generation)
        elif known < generation:
            marked.names.pop(username, None)
    return marked
