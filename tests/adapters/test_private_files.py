"""Files that the worker writes: never through a link, never another's, never open to everybody, whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.adapters.private_files import (
    look_private,
    open_private,
    refuse_foreign_folder,
    swappable,
    write_private,
    writing_private,
)
from worker.core.errors import UsageError

WRITE = os.O_RDWR | os.O_CREAT


def link(path: Path) -> None:
    path.with_name("elsewhere").write_text("theirs")
    path.symlink_to(path.with_name("elsewhere"))


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("missing"))


def circle(path: Path) -> None:
    path.symlink_to(path)


def to_a_folder(path: Path) -> None:
    path.symlink_to(path.parent, target_is_directory=True)


def listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("make", [link, dangling, circle, to_a_folder, Path.mkdir, os.mkfifo, listener])
def test_what_is_no_file_is_neither_opened_nor_replaced(make: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "file"
    make(path)
    before = path.lstat()

    for write in (
        lambda: open_private(path, WRITE, what="the ledger"),
        lambda: write_private(path, b"new", what="the ledger"),
        lambda: look_private(path, what="the ledger"),
    ):
        with pytest.raises(UsageError, match=f"the ledger would be written to {path}, which is a"):
            write()

    assert os.path.samestat(path.lstat(), before)
    assert not (tmp_path / "missing").exists()
    assert not (tmp_path / "elsewhere").exists() or (tmp_path / "elsewhere").read_text() == "theirs"


@pytest.mark.parametrize("name", ["/dev/null", "/dev/full", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_device_is_no_file_to_write_to(name: str) -> None:
    with pytest.raises(UsageError, match=r"a device|a symbolic link|a pipe"):
        open_private(Path(name), os.O_WRONLY, what="the channel")


@pytest.mark.parametrize("mode", [0o666, 0o644, 0o604, 0o602, 0o601])
def test_a_file_that_everybody_can_open_is_refused_with_the_command_that_closes_it(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)

    with pytest.raises(UsageError, match=f"mode {mode:04o}") as refused:
        open_private(path, WRITE, what="the ledger")

    assert f"chmod 600 {path}" in refused.value.hint


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660])
def test_a_group_may_have_access_because_kubernetes_gives_it_to_that_of_a_volume(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)

    os.close(open_private(path, WRITE, what="the ledger"))

    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("write", [open_private, write_private])
def test_another_users_file_is_refused(
    write: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.touch(mode=0o600)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)

    with pytest.raises(UsageError, match="belongs to another user"):
        write(path, WRITE if write is open_private else b"", what="the ledger")


def test_root_may_write_what_belongs_to_the_folders_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.touch(mode=0o600)
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert look_private(path, what="the ledger")


def test_a_new_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        os.close(open_private(tmp_path / "opened", WRITE, what="the ledger"))
        write_private(tmp_path / "written", b"new", what="the report")
    finally:
        os.umask(old)

    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    assert look_private(tmp_path / "nothing", what="the ledger") is None


def test_parent_folders_may_be_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)

    write_private(tmp_path / "link" / "file", b"new", what="the report")

    assert (tmp_path / "real" / "file").read_bytes() == b"new"


def test_an_older_file_is_replaced_whole_and_becomes_private(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"older")
    path.chmod(0o644)

    write_private(path, b"new", what="the report")

    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_older_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"older")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match="No space left"):
        write_private(path, b"new", what="the report")

    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("mode", "is_told"), [(0o700, False), (0o2775, False), (0o1777, False), (0o777, True)])
def test_a_folder_in_which_everybody_can_swap_files_is_told_with_the_line_that_closes_it(
    tmp_path: Path, mode: int, is_told: bool
) -> None:
    (folder := tmp_path / "folder").mkdir()
    folder.chmod(mode)
    told = swappable(folder)
    assert (told is not None) == is_told
    if told is not None:
        assert f"chmod o-w {folder}" in told[1]
    assert swappable(tmp_path / "missing") is None


@pytest.mark.parametrize("make", [link, dangling, circle, to_a_folder, Path.touch, os.mkfifo, listener])
def test_a_folder_for_secrets_is_no_link_and_nothing_else(make: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "file"
    refuse_foreign_folder(path, what="--keep", cure="name another")
    make(path)
    with pytest.raises(UsageError, match=r"--keep: .* is "):
        refuse_foreign_folder(path, what="--keep", cure="name another")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody")
def test_a_folder_for_secrets_is_not_another_users(tmp_path: Path) -> None:
    (folder := tmp_path / "folder").mkdir()
    refuse_foreign_folder(folder, what="--keep", cure="name another")
    os.chown(folder, 12345, 12345)
    with pytest.raises(UsageError, match="belongs to another user"):
        refuse_foreign_folder(folder, what="--keep", cure="name another")


def test_whoever_is_killed_while_they_write_leaves_nothing(tmp_path: Path) -> None:
    script = f"""
import os, signal, pathlib
from worker.adapters.private_files import writing_private
with writing_private(pathlib.Path({str(tmp_path / "file")!r}), what="the secrets") as file:
    file.write(b"secret" * 10_000)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_where_a_file_must_have_a_name_it_has_a_hidden_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def without_nameless(path: str | Path, flags: int, mode: int = 0o777, **more: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return opened(path, flags, mode, **more)

    monkeypatch.setattr(os, "open", without_nameless)
    path = tmp_path / "file"
    with writing_private(path, what="the secrets") as file:
        (hidden,) = tmp_path.glob(".mfa-worker-*")
        assert stat.S_IMODE(hidden.stat().st_mode) == 0o600
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
