"""Objects' keys: ``PREFIX/<user>/<generation>-<attempt id>.age``; the worker writes them, ``open`` reads them.

``<user>`` is the encoded username or its hash (see ``aws.naming``).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from worker.adapters.aws.naming import Names, digest_of, segment, username_of

ENDING = ".age"
"""The ending of every record's key; objects with other keys are ignored."""
_KEY = re.compile(r"(?:.*/)?([^/]+)/([0-9]{1,19})-([^/]+)\.age", re.DOTALL)
"""A record's key. Any prefix is accepted, so that a part of a bucket, or a copy of it, can be opened too."""


class Parsed(NamedTuple):
    """What a key says about its record; ``user``: field and value as in a line (see ``core.record.line_address``)."""

    user: tuple[str, str]
    generation: int
    attempt_id: str


def key_of(prefix: str, username: str, names: Names, generation: int, attempt_id: str) -> str:
    """The key of one record."""
    return f"{prefix}/{segment(username, names)}/{generation}-{attempt_id}{ENDING}"


def parsed(key: str) -> Parsed | None:
    """The user and generation of a record's key; ``None`` for a key that ``key_of`` cannot have written."""
    parts = _KEY.fullmatch(key)
    if parts is None:
        return None
    try:
        username, digest = username_of(parts[1]), digest_of(parts[1])
    except ValueError:
        return None
    user = ("username", username) if username is not None else ("username_sha256", digest or "")
    return Parsed(user, int(parts[2]), parts[3])
