"""Identity files as people keep them: with other keys, in any encoding, encrypted, mistaken, or open to everybody."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from worker.core.errors import UsageError
from worker.sealing.age import AgeOpener, AgeSealer, keygen
from worker.sealing.identities import Identities, read_identities

TEXT, RECIPIENT = keygen("now")
KEY = TEXT.split()[-1]
PLUGIN = "AGE-PLUGIN-YUBIKEY-1Q9RSTQ9RSTQ9RSTQ9RST"
POST_QUANTUM = "AGE-SECRET-KEY-PQ-1" + "Q" * 58
SSH = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAE\n"
    "bm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZWQyNTUx\n-----END OPENSSH PRIVATE KEY-----\n"
)
needs_age = pytest.mark.skipif(not shutil.which("age"), reason="the age tool is not installed")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "identity.txt"
    made.touch(0o600)
    return made


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_identities([path])
    assert caught.value.hint
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    said = f"{caught.value} → {caught.value.hint}"
    assert KEY[20:30] not in said
    assert "Q9RST" not in said
    return said


def usable(found: Identities) -> list[str]:
    return [str(each) for each in found.usable]


@pytest.mark.parametrize(
    "data",
    [
        f"# Schlüssel für Zoë 🔑\n{KEY}\n".encode(),
        f"# Schlüssel\n{KEY}\n".encode("latin-1"),
        f"\ufeff{KEY}\n".encode(),
        f"\ufeff# key\r\n\r\n  {KEY}  \r\n\r\n".encode(),
        f"\t{KEY}".encode(),
        KEY.lower().encode(),
        f"# old Mac\r{KEY}\r".encode(),
    ],
    ids=range(7),
)
def test_comments_encodings_and_blanks_hide_no_key(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    found = read_identities([path])

    assert usable(found) == [KEY]
    assert found.unused == []


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        (PLUGIN, "an identity of the age plugin yubikey"),
        (POST_QUANTUM, "a post-quantum age identity"),
        (SSH, "an SSH private key"),
        ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----", "in PEM (rsa private key)"),
        (RECIPIENT, "a recipient (public key)"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI me@here", "an SSH public key"),
        (KEY[:-1], "an age identity that is cut off or mistyped"),
        ('{"username": "ana"}', "JSON, perhaps a file of sealed records"),
        ("hello", "no age identity"),
    ],
    ids=range(9),
)
def test_a_key_of_another_kind_is_named_and_the_usable_one_beside_it_is_used(path: Path, other: str, kind: str) -> None:
    for content in (f"{other}\n{KEY}\n", f"{KEY}\n{other}\n"):
        path.write_text(content)
        found = read_identities([path])
        assert usable(found) == [KEY]
        (said,) = found.unused
        assert kind in said
    path.write_text(f"# mine\n{other}\n")
    assert f"{path}:2 is " in refused(path)
    assert kind in refused(path)


def test_the_same_identity_counts_once_wherever_it_stands(tmp_path: Path, path: Path) -> None:
    path.write_text(f"{KEY}\n{KEY.lower()}\n")
    copy = tmp_path / "copy"
    copy.touch(0o600)
    copy.write_text(TEXT)

    assert usable(read_identities([path, copy, path])) == [KEY]


@pytest.mark.parametrize(("data", "said"), [(b"", "is empty"), (b" \n\r\n", "is empty"), (b"# hi\n", "only comments")])
def test_a_file_without_a_key_says_so(path: Path, data: bytes, said: str) -> None:
    path.write_bytes(data)
    assert said in refused(path)


def test_what_is_no_identity_file_at_all_is_called_what_it_is(tmp_path: Path, path: Path) -> None:
    assert "is a folder" in refused(tmp_path)
    path.write_text(TEXT, "utf-16")
    assert "UTF-16" in refused(path)
    path.write_bytes(b"#" * (2 << 20))
    assert "too large" in refused(path)


@needs_age
def test_an_encrypted_identity_file_is_called_encrypted_whoever_may_read_it(tmp_path: Path) -> None:
    for number, form in enumerate(([], ["--armor"])):
        path = tmp_path / f"encrypted{number}"
        command = ["age", *form, "--recipient", RECIPIENT, "--output", str(path)]
        subprocess.run(command, input=TEXT.encode(), check=True)
        path.chmod(0o644)
        assert "encrypted" in refused(path)
        assert f"age -d {path} | mfa-worker … -i -" in refused(path)
    path.write_bytes(b"age-encryption.org/v1\n-> scrypt AAAA 18\nAAAA\n")
    assert "encrypted with a passphrase" in refused(path)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o666, 0o602])
def test_an_identity_that_others_can_read_or_change_is_refused_with_the_line_that_cures_it(
    path: Path, mode: int
) -> None:
    path.write_text(TEXT)
    path.chmod(mode)
    assert f"chmod 600 {path}" in refused(path)
    assert f"(mode {mode:04o})" in refused(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440, 0o640])
def test_the_group_may_read_it_as_kubernetes_mounts_it_behind_a_link(tmp_path: Path, path: Path, mode: int) -> None:
    path.write_text(TEXT)
    path.chmod(mode)
    link = tmp_path / "mounted"
    link.symlink_to(path)
    assert usable(read_identities([link])) == [KEY]


def test_a_key_may_come_from_a_pipe_and_from_standard_input(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.unlink()
    os.mkfifo(path, 0o644)
    writer = Thread(target=path.write_text, args=(TEXT,))
    writer.start()
    assert usable(read_identities([path])) == [KEY]
    writer.join()

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert usable(read_identities([Path("-"), Path("-")])) == [KEY]


def test_an_opener_knows_what_it_does_not_use(path: Path) -> None:
    path.write_text(f"{PLUGIN}\n{TEXT}")
    opener = AgeOpener([path])
    assert opener.open(AgeSealer([RECIPIENT]).seal(b"x")) == b"x"
    assert len(opener.unused) == 1


@pytest.mark.parametrize("given", [KEY, KEY.lower(), f"./{KEY}", f"{KEY}.txt"], ids=range(4))
def test_a_key_in_place_of_its_file_is_refused_and_not_repeated(given: str) -> None:
    assert "in place of a file" in refused(Path(given))
    assert KEY[20:30].lower() not in refused(Path(given)).lower()
