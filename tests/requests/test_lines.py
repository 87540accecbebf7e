"""Lines of files and pipes: whole, without their ends, and never more than fits into memory."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.messages import PARSER
from worker.core.errors import Malformed
from worker.requests.lines import MAX_MESSAGE, LineSplitter, digest, read_lines, shrink_pipe


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b" ", b"bc", b"\xef\xbb\xbf"]), max_size=30), st.data())
def test_lines_are_the_same_however_they_are_cut_into_chunks(parts: list[bytes], data: st.DataObject) -> None:
    whole, splitter, lines = b"".join(parts), LineSplitter(), []
    while whole:
        size = data.draw(st.integers(1, len(whole)))
        lines += splitter.feed(whole[:size])
        whole = whole[size:]
    assert lines + splitter.feed(b"") == list(read_lines(io.BytesIO(b"".join(parts))))


@given(st.binary(max_size=4_000))
def test_any_file_is_read_to_its_end(data: bytes) -> None:
    assert list(read_lines(io.BytesIO(data))) == [
        text for line in data.split(b"\n") if (text := line.strip().removeprefix(b"\xef\xbb\xbf"))
    ]


@pytest.mark.parametrize("cut", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("extra", [0, 1])
def test_whether_a_line_is_too_long_does_not_depend_on_where_it_was_cut(cut: int, end: bytes, extra: int) -> None:
    line, splitter = b"x" * (MAX_MESSAGE + extra), LineSplitter()
    whole = line + end + b"next\n" if end else line
    at = MAX_MESSAGE + cut
    lines = splitter.feed(whole[:at]) + (splitter.feed(whole[at:]) if whole[at:] else []) + splitter.feed(b"")
    assert [found[: MAX_MESSAGE + 1] for found in lines] == [line, *([b"next"] if end else [])]


def test_lines_are_read_without_their_ends_and_without_the_blank_ones() -> None:
    assert list(read_lines(io.BytesIO(b"\xef\xbb\xbfone\r\n\n \t\ntwo\n\nthree"))) == [b"one", b"two", b"three"]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_longest_line_is_read_whole(end: bytes) -> None:
    line = b"x" * MAX_MESSAGE
    assert list(read_lines(io.BytesIO(b"first\n" + line + end))) == [b"first", line]


@pytest.mark.parametrize("extra", [1, 2, 3, 5 * MAX_MESSAGE])
@pytest.mark.parametrize("rest", [b"", b"\n", b"\nnext\n", b"\r\nnext"])
def test_an_overlong_line_is_one_malformed_message_and_never_held(extra: int, rest: bytes) -> None:
    lines = list(read_lines(io.BytesIO(b"x" * (MAX_MESSAGE + extra) + rest)))
    with pytest.raises(Malformed, match=r"^is longer than 256 KiB$"):
        PARSER.parse(lines[0], 0.0)
    assert len(lines[0]) <= MAX_MESSAGE + 2
    assert lines[1:] == rest.split()


def test_a_digest_is_short_and_tells_messages_apart() -> None:
    assert len(digest(b"a")) == 16
    assert digest(b"a") != digest(b"b")


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
