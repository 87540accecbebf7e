"""The one file: private, durable, erasing what it deletes, and honest about disks that are full, gone or damaged."""
# ruff: noqa: ASYNC220, ASYNC221, ASYNC240 - a test may look at a file

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.support.words import SCHEMA, add, opened, words
from worker.adapters.sqlite.database import Database
from worker.core.errors import LedgerUnavailable, PersonMustAct, QueueUnavailable


def remove(connection: sqlite3.Connection, words: Sequence[str]) -> Sequence[None]:
    connection.executemany("DELETE FROM words WHERE word = ?", [(word,) for word in words])
    return [None] * len(words)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rollout.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    async with opened(path) as database:
        yield database


# --- one commit for all -----------------------------------------------------------------------------------------------


async def test_what_was_written_is_read(database: Database) -> None:
    await database.write(add, "one", LedgerUnavailable)
    assert await database.read(words, LedgerUnavailable) == ["one"]


async def test_everything_that_waits_shares_one_commit(database: Database) -> None:
    sizes = await asyncio.gather(*(database.write(add, str(number), LedgerUnavailable) for number in range(300)))
    assert sizes == [256] * 256 + [44] * 44
    assert await database.read(words, LedgerUnavailable) == [str(number) for number in range(300)]


async def test_what_comes_while_another_process_writes_shares_the_commit_that_follows(
    database: Database, path: Path
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writes = []
        for number in range(5):
            writes.append(asyncio.ensure_future(database.write(add, str(number), LedgerUnavailable)))
            await asyncio.sleep(0.03)
        assert not any(write.done() for write in writes)
        other.execute("ROLLBACK")
        assert await asyncio.gather(*writes) == [5] * 5


async def test_a_group_is_written_whole_or_not_at_all(database: Database) -> None:
    await database.write(add, "two", LedgerUnavailable)
    told = await asyncio.gather(
        *(database.write(add, word, LedgerUnavailable) for word in ("one", "two", "three")), return_exceptions=True
    )
    assert [type(error) for error in told] == [sqlite3.IntegrityError] * 3
    assert await database.read(words, LedgerUnavailable) == ["two"]
    await database.write(add, "three", LedgerUnavailable)


async def test_writing_does_not_hold_up_the_loop_or_reading(database: Database) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection, items: Sequence[str]) -> Sequence[int]:
        add(connection, items)
        begun.set()
        go_on.wait(10)
        return [0] * len(items)

    write = asyncio.ensure_future(database.write(slow, "slow", LedgerUnavailable))
    await asyncio.to_thread(begun.wait, 10)
    assert await database.read(words, LedgerUnavailable) == [], "only what is committed is read"
    go_on.set()
    await write
    assert await database.read(words, LedgerUnavailable) == ["slow"]


async def test_a_process_that_is_killed_leaves_what_was_confirmed(path: Path) -> None:
    code = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from worker.core.errors import LedgerUnavailable\n"
        "from worker.adapters.sqlite.database import Database\n"
        "def add(c, words):\n"
        "    c.executemany('INSERT INTO words VALUES (?)', [(w,) for w in words]); return words\n"
        "async def main():\n"
        "    database = Database(Path(sys.argv[1]))\n"
        f"    await database.open({SCHEMA!r}, LedgerUnavailable)\n"
        "    await asyncio.gather(*(database.write(add, str(n), LedgerUnavailable) for n in range(10)))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=30).returncode == -9
    async with opened(path) as database:
        assert len(await database.read(words, LedgerUnavailable)) == 10


async def test_processes_that_begin_the_file_together_all_succeed(path: Path) -> None:
    code = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from worker.core.errors import LedgerUnavailable\n"
        "from worker.adapters.sqlite.database import Database\n"
        "async def main():\n"
        "    os.read(0, 1)\n"
        "    database = Database(Path(sys.argv[1]))\n"
        f"    await database.open({SCHEMA!r}, LedgerUnavailable)\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
    )
    read, write = os.pipe()
    starters = [subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=read) for _ in range(4)]
    os.close(read)
    os.write(write, b"....")
    assert [starter.wait(30) for starter in starters] == [0] * 4
    os.close(write)


async def test_another_process_that_opens_and_closes_the_file_takes_nothing_away(path: Path) -> None:
    """Also after the file was opened twice here, for the ledger and for the queue."""
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from worker.core.errors import LedgerUnavailable\n"
        "from worker.adapters.sqlite.database import Database\n"
        "async def main():\n"
        "    database = Database(Path(sys.argv[1]))\n"
        f"    await database.open({SCHEMA!r}, LedgerUnavailable)\n"
        "    count = lambda c: c.execute('SELECT count(*) FROM words').fetchone()[0]\n"
        "    print(await database.read(count, LedgerUnavailable))\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
    )

    def seen_by_another() -> int:
        return int(subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=True).stdout)

    async with opened(path) as one, opened(path) as two:
        await one.open(SCHEMA, QueueUnavailable)
        for number in range(3):
            await one.write(add, f"one {number}", LedgerUnavailable)
            await two.write(add, f"two {number}", LedgerUnavailable)
            assert seen_by_another() == 2 * (number + 1)
            assert path.with_name("rollout.db-wal").exists()


