"""Erasing a file of this host: overwritten and gone, also after a kill, and never anybody else's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.adapters.erased_files import being_erased, erase
from worker.core.errors import UsageError

SECRET = b"never-to-be-found-again"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "ledger.db"
    made.write_bytes(SECRET * 100_000)
    return made


def test_it_is_overwritten_before_it_is_gone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with path.open("rb") as still_open:
        assert erase(path, "the ledger")
        assert still_open.read(1_000).strip(b"\0") == b""
    assert not list(path.parent.iterdir())
    assert not erase(path, "the ledger"), "again it is nothing"


@pytest.mark.parametrize("dies_in", ["pwrite", "fsync"])
def test_what_a_kill_leaves_is_never_taken_for_the_file_and_is_finished(
    path: Path, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, dies_in, dies)
        with pytest.raises(KeyboardInterrupt):
            erase(path, "the ledger")
    left = {each.name for each in path.parent.iterdir()}
    assert left <= {being_erased(path).name}
    assert erase(path, "the ledger")
    assert not list(path.parent.iterdir())


def test_links_folders_and_what_is_behind_them_are_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(SECRET)
    link = tmp_path / "link"
    link.symlink_to(target)
    for each in (link, tmp_path):
        with pytest.raises(UsageError):
            erase(each, "the ledger")
    assert target.read_bytes() == SECRET


def test_an_empty_file_goes_too(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    os.close(os.open(empty, os.O_CREAT, 0o600))

    assert erase(empty, "the mark")

    assert not empty.exists()
