"""A database is one private file with one name, and stays where it is while it is in use."""
# ruff: noqa: ASYNC240 - a test may look at a file

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.words import add, opened
from worker.core.errors import LedgerUnavailable, PersonMustAct, UsageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (folder := tmp_path / "folder").mkdir()
    return folder / "rollout.db"


@pytest.fixture
async def made(path: Path) -> Path:
    """An earlier run has made the file."""
    async with opened(path) as database:
        await database.write(add, "one", LedgerUnavailable)
    return path


async def refusal(path: Path) -> UsageError:
    with pytest.raises(UsageError) as refused:
        async with opened(path):
            pass
    return refused.value


# --- before it is used ------------------------------------------------------------------------------------------------


async def test_all_its_files_are_private_and_its_name_is_durable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("worker.adapters.sqlite.database.sync_folder", synced.append)
    old = os.umask(0)
    try:
        async with opened(path) as database:
            await database.write(add, "one", LedgerUnavailable)
            assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}
    finally:
        os.umask(old)
    assert synced == [path.parent]


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
async def test_a_link_in_the_place_of_any_of_its_files_is_refused(made: Path, suffix: str) -> None:
    link = made.with_name(made.name + suffix)
    link.unlink(missing_ok=True)
    link.symlink_to(target := made.with_name("target"))

    assert "a symbolic link" in str(await refusal(made))
    assert not target.exists()


@pytest.mark.parametrize("suffix", ["", "-wal"])
async def test_a_file_that_everybody_can_change_is_refused(made: Path, suffix: str) -> None:
    (file := made.with_name(made.name + suffix)).touch()
    file.chmod(0o666)

    assert f"chmod 600 {file}" in (await refusal(made)).hint


async def test_a_database_that_everybody_could_read_is_closed_to_them_before_anything_is_written(made: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        (file := made.with_name(made.name + suffix)).touch()
        file.chmod(0o644)

    with capture_logs() as logs:
        async with opened(made) as database:
            assert {stat.S_IMODE(each.stat().st_mode) for each in made.parent.iterdir()} == {0o640}
            await database.write(add, "two", LedgerUnavailable)

    assert {line["event"] for line in logs} == {"file_closed_to_others"}


async def test_a_second_name_of_the_file_is_refused_whichever_is_used(made: Path) -> None:
    (other := made.with_name("backup.db")).hardlink_to(made)

    for name in (made, other):
        assert "has 2 names (hard links)" in str(await refusal(name))
    other.unlink()
    async with opened(made):
        pass


async def test_a_log_without_its_database_is_not_thrown_away(made: Path) -> None:
    """SQLite would delete it: with it go the commits since the last checkpoint."""
    log = made.with_name(f"{made.name}-wal")
    async with opened(made) as database:
        await database.write(add, "two", LedgerUnavailable)
        kept = log.read_bytes()
    made.unlink()
    log.write_bytes(kept)
    log.chmod(0o600)

    refused = await refusal(made)

    assert "is missing, but its write-ahead log is there" in str(refused)
    assert "put it back" in refused.hint
    assert log.read_bytes() == kept
    assert not made.exists()


# --- while it is in use -----------------------------------------------------------------------------------------------


def removed(path: Path) -> None:
    path.unlink()


def moved(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def replaced(path: Path) -> None:
    (other := path.with_name("other")).write_bytes(path.read_bytes())
    other.rename(path)


def with_its_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def log_removed(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


def index_removed(path: Path) -> None:
    path.with_name(f"{path.name}-shm").unlink()


@pytest.mark.parametrize("take_away", [removed, moved, replaced, with_its_folder, emptied, log_removed, index_removed])
async def test_nothing_is_confirmed_once_a_file_was_taken_away(path: Path, take_away: Callable[[Path], None]) -> None:
    async with opened(path) as database:
        await database.write(add, "one", LedgerUnavailable)
        database.check()

        take_away(path)

        with pytest.raises(PersonMustAct, match=r"rollout\.db(-wal|-shm)?, was (removed|replaced|cut)") as taken:
            database.check()
        with pytest.raises(PersonMustAct):
            await database.write(add, "two", LedgerUnavailable)
        assert "put the file back" in taken.value.hint


async def test_another_process_does_not_look_like_somebody_who_took_it_away(path: Path) -> None:
    async with opened(path) as database:
        async with opened(path) as other:
            await other.write(add, "one", LedgerUnavailable)
            await database.write(add, "two", LedgerUnavailable)
        database.check()
        await database.write(add, "three", LedgerUnavailable)


# --- locked -----------------------------------------------------------------------------------------------------------


async def test_a_file_that_stays_locked_is_given_up_after_one_patience(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.adapters.sqlite.database.BUSY_TIMEOUT", 1.0)
    path.touch(0o600)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with pytest.raises(LedgerUnavailable, match="locked"):
            async with opened(path):
                pass
        assert time.monotonic() - began < 1.8
