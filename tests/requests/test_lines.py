"""Lines of files and pipes: whole, without their ends, and never more than fits into memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.messages import PARSER
from worker.core.errors import Malformed
from worker.core.file_kinds import HEAD, foreign
from worker.requests.lines import MAX_MESSAGE, Line, LineSplitter, digest, read_lines, shrink_pipe


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b" ", b"bc", b"\xef\xbb\xbf"]), max_size=30), st.data())
def test_lines_are_the_same_however_they_are_cut_into_chunks(parts: list[bytes], data: st.DataObject) -> None:
    whole, splitter, lines = b"".join(parts), LineSplitter(), []
    while whole:
        size = data.draw(st.integers(1, len(whole)))
        lines += splitter.feed(whole[:size])
        whole = whole[size:]
    assert lines + splitter.feed(b"") == list(read_lines(io.BytesIO(b"".join(parts))))


def texts(data: bytes) -> list[bytes]:
    return [line.raw for line in read_lines(io.BytesIO(data))]


@given(st.binary(max_size=4_000))
def test_any_file_is_read_to_its_end(data: bytes) -> None:
    expected = [
        (number, text)
        for number, line in enumerate(data.split(b"\n"), 1)
        if (text := re.sub(rb"^(\xef\xbb\xbf\s*)+", b"", line.strip()))
    ]
    lines = list(read_lines(io.BytesIO(data)))
    if foreign(data[:HEAD]) is None:
        assert [(line.number, line.raw) for line in lines] == expected
        assert [line.is_first for line in lines] == [True, *[False] * (len(lines) - 1)][: len(lines)]
        assert all(line.is_ended for line in lines[:-1])
    else:
        assert all(line.flaw for line in lines)


@pytest.mark.parametrize("cut", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("extra", [0, 1])
def test_whether_a_line_is_too_long_does_not_depend_on_where_it_was_cut(cut: int, end: bytes, extra: int) -> None:
    line, splitter = b"x" * (MAX_MESSAGE + extra), LineSplitter()
    whole = line + end + b"next\n" if end else line
    at = MAX_MESSAGE + cut
    lines = splitter.feed(whole[:at]) + (splitter.feed(whole[at:]) if whole[at:] else []) + splitter.feed(b"")
    assert [found.raw[: MAX_MESSAGE + 1] for found in lines] == [line, *([b"next"] if end else [])]


def test_lines_are_read_without_their_ends_and_without_the_blank_ones() -> None:
    lines = list(read_lines(io.BytesIO(b"\xef\xbb\xbfone\r\n\n \t\ntwo\n\nthree")))
    assert [(line.number, line.raw) for line in lines] == [(1, b"one"), (4, b"two"), (6, b"three")]
    assert [line.is_ended for line in lines] == [True, True, False]


def test_files_with_marks_that_were_put_together_are_read() -> None:
    mark = b"\xef\xbb\xbf"
    assert texts(mark + b"one\n" + mark + mark + b"two\n" + mark + b"\n" + mark + b" three") == [
        b"one",
        b"two",
        b"three",
    ]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_longest_line_is_read_whole(end: bytes) -> None:
    line = b"x" * MAX_MESSAGE
    assert texts(b"first\n" + line + end) == [b"first", line]


@pytest.mark.parametrize("extra", [1, 2, 3, 5 * MAX_MESSAGE])
@pytest.mark.parametrize("rest", [b"", b"\n", b"\nnext\n", b"\r\nnext"])
def test_an_overlong_line_is_one_malformed_message_and_never_held(extra: int, rest: bytes) -> None:
    lines = list(read_lines(io.BytesIO(b"x" * (MAX_MESSAGE + extra) + rest)))
    with pytest.raises(Malformed, match=r"^is longer than 256 KiB$"):
        PARSER.parse(lines[0].raw, 0.0)
    assert len(lines[0].raw) <= MAX_MESSAGE + 2
    assert [(line.number, line.raw) for line in lines[1:]] == [(2, text) for text in rest.split()]


def test_a_digest_is_short_and_tells_messages_apart() -> None:
    assert len(digest(b"a")) == 16
    assert digest(b"a") != digest(b"b")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"username": "ana", "password": "1234"}',
        b'{"username": "ana", "Passwort": "1234"}',
        b'{"username": "ana", "pwd": "1234"}',
        b'{"username": "ana", "passwd": "1234", ',
        b'{"username": "ana", "\\u0070assword": "1234"}',
        b'{"username": "ana", "p\\u0061ssword": "1234"}',
    ],
)
def test_of_what_may_hold_a_password_nothing_is_digested(raw: bytes) -> None:
    assert digest(raw) == "withheld"


# --- files that are no lines of UTF-8 ---------------------------------------------------------------------------------

TEXT = '{"username": "ana"}\n\n{"username": "zo\u00eb \U0001f984"}\n'


@pytest.mark.parametrize("end", [0, 1, 2])
@pytest.mark.parametrize(
    ("encoding", "mark", "named"),
    [
        ("utf-16-be", True, "is UTF-16, not UTF-8: convert the file (iconv -f UTF-16 -t UTF-8)"),
        ("utf-16-le", True, "is UTF-16, not UTF-8: convert the file (iconv -f UTF-16 -t UTF-8)"),
        ("utf-32-be", True, "is UTF-32, not UTF-8: convert the file (iconv -f UTF-32 -t UTF-8)"),
        ("utf-32-le", True, "is UTF-32, not UTF-8: convert the file (iconv -f UTF-32 -t UTF-8)"),
        ("utf-16-be", False, "is UTF-16, not UTF-8: convert the file (iconv -f UTF-16BE -t UTF-8)"),
        ("utf-16-le", False, "is UTF-16, not UTF-8: convert the file (iconv -f UTF-16LE -t UTF-8)"),
        ("utf-32-le", False, "is UTF-32, not UTF-8: convert the file (iconv -f UTF-32LE -t UTF-8)"),
        ("utf-32-be", False, "is UTF-32, not UTF-8: convert the file (iconv -f UTF-32BE -t UTF-8)"),
    ],
)
def test_another_encoding_is_named_and_its_lines_are_counted(encoding: str, mark: bool, named: str, end: int) -> None:
    data = ("\ufeff" * mark + TEXT[: len(TEXT) - end]).encode(encoding)
    for size in (1, 3, len(data)):
        splitter, lines = LineSplitter(), list[Line]()
        for at in range(0, len(data), size):
            lines += splitter.feed(data[at : at + size])
        lines += splitter.feed(b"")
        assert [(line.number, line.flaw) for line in lines] == [(1, named), (3, named)]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (gzip.compress, "gunzip"),
        (bz2.compress, "bunzip2"),
        (lzma.compress, "unxz"),
        (lambda data: b"PK\x03\x04" + data, "xlsx"),
        (lambda data: b"%PDF-1.7\n" + data, "PDF"),
        (lambda data: b"SQLite format 3\0" + data, "the queue or the ledger itself"),
        (lambda data: b"age-encryption.org/v1\n" + data, "age --decrypt"),
    ],
)
def test_what_is_no_text_is_one_line_named_for_what_it_is(make: Callable[[bytes], bytes], named: str) -> None:
    [line] = read_lines(io.BytesIO(make(TEXT.encode() * 9_000)))
    assert line.number == 1
    assert named in line.flaw


def test_a_pipe_is_made_small_and_what_is_no_pipe_is_left_alone() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    shrink_pipe(reading)
    shrink_pipe(io.BytesIO())
    with Path(os.devnull).open("rb") as file:
        shrink_pipe(file)

    assert os.write(writing, b"x" * 100_000) == os.sysconf("SC_PAGESIZE")
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(("filled", "size"), [(0, 1), (4_096, 1), (4_097, 2), (9_000, 4), (40_000, 16), (65_536, 16)])
def test_a_pipe_is_made_as_small_as_what_it_contains_allows(filled: int, size: int) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"x" * filled)
    assert shrink_pipe(reading) == size * 4_096
    os.read(reading, filled or 1) if filled else None
    assert shrink_pipe(reading) == 4_096
    os.close(reading)
    os.close(writing)
