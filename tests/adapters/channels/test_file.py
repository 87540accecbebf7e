"""What the file channel promises beyond the port: many processes, a rotation and a full disk lose nobody's record."""
# ruff: noqa: ASYNC110, ASYNC220, ASYNC240 - a test may look at a file

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.adapters.channels.rigs import arrival, delivered_lines
from tests.support.disks import make_read_only, small_disk
from tests.support.rows import NASTY_NAMES, sealed, sealeds, usernames
from worker.adapters.channels.file.channel import FileChannel
from worker.core.errors import ChannelUnavailable
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
    monkeypatch.setattr("worker.adapters.append._sync_folder", synced.append)
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


async def test_a_file_that_was_moved_away_is_followed_by_a_new_one(channel: FileChannel, path: Path) -> None:
    await channel.deliver("ana", sealed())
    path.rename(old := path.with_suffix(".1"))
    await channel.deliver("ben", sealed())
    path.unlink()
    await channel.deliver("cem", sealed())
    assert (users(old), users(path)) == (["ana"], ["cem"])


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


async def test_a_path_that_is_no_file_is_away(tmp_path: Path) -> None:
    channel = FileChannel(tmp_path)
    with pytest.raises(ChannelUnavailable, match="directory"):
        await channel.deliver("ana", sealed())
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


async def test_a_read_only_file_system_is_away(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 64) as folder:
        channel = FileChannel(folder / "secrets.jsonl")
        await channel.deliver("ana", sealed())
        make_read_only(folder)
        with pytest.raises(ChannelUnavailable, match="Read-only"):
            await channel.deliver("ben", sealed())
        await channel.close()
