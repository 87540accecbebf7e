"""The arithmetic of the shared timeline: who may send when, and how fast. No clock, no I/O, no waiting.

The timeline is the time of the clock that all workers of a rollout share, cut into *slices*. A slice is a part of it in
which only one worker sends, and only so many requests. Workers reserve slices one after another, each its next one when
its last one begins, so they take turns. The ledger keeps one row of this, the ``Pace``: up to which moment the timeline
is reserved, the rate, and how long slices are.

The further ahead the timeline is reserved, the more workers there must be, and the shorter slices become. So each
worker has its turn about once a second, and a new worker hardly waits. The length is part of the pace, so that all
workers use the same.

Words: a *send* is one request that leaves. A worker's *lag* is how long it takes to reserve a slice. The *margin* is
the part of the rate that is not used. What a slice *owes* is the part of a send that was rounded off. A *grant* is a
slice on the worker's own clock. A *round* is the time in which each worker has its turn once.

The percentages at the constants are parts of the quota that 2 to 8 workers used in 20 seconds of virtual time, with
timers that fire late (``Fleet`` in ``tests/support/pace_stores.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from worker.pacing.pace import Pace

# How long slices are.

SLICE = 0.5
"""Seconds that a worker reserves at a time if nothing is reserved yet. The further ahead others reserved, the less.

When a worker dies, its reserved slices are lost: two at most. At 0.2, two workers use 0.6 % less, because there is a
gap between slices.
"""

ROUND = 1.0
"""Seconds ahead that the timeline should be reserved: in this time each worker has its turn once.

At 3, shares of eight workers differ by 17 % instead of 4 %; at 0.5, two workers use 0.8 % less.
"""

FIRST_SLICE = 0.2
"""Seconds of a rollout's first slice: short, so that other workers that start at the same time need not wait long."""

LAGS = 1.5
"""How many lags a round has at least, so that slices are reserved in time although the ledger is slow."""

MAX_LAG = 1.0
"""The longest lag that slices are lengthened for, in seconds.

It limits what is lost when a worker dies to two slices, each ``LAGS`` times as long as this.
"""

NUDGE = 0.05
"""How far each reservation moves the length of slices towards what it should be: 0 not at all, 1 all the way.

It is small so that all workers have slices of about the same length. At 0.5, two workers use 0.3 % less.
"""

TOO_FAR = 1.5
"""How many rounds ahead the timeline is reserved when many workers have just joined: then slices shrink faster."""

SHRINK = 0.25
"""How far each reservation shortens slices then; like ``NUDGE``. Without it, shares differ by 13 % instead of 7 %."""

# When a stored pace no longer counts.

FARTHEST = 60.0
"""The most seconds that the timeline may be reserved ahead (or the time of a hundred sends, if longer). If it is more,
a worker with a wrong clock wrote it, and it is ignored."""

FORGET_AFTER = 60.0
"""Seconds without a send after which a lowered rate no longer says anything about the quota."""

# How the rate follows "too many requests": additive increase, multiplicative decrease.

CUT = 0.95
"""Each "too many" multiplies the rate by this, at most once a round trip.

Measured before the worker was written: cutting by 20 % or more wastes 5 to 12 % of the quota.
"""

RISE = 0.003
"""Each second of work raises the rate by this part of the configured rate.

Measured like ``CUT``: at 0.2 to 0.5 %, more than 98 % of the quota are used and fewer than 0.2 % of requests refused.
"""

LOWEST = 0.02
"""No cut goes below this part of the configured rate; from there ``RISE`` takes five and a half minutes back up."""

LOWEST_RATE = 0.5
"""No cut goes below so many requests/s either (or the configured rate, if that is lower): with a low configured rate,
``LOWEST`` alone would leave many seconds between two requests."""

# What is left unused.

MARGIN = 0.005
"""The part of the rate that one worker alone never uses, so that network jitter does not exceed the quota.

The promise is to use 99 % of the quota, and each part of the margin costs as much of it.
"""