async def test_two_databases_of_one_process_wait_for_each_other(path: Path) -> None:
    async with opened(path) as one, opened(path) as two:
        await asyncio.gather(
            *(
                database.write(add, f"{n} {name}", LedgerUnavailable)
                for n in range(50)
                for name, database in zip("ab", (one, two), strict=True)
            )
        )
        assert len(await one.read(words, LedgerUnavailable)) == len(await two.read(words, LedgerUnavailable)) == 100


# --- private ----------------------------------------------------------------------------------------------------------


async def test_its_files_are_the_owners_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        async with opened(path) as database:
            await database.write(add, "one", LedgerUnavailable)
            modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("rollout.db", "rollout.db-wal", "rollout.db-shm"), 0o600)


async def test_what_was_deleted_is_nowhere_after_a_clean_close(path: Path) -> None:
    secrets = [f"secret {number} " + "x" * 700 for number in range(100)]
    async with opened(path) as database:
        await asyncio.gather(*(database.write(add, word, LedgerUnavailable) for word in [*secrets, "kept"]))
        await asyncio.gather(*(database.write(remove, word, LedgerUnavailable) for word in secrets))
    left = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"kept" in left
    assert b"secret" not in left


async def test_the_log_is_emptied_although_somebody_else_has_the_file_open(path: Path) -> None:
    async with opened(path) as other:
        async with opened(path) as database:
            await database.write(add, "secret", LedgerUnavailable)
            await database.write(remove, "secret", LedgerUnavailable)
        assert await other.read(words, LedgerUnavailable) == []
        assert not any(b"secret" in file.read_bytes() for file in path.parent.iterdir())


async def test_opening_again_adds_what_is_missing_and_changes_nothing(path: Path) -> None:
    async with opened(path) as database:
        await database.write(add, "one", LedgerUnavailable)
        await database.open("CREATE TABLE IF NOT EXISTS more (a);", QueueUnavailable)
        assert await database.read(words, LedgerUnavailable) == ["one"]


# --- when something is wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"this is no database " * 100, b"SQLite format 3\0" + b"\xff" * 5000])
async def test_a_file_that_is_no_database_is_for_a_person(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(PersonMustAct, match=r"rollout\.db is damaged") as caught:
        async with opened(path):
            pass
    assert "backup" in caught.value.hint
    assert path.read_bytes() == content


async def test_damage_that_is_found_later_is_for_a_person_too(path: Path) -> None:
    async with opened(path) as database:
        await asyncio.gather(*(database.write(add, f"{n} " * 100, LedgerUnavailable) for n in range(200)))
    data = bytearray(path.read_bytes())
    data[8192:] = b"\xff" * (len(data) - 8192)
    path.write_bytes(data)
    async with opened(path) as database:
        with pytest.raises(PersonMustAct, match="damaged"):
            await database.read(words, LedgerUnavailable)
        with pytest.raises(PersonMustAct, match="damaged"):
            await asyncio.gather(*(database.write(remove, f"{n} " * 100, LedgerUnavailable) for n in range(200)))


async def test_a_folder_that_is_missing_is_away_as_whoever_asks_calls_it(tmp_path: Path) -> None:
    database = Database(tmp_path / "missing" / "rollout.db")
    for unavailable in (LedgerUnavailable, QueueUnavailable):
        with pytest.raises(unavailable, match="No such file") as caught:
            await database.open(SCHEMA, unavailable)
        assert caught.value.hint
    await database.close()


async def test_a_bug_is_not_called_a_disk_that_is_away(database: Database) -> None:
    def wrong(connection: sqlite3.Connection) -> None:
        connection.execute("SELECT nothing FROM nowhere")

    with pytest.raises(sqlite3.OperationalError):
        await database.read(wrong, LedgerUnavailable)
    with pytest.raises(sqlite3.ProgrammingError):
        await database.read(lambda c: c.execute("SELECT ?", ()), LedgerUnavailable)


async def test_a_writer_that_holds_the_file_for_too_long_is_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.adapters.sqlite.database.BUSY_TIMEOUT", 0.1)
    async with opened(path) as database:
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LedgerUnavailable, match="locked"):
                await database.write(add, "one", LedgerUnavailable)
        await database.write(add, "one", LedgerUnavailable)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_what_cannot_be_opened_is_closed_again(path: Path) -> None:
    path.write_bytes(b"this is no database " * 100)
    before = open_files()
    for _ in range(3):
        with pytest.raises(PersonMustAct):
            async with opened(path):
                pass
    assert open_files() == before


# --- two processes that make one file ---------------------------------------------------------------------------------


class RefusedOnce(sqlite3.Connection):
    """SQLite refuses its first script at once, as it does where two processes make a file at the same moment."""

    refused = False

    def executescript(self, script: str) -> sqlite3.Cursor:
        if not RefusedOnce.refused:
            RefusedOnce.refused = True
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        return super().executescript(script)


async def test_a_file_that_another_process_is_just_making_is_opened_a_moment_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RefusedOnce, "refused", False)
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=RefusedOnce))
    async with opened(path) as database:
        await database.write(add, "one", LedgerUnavailable)
        assert await database.read(words, LedgerUnavailable) == ["one"]
    assert RefusedOnce.refused
