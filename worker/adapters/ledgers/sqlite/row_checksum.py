"""A checksum in each row, because SQLite has none in its pages: a bit that a disk changed in a row would pass unseen.

It covers what the row says of the user, save for the sealed record, which has a digest of its own. A worker of an
earlier version, or a person with SQL, changes a row without it; a trigger then takes it out of the row, which counts as
a row that nobody can judge, like those that were written before there were checksums.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any
from zlib import crc32

KIND = 1
"""Which columns it covers, and how. A later version that covers more of them has another number, and each version
leaves alone what it does not know."""
TRIGGER = """
CREATE TRIGGER IF NOT EXISTS row_has_another_checksum AFTER UPDATE ON users
WHEN NEW.checksum IS OLD.checksum AND NEW.checksum IS NOT NULL BEGIN
    UPDATE users SET checksum = NULL WHERE username = NEW.username;
END
"""
"""To be made once the column is there."""
_BLOB = 18
"""Where the sealed record is among the values: no checksum covers it, but what kind of value it is can change, too."""
_NUMBERS = struct.Struct("<dqdqqqd").pack
"""How ``since``, ``generation``, ``lease_until``, ``doubt``, ``crashes``, ``sealed_generation`` and
``session_expires_at`` are laid side by side."""


def checksum(values: Sequence[Any]) -> int:
    """The checksum of a row with these values of the ledger's columns, up to the checksum: two microseconds.

    Raises ``ValueError``, ``TypeError`` or ``struct.error`` for values that no row has.
    """
    (
        username,
        version,
        state,
        reason,
        since,
        generation,
        worker,
        lease_until,
        doubt,
        crashes,
        before,
        request_id,
        kind,
        settled,
        sealed_generation,
        attempt_id,
        associated_at,
        session_expires_at,
        _,
        detail,
        activation,
        events,
        *others,
    ) = values
    numbers = _NUMBERS(
        since, generation, lease_until, doubt, crashes, sealed_generation or 0, session_expires_at or 0.0
    )
    texts = "\0".join(
        (
            username,
            version,
            state,
            reason or "",
            worker or "",
            before or "",
            request_id or "",
            kind or "",
            settled,
            attempt_id or "",
            associated_at or "",
            detail or "",
            events or "",
        )
    )
    number = crc32(activation or b"", crc32(numbers, crc32(texts.encode())))
    for each in others:
        number = crc32(each or b"", number)
    return KIND << 32 | number


def is_damaged(values: Sequence[Any], stored: object) -> bool:
    """Whether these values are not those with which the checksum was ``stored``."""
    if not isinstance(stored, int) or stored >> 32 != KIND:
        return stored is not None and not isinstance(stored, int)
    if values[_BLOB] is not None and not isinstance(values[_BLOB], bytes):
        return True
    try:
        return checksum(values) != stored
    except (TypeError, ValueError, struct.error):
        return True
