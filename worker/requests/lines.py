"""Reads files and pipes that have one message per line.

A line that is too long to be a message is never kept whole, so gigabytes without a newline need no memory.
"""

from __future__ import annotations

import codecs
import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

MAX_MESSAGE = 256 * 1024
"""The most bytes of one message, without the end of its line. A request needs far less (a token and 16 KiB of
attributes), and every queue accepts it: SQS accepts 1 MiB ("Amazon SQS message quotas"), and until 2025 accepted no
more than this."""


def digest(raw: bytes) -> str:
    """Return what may be stored of a malformed message: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(raw).hexdigest()[:16]


class LineSplitter:
    """Splits bytes into lines. It takes one chunk at a time, because a pipe has only what was written so far."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, chunk: bytes) -> list[bytes]:
        r"""Return the lines that this chunk completes; the empty chunk stands for the end of the file.

        Lines come without their ends (``\n`` or ``\r\n``), without white space around them and without a byte order
        mark; blank ones are left out. Of a line longer than ``MAX_MESSAGE`` only the beginning is returned, at once: it
        is just long enough for the parser to reject it. The rest of the line is skipped.
        """
        *lines, rest = (self._rest + (chunk or b"\n")).split(b"\n")
        if lines and self._skipping:
            del lines[0]
            self._skipping = False
        if self._skipping:
            rest = b""
        elif _too_long(rest):
            lines.append(rest)
            self._skipping, rest = True, b""
        self._rest = rest
        return [text for line in lines if (text := _text(line))]


def _too_long(line: bytes) -> bool:
    return len(line) > MAX_MESSAGE + len(b"\r")


def _text(line: bytes) -> bytes:
    beginning = line[: MAX_MESSAGE + len(b"\r\n")]
    text = beginning.strip().removeprefix(codecs.BOM_UTF8)
    return beginning if text and _too_long(line) else text


def read_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a binary file or pipe, each as soon as it is complete; see ``LineSplitter.feed``."""
    splitter = LineSplitter()
    while piece := stream.readline(65_536):
        yield from splitter.feed(piece)
    yield from splitter.feed(b"")


def shrink_pipe(stream: BinaryIO | int) -> None:
    """Make a pipe's buffer as small as Linux allows (one page), because credentials age in it unseen by the worker.

    ``stream`` is a file or its descriptor. Nothing happens if it is no pipe, if the system has no such call
    (``F_SETPIPE_SZ``), or if the pipe already contains more than a page.
    """
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):
            fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, 4_096)
