"""Opening sealed records: what whoever prints the letters, or serves the page, does with the identity.

Two passes: the first finds the newest record of each user, without opening any line; the second opens just those.
"""

from __future__ import annotations

import base64
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from worker.errors import ExitCode, UsageError
from worker.sealing import AgeOpener

_AGE = b"age-encryption.org/v1"

Record = dict[str, Any]
Found = tuple[int, Callable[[], Record]]
"""A record's generation, and how to get at it."""


def open_files(names: Sequence[str], identities: Sequence[Path], out: TextIO) -> ExitCode:
    """Open the lines, or the single age file, of every file (``-``: standard input), the newest record of each user.

    Gives 1 where a record could not be opened. Raises ``UsageError`` for a file that cannot be read, or no identity
    in one.
    """
    opener = AgeOpener(identities)
    newest: dict[str, Found] = {}
    unreadable = 0
    with ExitStack() as stack:
        for name in names:
            for username, found in _records(stack.enter_context(_seekable(name)), opener):
                if username is None:
                    unreadable += 1
                elif username not in newest or newest[username][0] < found[0]:
                    newest[username] = found
        for username, (generation, read) in newest.items():
            try:
                record = _checked(read(), username, generation)
            except (ValueError, KeyError, TypeError):
                unreadable += 1
            else:
                out.write(json.dumps(record) + "\n")
    if unreadable:
        sys.stderr.write(f"{unreadable} not opened: sealed to another identity, torn, or altered\n")
    return ExitCode.SOME_LEFT_OUT if unreadable else ExitCode.DONE


def _records(file: BinaryIO, opener: AgeOpener) -> Iterator[tuple[str | None, Found]]:
    """Each record's user (``None``: unreadable), generation, and how to open it."""

    def line_at(offset: int) -> Callable[[], Record]:
        def read() -> Record:
            file.seek(offset)
            sealed = _object(file.readline())["sealed"]
            return _object(opener.open(base64.b64decode(sealed, validate=True)))

        return read

    if file.read(len(_AGE)) == _AGE:
        file.seek(0)
        sealed = file.read()
        file.close()  # there may be more of them than may be open at once
        try:
            record = _object(opener.open(sealed))
            username, generation = _address(record)
            yield username, (generation, lambda: record)
        except (ValueError, KeyError, TypeError):
            yield None, (0, dict)
        return
    offset = file.seek(0)
    for line in file:
        if line.strip():
            try:
                username, generation = _address(_object(line))
                yield username, (generation, line_at(offset))
            except (ValueError, KeyError, TypeError):
                yield None, (0, dict)
        offset += len(line)
        file.seek(offset)


def _address(record: Record) -> tuple[str, int]:
    username, generation = record["username"], record["generation"]
    if not isinstance(username, str) or type(generation) is not int:
        raise TypeError("no username or no generation")
    return username, generation


def _checked(record: Record, username: str, generation: int) -> Record:
    if _address(record) != (username, generation):
        raise ValueError("the line says something else than the record within")
    return record


def _object(text: bytes) -> Record:
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise TypeError("not a JSON object")
    return found


def _seekable(name: str) -> BinaryIO:
    if name == "-":
        spooled = tempfile.TemporaryFile()  # noqa: SIM115 - sealed records only; closed by the caller
        shutil.copyfileobj(sys.stdin.buffer, spooled)
        spooled.seek(0)
        return spooled
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise UsageError(
            f"cannot read {name}: {error.strerror}", "name the file that the worker delivered to"
        ) from None
