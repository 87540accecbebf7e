"""Whether a database and the write-ahead log beside it belong together.

SQLite would not notice: a database that is restored over one whose worker was killed finds the old log beside it, and
``cp`` of both while a worker writes copies them at two moments. SQLite then lays the pages of one moment over those of
another, and nobody can tell any more which rows are old.

So each commit counts in ``user_version``, which lies in the first page. A log begins when all of the earlier one is in
the database (SQLite, "WAL-mode File Format"). So the database knows of every commit before the log's first one, and of
none after its last one.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from worker.core.errors import PersonMustAct

_LOG_HEADER, _FRAME_HEADER, _USER_VERSION = 32, 24, slice(60, 64)
"""Bytes of the headers in the log, and where ``user_version`` is in the first page (SQLite, "Database File Format")."""
_AT_MOST = 2**31 - 1
"""The greatest number in ``user_version``; the count stays there."""


def count_commit(connection: sqlite3.Connection) -> None:
    """Within a transaction: raise the count of commits."""
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {min(number + 1, _AT_MOST)}")


def refuse_another_log(path: Path, what: str) -> None:
    """Raise ``PersonMustAct`` if the write-ahead log beside the database is another one's; ``OSError``.

    To be called before the database is opened: with the log, the first one to open it also changes it.
    """
    log = path.with_name(f"{path.name}-wal")
    while True:
        before, number, after = _commits(log), _number(path), _commits(log)
        if before is None or number is None or after is None or before[0] - 1 <= number <= after[1]:
            return
        if before == after:  # otherwise others write it, or emptied it while we read
            whole = _whole_commits(log)
            if whole is None or whole[0] - 1 <= number <= whole[1]:
                return
            break
    raise PersonMustAct(
        f"{what}, {path}, and the write-ahead log beside it, {log}, are of two moments: one holds commit {number:,}, "
        f"the other goes from {before[0]:,} to {after[1]:,}. It was restored beside a log that was already there, or "
        "both were copied while a worker wrote",
        f"stop all workers. If {path} was restored over another one, the log is the other one's: rm -- {log} "
        f"{path}-shm, then run again. If both are a copy, restore one that SQLite made (sqlite3 {path} '.backup FILE')",
    )


def _number(path: Path) -> int | None:
    """The count in the database alone, without its log."""
    # As SQLite's own connection, because opening and closing the file otherwise would release SQLite's locks on it.
    with suppress(sqlite3.Error, UnicodeDecodeError):
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)
        try:
            (number,) = connection.execute("PRAGMA user_version").fetchone()
            return int(number)
        finally:
            connection.close()
    return None


def _commits(log: Path) -> tuple[int, int] | None:
    """The first and the last count of commits in the log; ``None`` where it has none."""
    numbers = list(_numbers(log))
    return (numbers[0], numbers[-1]) if numbers else None


def _numbers(log: Path) -> Iterator[int]:
    """The counts in the log: those in its copies of the first page."""
    with suppress(FileNotFoundError), log.open("rb") as file:
        header = file.read(_LOG_HEADER)
        size, salts, start = int.from_bytes(header[8:12], "big"), header[16:24], _LOG_HEADER
        while len(frame := file.read(_FRAME_HEADER + _USER_VERSION.stop)) == _FRAME_HEADER + _USER_VERSION.stop:
            if frame[8:16] != salts:
                return  # of an earlier log
            if int.from_bytes(frame[:4], "big") == 1:
                yield int.from_bytes(frame[_FRAME_HEADER:][_USER_VERSION], "big")
            start += _FRAME_HEADER + size
            file.seek(start)


def _whole_commits(log: Path) -> tuple[int, int] | None:
    """The same in what SQLite takes from the log: whole commits, up to the first page that was not written whole.

    Where the power failed, others may lie behind it. A tenth of a second for ten seconds of writes, so it is asked only
    in doubt (SQLite, "WAL-mode File Format": the checksums go on from frame to frame).
    """
    whole, since_then = list[int](), list[int]()
    with suppress(FileNotFoundError), log.open("rb") as file:
        header = file.read(_LOG_HEADER)
        order: Literal["big", "little"] = "big" if header[3:4] == b"\x83" else "little"
        sums = _sums(header[:24], (0, 0), order)
        size, is_whole = int.from_bytes(header[8:12], "big"), sums == _stored(header[24:32])
        while is_whole and len(frame := file.read(_FRAME_HEADER + size)) == _FRAME_HEADER + size:
            page = frame[_FRAME_HEADER:]
            sums = _sums(page, _sums(frame[:8], sums, order), order)
            is_whole = sums == _stored(frame[16:24]) and frame[8:16] == header[16:24]
            if is_whole and int.from_bytes(frame[:4], "big") == 1:
                since_then.append(int.from_bytes(page[_USER_VERSION], "big"))
            if is_whole and frame[4:8] != bytes(4):  # the last page of a commit
                whole += since_then
                since_then.clear()
    return (whole[0], whole[-1]) if whole else None


def _sums(data: bytes, sums: tuple[int, int], order: Literal["big", "little"]) -> tuple[int, int]:
    one, two = sums
    words = struct.unpack(f"{'>' if order == 'big' else '<'}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two


def _stored(sums: bytes) -> tuple[int, int]:
    return int.from_bytes(sums[:4], "big"), int.from_bytes(sums[4:], "big")
