"""Tells a file of sealed lines, as the file channel writes it, from any other file, before a line is appended to it."""

from __future__ import annotations

from pathlib import Path

from worker.core.errors import UsageError
from worker.core.record import parse_object

_BEGINS = b'{"username"'
"""How each sealed line begins (``core.record.record_line``)."""
_FIRST_LINE = 65_536
"""Bytes that are read of the first line: a record has 1 to 40 KB."""


def refuse_other_files(path: Path, what: str) -> None:
    """Raise ``UsageError`` if the file exists, is not empty, and does not begin with a sealed line.

    ``what``: the words for the file, or the setting that names it. A line that was cut off counts, as after a power
    failure. Raises ``OSError`` where the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            first = file.read(_FIRST_LINE).lstrip(b"\n").partition(b"\n")[0]
    except FileNotFoundError:
        return
    if not _is_sealed_line(first):
        raise UsageError(
            f"{what} is {path}, which holds something else than sealed lines",
            "name a file of its own for it, or one that does not exist yet",
        )


def _is_sealed_line(line: bytes) -> bool:
    try:
        return not line or "sealed" in parse_object(line)
    except ValueError:
        return line.startswith(_BEGINS) or _BEGINS.startswith(line)
    except TypeError:
        return False
