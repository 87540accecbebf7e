"""Targets: files of sealed records and of identities, and what is sealed in them: anybody can seal to a public key."""

from __future__ import annotations

import base64
import io
import json
from contextlib import suppress
from pathlib import Path

import pyrage

from tests.fuzzing.harness import MARKER, Target
from tests.fuzzing.of_requests import written
from worker.adapters.sealed_lines import refuse_other_files
from worker.core.age_format import as_binary
from worker.core.errors import UsageError
from worker.core.model import Sealed
from worker.core.record import is_line, line_address, parse_object, record_line
from worker.sealing.age import AgeOpener
from worker.sealing.blocks import Source
from worker.sealing.identities import read_identities
from worker.sealing.newest import Newest
from worker.sealing.own import OwnAgeSealer
from worker.sealing.recipients import NoAnswers, keys, readable

_TEXT = (
    "# created: 2025-01-31\n# public key: age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj\n"
    "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX\n"
)
"""An identity of age's own specification: it opens nothing of anybody's."""
RECIPIENT = pyrage.x25519.Identity.from_str(_TEXT.splitlines()[2]).to_public()
OPENER = AgeOpener([written(_TEXT.encode(), "identity")])


def sealed(record: bytes) -> bytes:
    blob: bytes = pyrage.encrypt(record, [RECIPIENT])
    return blob


def _opened(data: bytes) -> str:
    found: list[str] = []
    newest, out = Newest(OPENER, lambda record: found.append(json.dumps(record))), io.StringIO()
    try:
        newest.look_through(Source("file", io.BytesIO(data)))
        newest.open_all()
        newest.report(out)
    finally:
        newest.close()
    return out.getvalue()


def sealed_file(data: bytes) -> str:
    return _opened(data)


def sealed_record(data: bytes) -> str:
    """What is sealed to us may be anything, and its line says what it likes."""
    line = {"username": "ana", "generation": 7, "sealed": base64.b64encode(sealed(data)).decode()}
    return _opened(
        json.dumps(line).encode() + b"\n" + sealed(data)[:40] + b"\n" + base64.b64encode(sealed(data)) + b"\n"
    )


def sealed_line(data: bytes) -> str:
    """A line is one exactly where plain JSON finds an address and a text in it."""
    text = data.decode("utf-8", "replace")
    ours = is_line(text)
    try:
        found = json.loads(text)
        user, generation = found.get("username"), found["generation"]
        plain = type(generation) is int and isinstance(found["sealed"], str) and "\n" not in text
        known = isinstance(user, str) and bool(user.encode() or True) if "username" in found else None
        theirs = plain and (known if known is not None else isinstance(found["username_sha256"], str) and ours)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        theirs = False
    assert ours == theirs
    refuse_other_files(written(data, "lines"), "channel.path")
    if ours and isinstance(found.get("username"), str) and abs(found["generation"]) < 2**63:
        again = parse_object(record_line(found["username"], Sealed(found["generation"], "a", "b", b"blob")))
        assert line_address(again) == line_address(found)
    return ""


def age_file(data: bytes) -> None:
    if (binary := as_binary(data)) is not None:
        assert as_binary(binary) == binary
        with suppress(ValueError):
            OPENER.open(binary)


def identity_file(data: bytes) -> str:
    return " ".join(read_identities([written(data)]).unused)


def recipient(data: bytes) -> None:
    """A public key to seal to, of every kind."""
    found = readable([data.decode("utf-8", "surrogateescape")])
    keys(found, NoAnswers())


def own_identity(data: bytes) -> str:
    return repr(OwnAgeSealer(data.decode("utf-8", "replace")))


def _armored(blob: bytes) -> bytes:
    text: bytes = base64.encodebytes(blob)
    return b"-----BEGIN AGE ENCRYPTED FILE-----\n" + text + b"-----END AGE ENCRYPTED FILE-----\n"


_FIXED = (Path(__file__).with_name("corpus") / "sealed_file" / "record").read_bytes()
_RECORD = json.dumps({"username": "ana", "generation": 7, "secret_code": MARKER.decode(), "attributes": {}}).encode()
_LINE = json.dumps(
    {
        "username": "ana",
        "generation": 7,
        "attempt_id": "a",
        "associated_at": "b",
        "sealed": base64.b64encode(_FIXED).decode(),
    }
).encode()
_STANZA = b"-> X25519 AAAA\n" + b"A" * 43 + b"\n"


