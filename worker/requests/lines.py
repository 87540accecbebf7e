"""Reads files and pipes that have one message per line.

A line that is too long to be a message is never kept whole, so gigabytes without a newline need no memory. Lines are
numbered as an editor does, so that a bad one is found.
"""

from __future__ import annotations

import codecs
import fcntl
import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from worker.core.errors import Malformed
from worker.core.file_kinds import HEAD, foreign

MAX_MESSAGE = 256 * 1024
"""The most bytes of one message, without the end of its line. A request needs far less (a token and 16 KiB of
attributes), and every queue accepts it: SQS accepts 1 MiB ("Amazon SQS message quotas"), and until 2025 accepted no
more than this."""

_MARKS = re.compile(rb"(?:\xef\xbb\xbf\s*)+")
"""Byte order marks in front of a text; one loop over many of them would copy the text for each."""

_MAY_HOLD_PASSWORD = re.compile(rb'pass|pwd"|\\u00[2-7]', re.IGNORECASE)
"""What a message contains that may hold a password, also under a misspelt key or one with escapes of ASCII."""


def digest(raw: bytes) -> str:
    """Return what may be stored of a malformed message: the first 16 hexadecimal digits of its SHA-256.

    Of what may hold a password it is no digest but the word ``withheld``: a short password can be guessed from one.
    """
    return "withheld" if _MAY_HOLD_PASSWORD.search(raw) else hashlib.sha256(raw).hexdigest()[:16]


class Line(NamedTuple):
    """One line of a file or a pipe, without its end."""

    number: int
    """Which line it is; the first one is 1, and blank ones count."""
    raw: bytes
    flaw: str = ""
    """What is wrong with the whole file, so that this can be no request, such as its encoding."""
    is_first: bool = False
    """Whether it is the first that is not blank."""
    is_ended: bool = True
    """Whether it has an end; the last one may have none, as where the file was cut."""

    def message(self) -> bytes:
        """Return the line as a message. Raises ``Malformed`` where the file is something else."""
        if self.flaw:
            raise Malformed(self.flaw)
        return self.raw


class LineSplitter:
    """Splits bytes into lines. It takes one chunk at a time, because a pipe has only what was written so far."""

    def __init__(self) -> None:
        self._head: bytes | None = b""
        """The first bytes, until there are enough of them to tell what the file is."""
        self._flaw = ""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._rest = b""
        self._skipping = False
        self._ignores_rest = False
        self._saw_text = False
        self.number = 0
        """Lines whose beginning was returned."""

    def feed(self, chunk: bytes) -> list[Line]:
        r"""Return the lines that this chunk completes; the empty chunk stands for the end of the file.

        Lines come without their ends (``\n`` or ``\r\n``), without white space around them and without a byte order
        mark; blank ones are left out. Of a line longer than ``MAX_MESSAGE`` only the beginning is returned, at once: it
        is just long enough for the parser to reject it. The rest of the line is skipped. Lines in another encoding
        come in UTF-8, with their ``flaw``; what is no text is one line with a flaw.
        """
        if self._head is not None:
            self._head += chunk
            if chunk and len(self._head) < HEAD:
                return []
            data, self._head = self._head, None
            if other := foreign(data):
                self._flaw, self._ignores_rest = other.flaw, other.codec is None
                self._decoder = codecs.getincrementaldecoder(other.codec)("replace") if other.codec else None
        else:
            data = chunk
        if self._ignores_rest:
            self.number = 1
            return [] if self._saw_text else self._lines([(1, data)])
        if self._decoder is not None:
            data = self._decoder.decode(data, final=not chunk).encode()
        return self._split(data, ended=not chunk)

    def _split(self, data: bytes, *, ended: bool) -> list[Line]:
        *whole, rest = (self._rest + data).split(b"\n")
        found: list[tuple[int, bytes]] = []
        for line in whole:
            if self._skipping:  # the end of a line that was too long
                self._skipping = False
                continue
            self.number += 1
            found.append((self.number, line))
        if self._skipping:
            rest = b""
        elif ended or _too_long(rest):
            self.number += bool(rest)
            found.append((self.number, rest))
            self._skipping, rest = not ended, b""
        self._rest = rest
        lines = self._lines(found)
        if ended and lines and lines[-1].number == self.number and found[-1][1]:
            lines[-1] = lines[-1]._replace(is_ended=False)
        return lines

    def _lines(self, found: Iterable[tuple[int, bytes]]) -> list[Line]:
        lines = [Line(number, text, self._flaw) for number, line in found if (text := _text(line))]
        if lines and not self._saw_text:
            self._saw_text = True
            lines[0] = lines[0]._replace(is_first=True)
        return lines


def _too_long(line: bytes) -> bool:
    return len(line) > MAX_MESSAGE + len(b"\r")


def _text(line: bytes) -> bytes:
    beginning = line[: MAX_MESSAGE + len(b"\r\n")]
    text = stripped(beginning)
    return beginning if text and _too_long(line) else text


def stripped(raw: bytes) -> bytes:
    """Return a message without white space around it and without byte order marks, which any reader here ignores."""
    text = raw.strip()
    return text[found.end() :] if (found := _MARKS.match(text)) else text


NOT_UTF8 = "is not UTF-8; if it is Latin-1: iconv -f LATIN1 -t UTF-8"
"""What is wrong with a line for which ``is_utf8`` is false, as the rest of a sentence."""


def is_utf8(raw: bytes) -> bool:
    """Whether these bytes are text in UTF-8."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_lines(stream: BinaryIO) -> Iterator[Line]:
    """Yield the lines of a binary file or pipe, each as soon as it is complete; see ``LineSplitter.feed``."""
    splitter = LineSplitter()
    while piece := stream.readline(65_536):
        yield from splitter.feed(piece)
    yield from splitter.feed(b"")


SMALL = 4_096
"""Bytes of the smallest pipe that Linux allows: a page (on machines with larger pages, one of those)."""


def shrink_pipe(stream: BinaryIO | int) -> int | None:
    """Make a pipe as small as Linux allows, because credentials age in it unseen, and nobody else knows of them.

    ``stream`` is a file or its descriptor. A pipe cannot be made smaller than what it contains. Returns how many bytes
    it holds now; ``None`` where that cannot be known or changed: it is no pipe, or the system has no ``F_SETPIPE_SZ``.
    """
    if not hasattr(fcntl, "F_SETPIPE_SZ"):
        return None
    try:
        size = fcntl.fcntl(stream, fcntl.F_GETPIPE_SZ)
        wanted = SMALL
        while wanted < size:
            with suppress(OSError):  # it contains more
                return fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, wanted)
            wanted *= 2
    except (OSError, ValueError):  # no pipe; or no file
        return None
    return size
