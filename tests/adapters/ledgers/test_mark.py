"""The mark outside an embedded ledger: what it says after torn writes, copies, other workers and many names."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rows import usernames
from worker.adapters.ledgers.sqlite import mark as mark_file
from worker.adapters.ledgers.sqlite.mark import LENGTH, SCHEMA, Mark
from worker.core.errors import LedgerUnavailable, PersonMustAct, UsageError
from worker.core.model import Enrolment, Reason, Sealed, State

USERS = (
    "CREATE TABLE IF NOT EXISTS users (username TEXT PRIMARY KEY, state TEXT, since REAL, generation INTEGER, "
    "sealed_generation INTEGER, attempt_id TEXT)"
)


def row(username: str, state: State, generation: int, *, sealed: int | None = 1) -> Enrolment:
    secret = Sealed(sealed, "attempt", "", b"") if sealed is not None else None
    return Enrolment(username, state, 0.0, generation, sealed=secret)


def replaced(username: str, generation: int = 2) -> Enrolment:
    """A delivered user under a claim to call."""
    return row(username, State.IN_PROGRESS, generation)._replace(before=State.DELIVERED, worker="one")


@contextmanager
def ledger_in(folder: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(folder / "ledger.db", isolation_level=None)
    connection.execute(USERS)
    connection.executescript(SCHEMA)
    try:
        yield connection
    finally:
        connection.close()


def begun(mark: Mark, connection: sqlite3.Connection) -> Mark:
    mark.begin(connection, [None])
    return mark


def write(mark: Mark, connection: sqlite3.Connection, *rows: Enrolment) -> Exception | None:
    connection.execute("BEGIN IMMEDIATE")
    for each in rows:
        sealed = (each.sealed.generation, each.sealed.attempt_id) if each.sealed else (None, None)
        values = (each.username, each.state.value, each.since, each.generation, *sealed)
        connection.execute("INSERT OR REPLACE INTO users VALUES (?, ?, ?, ?, ?, ?)", values)
    mark.commits(connection, rows)
    connection.execute("COMMIT")
    return mark.committed(connection)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with ledger_in(tmp_path) as connection:
        yield connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "enrolments.jsonl.mark"


def test_it_tells_of_the_last_commit_and_of_who_is_in_question(path: Path, connection: sqlite3.Connection) -> None:
    mark = begun(Mark(path), connection)
    write(mark, connection, replaced("ana"), row("ben", State.IN_PROGRESS, 1, sealed=None))
    write(mark, connection, row("cem", State.DELIVERED, 1))

    marked = mark.look()

    assert marked.number == 2
    assert marked.names == {"ana": 1}
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("outcome", "stays"),
    [
        (row("ana", State.DELIVERED, 2, sealed=2), False),
        (row("ana", State.DELIVERED, 2), False),  # surely nothing was issued
        (row("ana", State.ACTIVE, 2, sealed=2), False),
        (row("ana", State.SEALED, 2, sealed=2), True),
        (row("ana", State.NEEDS_SESSION, 2)._replace(reason=Reason.REPLY_LOST), True),
        (row("ana", State.NEEDS_SESSION, 2, sealed=2)._replace(reason=Reason.VERIFY_WINDOW_LOST), True),
        (row("ana", State.FAILED, 2), True),
        (row("ana", State.SKIPPED, 2), True),
    ],
    ids=lambda each: f"{each.state} {each.reason or ''}" if isinstance(each, Enrolment) else str(each),
)
def test_a_name_goes_only_with_a_delivered_secret(
    path: Path, connection: sqlite3.Connection, outcome: Enrolment, stays: bool
) -> None:
    mark = begun(Mark(path), connection)
    write(mark, connection, replaced("ana"))
    write(mark, connection, outcome)

    assert ("ana" in mark.look().names) is stays
    write(mark, connection, row("ana", State.DELIVERED, 3, sealed=3))
    assert mark.look().names == {}


def test_a_doubt_that_is_noted_before_the_delivery_that_it_is_about_stays(
    path: Path, connection: sqlite3.Connection
) -> None:
    one, two = begun(Mark(path), connection), begun(Mark(path), connection)
    write(one, connection, replaced("ana"))
    write(two, connection, row("ana", State.NEEDS_SESSION, 2, sealed=2)._replace(reason=Reason.REPLY_LOST))
    one._rows = [row("ana", State.DELIVERED, 2, sealed=2)]

    assert one.committed(connection) is None

    assert one.look().names == {"ana": 2}


def test_a_ledger_behind_it_is_refused_and_one_before_it_is_not(path: Path, connection: sqlite3.Connection) -> None:
    mark = begun(Mark(path), connection)
    write(mark, connection, row("ana", State.DELIVERED, 1))
    write(mark, connection, row("ben", State.DELIVERED, 1))
    connection.execute("UPDATE mark SET value = 1 WHERE name = 'number'")

    assert isinstance(begun(Mark(path), connection).refusal, PersonMustAct)
    connection.execute("UPDATE mark SET value = 900 WHERE name = 'number'")
    assert begun(Mark(path), connection).refusal is None


@pytest.mark.parametrize("first_line", [b"torn", b"", bytes(LENGTH)])
def test_a_torn_first_line_alarms_nobody_and_loses_no_name(
    path: Path, connection: sqlite3.Connection, first_line: bytes
) -> None:
    mark = begun(Mark(path), connection)
    write(mark, connection, replaced("ana"))
    mark.close()
    with path.open("r+b") as file:
        file.write(first_line) if first_line else file.truncate(0)

    again = begun(Mark(path), connection)
    assert again.refusal is None
    write(again, connection, row("ben", State.DELIVERED, 1))
    assert again.look().number == 2
    assert again.look().names == {"ana": 1}


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_line_that_was_torn_spoils_no_other(path: Path, connection: sqlite3.Connection, cut: int) -> None:
    mark = begun(Mark(path), connection)
    write(mark, connection, replaced("ana"))
    write(mark, connection, replaced("ben"))
    mark.close()
    os.truncate(path, path.stat().st_size - cut)

    again = begun(Mark(path), connection)
    write(again, connection, replaced("cem"))

    assert {"ana", "cem"} <= again.look().names.keys()


def test_a_mark_that_is_gone_is_made_again_with_everybody_in_question(
    path: Path, connection: sqlite3.Connection
) -> None:
    mark = begun(Mark(path), connection)
    write(mark, connection, replaced("ana"))
    path.unlink()

    write(mark, connection, row("ben", State.DELIVERED, 1))

    assert mark.look().names == {"ana": 1}
    assert mark.look().number == 2


def test_it_is_written_anew_once_most_of_its_lines_do_not_matter(
    path: Path, connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mark_file, "SPARE_LINES", 20)
    mark, other = begun(Mark(path), connection), begun(Mark(path), connection)
    write(mark, connection, replaced("lost"))
    write(other, connection, replaced("other"))
    for number in range(30):
        write(mark, connection, replaced("ana", 2 + number))
        write(mark, connection, row("ana", State.DELIVERED, 2 + number))
    long = path.stat().st_size

    write(begun(Mark(path), connection), connection, row("ben", State.DELIVERED, 1))
    write(other, connection, replaced("cem"))

    assert path.stat().st_size < long / 2
    assert mark.look().names == {"lost": 1, "other": 1, "cem": 1}
    assert mark.look().number == 64


def test_workers_that_write_at_once_lose_no_name_and_lower_no_number(tmp_path: Path, path: Path) -> None:
    def work(worker: int) -> None:
        with ledger_in(tmp_path) as connection:
            connection.execute("PRAGMA busy_timeout = 30000")
            mark = begun(Mark(path), connection)
            for number in range(40):
                assert write(mark, connection, replaced(f"{worker}-{number}")) is None
            mark.close()

    with ledger_in(tmp_path) as connection:
        begun(Mark(path), connection)
        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert Mark(path).look().number == 160
        assert len(Mark(path).look().names) == 160
        assert begun(Mark(path), connection).refusal is None


def test_a_folder_that_cannot_be_written_matters_only_where_somebody_is_replaced(
    tmp_path: Path, connection: sqlite3.Connection
) -> None:
    mark = begun(Mark(tmp_path / "gone" / "enrolments.jsonl.mark"), connection)

    assert write(mark, connection, row("ben", State.IN_PROGRESS, 1, sealed=None)) is None
    assert isinstance(write(mark, connection, replaced("ana")), LedgerUnavailable)
    (tmp_path / "gone").mkdir()
    assert write(mark, connection, replaced("ana")) is None
    assert mark.look().names == {"ana": 1}


def test_another_ledgers_mark_is_not_taken_for_ones_own(tmp_path: Path, path: Path) -> None:
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
    with ledger_in(tmp_path / "first") as first:
        write(begun(Mark(path), first), first, replaced("ana"))
    with ledger_in(tmp_path / "second") as second:
        new = begun(Mark(path), second)
        assert isinstance(new.refusal, UsageError)
        assert "--new-rollout" in new.refusal.hint
        second.execute("INSERT INTO users (username, state) VALUES ('ana', 'delivered')")
        assert isinstance(begun(Mark(path), second).refusal, PersonMustAct)
    with ledger_in(tmp_path / "third") as third:
        anew = begun(Mark(path, new_rollout=True), third)
        assert anew.refusal is None
        write(anew, third, row("ben", State.DELIVERED, 1))
        assert anew.look().names == {}
        assert begun(Mark(path), third).refusal is None


@given(usernames)
def test_any_username_is_read_as_it_was_written(username: str) -> None:
    line = mark_file._plus(username, 7)
    assert line.isascii()
    assert mark_file._parsed(mark_file._line_of("0" * 32, 1) + line).names == {username: 7}


@given(st.binary(max_size=400))
def test_whatever_stands_in_the_file_is_read_without_an_error(data: bytes) -> None:
    mark_file._parsed(data)
    mark_file._parsed(mark_file._line_of("0" * 32, 1) + data)


def test_at_the_end_only_names_that_still_matter_stay_in_the_file(
    tmp_path: Path, connection: sqlite3.Connection
) -> None:
    mark = begun(Mark(tmp_path / "mark"), connection)
    mark.tidy()
    assert not mark.path.exists(), "none is made"
    write(mark, connection, replaced("settled"), replaced("in question"))
    write(mark, connection, row("settled", State.DELIVERED, 2, sealed=2))
    assert b"settled" in mark.path.read_bytes()

    mark.tidy()

    assert b"settled" not in mark.path.read_bytes()
    assert mark.look().names == {"in question": 1}
    write(mark, connection, replaced("another"))
    assert set(mark.look().names) == {"in question", "another"}
    mark.close()
