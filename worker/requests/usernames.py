"""Reads a file of usernames, one per line, for ``run --only`` and ``push --roster``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from worker.requests.lines import read_lines


def usernames(stream: BinaryIO) -> Iterator[str | None]:
    """Yield the users that a file names. A line is a username, or a JSON object with a ``username`` as from ``export``.

    White space around a line and blank lines are ignored. ``None`` stands for a line that is no username.
    """
    for raw in read_lines(stream):
        try:
            name = raw.decode().strip()
        except UnicodeDecodeError:
            yield None
            continue
        if name.startswith("{"):
            with suppress(ValueError, RecursionError):
                found = json.loads(name)["username"] if '"username"' in name else name
                name = found if isinstance(found, str) else ""
        yield name if _is_username(name) else None


def _is_username(text: str) -> bool:
    """Whether Cognito could have such a username: 1 to 128 characters (API reference, AdminGetUser), none of them half
    of a surrogate pair, which UTF-8 cannot write.
    """
    return 1 <= len(text) <= 128 and not any("\ud800" <= char <= "\udfff" for char in text)
