"""Who is meant: ``--user`` and ``--since`` choose among the newest records, never an older one of somebody."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from worker.core.errors import UsageError
from worker.core.record import Record
from worker.requests.times import epoch

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MINUTES = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d)(:\d\d(?:\.\d+)?)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)
_DURATION = re.compile(r"[0-9.]+\s*(ms|s|m|h|d|w)", re.ASCII)


def since(text: str, now: float) -> float:
    """Return the UTC seconds that ``--since`` means: a time, a date (midnight, UTC), or how long ago: ``24h``.

    A time without a zone is UTC, as everywhere in records. Raises ``UsageError`` for anything else.
    """
    text = text.strip()
    try:
        if _DURATION.fullmatch(how_long := text.removesuffix("ago").rstrip()):
            from pydantic import TypeAdapter

            from worker.settings.types import Seconds

            ago: float = TypeAdapter(Seconds).validate_python(how_long)
            return now - ago
        if _DATE.fullmatch(text):
            return epoch(f"{text}T00:00:00Z")
        if parts := _MINUTES.fullmatch(text):
            return epoch(f"{parts[1]}{parts[2] or ':00'}{parts[3] or 'Z'}")
    except ValueError:
        pass
    raise UsageError(
        f"--since {text!r} is no time",
        "say it as 2026-11-25, 2026-11-25T08:00Z (UTC where no zone is given), or how long ago: 24h, 7d",
    )


def day(text: str) -> datetime:
    """Return the day that ``--until`` names. Raises ``UsageError`` unless it is a date such as 2026-12-31."""
    try:
        if _DATE.fullmatch(text):
            return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        pass
    raise UsageError(f"--until {text!r} is no date", "say it as 2026-12-31")


class Chosen:
    """The choice of one command. ``users``: names, exactly as in the records; ``since``: UTC seconds; each optional."""

    def __init__(self, users: Sequence[str] = (), since: float | None = None) -> None:
        self._since = since
        self._missing = dict.fromkeys(users)
        self.hashes = {hashlib.sha256(name.encode(errors="replace")).digest() for name in users} if users else None
        """The SHA-256 of the named users; ``None``: nobody is named, so everybody is meant."""
        self.older: list[str] = []
        """Named users whose newest secret is older than ``since``."""

    def takes(self, record: Record) -> bool:
        """Whether this record, the newest of its user, is meant. One without a time is."""
        name = record["username"]
        was_named = name in self._missing
        self._missing.pop(name, None)
        if self._since is None:
            return True
        try:
            recent = epoch(record.get("associated_at")) >= self._since
        except ValueError:
            recent = True
        if was_named and not recent:
            self.older.append(name)
        return recent

    @property
    def missing(self) -> list[str]:
        """The named users of whom no record was opened."""
        return list(self._missing)
