"""Requests and usernames in files and pipes: one a line."""

from __future__ import annotations

import codecs
import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

MAX_MESSAGE = 256 * 1024
"""Bytes of one message, without the end of its line."""


_SMALLEST_PIPE = 4_096


def digest(raw: bytes) -> str:
    """What may be remembered of a malformed message: 16 hex characters."""
    return hashlib.sha256(raw).hexdigest()[:16]


def read_lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a binary file or pipe without their ends; blank ones are skipped, and so is a byte order mark.

    Of a line longer than ``MAX_MESSAGE`` only so much is held and yielded that ``parse`` finds it too long.
    """
    most = MAX_MESSAGE + len(b"\r\n")
    while line := stream.readline(most):
        ended = line.endswith(b"\n") or len(line) < most
        if text := line.strip().removeprefix(codecs.BOM_UTF8):
            yield text if ended else line
        while not ended:
            rest = stream.readline(most)
            ended = rest.endswith(b"\n") or not rest


def narrow(stream: BinaryIO) -> None:
    """Make a pipe as small as the system allows: what waits in it grows old unseen."""
    with suppress(OSError):  # no pipe, or more is in it already
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, _SMALLEST_PIPE)
