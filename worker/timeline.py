"""The arithmetic of the shared timeline: who may send when, and how fast. No clock, no I/O, no throttle.

Workers reserve slices one after another; between them, the timeline is reserved up to one moment, and sent at one rate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from worker.ports import Pace

SLICE = 0.4
"""Seconds of the timeline that a worker reserves at a time; longer where that is less than ``FEWEST`` sends."""
FIRST_SLICE = 0.1
"""Seconds, after a silence of ``SILENCE`` seconds: others shall not wait long to join in."""
SILENCE = 1.0
FEWEST = 3
FARTHEST = 60.0
"""Seconds, or a hundred slices: a timeline that is reserved further ahead was written by another clock."""
FORGET_AFTER = 60.0
"""Seconds of silence after which a lowered rate says nothing any more."""

CUT = 0.95
"""What a "too many" multiplies the rate by, at most once a round trip."""
RISE = 0.003
"""What a second of work adds to the rate, as a part of the configured one."""
LOWEST, LOWEST_RATE = 0.02, 0.5
"""No cut goes below this part of the configured rate, nor below so many requests/s."""

MARGIN = 0.005
"""The part of the rate that is never used, so that jitter on the way does not pass the quota."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Part of the timeline (seconds of the shared clock) that belongs to one worker, for so many sends."""

    start: float
    end: float
    sends: int


def plan(pace: Pace | None, now: float, configured: float) -> tuple[Pace, Slice]:
    """The next slice from shared time ``now`` on, and the pace to write: once that is written, the slice is ours."""
    silent = pace is None or now - pace.reserved_until > SILENCE
    if pace is None or now - pace.reserved_until > FORGET_AFTER:
        pace = Pace(now, configured, now, pace.version if pace else 0)
    pace = replace(pace, rate=_bounded(pace.rate, configured))
    length = slice_length(pace.rate)
    joins = 0 < pace.reserved_until - now <= max(FARTHEST, 100 * length)
    start = pace.reserved_until if joins else now
    sends = max(1, round(pace.rate * (FIRST_SLICE if silent else length)))
    end = start + sends * (1 + MARGIN) / pace.rate
    rate = _bounded(pace.rate + RISE * configured * (end - start), configured)
    return Pace(end, rate, min(pace.changed_at, now), pace.version + 1), Slice(start, end, sends)


def slice_length(rate: float) -> float:
    """Seconds of the timeline that are reserved at a time."""
    return max(SLICE, FEWEST / rate)


def cut(pace: Pace, sent_at: float, now: float, configured: float) -> Pace:
    """The pace after a "too many" for what was sent at shared time ``sent_at``; the same if the last cut came after."""
    if sent_at <= pace.changed_at <= now:
        return pace
    return replace(pace, rate=_bounded(pace.rate * CUT, configured), changed_at=now)


def _bounded(rate: float, configured: float) -> float:
    return min(configured, max(rate, LOWEST * configured, LOWEST_RATE))
