"""What a process knows of a file of delivered lines that it appended to: how far it goes, and a checksum of its end.

The ledger keeps it (``adapters.ledgers.sqlite.mark``), in the commit that calls these users delivered. So whoever
begins next can tell whether a disk, a copy or a repair of the file system took lines away that were confirmed.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

HEAD = 256
"""So many bytes at the beginning tell this file from the one that takes its place after a rotation: less than a line,
and enough of what is sealed in the first one."""
MOST = 1 << 26
"""Bytes after which a new checksum begins, so that comparing it takes some tenths of a second at most (64 MiB)."""
_PIECE = 1 << 20
"""Bytes that are read at a time."""


class Confirmed(NamedTuple):
    """The lines that were durable when a process looked last."""

    head: int
    """CRC-32 of the first ``HEAD`` bytes."""
    start: int
    """Where the part begins that ``checksum`` is of."""
    end: int
    """How many bytes the file had."""
    checksum: int
    """CRC-32 of the bytes between."""
    since: float
    """When the file had only ``start`` bytes, or earlier (UTC seconds)."""


def begun(file: int) -> Confirmed:
    """For a file that is just opened."""
    size = os.fstat(file).st_size
    return Confirmed(crc32(os.pread(file, HEAD, 0)), size, size, 0, time.time())


def further(before: Confirmed, file: int, end: int) -> Confirmed:
    """The same once the file is durable up to ``end``."""
    if before.end - before.start > MOST:
        before = before._replace(start=before.end, checksum=0, since=time.time())
    head = crc32(os.pread(file, HEAD, 0)) if before.start < HEAD else before.head
    return before._replace(head=head, end=end, checksum=_checksum(file, before.end, end, before.checksum))


def dumped(confirmed: Confirmed) -> str:
    """As text, for the ledger."""
    return json.dumps(confirmed)


def loaded(text: str) -> Confirmed | None:
    """The same again; ``None`` where that is something else."""
    try:
        head, start, end, checksum, since = json.loads(text)
        return Confirmed(int(head), int(start), int(end), int(checksum), float(since))
    except (ValueError, TypeError):
        return None


def missing(path: Path, known: Confirmed) -> str | None:
    """What happened to the file since, in words; ``None``: nothing, or it is another one, or gone. Raises ``OSError``.

    Whoever fetches delivered lines may move the file away, and another one begins; then nothing is known of it.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not size or crc32(os.pread(file.fileno(), HEAD, 0)) != known.head:
                return None
            if size < known.end:
                return f"it has {size:,} bytes, and had {known.end:,}"
            if _checksum(file.fileno(), known.start, known.end, 0) != known.checksum:
                return f"between its bytes {known.start:,} and {known.end:,} is something else than was delivered"
    except FileNotFoundError:
        return None
    return None


def _checksum(file: int, start: int, end: int, checksum: int) -> int:
    while start < end and (piece := os.pread(file, min(_PIECE, end - start), start)):
        checksum = crc32(piece, checksum)
        start += len(piece)
    return checksum
