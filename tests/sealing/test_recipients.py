"""Sealing to keys of every kind: whoever has the private key opens it, with age too, and its size was known before."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.age_keys import bech32, rsa_line, ssh_key, tagged, tagged_pq
from tests.support.age_plugin import Plugin
from worker.core.age_format import stanzas
from worker.core.errors import UsageError
from worker.sealing.age import AgeOpener, AgeSealer, keygen
from worker.sealing.trial import opened_sealer, refuse_missing_stanzas

TEXT, RECIPIENT = keygen("today")
SSH_FILE, SSH = ssh_key()
RSA_FILE, RSA = ssh_key("rsa")
KINDS = {
    "age": RECIPIENT,
    "ed25519": SSH,
    "rsa": RSA,
    "rsa of 2049 bits": rsa_line(2049),
    "rsa of 3071 bits": rsa_line(3071),
    "rsa of 4096 bits": rsa_line(4096),
    "tag": tagged(),
    "tagpq": tagged_pq(),
}
AGE = shutil.which("age")
needs_age = pytest.mark.skipif(not AGE, reason="the age tool is not installed")


def private(path: Path, content: bytes) -> Path:
    path.touch(0o600)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [1, 3])
def test_no_age_file_is_larger_than_was_said_before_whatever_it_is_sealed_to(kind: str, number: int) -> None:
    sealer = AgeSealer([KINDS[kind]])
    sealer.recipients *= number
    sealer._keys *= number
    for size in (0, 1, 400, 65_536, 65_537):
        said = sealer.sealed_size(size)
        lengths = [len(sealer.seal(b"x" * size)) for _ in range(12)]
        assert max(lengths) <= said <= max(lengths) + 256


@pytest.mark.parametrize("kind", KINDS)
def test_a_stanza_takes_just_the_bytes_that_were_said(kind: str) -> None:
    sealer = AgeSealer([KINDS[kind]])
    (size,) = [size for name, size in stanzas(sealer.seal(b"x")) if not name.endswith("-grease")]
    assert size == sealer.recipients[0].largest


def test_every_recipient_has_a_stanza_and_one_that_has_none_is_missed() -> None:
    texts = [RECIPIENT, SSH, RSA, tagged()]
    sealer = AgeSealer(texts)
    for _ in range(20):  # with the random stanzas of the library
        assert refuse_missing_stanzas(sealer.seal(b"x"), sealer.recipients) == 0
    for left_out in range(len(texts)):
        sealed = AgeSealer([each for number, each in enumerate(texts) if number != left_out]).seal(b"x")
        with pytest.raises(UsageError, match="can be opened by 3 of 4"):
            refuse_missing_stanzas(sealed, sealer.recipients)


def test_a_key_of_which_a_letter_is_wrong_is_said_by_its_number() -> None:
    for text in (RECIPIENT, tagged(), tagged_pq()):
        wrong = text[:-1] + ("q" if text[-1] != "q" else "p")
        with pytest.raises(UsageError, match=r"entry 1 of seal\.recipients is .* of which a letter is wrong") as caught:
            AgeSealer([wrong])
        assert wrong not in str(caught.value)


def test_a_key_that_nobody_can_have_is_found_by_the_trial(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="no key that anybody can have"), opened_sealer([bech32("age", bytes(32))]):
        pass
    capfd.readouterr()


def test_so_many_recipients_that_no_reader_reads_the_header_are_refused() -> None:
    with pytest.raises(UsageError, match="begins with") as caught, opened_sealer([keygen("")[1] for _ in range(340)]):
        pass
    assert caught.value.hint == "name fewer seal.recipients"


@pytest.mark.parametrize(("content", "recipient"), [(SSH_FILE, SSH), (RSA_FILE, RSA)], ids=["ed25519", "rsa"])
def test_what_is_sealed_to_an_ssh_key_opens_with_its_private_key(
    tmp_path: Path, content: bytes, recipient: str
) -> None:
    with opened_sealer([recipient, RECIPIENT]) as sealer:
        sealed = sealer.seal(b"secret")
    assert AgeOpener([private(tmp_path / "id", content)]).open(sealed) == b"secret"
    assert AgeOpener([private(tmp_path / "age", TEXT.encode())]).open(sealed) == b"secret"


@needs_age
@pytest.mark.parametrize(("content", "recipient"), [(SSH_FILE, SSH), (RSA_FILE, RSA)], ids=["ed25519", "rsa"])
def test_the_age_tool_and_we_open_what_the_other_sealed_to_an_ssh_key(
    tmp_path: Path, content: bytes, recipient: str
) -> None:
    key = private(tmp_path / "id", content)
    ours = private(tmp_path / "ours.age", AgeSealer([recipient]).seal(b"secret"))
    assert _age("-d", "-i", str(key), str(ours)) == b"secret"

    theirs = _age("-r", recipient, content=b"theirs")
    assert AgeOpener([key]).open(theirs) == b"theirs"


@needs_age
def test_the_age_tool_and_we_open_what_the_other_sealed_to_a_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = Plugin(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    key = private(tmp_path / "stub", plugin.identity.encode())
    with opened_sealer([plugin.recipient]) as sealer:
        ours = private(tmp_path / "ours.age", sealer.seal(b"secret"))
    assert _age("-d", "-i", str(key), str(ours)) == b"secret"

    theirs = _age("-r", plugin.recipient, content=b"theirs")
    assert AgeOpener([key]).open(theirs) == b"theirs"


def _age(*arguments: str, content: bytes = b"") -> bytes:
    return subprocess.run([str(AGE), *arguments], input=content, capture_output=True, check=True).stdout
