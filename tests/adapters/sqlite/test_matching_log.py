"""A database beside another moment's write-ahead log is refused, and never one that its worker left there."""
# ruff: noqa: ASYNC240 - a test may look at a file

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.words import add, opened, words
from worker.adapters.ledgers.sqlite.look import look
from worker.adapters.sqlite.database import Database
from worker.adapters.sqlite.erasing import empty_log
from worker.core.errors import LedgerUnavailable, PersonMustAct


def killed(database: Database, folder: Path) -> Path:
    """The files as a worker leaves them that is killed now."""
    folder.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{database.path}{suffix}", folder / f"rollout.db{suffix}")
    return folder / "rollout.db"


async def write(database: Database, *each: str) -> None:
    for word in each:
        await database.write(add, word, LedgerUnavailable)


async def emptied(database: Database) -> None:
    assert await database.read(empty_log, LedgerUnavailable)


async def words_in(path: Path) -> list[str]:
    async with opened(path) as database:
        return await database.read(words, LedgerUnavailable)


async def test_after_a_kill_at_any_moment_the_log_belongs_to_its_database(tmp_path: Path) -> None:
    left = []
    async with opened(tmp_path / "rollout.db") as database:
        for number in range(12):
            left.append(killed(database, tmp_path / f"killed-{number}"))
            await write(database, str(number))
            if number % 3 == 2:
                with closing(sqlite3.connect(database.path)) as other:
                    other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # the log stays, and begins anew
            if number % 5 == 4:
                await emptied(database)
    for number, path in enumerate(left):
        assert await words_in(path) == [str(each) for each in range(number)]


async def test_while_another_process_reads_the_log_belongs_to_its_database(tmp_path: Path) -> None:
    async with opened(tmp_path / "rollout.db") as database:
        await write(database, "one", "two")
        with closing(sqlite3.connect(database.path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            await write(database, "three", "four")
            assert not await database.read(empty_log, LedgerUnavailable)
            await write(database, "five")
            left = killed(database, tmp_path / "killed")
    assert await words_in(left) == ["one", "two", "three", "four", "five"]


@pytest.mark.parametrize("suffix", ["", "-wal"])
async def test_one_file_of_an_earlier_moment_beside_the_other_is_refused(tmp_path: Path, suffix: str) -> None:
    async with opened(tmp_path / "rollout.db") as database:
        await write(database, "one")
        earlier = killed(database, tmp_path / "earlier")
        await emptied(database)
        await write(database, "two", "three")
        await emptied(database)
        await write(database, "four")
        later = killed(database, tmp_path / "later")
    shutil.copy(f"{earlier}{suffix}", f"{later}{suffix}")
    before = {each.name: each.read_bytes() for each in later.parent.iterdir()}

    with pytest.raises(PersonMustAct) as refused:
        await words_in(later)
    with pytest.raises(PersonMustAct):
        look(later)

    assert f"{later}-wal" in str(refused.value)
    assert f"rm -- {later}-wal" in (refused.value.hint or "")
    assert {each.name: each.read_bytes() for each in later.parent.iterdir()} == before, "nothing was mixed"
    Path(f"{later}-wal").unlink()
    assert await words_in(later) == ([] if suffix == "" else ["one", "two", "three"])


async def torn(tmp_path: Path) -> tuple[Path, Path]:
    """A database with a log of several commits, and the log."""
    async with opened(tmp_path / "rollout.db") as database:
        await write(database, "one", "two")
        await emptied(database)
        await write(database, "three", "four", "five")
        left = killed(database, tmp_path / "killed")
    return left, Path(f"{left}-wal")


FRAME = 24 + 4096
"""Bytes of a page in the log, with its header."""


async def test_a_log_whose_end_was_not_written_whole_belongs_to_its_database(tmp_path: Path) -> None:
    """After a power cut its size may be there, and its last pages not, or those of an earlier log."""
    left, log = await torn(tmp_path)
    data = log.read_bytes()
    last_first_page = max(n for n in range(32, len(data), FRAME) if data[n : n + 4] == bytes((0, 0, 0, 1)))
    log.write_bytes(data[: last_first_page + 24] + bytes(len(data) - last_first_page - 24))
    assert await words_in(left) == ["one", "two", "three", "four"]


async def test_a_log_whose_beginning_was_not_written_whole_holds_nothing(tmp_path: Path) -> None:
    left, log = await torn(tmp_path)
    data = log.read_bytes()
    log.write_bytes(
        b"".join(_without_page(data[n : n + FRAME]) for n in range(32, len(data), FRAME)).join((data[:32], b""))
    )
    assert await words_in(left) == ["one", "two"]


def _without_page(frame: bytes) -> bytes:
    return frame[:24] + bytes(len(frame) - 24)
