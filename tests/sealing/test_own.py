"""The worker's own identity: made whole and once, read like any identity, and opened by nobody else."""

from __future__ import annotations

import concurrent.futures
import os
import stat
from pathlib import Path

import pytest

from worker.core.errors import UsageError
from worker.sealing.age import keygen
from worker.sealing.own import OwnAgeSealer, make_own, read_own

PLAIN = b'{"secret_code": "JBSWY3DPEHPK3PXP"}'


def sealer() -> OwnAgeSealer:
    return OwnAgeSealer(keygen("today")[0].splitlines()[-1])


def test_what_it_seals_it_opens_and_nobody_else() -> None:
    mine = sealer()
    blob = mine.seal(PLAIN)
    assert PLAIN not in blob
    assert mine.open(blob) == PLAIN
    for stranger, bytes_ in ((sealer(), blob), (mine, blob[:-1]), (mine, b""), (mine, PLAIN)):
        with pytest.raises(ValueError, match="another identity, or damaged"):
            stranger.open(bytes_)


def test_its_repr_shows_the_public_key_alone() -> None:
    text, recipient = keygen("today")
    mine = OwnAgeSealer(text.splitlines()[-1])
    assert repr(mine) == f"OwnAgeSealer({recipient})"
    with pytest.raises(ValueError, match="no age identity") as caught:
        OwnAgeSealer(text)
    assert "AGE-SECRET-KEY" not in str(caught.value)


def test_it_is_made_once_private_and_read_back(tmp_path: Path) -> None:
    file = tmp_path / "activation-identity.txt"
    make_own(file, "2027-01-31")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file], "nothing else is left"
    before = file.read_bytes()
    make_own(file, "2027-02-01")
    assert file.read_bytes() == before
    assert read_own(file).recipient in before.decode()


@pytest.mark.parametrize("has_links", [True, False])
def test_of_many_that_make_it_at_once_all_have_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_links: bool
) -> None:
    def link(_: Path, __: Path) -> None:
        raise OSError(95, "Operation not supported")

    if not has_links:
        monkeypatch.setattr(os, "link", link)
    file = tmp_path / "own.txt"
    if not has_links:
        make_own(file, "today")

    def made() -> str:
        make_own(file, "today")
        return read_own(file).recipient

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert len({each.result() for each in [threads.submit(made) for _ in range(16)]}) == 1
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory") as caught:
        make_own(tmp_path / "missing" / "own.txt", "today")
    assert "activation.identity" in caught.value.hint


IDENTITY, RECIPIENT = keygen("today")


@pytest.mark.parametrize(
    ("content", "mode", "text"),
    [
        ("", 0o600, "is empty"),
        ("# a comment\n", 0o600, "has only comments"),
        (RECIPIENT, 0o600, "is a recipient (public key)"),
        ("ssh-ed25519 AAAA\n", 0o600, "is an SSH public key"),
        ("AGE-SECRET-KEY-PQ-1ABC\n", 0o600, "is a post-quantum age identity"),
        (IDENTITY[:-10], 0o600, "is an age identity that is cut off or mistyped"),
        (IDENTITY + keygen("today")[0], 0o600, "holds 2 identities"),
        (IDENTITY + "AGE-PLUGIN-YUBIKEY-1ABC\n", 0o600, "holds more: "),
        (IDENTITY, 0o644, "can be read or changed by every user"),
        ("-----BEGIN AGE ENCRYPTED FILE-----\n", 0o600, "is an identity file that is encrypted"),
    ],
    ids=lambda value: value if isinstance(value, str) and value[:2] in ("is", "ha", "ho", "ca") else "",
)
def test_anything_but_one_identity_is_refused_with_a_cure(tmp_path: Path, content: str, mode: int, text: str) -> None:
    (file := tmp_path / "own.txt").write_text(content)
    file.chmod(mode)
    with pytest.raises(UsageError) as caught:
        read_own(file)
    assert text in str(caught.value)
    assert caught.value.hint
    assert "AGE-SECRET-KEY-1" not in str(caught.value)
