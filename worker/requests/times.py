"""Times as RFC 3339 writes them, read and written.

Python's own parser takes forms that the standard does not have, and refuses leap seconds and the year 0.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime

_RFC3339 = re.compile(
    r"(\d{4})-\d\d-\d\d[Tt ](?:[01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(?:\.\d+)?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
"""RFC 3339, section 5.6, and its note that people may write a space for the T."""

_PLAIN = re.compile(r"(?!0000)\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:[0-5]\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
"""Times that workers of earlier versions read too."""

_FIRST, _LAST = -62_135_596_800.0, 253_402_300_799.0
"""UTC seconds: the first and the last second that Python's ``datetime`` has, of the years 1 and 9999."""


def epoch(value: object) -> float:
    """Return the UTC seconds of an RFC 3339 time, to the microsecond. Raises ``ValueError`` for anything else.

    A leap second counts as the second after it, as in the clocks of computers.
    """
    found = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("no time")
    text = found[0].upper()
    if found[1] == "0000":  # Python has no such year; in another leap year the rest is judged
        datetime.fromisoformat(f"0400{text[4:]}")
        return _FIRST
    if found[2] != "60":
        return max(_FIRST, min(_LAST, datetime.fromisoformat(text).timestamp()))
    moment = datetime.fromisoformat(f"{text[:17]}59{text[19:]}")
    if not _ends_a_month(moment):
        raise ValueError("no leap second")
    return min(_LAST, moment.timestamp() + 1)


def _ends_a_month(moment: datetime) -> bool:
    """Whether the second is the last one of a month in UTC: only there are seconds put in."""
    utc = datetime.fromtimestamp(max(_FIRST, min(_LAST, moment.timestamp())), UTC)
    return (utc.hour, utc.minute, utc.second, utc.day) == (23, 59, 59, monthrange(utc.year, utc.month)[1])


def is_plain(text: str) -> bool:
    """Whether workers of earlier versions read this time too."""
    return _PLAIN.fullmatch(text) is not None


def plain(at: float) -> str:
    """Return UTC seconds as RFC 3339, to the microsecond."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
