"""What the file channel promises beyond the port: many processes, a file taken away and a full disk lose no record."""
# ruff: noqa: ASYNC110, ASYNC220, ASYNC240 - a test may look at a file

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.adapters.channels.rigs import arrival, delivered_lines
from tests.support.disks import make_read_only, small_disk
from tests.support.rows import NASTY_NAMES, sealed, sealeds, usernames
from worker.adapters.channels.file.channel import FileChannel
from worker.core.errors import ChannelUnavailable, PersonMustAct, UsageError
from worker.core.model import Sealed
from worker.core.record import record_line


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets.jsonl"


@pytest.fixture
async def channel(path: Path) -> AsyncIterator[FileChannel]:
    channel = FileChannel(path)
    yield channel
    await channel.close()


def line(username: str, record: Sealed) -> bytes:
    return record_line(username, record) + b"\n"


def users(path: Path) -> list[str]:
    return [username for username, *_ in delivered_lines(path)]


async def test_a_record_is_one_line_of_ascii_whatever_the_name(channel: FileChannel, path: Path) -> None:
    for name in NASTY_NAMES:
        await channel.deliver(name, sealed())
    data = path.read_bytes()
    assert data.isascii()
    assert data.replace(b"\n", b"").decode().isprintable()
    assert data.count(b"\n") == len(NASTY_NAMES)


async def test_records_that_may_wait_share_one_write(channel: FileChannel, path: Path) -> None:
    channel.gather = 60.0
    waiting = asyncio.ensure_future(channel.deliver("ana", sealed()))
    await asyncio.sleep(0)
    channel.gather = 0.0
    await asyncio.wait_for(channel.deliver("bob", sealed()), 10)
    assert waiting.done()
    assert users(path) == ["ana", "bob"]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(usernames, sealeds), max_size=5, unique_by=lambda item: item[1].attempt_id))
async def test_any_record_of_any_user_arrives(
    channel: FileChannel, path: Path, items: list[tuple[str, Sealed]]
) -> None:
    await asyncio.gather(*(channel.deliver(username, record) for username, record in items))
    assert {arrival(*item) for item in items} <= set(delivered_lines(path) if items else [])


async def test_the_line_says_who_and_which_and_keeps_the_rest_sealed(channel: FileChannel, path: Path) -> None:
    await channel.deliver("ana", sealed(7, blob=b"age", session_expires_at=12.0))
    assert json.loads(path.read_bytes()) == {
        "username": "ana",
        "generation": 7,
        "attempt_id": "attempt-7",
        "associated_at": "2025-01-31T12:00:00.000Z",
        "sealed": "YWdl",
    }


async def test_the_file_is_the_owners_alone(channel: FileChannel, path: Path) -> None:
    await channel.deliver("ana", sealed())
    assert path.stat().st_mode & 0o777 == 0o600


