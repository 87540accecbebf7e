"""The key of an object: ``PREFIX/<user>/<generation>-<attempt id>.age``, written by the worker, read by ``open``.

``<user>`` is the username, encoded, or its hash (see ``aws.naming``).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from worker.adapters.aws.naming import Names, digest_of, segment, username_of

ENDING = ".age"
"""How the key of every record ends, whatever else lies in the bucket."""
_KEY = re.compile(r"(?:.*/)?([^/]+)/([0-9]{1,19})-[^/]+\.age", re.DOTALL)
"""The prefix is not looked at, so that a part of a bucket, or a copy of it, can be opened as well."""


class Parsed(NamedTuple):
    """What a key says of the record: ``user`` as a line says it (see ``core.record.outer_address``)."""

    user: tuple[str, str]
    generation: int


def key_of(prefix: str, username: str, names: Names, generation: int, attempt_id: str) -> str:
    """The key of one record."""
    return f"{prefix}/{segment(username, names)}/{generation}-{attempt_id}{ENDING}"


def parsed(key: str) -> Parsed | None:
    """Whose record it is and which, ``None`` for a key that ``key_of`` never gives."""
    parts = _KEY.fullmatch(key)
    if parts is None:
        return None
    try:
        username, digest = username_of(parts[1]), digest_of(parts[1])
    except ValueError:
        return None
    user = ("username", username) if username is not None else ("username_sha256", digest or "")
    return Parsed(user, int(parts[2]))
