"""Reads files of usernames, one a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from worker.core.errors import UsageError
from worker.requests.lines import NOT_UTF8, Line, is_utf8, read_lines


def usernames(stream: BinaryIO) -> Iterator[str | None]:
    """Yield the users that a file names; see ``named_lines``. ``None`` stands for a line that is no username."""
    for _, name in named_lines(stream):
        yield name


def named_lines(stream: BinaryIO) -> Iterator[tuple[Line, str | None]]:
    """Yield each line and the user that it names: a username, or a JSON object with a ``username`` as from ``export``.

    White space around a line and blank lines are ignored. ``None`` stands for a line that is no username.
    """
    for line in read_lines(stream):
        yield line, None if line.flaw else _name(line.raw)


def read_usernames(path: Path) -> frozenset[str]:
    """Return the users that a file names.

    Raises ``UsageError`` if it cannot be read, names nobody, or has a line that is no username.
    """
    try:
        with path.open("rb") as file:
            lines = list(named_lines(file))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "name a file of usernames, one a line") from None
    if wrong := [line for line, name in lines if name is None]:
        raise UsageError(
            f"{path} holds lines that are no usernames ({len(wrong)} of {len(lines)}); "
            f"line {wrong[0].number} {why_not(wrong[0])}",
            "name users as ListUsers prints them, one a line, in UTF-8",
        )
    if not lines:
        raise UsageError(f"{path} names nobody", "name users as ListUsers prints them, one a line")
    return frozenset(name for _, name in lines if name is not None)


def why_not(line: Line) -> str:
    """Return what is wrong with a line that is no username, as the rest of a sentence."""
    if line.flaw:
        return line.flaw
    return "is no username: 1 to 128 characters" if is_utf8(line.raw) else NOT_UTF8


def _name(raw: bytes) -> str | None:
    try:
        name = raw.decode().strip()
    except UnicodeDecodeError:
        return None
    if name.startswith("{"):
        with suppress(ValueError, RecursionError):
            found = json.loads(name)["username"] if '"username"' in name else name
            name = found if isinstance(found, str) else ""
    return name if is_username(name) else None


def is_username(text: str) -> bool:
    """Whether Cognito could have such a username: 1 to 128 characters (API reference, AdminGetUser), none of them half
    of a surrogate pair, which UTF-8 cannot write.
    """
    return 1 <= len(text) <= 128 and not any("\ud800" <= char <= "\udfff" for char in text)
