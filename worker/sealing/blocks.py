"""Finds the sealed records in a file, one *block* at a time, and reads a block again later.

A block is a line of JSON as a channel delivers it, or an age file: binary (then it is the whole file), armored, or in
base64, on one line or several. Files may mix them. A block that is too large for a record is never kept whole.
"""

from __future__ import annotations

import base64
import codecs
import io
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from worker.core.age_format import AGE, ARMOR_BEGINS, ARMOR_ENDS
from worker.core.errors import UsageError
from worker.core.file_kinds import HEAD, foreign
from worker.core.text import escape
from worker.sealing.identities import refuse_key

LARGEST = 1 << 20
"""The most bytes (1 MiB) of one block. A record has attributes of 16 KiB and a few hundred bytes for each recipient."""

_BASE64_BEGINS = (base64.b64encode(AGE[:18]), base64.b64encode(ARMOR_BEGINS[:30]))
"""How an age file in base64 begins, binary or armored."""
_BASE64_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2}\s*\Z")

_IDENTITY = re.compile(rb"(?mi)^AGE-SECRET-KEY-")


class Block(NamedTuple):
    """One block; ``content`` is empty if it is too large."""

    number: int
    """Its first line in the file, from 1; 0: it is the whole file."""
    offset: int
    content: bytes


class Source:
    """A file with sealed records, open for reading. ``name`` is its name for people."""

    def __init__(self, name: str, file: BinaryIO, path: Path | None = None) -> None:
        self.name = name
        self._file: BinaryIO | None = file
        self._path = path

    def blocks(self) -> Iterator[Block]:
        """Every block, in order.

        Afterwards a file with a single block is closed, if it can be opened again: there may be more age files than a
        process may have open.
        """
        file = self._opened()
        offset, number, count = 0, 1, 0
        while True:
            content, lines = _read(file, offset)
            if not lines:
                break
            after = file.tell()
            if not content or content.strip():
                count += 1
                yield Block(0 if content.startswith(AGE) else number, offset, content)
            offset, number = after, number + lines
        if count <= 1 and self._path is not None:
            self.close()

    def again(self, offset: int) -> bytes:
        """Read the block at this offset again; no bytes if the file is gone."""
        was_closed = self._file is None
        try:
            return _read(self._opened(), offset)[0]
        except OSError:
            return b""
        finally:
            if was_closed:
                self.close()

    def refuse_other_kinds(self) -> None:
        """Raise ``UsageError`` if this file, in which no record was found, is known to be of another kind."""
        file = self._opened()
        file.seek(0)
        start = file.read(4096)
        if (other := foreign(start)) and not start.startswith(AGE[:HEAD]):
            raise UsageError(f"{self.name} {other.what}", other.cure)
        if _IDENTITY.search(start):
            raise UsageError(f"{self.name} is an identity file", "name it with -i, and the delivered file without")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> BinaryIO:
        if self._file is None:
            assert self._path is not None
            self._file = self._path.open("rb")
        return self._file


def opened(name: str) -> Source:
    """Open a file, or ``-``: standard input. What cannot be read twice is copied to a temporary file.

    Raises ``UsageError`` if it cannot be read.
    """
    if name == "-":
        return Source("standard input", _spooled(sys.stdin.buffer))
    refuse_key(name)
    shown, path = escape(name), Path(name)
    try:
        file = path.open("rb")
        if stat.S_ISREG(path.stat().st_mode):
            return Source(shown, file, path)
        with file:
            return Source(shown, _spooled(file))
    except OSError as error:
        raise UsageError(
            f"cannot read {shown}: {error.strerror}",
            "name the file that the worker delivered to; before it delivered anybody there is none: mfa-worker status",
        ) from None


def _spooled(stream: BinaryIO) -> BinaryIO:
    spooled = tempfile.TemporaryFile()  # noqa: SIM115 - sealed records only; closed by the caller
    shutil.copyfileobj(stream, spooled)
    spooled.seek(0)
    return spooled


def _read(file: BinaryIO, offset: int) -> tuple[bytes, int]:
    """Return the block at this offset, and how many lines it has (0: the file ends here); the file is then behind it.

    A block that is too large is returned as no bytes.
    """
    file.seek(offset)
    line = _line(file)
    if offset == 0:
        if line.startswith(AGE):
            content = line + file.read(LARGEST)
            file.seek(0, io.SEEK_END)
            return (content if len(content) <= LARGEST else b""), 1
        line = line.removeprefix(codecs.BOM_UTF8)
    if line.strip() == ARMOR_BEGINS:
        return _with_more(file, line, armored=True)
    if line.startswith(_BASE64_BEGINS):
        return _with_more(file, line, armored=False)
    return (line if len(line) <= LARGEST else b""), 1 if line else 0


def _with_more(file: BinaryIO, first: bytes, *, armored: bool) -> tuple[bytes, int]:
    """Return the block that begins with this line, as ``_read`` does: an armored age file, or one in base64."""
    lines, size = [first], len(first)
    while True:
        before = file.tell()
        line = _line(file)
        if armored:
            ours = bool(line) and line.strip() != ARMOR_BEGINS
        else:
            ours = bool(_BASE64_LINE.match(line)) and not line.startswith(_BASE64_BEGINS)
        if not ours:
            file.seek(before)
            break
        size += len(line)
        lines.append(line if size <= LARGEST else b"")
        if armored and line.strip() == ARMOR_ENDS:
            break
    return (b"".join(lines) if size <= LARGEST else b""), len(lines)


def _line(file: BinaryIO) -> bytes:
    """Read a line; of one that is too large, only the beginning is returned, which is then too large."""
    line = piece = file.readline(LARGEST + 1)
    while len(piece) > LARGEST and not piece.endswith(b"\n"):
        piece = file.readline(LARGEST + 1)
    return line
