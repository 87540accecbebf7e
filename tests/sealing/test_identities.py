"""Identity files as people keep them: with other keys, in any encoding, encrypted, mistaken, or open to everybody."""

from __future__ import annotations

import base64
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.support.age_keys import behind_passphrase, locked_ssh_key, ssh_key
from tests.support.age_plugin import Mood, Plugin
from worker.core.errors import UsageError
from worker.sealing.age import MOST_TROUBLES, AgeOpener, AgeSealer, keygen
from worker.sealing.identities import Identities, read_identities
from worker.sealing.person import Person
from worker.sealing.trial import opened_sealer

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
    return [each.text for each in found.usable]


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


@pytest.mark.parametrize("public", ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI me@here", RECIPIENT], ids=["SSH", "age"])
def test_a_public_key_is_called_one_though_everybody_may_read_it(path: Path, public: str) -> None:
    path.write_text(f"{public}\n")
    path.chmod(0o644)
    assert "public key" in refused(path)
    path.write_text(f"{public}\n{KEY}\n")
    assert "can be read or changed by every user" in refused(path)


def test_the_cure_is_that_of_the_key_for_which_there_is_one(path: Path) -> None:
    path.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI me@here\nhello\n")
    with pytest.raises(UsageError) as caught:
        read_identities([path])
    assert "without .pub" in caught.value.hint


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


# --- keys of other kinds ----------------------------------------------------------------------------------------------


class Sits(Person):
    """Somebody at the terminal, who types these passphrases one after the other."""

    def __init__(self, *typed: str) -> None:
        self.typed, self.asked, self.told = list(typed), list[str](), list[str]()

    def is_there(self) -> bool:
        return True

    def passphrase(self, prompt: str) -> str | None:
        self.asked.append(prompt)
        return self.typed.pop(0) if self.typed else None

    def display_message(self, message: str) -> None:
        self.told.append(message)


class Nobody(Sits):
    """Nobody at all: a script."""

    def is_there(self) -> bool:
        return False


@pytest.fixture(scope="module")
def protected() -> bytes:
    """An identity file behind the passphrase "right"."""
    return behind_passphrase(TEXT.encode(), b"right")


def armored(binary: bytes) -> bytes:
    body = base64.encodebytes(binary).decode().replace("\n", "")
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join(["-----BEGIN AGE ENCRYPTED FILE-----", *lines, "-----END AGE ENCRYPTED FILE-----", ""]).encode()


@pytest.mark.parametrize("form", [bytes, armored])
def test_a_file_behind_a_passphrase_is_opened_by_whoever_types_it(
    path: Path, protected: bytes, form: Callable[[bytes], bytes]
) -> None:
    path.write_bytes(form(protected))
    person = Sits("wrong", "right")
    assert usable(read_identities([path], person)) == [KEY]
    assert person.asked == [f"Passphrase of {path}"] * 2
    assert person.told == ["this passphrase does not open it"]


def test_a_passphrase_is_asked_for_on_a_terminal_alone(path: Path, protected: bytes) -> None:
    path.write_bytes(protected)
    for person in (None, Nobody(), Sits()):
        with pytest.raises(UsageError, match="encrypted with a passphrase") as caught:
            read_identities([path], person)
        assert f"age -d {path} | mfa-worker … -i -" in caught.value.hint


def test_a_file_that_asks_for_more_work_than_any_key_needs_is_not_tried(path: Path, protected: bytes) -> None:
    path.write_bytes(protected.replace(b" 10\n", b" 31\n", 1))
    person = Sits("right")
    with pytest.raises(UsageError, match=r"more work \(2\^31\)"):
        read_identities([path], person)
    assert not person.asked


@pytest.mark.parametrize("form", ["OpenSSH", "TraditionalOpenSSL"])
def test_ssh_keys_of_either_form_are_used_beside_others_in_one_file(path: Path, form: Any) -> None:
    first, _ = ssh_key()
    second, _ = ssh_key("rsa", form=form)
    path.write_bytes(first + b"# mine\r\n" + TEXT.encode() + second.replace(b"\n", b"\r\n") + first)
    found = read_identities([path])
    assert [each.words for each in found.usable] == ["an SSH private key", "an age identity", "an SSH private key"]
    assert not found.unused


@pytest.mark.parametrize(
    ("content", "said", "cure"),
    [
        (locked_ssh_key(), "an SSH private key with a passphrase", "ssh-keygen -p -f COPY"),
        (ssh_key("rsa", passphrase=b"p", form="TraditionalOpenSSL")[0], "with a passphrase", "ssh-keygen -p -f COPY"),
        (ssh_key("rsa", form="PKCS8")[0], "in PEM (private key)", "ssh-keygen -p -f COPY"),
        (ssh_key("ecdsa")[0], "of a kind that age does not read", "keygen"),
        (ssh_key()[0][:-30], "an SSH private key that is cut off", "copy the whole file"),
        (POST_QUANTUM.encode(), "a post-quantum age identity", "age-plugin-pq -identity"),
    ],
    ids=["ed25519 with a passphrase", "RSA with a passphrase", "PKCS#8", "ECDSA", "cut off", "post-quantum"],
)
def test_an_ssh_key_that_cannot_be_used_says_why_and_how_it_could(
    path: Path, content: bytes, said: str, cure: str
) -> None:
    path.write_bytes(content)
    told = refused(path)
    assert said in told
    assert cure in told


def test_the_line_that_takes_a_passphrase_off_a_copy_names_the_file(path: Path) -> None:
    path.write_bytes(locked_ssh_key())
    assert f"cp {path} COPY" in refused(path)


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o660])
def test_an_ssh_key_is_kept_as_ssh_keeps_it(path: Path, mode: int) -> None:
    path.write_bytes(ssh_key()[0])
    path.chmod(mode)
    assert f"chmod 600 {path}" in refused(path)


