"""States, numbers and times as people read them: one word for one thing, wherever it is shown."""

from __future__ import annotations

import time
from collections.abc import Mapping

from worker.core.model import State

STATES: Mapping[State, str] = {
    State.DELIVERED: "delivered",
    State.ACTIVE: "active",
    State.SKIPPED: "skipped",
    State.NEEDS_SESSION: "need a new sign-in",
    State.FAILED: "failed",
    State.SEALED: "sealed but not delivered",
    State.IN_PROGRESS: "in progress",
}
"""The name of each state, in the order in which they are shown."""


def several(number: int, what: str) -> str:
    """Return ``1 user``, ``2,000 users``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def duration(seconds: float) -> str:
    """Return a number of seconds as text: ``42 s``, ``7 min``, ``5.6 h``, ``24 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{round(seconds / 3_600, 1):,g} h"


def time_left(seconds: float) -> str:
    """Return a number of seconds for which there is still work: at least ``1 s``."""
    return duration(max(1.0, seconds))


def time_of_day(utc: float) -> str:
    """Return a moment (UTC seconds) as the local time of day: ``14:05:09``."""
    return time.strftime("%H:%M:%S", time.localtime(utc))
