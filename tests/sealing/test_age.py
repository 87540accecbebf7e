"""Sealing with age: whoever holds an identity opens it, with the standard tool too, and nobody else does."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import UsageError
from worker.sealing.age import AgeOpener, AgeSealer, keygen, write_identity
from worker.sealing.identities import Identity

AGE, AGE_KEYGEN = shutil.which("age"), shutil.which("age-keygen")
needs_age = pytest.mark.skipif(not (AGE and AGE_KEYGEN), reason="the age tool is not installed")
TEXT, RECIPIENT = keygen("2025-01-31T12:00:00Z")
PLAINTEXT = '{"username": "Ünï😀", "secret_code": "JBSWY3DP"}'.encode()


@pytest.fixture
def keyfile(tmp_path: Path) -> Path:
    path = tmp_path / "identity.txt"
    write_identity(path, TEXT)
    return path


def opener(tmp_path: Path, text: str) -> AgeOpener:
    path = tmp_path / "some-identity.txt"
    path.touch(0o600)
    path.write_text(text)
    return AgeOpener([path])


@given(st.binary(max_size=2_000))
def test_what_was_sealed_is_opened_unchanged(plaintext: bytes) -> None:
    identity = pyrage.x25519.Identity.from_str(TEXT.split()[-1])
    assert pyrage.decrypt(AgeSealer([RECIPIENT]).seal(plaintext), [identity]) == plaintext


def test_the_same_record_sealed_twice_looks_different() -> None:
    sealer = AgeSealer([RECIPIENT])
    assert sealer.seal(PLAINTEXT) != sealer.seal(PLAINTEXT)


def test_every_recipient_can_open_it_alone_and_nobody_else(tmp_path: Path) -> None:
    others = [keygen("now") for _ in range(3)]
    sealed = AgeSealer([RECIPIENT, *(recipient for _, recipient in others)]).seal(PLAINTEXT)
    for text, _ in others:
        assert opener(tmp_path, text).open(sealed) == PLAINTEXT
    with pytest.raises(ValueError):
        opener(tmp_path, keygen("now")[0]).open(sealed)


def test_all_identities_of_all_files_are_tried(tmp_path: Path, keyfile: Path) -> None:
    two = tmp_path / "two.txt"
    two.touch(0o600)
    two.write_text("\n# rotated\n" + keygen("now")[0] + "\r\n" + keygen("now")[0])
    assert AgeOpener([two, keyfile]).open(AgeSealer([RECIPIENT]).seal(PLAINTEXT)) == PLAINTEXT


@given(st.binary(max_size=300), st.integers(0, 10_000))
def test_whatever_is_damaged_is_a_value_error(noise: bytes, at: int) -> None:
    sealed = AgeSealer([RECIPIENT]).seal(PLAINTEXT)
    damaged = [noise, sealed[: at % len(sealed)], sealed + (noise or b"x"), noise + sealed]
    at %= len(sealed)
    damaged.append(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])
    identity = AgeOpener.__new__(AgeOpener)
    identity._plugins, identity._native = [], [Identity(pyrage.x25519.Identity.from_str(TEXT.split()[-1]), "", "")]
    for data in damaged:
        if data != sealed:
            with pytest.raises(ValueError):
                identity.open(data)


# --- the standard tool ------------------------------------------------------------------------------------------------


@needs_age
def test_the_age_tool_opens_what_the_worker_sealed(tmp_path: Path, keyfile: Path) -> None:
    sealed = tmp_path / "record.age"
    sealed.write_bytes(AgeSealer([RECIPIENT, keygen("now")[1]]).seal(PLAINTEXT))
    command = [str(AGE), "--decrypt", "--identity", str(keyfile), str(sealed)]
    assert subprocess.run(command, capture_output=True, check=True).stdout == PLAINTEXT


@needs_age
def test_the_worker_seals_to_and_opens_with_an_identity_of_the_age_tool(tmp_path: Path) -> None:
    path = tmp_path / "theirs.txt"
    subprocess.run([str(AGE_KEYGEN), "-o", str(path)], capture_output=True, check=True)
    recipient = (
        subprocess.run([str(AGE_KEYGEN), "-y", str(path)], capture_output=True, check=True).stdout.decode().strip()
    )
    theirs = AgeOpener([path])
    assert theirs.open(AgeSealer([recipient]).seal(PLAINTEXT)) == PLAINTEXT
    command = [str(AGE), "--recipient", recipient, "--recipient", RECIPIENT]
    sealed = subprocess.run(command, input=PLAINTEXT, capture_output=True, check=True).stdout
    assert theirs.open(sealed) == PLAINTEXT


@needs_age
def test_the_age_tool_reads_our_identity_file(keyfile: Path) -> None:
    found = subprocess.run([str(AGE_KEYGEN), "-y", str(keyfile)], capture_output=True, check=True).stdout
    assert found.decode().strip() == RECIPIENT


# --- recipients -------------------------------------------------------------------------------------------------------

SECRET_KEY = TEXT.split()[-1]


KEYS = {
    "as it is": SECRET_KEY,
    "in lower case": SECRET_KEY.lower(),
    "after a blank": f" {SECRET_KEY}",
    "after a byte order mark": f"\ufeff{SECRET_KEY}",
    "in quotes": f'"{SECRET_KEY}"',
    "in a line": f"key={SECRET_KEY}\n",
    "in its file": TEXT,
    "cut off": SECRET_KEY[:-1],
    "without its prefix": SECRET_KEY.removeprefix("AGE-SECRET-KEY-1"),
    "without most of its prefix": SECRET_KEY.removeprefix("AGE-SECRET-KEY-"),
}


@pytest.mark.parametrize("text", KEYS.values(), ids=KEYS)
def test_a_secret_key_among_the_recipients_is_refused_and_never_repeated(text: str) -> None:
    with pytest.raises(UsageError, match=r"seal\.recipients") as caught:
        AgeSealer([RECIPIENT, text])
    said = (str(caught.value) + caught.value.hint).upper()
    body = SECRET_KEY.removeprefix("AGE-SECRET-KEY-1")
    assert not any(body[at : at + 8] in said for at in range(len(body) - 8))
    assert caught.value.__suppress_context__


def test_what_is_no_recipient_is_refused_with_a_hint() -> None:
    for text in ("", "age1", "age1qqqq", RECIPIENT[:-1], RECIPIENT + "q", "ssh-ed25519 AAAA", "Ünï😀"):
        with pytest.raises(
            UsageError, match=r"seal\.recipients: entry 2 is |entry 2 of seal\.recipients is "
        ) as caught:
            AgeSealer([RECIPIENT, text])
        assert caught.value.hint


@given(st.text(max_size=100))
def test_any_text_is_a_recipient_or_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        AgeSealer([text])


def test_sealing_to_nobody_is_refused() -> None:
    with pytest.raises(UsageError, match=r"seal\.recipients is empty") as caught:
        AgeSealer([])
    assert "keygen" in caught.value.hint


# --- identity files ---------------------------------------------------------------------------------------------------


def test_an_identity_file_is_the_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_identity(path := tmp_path / "identity.txt", TEXT)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == TEXT


def test_an_identity_is_never_overwritten_not_even_through_a_link(tmp_path: Path, keyfile: Path) -> None:
    link, dangling = tmp_path / "link", tmp_path / "dangling"
    link.symlink_to(keyfile)
    dangling.symlink_to(tmp_path / "elsewhere")
    for path in (keyfile, link, dangling):
        with pytest.raises(UsageError, match="never overwritten"):
            write_identity(path, "another")
    assert keyfile.read_text() == TEXT
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file") as caught:
        write_identity(tmp_path / "missing" / "identity.txt", TEXT)
    assert caught.value.hint


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# only a comment\n",
        b"AGE-SECRET-KEY-1QQQQ\n",
        b"AGE-SECRET-KEY-1QQQQ nonsense",
        b"\xff\xfe",
        "é".encode(),
    ],
)
def test_a_file_that_holds_no_identity_is_a_usage_error_that_repeats_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "identity.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"identity") as caught:
        AgeOpener([path])
    assert "QQQQ" not in str(caught.value) + caught.value.hint


def test_a_missing_identity_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the identity file"):
        AgeOpener([tmp_path / "missing"])