def _header(n: int) -> bytes:
    return b"age-encryption.org/v1\n" + _STANZA * (n // len(_STANZA)) + b"--- " + b"A" * 43 + b"\n" + b"\0" * 16


TARGETS = {
    "sealed_file": Target(
        sealed_file,
        (
            _FIXED,
            _armored(_FIXED),
            base64.b64encode(_FIXED),
            _LINE + b"\n" + _LINE[:90],
            _LINE.replace(b"YWdl", b"eWdl") + b"\n" + _LINE,
        ),
        documented=(UsageError,),
        repeats=lambda data: b'"' in data,  # a username stands there
        shapes={
            "brackets": lambda n: b'{"":' + b"[" * n,
            "stanzas": _header,
            "armor without end": lambda n: b"-----BEGIN AGE ENCRYPTED FILE-----\n" + b"A\n" * (n // 2),
            "beginnings of armor": lambda n: b"-----BEGIN AGE ENCRYPTED FILE-----\n" * (n // 35),
            "base64 without end": lambda n: (
                base64.b64encode(b"age-encryption.org/v1\n")[:24] + b"\n" + b"A\n" * (n // 2)
            ),
            "lines": lambda n: (_LINE[:60] + b"\n") * (n // 61),
            "torn": lambda n: b'{"username": "' + b"\\\\" * (n // 2),
        },
    ),
    "sealed_record": Target(
        sealed_record,
        (
            _RECORD,
            b"[]",
            b"{}",
            b'{"username":"ana","generation":7,"secret_code":5}',
            b'{"username":"\xed\xa0\x80","generation":7}',
        ),
        documented=(UsageError,),
    ),
    "sealed_line": Target(
        sealed_line,
        (_LINE, b'{"username"', b"[" * 2_000),
        documented=(UsageError,),
        shapes={"brackets": lambda n: b"[" * n},
    ),
    "age_file": Target(
        age_file,
        (_FIXED, _armored(_FIXED), b"age-encryption.org/v1\n-> scrypt AAAA 30\nAAAA\n--- " + b"A" * 43 + b"\n"),
        shapes={
            "stanzas": _header,
            "arguments": lambda n: b"age-encryption.org/v1\n->" + b" a" * (n // 2),
            "base64": lambda n: b"age-encryption.org/v1\n-> a\n" + (b"A" * 64 + b"\n") * (n // 65),
            "armor": lambda n: (
                b"-----BEGIN AGE ENCRYPTED FILE-----\n" + b"A " * (n // 2) + b"-----END AGE ENCRYPTED FILE-----"
            ),
            "blanks": lambda n: b" " * n,
        },
    ),
    "identity_file": Target(
        identity_file,
        (
            _TEXT.encode(),
            b"-----BEGIN OPENSSH PRIVATE KEY-----\n%s\n-----END OPENSSH PRIVATE KEY-----" % MARKER,
            b"AGE-PLUGIN-YUBIKEY-1" + MARKER,
            b"AGE-SECRET-KEY-1" + MARKER + b"\nage1" + MARKER,
            b"age-encryption.org/v1\n-> scrypt AAAA 18\n",
            b"age-encryption.org/v1\n-> scrypt AAAA " + b"9" * 5_000 + b"\n",
        ),
        documented=(UsageError,),
        shapes={
            "lines": lambda n: b"a\n" * (n // 2),
            "one line": lambda n: b"AGE-PLUGIN-" + b"-" * n,
            "keys": lambda n: (MARKER + b"\n") * (n // 20),
        },
    ),
    "recipient": Target(
        recipient,
        (
            str(RECIPIENT).encode(),
            b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJT2dVXJGZVqfDqwQnPhrM1k3VQ2hJ4Z4fYcE7iVbY0k somebody@host",
            b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7 " + MARKER,
            b"age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t",
            b"AGE-SECRET-KEY-1" + MARKER,
            b'restrict,command="x" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA',
        ),
        documented=(UsageError,),
        shapes={
            "blanks": lambda n: b"ssh-a" + b" " * n + b"x",
            "SSH": lambda n: b" ssh-" * (n // 5),
            "age1": lambda n: b"age1" * (n // 4),
            "base64": lambda n: b"ssh-rsa " + b"A" * n,
            "commas": lambda n: b"age1" + b"," * n,
        },
    ),
    "own_identity": Target(own_identity, (_TEXT.splitlines()[2].encode(), MARKER), documented=(ValueError,)),
}
