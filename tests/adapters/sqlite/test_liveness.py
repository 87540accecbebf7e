"""Who is alive: known at once, never guessed, and never wrong about somebody who only sleeps."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from worker.adapters.sqlite.liveness import Liveness
from worker.core.errors import LedgerUnavailable, PersonMustAct, UsageError

Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "rollout.db"


@pytest.fixture
def start(ledger: Path) -> Iterator[Start]:
    """Starts another process that is a worker until its standard input ends."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from worker.adapters.sqlite.liveness import Liveness\n"
        "with Liveness(Path(sys.argv[1]), sys.argv[2]):\n"
        "    print('alive', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    started: list[subprocess.Popen[bytes]] = []

    def start(worker: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(ledger), worker], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"alive\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_killed_process_is_gone_at_once(ledger: Path, start: Start) -> None:
    other = start("other")
    with Liveness(ledger, "me"):
        assert not Liveness(ledger, "me").is_dead("other")
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert Liveness(ledger, "me").is_dead("other")


def test_a_stopped_process_is_not_gone(ledger: Path, start: Start) -> None:
    other = start("other")
    me = Liveness(ledger, "me")
    other.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline
    assert not me.is_dead("other")


def test_a_worker_that_ended_well_is_gone_and_leaves_nothing(ledger: Path, start: Start) -> None:
    other = start("other")
    me = Liveness(ledger, "me")
    assert not me.is_dead("other")
    other.communicate()
    assert me.is_dead("other")
    assert list(ledger.parent.glob("rollout.db.workers/*")) == []


def test_the_dead_stay_dead(ledger: Path, start: Start) -> None:
    me = Liveness(ledger, "me")
    assert me.is_dead("other")
    start("other")
    assert me.is_dead("other")


def test_oneself_is_never_gone(ledger: Path) -> None:
    me = Liveness(ledger, "me")
    assert not me.is_dead("me")
    with me:
        assert not me.is_dead("me")


def test_whoever_comes_next_clears_away_the_dead_and_no_one_else(ledger: Path, start: Start) -> None:
    dead, _living = start("dead"), start("living")
    dead.kill()
    dead.wait()
    with Liveness(ledger, "me"):
        assert {file.name for file in ledger.with_name("rollout.db.workers").iterdir()} == {"living", "me"}