SHARED_MARGIN = 0.0075
"""The part of the rate that is never used while other workers send too: between slices two workers' jitter adds up.

The promise is to use 99 % of the quota, and what late timers cost is lost too, so it cannot be larger. Against jitter
beyond it, requests that are too late do not leave at all (``limiter``).
"""


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the timeline in which one worker alone sends, and only so many requests."""

    start: float
    """When it begins, in seconds of the clock that all workers share."""
    end: float
    """When it ends, on the same clock; the next worker's slice begins then."""
    sends: int
    """How many requests may be sent in it."""
    owed: float = 0.0
    """What was rounded off, in sends. The worker's next slice makes up for it, so that all get equal shares."""

    def ending(self, end: float) -> Slice:
        """Return the same slice moved so that it ends at that moment of the shared clock."""
        return replace(self, start=end - (self.end - self.start), end=end)


@dataclass(slots=True)
class Grant:
    """A reserved slice, or several without a gap, on the worker's own monotonic clock."""

    start: float
    """When it begins, in monotonic seconds."""
    end: float
    """When it ends, in monotonic seconds."""
    sends: int
    """How many requests may be sent in it, in all."""
    left: int
    """How many of these are not sent yet."""


@dataclass(frozen=True, slots=True)
class TooMany:
    """An answer of "too many requests"; both in seconds of the clock that the workers share."""

    now: float
    """When the answer came."""
    known: float
    """When the last cut was made that the worker knew of. If there was a later one, this answer says nothing new."""


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
    """Return the pace to write, and the slice that belongs to the worker once that pace is written.

    ``pace``: the present one, ``None`` before the first. ``now``: seconds of the shared clock; no slice begins earlier.
    ``configured``: the rate that is never exceeded, in requests/s. ``lag``: seconds that it takes to reserve a slice.
    ``most``: the most sends that the worker can use, ``None`` without a limit. ``owed``: what the worker's last slice
    owes, in sends. ``margin``: the part of the rate that is not used.
    """
    if pace is None or now - pace.reserved_until > FORGET_AFTER:
        pace = Pace(now, configured, now, pace.version if pace else 0, FIRST_SLICE)
    pace = replace(pace, rate=_bounded(pace.rate, configured))
    follows_another = 0 < pace.reserved_until - now <= max(FARTHEST, 100 / pace.rate)
    start = pace.reserved_until if follows_another else now
    length = _next_length(pace.length, start - now, lag)
    due = pace.rate * length + owed
    sends = max(1, round(due))
    owed = max(-0.5, due - sends)
    sends = sends if most is None else min(sends, most)
    end = start + sends * (1 + margin) / pace.rate
    rate = _bounded(pace.rate + RISE * configured * (end - start), configured)
    return Pace(end, rate, min(pace.changed_at, now), pace.version + 1, length), Slice(start, end, sends, owed)


def _next_length(length: float, ahead: float, lag: float) -> float:
    """Return the length of the next slice in seconds; ``ahead``: how many seconds of the timeline are reserved."""
    if ahead == 0:  # nothing is reserved any more, perhaps because reserving takes so long
        return max(length, LAGS * min(lag, MAX_LAG))
    aim = max(SLICE * (1 - ahead / ROUND), LAGS * min(lag, MAX_LAG) - ahead, 0.0)
    return length + (SHRINK if ahead > TOO_FAR * ROUND and aim == 0.0 else NUDGE) * (aim - length)


def cut(pace: Pace, answer: TooMany, configured: float) -> Pace:
    """Return the pace after a "too many". It stays the same after a cut that the sender did not know of."""
    if pace.changed_at > answer.known:
        return pace
    return replace(pace, rate=_bounded(pace.rate * CUT, configured), changed_at=answer.now)


def _bounded(rate: float, configured: float) -> float:
    """Return the rate, raised or lowered to what is allowed; requests/s."""
    return min(configured, max(rate, LOWEST * configured, LOWEST_RATE))
