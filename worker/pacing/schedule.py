"""The arithmetic of the shared timeline: who may send when, and how fast. No clock, no I/O, no throttle.

Workers reserve slices one after another; between them, the timeline is reserved up to one moment, and sent at one rate.
The further ahead it is reserved, the more workers there must be, and the shorter slices become: so each has its turn
about once a second, and whoever joins hardly waits. Their length is part of the pace, so that all take the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from worker.pacing.pace import Pace

SLICE = 0.5
"""Seconds that a worker reserves at a time where nothing is reserved; less and less up to ``ROUND`` seconds ahead."""
ROUND = 1.0
LAGS = 1.5
"""A round is at least so many times what it takes to reserve a slice, so that reserving keeps pace."""
MOST_LAG = 1.0
"""Seconds; whoever dies takes no more of the timeline along than two slices of ``LAGS`` times this."""
NUDGE = 0.05
"""How far a reservation moves the length of slices to where it should be: little, so that all take about the same."""
TOO_FAR, SHRINK = 1.5, 0.25
"""From so many rounds ahead on (many have just joined) it moves it so far."""
FIRST_SLICE = 0.2
"""Seconds: others shall not wait long to join in."""
FARTHEST = 60.0
"""Seconds, or as long as a hundred sends: a timeline reserved further ahead was written by another clock."""
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
SHARED_MARGIN = 0.015
"""The same where others send too: where slices meet, the jitter of two workers adds up."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Part of the timeline (seconds of the shared clock) that belongs to one worker, for so many sends."""

    start: float
    end: float
    sends: int
    owed: float = 0.0
    """What was rounded off, in sends: a worker's next slice makes up for it, or shares would differ by luck."""

    def ending(self, end: float) -> Slice:
        """The same, later or earlier."""
        return replace(self, start=end - (self.end - self.start), end=end)


@dataclass(slots=True)
class Grant:
    """The same, or several without a gap, by the worker's own monotonic clock: all its sends, and those left of it."""

    start: float
    end: float
    sends: int
    left: int
    begun: bool = False


@dataclass(frozen=True, slots=True)
class TooMany:
    """Such an answer, in shared time: when the request left, when the answer came."""

    sent_at: float
    now: float
    known: float
    """The last cut that the worker knew of: what left in ignorance of a later one says nothing new."""


def plan(
    pace: Pace | None,
    now: float,
    configured: float,
    *,
    lag: float = 0.0,
    most: int | None = None,
    owed: float = 0.0,
    margin: float = MARGIN,
) -> tuple[Pace, Slice]:
    """The next slice from shared time ``now`` on, and the pace to write: once that is written, the slice is ours.

    ``lag``: seconds that it takes to reserve one; ``most``: sends that there is use for; ``owed``: by our last slice.
    """
    if pace is None or now - pace.reserved_until > FORGET_AFTER:
        pace = Pace(now, configured, now, pace.version if pace else 0, FIRST_SLICE)
    pace = replace(pace, rate=_bounded(pace.rate, configured))
    joins = 0 < pace.reserved_until - now <= max(FARTHEST, 100 / pace.rate)
    start = pace.reserved_until if joins else now
    length = _next_length(pace.length, start - now, lag)
    due = pace.rate * length + owed
    sends = max(1, round(due))
    owed = max(-0.5, due - sends)
    sends = sends if most is None else min(sends, most)
    end = start + sends * (1 + margin) / pace.rate
    rate = _bounded(pace.rate + RISE * configured * (end - start), configured)
    return Pace(end, rate, min(pace.changed_at, now), pace.version + 1, length), Slice(start, end, sends, owed)


def _next_length(length: float, ahead: float, lag: float) -> float:
    if ahead == 0:  # perhaps it ran dry because reserving takes so long
        return max(length, LAGS * min(lag, MOST_LAG))
    aim = max(SLICE * (1 - ahead / ROUND), LAGS * min(lag, MOST_LAG) - ahead, 0.0)
    return length + (SHRINK if ahead > TOO_FAR * ROUND and aim == 0.0 else NUDGE) * (aim - length)


def cut(pace: Pace, answer: TooMany, configured: float) -> Pace:
    """The pace after a "too many"; the same if the last cut came after its request left, or its sender did not know."""
    if answer.sent_at <= pace.changed_at <= answer.now or pace.changed_at > answer.known:
        return pace
    return replace(pace, rate=_bounded(pace.rate * CUT, configured), changed_at=answer.now)


def _bounded(rate: float, configured: float) -> float:
    return min(configured, max(rate, LOWEST * configured, LOWEST_RATE))
