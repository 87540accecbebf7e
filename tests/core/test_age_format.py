"""An age file is known by its header, in either form; what is damaged within is for whoever opens it."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.age_format import ARMOR_BEGINS, ARMOR_ENDS, LONGEST_HEADER, as_binary, stanzas
from worker.sealing.age import AgeSealer, keygen

BINARY = AgeSealer([keygen("today")[1] for _ in range(2)]).seal(b"a secret")


def armored(body: bytes, between: bytes = b"\n") -> bytes:
    text = base64.b64encode(body)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return between.join([ARMOR_BEGINS, *lines, ARMOR_ENDS])


def test_binary_is_itself() -> None:
    assert as_binary(BINARY) == BINARY


@pytest.mark.parametrize("between", [b"\n", b"\r\n", b"\n\n "])
def test_armor_is_taken_off_however_its_lines_end(between: bytes) -> None:
    assert as_binary(b"\n  " + armored(BINARY, between) + b"\n") == BINARY


def test_what_stands_behind_the_end_of_armor_is_no_part_of_it() -> None:
    assert as_binary(armored(BINARY) + b"\n" + armored(b"another") + b" and words") == BINARY


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
        armored(BINARY).replace(b"\n", b"\n!", 3),
        base64.b64encode(BINARY),
    ],
    ids=[
        *("empty", "a version alone", "cut off", "another version", "another stanza", "something before it"),
        *(
            "armor's beginning",
            "armor without an end",
            "armor of something else",
            "no base64",
            "among base64",
            "base64 without armor",
        ),
    ],
)
def test_what_has_no_whole_header_is_no_age_file(data: bytes) -> None:
    assert as_binary(data) is None


def header(bytes_long: int) -> bytes:
    """The header of an age file, of so many bytes: one stanza with a long argument, and another."""
    fixed = b"age-encryption.org/v1\n-> first %s\n\n-> second\nAAAA\n--- " + b"A" * 43 + b"\n"
    return fixed % (b"x" * (bytes_long - len(fixed) + 2))


def test_a_header_that_would_take_too_long_to_open_is_none() -> None:
    longest = header(LONGEST_HEADER) + b"content"
    assert as_binary(longest) == longest
    assert as_binary(header(LONGEST_HEADER + 1) + b"content") is None


def test_each_stanza_of_a_header_is_told_with_its_bytes_and_nothing_of_the_content_is() -> None:
    data = header(200) + b"-> third\nAAAA\n"
    assert stanzas(data) == [("first", 200 - 22 - 15 - 48), ("second", len(b"-> second\nAAAA\n"))]
    assert [size for name, size in stanzas(BINARY) if name == "X25519"] == [98, 98]


@pytest.mark.parametrize("data", [b"", b"-> first\n\n" * 9, header(200)[:-1], armored(header(200))])
def test_what_is_no_binary_age_file_has_no_stanzas(data: bytes) -> None:
    assert stanzas(data) == []


@given(st.binary())
def test_only_what_is_within_may_be_damaged(damage: bytes) -> None:
    header = BINARY[: BINARY.index(b"\n--- ") + 49]
    assert as_binary(header + damage) == header + damage