def test_a_worker_is_alive_from_the_moment_it_can_be_seen(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who looks between a file's creation and its lock would take a newborn for dead."""
    flock, seen = fcntl.flock, list[bool]()

    def slow(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not seen:
            seen.append(True)
            with Liveness(ledger, "other"):  # starts meanwhile, and clears away the dead
                pass
        flock(descriptor, operation)

    monkeypatch.setattr("worker.adapters.sqlite.liveness.fcntl.flock", slow)
    with Liveness(ledger, "me"):
        assert seen
        assert not Liveness(ledger, "third").is_dead("me")


@pytest.mark.parametrize("worker", ["", "..", "../rollout.db", "a/b", "UPPER", "a\n", "x" * 65])
def test_a_name_that_no_worker_has_is_not_looked_for(ledger: Path, worker: str) -> None:
    ledger.write_bytes(b"the ledger")
    with Liveness(ledger, "me") as _:
        assert not Liveness(ledger, "other").is_dead(worker)
    assert ledger.read_bytes() == b"the ledger"


def test_where_it_cannot_be_known_nobody_is_gone(ledger: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    start("other")
    me = Liveness(ledger, "me")
    with monkeypatch.context() as patch:

        def fail(*_: object) -> int:
            raise OSError(24, "Too many open files")

        patch.setattr("worker.adapters.sqlite.liveness.os.open", fail)
        assert not me.is_dead("other")
    assert not me.is_dead("other")


def test_the_lock_files_are_the_owners_alone(ledger: Path) -> None:
    with Liveness(ledger, "me"):
        folder = ledger.with_name("rollout.db.workers")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "me").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_written_is_the_ledger_away(tmp_path: Path) -> None:
    with (
        pytest.raises(LedgerUnavailable, match="workers") as caught,
        Liveness(tmp_path / "missing" / "rollout.db", "me"),
    ):
        pass
    assert caught.value.hint


def test_a_child_process_does_not_keep_its_parent_alive(ledger: Path) -> None:
    with Liveness(ledger, "me"):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
        lock = (ledger.with_name("rollout.db.workers") / "me").stat()
        held = [file.stat() for file in Path(f"/proc/{child.pid}/fd").iterdir() if file.exists()]
        assert not any(os.path.samestat(lock, file) for file in held)
        child.communicate()


# --- other people's files ---------------------------------------------------------------------------------------------


def test_a_link_in_the_place_of_the_folder_is_refused_and_what_it_leads_to_is_left_alone(ledger: Path) -> None:
    (theirs := ledger.parent / "theirs").mkdir()
    (theirs / "notes").touch()
    (ledger.parent / "rollout.db.workers").symlink_to(theirs, target_is_directory=True)

    with pytest.raises(UsageError, match="is a symbolic link"), Liveness(ledger, "me"):
        pass

    assert [each.name for each in theirs.iterdir()] == ["notes"]


@pytest.mark.parametrize("make", [lambda path: path.touch(), lambda path: path.symlink_to("missing"), os.mkfifo])
def test_what_is_no_folder_is_refused(ledger: Path, make: Callable[[Path], None]) -> None:
    make(ledger.parent / "rollout.db.workers")

    with pytest.raises(UsageError, match=r"is (no folder|a symbolic link)"), Liveness(ledger, "me"):
        pass


def test_a_folder_that_everybody_can_write_to_is_refused(ledger: Path) -> None:
    (folder := ledger.parent / "rollout.db.workers").mkdir()
    folder.chmod(0o777)

    with pytest.raises(UsageError, match="can be written by every user") as refused, Liveness(ledger, "me"):
        pass
    assert f"chmod 700 {folder}" in refused.value.hint


def test_another_users_folder_is_refused(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (ledger.parent / "rollout.db.workers").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: ledger.parent.stat().st_uid + 1)

    with pytest.raises(UsageError, match="belongs to another user"), Liveness(ledger, "me"):
        pass


def test_nothing_but_an_empty_lock_file_is_removed_or_taken_for_a_dead_worker(ledger: Path) -> None:
    (folder := ledger.parent / "rollout.db.workers").mkdir(mode=0o700)
    (folder / "notes").write_text("theirs")
    (folder / "folder").mkdir()
    (outside := ledger.parent / "outside").touch()
    (folder / "link").symlink_to(outside)
    os.mkfifo(folder / "pipe")
    (folder / "deadworker").touch(0o600)

    with Liveness(ledger, "me"):
        found = {each.name for each in folder.iterdir()}

    assert found == {"notes", "folder", "link", "pipe", "me"}
    assert outside.exists()


@pytest.mark.parametrize("take_away", ["file", "folder", "replaced"])
def test_a_worker_notices_that_its_lock_file_was_removed(ledger: Path, take_away: str) -> None:
    folder = ledger.parent / "rollout.db.workers"
    alive = Liveness(ledger, "me")
    alive.check()
    with alive:
        alive.check()
        if take_away == "folder":
            folder.rename(ledger.parent / "moved")
        else:
            (folder / "me").unlink()
        if take_away == "replaced":
            (folder / "me").touch()
        with pytest.raises(PersonMustAct, match="was removed while it ran"):
            alive.check()


def test_the_living_are_counted_and_the_dead_are_not(ledger: Path, start: Start) -> None:
    watcher = Liveness(ledger, "watcher")
    assert watcher.alive() == 0
    start("one")
    two = start("two")
    assert watcher.alive() == 2
    with Liveness(ledger, "three") as _:
        assert watcher.alive() == 3
    two.kill()
    two.wait()
    assert watcher.alive() == 1