async def test_one_sync_does_for_all_that_wait(
    channel: FileChannel, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[bytes] = []
    sync = os.fdatasync

    def counted(descriptor: int) -> None:
        sync(descriptor)
        syncs.append(path.read_bytes())

    monkeypatch.setattr("worker.adapters.append.os.fdatasync", counted)
    await asyncio.gather(*(channel.deliver(f"user {number}", sealed()) for number in range(200)))
    assert len(syncs) <= 2
    assert syncs[-1] == path.read_bytes()


async def test_the_name_of_a_new_file_is_made_durable_before_anything_is_confirmed(
    channel: FileChannel, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where somebody else created it, and died before that."""
    synced: list[Path] = []
    monkeypatch.setattr("worker.adapters.append.sync_folder", synced.append)
    path.touch(0o600)
    await channel.deliver("ana", sealed())
    assert synced == [path.parent]
    await channel.deliver("ben", sealed())
    assert synced == [path.parent]


async def test_two_processes_at_once_do_not_mix_their_lines(path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.support.rows import sealed\n"
        "from worker.adapters.channels.file.channel import FileChannel\n"
        "async def main():\n"
        "    channel = FileChannel(Path(sys.argv[1]))\n"
        "    for part in range(20):\n"
        "        names = [f'{sys.argv[2]} {part} {n}' for n in range(10)]\n"
        "        await asyncio.gather(*(channel.deliver(name, sealed(blob=b'x' * 4000)) for name in names))\n"
        "    await channel.close()\n"
        "asyncio.run(main())\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in ("one", "two")]
    assert [writer.wait(30) for writer in writers] == [0, 0]
    found = users(path)
    assert sorted(found) == sorted(f"{w} {part} {n}" for w in ("one", "two") for part in range(20) for n in range(10))


async def test_a_line_that_a_power_cut_tore_is_closed_and_hurts_nobody(channel: FileChannel, path: Path) -> None:
    torn = line("torn", sealed())[:-20]
    path.write_bytes(line("ana", sealed()) + torn)
    await channel.deliver("ben", sealed())
    assert path.read_bytes() == line("ana", sealed()) + torn + b"\n" + line("ben", sealed())


def removed(path: Path) -> None:
    path.unlink()


def moved(path: Path) -> None:
    path.rename(path.with_suffix(".1"))


def rotated(path: Path) -> None:
    moved(path)
    path.touch(0o600)


def replaced(path: Path) -> None:
    (other := path.with_suffix(".other")).write_bytes(line("ana", sealed()) * 2)
    other.rename(path)


def with_its_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def a_link_now(path: Path) -> None:
    moved(path)
    path.symlink_to(path.with_suffix(".1"))


TAKEN_AWAY = [removed, moved, rotated, replaced, with_its_folder, cut, emptied, a_link_now]


@pytest.mark.parametrize("take_away", TAKEN_AWAY)
@pytest.mark.parametrize("written", [True, False], ids=["written", "only opened"])
async def test_a_file_that_is_taken_away_while_in_use_gets_no_more_lines_and_no_successor(
    take_away: Callable[[Path], None], written: bool, tmp_path: Path
) -> None:
    path = tmp_path / "folder" / "secrets.jsonl"
    path.parent.mkdir()
    first, channel = FileChannel(path), FileChannel(path)
    await first.deliver("ana", sealed())
    await first.close()
    await channel.open()
    if written:
        await channel.deliver("ben", sealed())
    channel.check()

    take_away(path)

    for _ in range(2):
        with pytest.raises(PersonMustAct, match=r"secrets\.jsonl, was (removed|replaced|cut)") as taken:
            channel.check()
        with pytest.raises(PersonMustAct):
            await channel.deliver("cem", sealed())
    assert "Put the file back, or restore it" in taken.value.hint
    assert not [name for file in tmp_path.rglob("secrets*") for name in users(file) if name == "cem"]
    await channel.close()


async def test_others_may_read_the_file_whose_secrets_are_sealed_and_not_change_it(path: Path) -> None:
    path.touch()
    path.chmod(0o644)
    channel = FileChannel(path)
    await channel.open()
    await channel.deliver("ana", sealed())
    await channel.close()
    path.chmod(0o606)
    with pytest.raises(UsageError, match="can be changed by every user"):
        await FileChannel(path).open()


async def test_another_worker_only_makes_the_file_longer(path: Path) -> None:
    one, two = FileChannel(path), FileChannel(path)
    for number in range(3):
        for channel in (one, two):
            await channel.deliver(f"user {number}", sealed())
            channel.check()
    assert len(users(path)) == 6
    await one.close()
    await two.close()


async def test_a_cut_is_seen_by_whose_lines_it_took_also_once_another_worker_has_written_more(path: Path) -> None:
    one, two = FileChannel(path), FileChannel(path)
    await one.deliver("ana", sealed())
    await two.open()
    size = path.stat().st_size
    await one.deliver("ben", sealed())

    os.truncate(path, size)
    for name in ("cem", "dora", "eve"):
        await two.deliver(name, sealed()._replace(blob=name.encode() * 20))

    with pytest.raises(PersonMustAct, match="was cut or written over"):
        one.check()
    with pytest.raises(PersonMustAct):
        await one.deliver("finn", sealed())
    await one.close()
    await two.close()


async def test_a_cut_is_seen_by_who_saw_the_lines_of_another_worker(path: Path) -> None:
    one, two = FileChannel(path), FileChannel(path)
    await one.deliver("ana", sealed())
    await two.open()
    size = path.stat().st_size
    await one.deliver("ben", sealed())
    await one.close()
    two.check()

    os.truncate(path, size)

    with pytest.raises(PersonMustAct, match="was cut"):
        await two.deliver("cem", sealed())
    await two.close()


async def test_a_look_during_which_a_line_is_written_sees_no_cut(
    channel: FileChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    await channel.deliver("ana", sealed())
    loop, look, looks = asyncio.get_running_loop(), os.lstat, 0

    def outdated(path: str) -> os.stat_result:
        nonlocal looks
        looks += 1
        found = look(path)
        if looks == 1:  # the next ones are those of whoever writes
            asyncio.run_coroutine_threadsafe(channel.deliver("ben", sealed()), loop).result()
        return found

    monkeypatch.setattr("worker.adapters.watched_file.os.lstat", outdated)
    await asyncio.to_thread(channel.check)

    assert looks > 1


@pytest.mark.parametrize("kind", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path.with_name("x"))])
async def test_what_is_no_file_of_ours_is_not_opened(kind: Callable[[Path], object], path: Path) -> None:
    channel = FileChannel(path)
    kind(path)
    with pytest.raises(UsageError, match="would be written to"):
        await channel.open()
    with pytest.raises(PersonMustAct, match="would be written to"):
        await channel.deliver("ana", sealed())
    await channel.close()


async def test_a_file_that_is_moved_away_while_we_wait_for_its_lock_is_not_written(path: Path) -> None:
    """Between opening and locking: the lines belong into the file that stands there then."""
    channel = FileChannel(path)
    path.touch(0o600)
    with path.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        delivery = asyncio.ensure_future(channel.deliver("ana", sealed()))
        while f"{os.getpid()} " not in _waiting_for_locks(path):
            await asyncio.sleep(0.005)
        path.rename(old := path.with_suffix(".1"))
    await delivery
    await channel.close()
    assert (old.read_bytes(), users(path)) == (b"", ["ana"])


def _waiting_for_locks(path: Path) -> str:
    """The processes that wait for the lock of this file, as Linux lists them."""
    inode = path.stat().st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return "\n".join(entry for entry in lines if "->" in entry and f":{inode} " in entry)


async def test_a_removed_folder_is_away_until_it_is_back(tmp_path: Path) -> None:
    channel = FileChannel(tmp_path / "out" / "secrets.jsonl")
    with pytest.raises(ChannelUnavailable, match="No such file") as caught:
        await channel.deliver("ana", sealed())
    assert caught.value.hint
    (tmp_path / "out").mkdir()
    await channel.deliver("ana", sealed())
    await channel.close()


async def test_everybody_who_waited_learns_of_a_failure(tmp_path: Path) -> None:
    channel = FileChannel(tmp_path / "out" / "secrets.jsonl")
    told = await asyncio.gather(*(channel.deliver(str(n), sealed()) for n in range(5)), return_exceptions=True)
    assert [type(error) for error in told] == [ChannelUnavailable] * 5
    await channel.close()


# --- a disk that is full or read-only ---------------------------------------------------------------------------------


async def deliver_until_away(channel: FileChannel, record: Sealed) -> int:
    for number in range(1000):
        try:
            await channel.deliver(f"user {number}", record)
        except ChannelUnavailable as unavailable:
            assert "No space left" in str(unavailable)  # noqa: PT017
            return number
    raise AssertionError("the disk never was full")


async def test_a_full_disk_confirms_nothing_that_is_not_there(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 64) as folder:
        await _fill(FileChannel(folder / "secrets.jsonl"), folder)


async def _fill(channel: FileChannel, folder: Path) -> None:
    path = folder / "secrets.jsonl"
    (folder / "ballast").write_bytes(b"x" * 20_000)
    confirmed = await deliver_until_away(channel, sealed(blob=b"x" * 3000))
    whole = [entry for entry in path.read_bytes().split(b"\n")[:-1] if entry]
    assert confirmed > 3
    assert [json.loads(entry)["username"] for entry in whole] == [f"user {number}" for number in range(confirmed)]
    (folder / "ballast").unlink()
    await channel.deliver("after", sealed())
    *_, last = path.read_bytes().splitlines()
    assert json.loads(last)["username"] == "after"
    await channel.close()


async def test_a_write_that_stops_half_way_is_no_delivery(
    channel: FileChannel, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, room = os.write, len(line("ana", sealed())) + 10

    def short(descriptor: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(28, "No space left on device")
        written = write(descriptor, data[: min(room, 70)])
        room -= written
        return written

    monkeypatch.setattr("worker.adapters.append.os.write", short)
    told = await asyncio.gather(*(channel.deliver(name, sealed()) for name in ("ana", "ben")), return_exceptions=True)
    assert [type(error) for error in told] == [ChannelUnavailable] * 2
    room = 10_000
    await channel.deliver("ben", sealed())
    assert path.read_bytes().endswith(b"\n" + line("ben", sealed()))


async def test_a_record_that_could_not_be_synced_is_no_delivery(
    channel: FileChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("worker.adapters.append.os.fdatasync", fail)
    with pytest.raises(ChannelUnavailable, match="Input/output error"):
        await channel.deliver("ana", sealed())


async def test_a_file_that_is_emptied_while_a_record_is_synced_is_no_delivery(
    channel: FileChannel, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await channel.deliver("ana", sealed())

    def emptied_before_it_is_durable(descriptor: int) -> None:
        os.truncate(path, 0)
        os.fsync(descriptor)

    monkeypatch.setattr("worker.adapters.append.os.fdatasync", emptied_before_it_is_durable)
    with pytest.raises(PersonMustAct, match="was cut to 0"):
        await channel.deliver("ben", sealed())


async def test_a_read_only_file_system_is_away(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 64) as folder:
        channel = FileChannel(folder / "secrets.jsonl")
        await channel.deliver("ana", sealed())
        await channel.close()
        make_read_only(folder)
        channel = FileChannel(folder / "secrets.jsonl")
        with pytest.raises(ChannelUnavailable, match="Read-only"):
            await channel.deliver("ben", sealed())
        await channel.close()
