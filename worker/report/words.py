"""Numbers and times as people read them on a page: finer than in a log, and none broken at the end of a line. UTC."""

from __future__ import annotations

from datetime import UTC, datetime

HARD_SPACE = "\u00a0"
"""Keeps a number and its unit on one line."""


def rate(per_second: float) -> str:
    """Return ``19.9/s``."""
    return f"{per_second:,.0f}/s" if per_second >= 100 else f"{per_second:.3g}/s"


def span(seconds: float) -> str:
    """Return ``85 ms``, ``1.2 s``, ``42 s``, ``7 min``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}{HARD_SPACE}ms"
    if seconds < 120:
        return f"{seconds:.2g}{HARD_SPACE}s" if seconds < 10 else f"{seconds:.0f}{HARD_SPACE}s"
    minutes = round(seconds / 60)
    for unit, each, smaller, part in (("d", 1_440, "h", 60), ("h", 60, "min", 1)):
        if minutes >= each:
            rest = minutes % each // part
            return f"{minutes // each}{HARD_SPACE}{unit}" + (f" {rest}{HARD_SPACE}{smaller}" if rest else "")
    return f"{minutes}{HARD_SPACE}min"


def day_and_time(seconds: float) -> str:
    """Return ``26 Nov 14:05``."""
    moment = _moment(seconds)
    return f"{moment.day} {moment:%b %H:%M}".replace(" ", HARD_SPACE)


def full(seconds: float) -> str:
    """Return ``26 November 2026, 14:05``."""
    moment = _moment(seconds)
    return f"{moment.day} {moment:%B %Y, %H:%M}"


def period(times: tuple[float, float]) -> str:
    """Return ``26 November 2026, 14:05 to 15:20 UTC``, with the second day where it is another one."""
    begins, ends = (_moment(each) for each in times)
    until = f"{ends:%H:%M}" if begins.date() == ends.date() else full(times[1])
    return f"{full(times[0])} to {until} UTC"


def machine_time(seconds: float) -> str:
    """Return what a ``time`` element's ``datetime`` is to be."""
    return f"{_moment(seconds):%Y-%m-%dT%H:%M:%SZ}"


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