# --- plugins ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return Plugin(tmp_path)


@pytest.fixture
def sealed(plugin: Plugin) -> bytes:
    with opened_sealer([plugin.recipient, RECIPIENT]) as sealer:
        return sealer.seal(b"secret")


def test_an_identity_of_a_plugin_opens_what_is_sealed_to_its_key(path: Path, plugin: Plugin, sealed: bytes) -> None:
    path.write_text(f"# stub of a token\n{plugin.identity.lower()}\n")
    assert AgeOpener([path]).open(sealed) == b"secret"
    with pytest.raises(ValueError, match="sealed to another identity"):
        AgeOpener([path]).open(AgeSealer([RECIPIENT]).seal(b"x"))


def test_a_plugin_asks_the_person_for_the_pin(path: Path, plugin: Plugin, sealed: bytes) -> None:
    path.write_text(plugin.identity)
    plugin.mood = Mood.ASKS_FOR_PIN
    person = Sits("1234", "0000")
    opener = AgeOpener([path], person)
    assert opener.open(sealed) == b"secret"
    with pytest.raises(ValueError, match="wrong PIN"):
        opener.open(sealed)
    assert person.asked == ["PIN of the token"] * 2


def test_hardware_that_is_not_there_is_said_once_and_ends_it(path: Path, plugin: Plugin, sealed: bytes) -> None:
    path.write_text(plugin.identity)
    plugin.mood = Mood.NOT_PLUGGED_IN
    opener = AgeOpener([path])
    for _ in range(MOST_TROUBLES - 1):
        with pytest.raises(ValueError, match="the token is not plugged in"):
            opener.open(sealed)
    with pytest.raises(UsageError, match="the token is not plugged in") as caught:
        opener.open(sealed)
    assert "put the hardware in" in caught.value.hint


def test_a_key_of_age_is_tried_before_any_hardware(path: Path, plugin: Plugin, sealed: bytes) -> None:
    path.write_text(f"{plugin.identity}\n{TEXT}")
    plugin.mood = Mood.HANGS
    assert AgeOpener([path]).open(sealed) == b"secret"


def test_a_plugin_whose_program_is_missing_is_named_with_the_cure(path: Path, plugin: Plugin) -> None:
    path.write_text(plugin.identity)
    plugin.program.unlink()
    said = refused(path)
    with pytest.raises(UsageError, match="age-plugin-hardware is not on the PATH") as caught:
        read_identities([path], Nobody())
    assert "install age-plugin-hardware" in caught.value.hint
    assert "an identity of the age plugin hardware" in said
