"""The arithmetic of the shared timeline: who may send when, and how fast. No clock, no input or output, no waiting.

The timeline is the time of the clock that all workers of a rollout share, cut into *slices*. A slice is a stretch of it
that belongs to one worker, for so many sends: nobody else sends then. Workers reserve slices one after another, each
its next one when its last one begins, so they take turns. All that is kept of this is one row, the ``Pace``: up to
which moment the timeline is reserved, at which rate it is sent, and how long slices are.

The further ahead it is reserved, the more workers there must be, and the shorter slices become: so each has its turn
about once a second, and whoever joins hardly waits. Their length is part of the pace, so that all take the same.

Words: a worker's *lag* is how long it takes to reserve a slice. The *margin* is the part of the rate that is not used.
What a slice *owes* is what was rounded off its sends. A *grant* is a slice on the worker's own clock.

The percentages at the constants are parts of the quota that 2 to 8 workers used in 20 seconds of virtual time, with
timers that ring late (``Fleet`` in ``tests/support/pace_stores.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from worker.pacing.pace import Pace

# How long slices are.

SLICE = 0.5
"""Seconds that a worker reserves at a time where nothing is reserved yet; less the further ahead it is reserved.

What a worker that dies has reserved is lost: two of these at most. At 0.2, two workers use 0.6 % less, for where slices
meet there is a gap.
"""

ROUND = 1.0
"""Seconds ahead that the timeline is to be reserved: in so long, each worker has its turn once.

At 3, shares of eight workers differ by 17 % instead of 4 %; at 0.5, two workers use 0.8 % less.
"""

FIRST_SLICE = 0.2
"""Seconds of a rollout's first slice: short, for other workers that start now shall not wait long."""

LAGS = 1.5
"""How many lags a round has at least, so that a slow ledger can keep up with reserving."""

MAX_LAG = 1.0
"""Seconds of lag that are allowed for at most.

A worker that dies takes no more of the timeline along than two slices of ``LAGS`` times this.
"""

NUDGE = 0.05
"""How far each reservation moves the length of slices towards where it should be: 0 not at all, 1 all the way.

Little, for all workers are to have slices of about the same length. At 0.5, two workers use 0.3 % less.
"""

TOO_FAR = 1.5
"""From so many rounds ahead on, many workers have just joined, and slices are shortened faster."""

SHRINK = 0.25
"""How far each reservation shortens slices then; like ``NUDGE``. Without it, shares differ by 13 % instead of 7 %."""

# When the pace that is written down no longer counts.

FARTHEST = 60.0
"""Seconds, or as long as a hundred sends take: a timeline reserved further ahead was written by a wrong clock."""

FORGET_AFTER = 60.0
"""Seconds without a send after which a lowered rate says nothing any more about what the quota bears."""

# How the rate follows "too many requests": additive increase, multiplicative decrease.

CUT = 0.95
"""What each "too many" multiplies the rate by, at most once a round trip.

Measured before the worker was written: cutting by 20 % or more wastes 5 to 12 % of the quota.
"""

RISE = 0.003
"""What a second of work adds to the rate, as a part of the configured one.

Measured like ``CUT``: with 0.2 to 0.5 % more than 98 % of the quota are used, and below 0.2 % are refused.
"""

LOWEST = 0.02
"""No cut goes below this part of the configured rate; from there the way back up takes five and a half minutes."""

LOWEST_RATE = 0.5
"""No cut goes below so many requests/s either (or the configured rate, if that is lower)."""

# What is left unused.

MARGIN = 0.005
"""The part of the rate that one worker alone never uses, so that jitter on the way does not pass the quota.

The promise is to use 99 % of the quota, and each part of the margin costs as much of it.
"""

SHARED_MARGIN = 0.015
"""The same where other workers send too: where slices meet, the jitter of two workers adds up.

With ``MARGIN`` instead, the busiest second holds two requests more than the quota; one more is promised.
"""


@dataclass(frozen=True, slots=True)
class Slice:
    """Part of the timeline that belongs to one worker, for so many sends."""

    start: float
    """When it begins, in seconds of the clock that all workers share."""
    end: float
    """When it ends, on the same clock; the next worker's slice begins then."""
    sends: int
    """How many requests may be sent in it."""
    owed: float = 0.0
    """What was rounded off, in sends: the worker's next slice makes up for it, or shares would differ by luck."""

    def ending(self, end: float) -> Slice:
        """The same slice, later or earlier, so that it ends at that moment of the shared clock."""
        return replace(self, start=end - (self.end - self.start), end=end)


@dataclass(slots=True)
class Grant:
    """A slice, or several without a gap, on the worker's own monotonic clock."""

    start: float
    """When it begins, in monotonic seconds."""
    end: float
    """When it ends, in monotonic seconds."""
    sends: int
    """How many requests may be sent in it, in all."""
    left: int
    """How many of these are not sent yet."""
    begun: bool = False
    """Whether the limiter knows that it began."""


@dataclass(frozen=True, slots=True)
class TooMany:
    """An answer of "too many requests"; all in seconds of the clock that the workers share."""

    sent_at: float
    """When the request left."""
    now: float
    """When the answer came."""
    known: float
    """When the last cut was made that the worker knew of: what left in ignorance of a later one says nothing new."""


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
    """The pace to write, and a worker's next slice: once that pace is written, the slice is the worker's.

    ``pace``: as it stands, ``None`` before the first. ``now``: seconds of the shared clock; no slice begins earlier.
    ``configured``: the rate that is never passed, in requests/s. ``lag``: seconds that it takes to reserve a slice.
    ``most``: the sends that there is use for, ``None`` without a limit. ``owed``: what the worker's last slice owes, in
    sends. ``margin``: the part of the rate that is not used.
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
    """The length of the next slice, in seconds, where the timeline is reserved so many seconds ahead."""
    if ahead == 0:  # nothing was reserved any more, perhaps because reserving takes so long
        return max(length, LAGS * min(lag, MAX_LAG))
    aim = max(SLICE * (1 - ahead / ROUND), LAGS * min(lag, MAX_LAG) - ahead, 0.0)
    return length + (SHRINK if ahead > TOO_FAR * ROUND and aim == 0.0 else NUDGE) * (aim - length)


def cut(pace: Pace, answer: TooMany, configured: float) -> Pace:
    """The pace after a "too many"; the same if the last cut came after its request left, or its sender did not know."""
    if answer.sent_at <= pace.changed_at <= answer.now or pace.changed_at > answer.known:
        return pace
    return replace(pace, rate=_bounded(pace.rate * CUT, configured), changed_at=answer.now)


def _bounded(rate: float, configured: float) -> float:
    """The rate, within what it may be; requests/s."""
    return min(configured, max(rate, LOWEST * configured, LOWEST_RATE))
