"""An age file is known by its header, in either form; what is damaged within is for whoever opens it."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.age_format import ARMOR_BEGINS, ARMOR_ENDS, as_binary
from worker.sealing.age import AgeSealer, keygen

BINARY = AgeSealer([keygen("today")[1] for _ in range(2)]).seal(b"a secret")


def armored(body: bytes, between: bytes = b"\n") -> bytes:
    return ARMOR_BEGINS + between + base64.b64encode(body) + between + ARMOR_ENDS


def test_binary_is_itself() -> None:
    assert as_binary(BINARY) == BINARY


@pytest.mark.parametrize("between", [b"\n", b"\r\n", b"\n\n "])
def test_armor_is_taken_off_however_its_lines_end(between: bytes) -> None:
    assert as_binary(b"\n  " + armored(BINARY, between) + b"\n") == BINARY


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"age-encryption.org/v1\n",
        BINARY[:100],
        BINARY.replace(b"/v1", b"/v2", 1),
        BINARY.replace(b"-> X25519", b"=> X25519"),
        b" " + BINARY,
        ARMOR_BEGINS,
        armored(BINARY).removesuffix(ARMOR_ENDS),
        armored(b"something else"),
        ARMOR_BEGINS + b"\nno base64!\n" + ARMOR_ENDS,
        base64.b64encode(BINARY),
    ],
    ids=[
        *("empty", "a version alone", "cut off", "another version", "another stanza", "something before it"),
        *("armor's beginning", "armor without an end", "armor of something else", "no base64", "base64 without armor"),
    ],
)
def test_what_has_no_whole_header_is_no_age_file(data: bytes) -> None:
    assert as_binary(data) is None


@given(st.binary())
def test_only_what_is_within_may_be_damaged(damage: bytes) -> None:
    header = BINARY[: BINARY.index(b"\n--- ") + 49]
    assert as_binary(header + damage) == header + damage
