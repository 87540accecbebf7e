"""Disks that are full or cannot be written: the run ends with 75, and nothing is lost once there is space."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.rollout import Rollout

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], check=False, capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.decode().strip()}")


@contextmanager
def _full(disk: Path) -> Iterator[None]:
    """Until the last byte."""
    filler = disk / "filler"
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(descriptor, b"x" * 4096):
            pass
    except OSError:
        pass
    os.close(descriptor)
    try:
        yield
    finally:
        filler.unlink()


@root_only
async def test_a_full_disk_under_the_ledger_exits_with_75_and_loses_nobody(rollout: Rollout) -> None:
    disk = rollout.folder / "disk"
    rollout.ledger = disk / "rollout.db"
    rollout.configure(
        queue={"path": str(rollout.ledger)},
        run={"grace": 0.5, "watchdog": 2.0},
        rate={"requests_per_second": 50},
    )
    with _small_disk(disk, "8m"):
        await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(150)), credential="session"))
        running = rollout.start("run")
        await rollout.until_delivered(20)
        with _full(disk):
            stopped = await running.ended()
            at_start = await rollout.run()
        ended = await rollout.run()

        assert (stopped.code, at_start.code) == (75, 75)
        assert "disk is full" in stopped.err
        assert "disk is full" in at_start.err
        lost = await rollout.users("needs_session")
        assert set(lost.values()) <= {"reply_lost"}
        assert ended.code == (1 if lost else 0)
        assert (await rollout.states())["delivered"] == 150 - len(lost)
        assert not (await rollout.audit()).stale


@root_only
async def test_a_full_disk_under_the_channel_keeps_secrets_sealed_until_there_is_space(rollout: Rollout) -> None:
    disk = rollout.folder / "disk"
    rollout.channel = disk / "enrolments.jsonl"
    rollout.configure(channel={"path": str(rollout.channel), "patience": 0.5}, run={"concurrency": 8})
    with _small_disk(disk, "1m"):
        await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(40)), credential="session"))
        with _full(disk):
            stopped = await rollout.run()
            waiting = await rollout.states(), (await rollout.fake_cognito.stats()).issued
        ended = await rollout.run()

        assert stopped.code == 75
        assert "No space left" in stopped.logged("stopped")[0]["cause"]
        assert waiting[0].get("sealed") == waiting[1] > 0
        assert ended.code == 0
        assert len(rollout.opened()) == (await rollout.fake_cognito.stats()).issued == 40
        assert not (await rollout.audit()).stale


async def test_a_folder_that_cannot_be_written_exits_with_75(rollout: Rollout) -> None:
    disk = rollout.folder / "disk"
    disk.mkdir()
    with _read_only(disk):
        rollout.configure(channel={"path": str(disk / "enrolments.jsonl"), "patience": 0.3})
        requests = rollout.file(await rollout.sign_in("ana", credential="session"))
        channel = await rollout.run("--input", requests)
        states = await rollout.states()
        rollout.configure(queue={"path": str(disk / "rollout.db")})
        ledger = await rollout.run("--input", requests)

    assert (channel.code, ledger.code) == (75, 75)
    assert states == {"sealed": 1}
    assert "writable" in channel.err
    assert "writable" in ledger.err
    assert "Traceback" not in channel.err + ledger.err


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    if os.geteuid() == 0:  # whom permissions do not stop
        _mount("-t", "tmpfs", "-o", "ro", "tmpfs", str(folder))
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
    else:
        folder.chmod(0o500)
        yield
        folder.chmod(0o700)
