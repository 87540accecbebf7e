"""Minutes of figures, put together to few enough steps of time that the page of a week is as small as that of an hour.

In a minute in which nothing happened no figures are kept, and the charts show a gap. A long one takes up little room,
so that a rollout that ran on Monday and again on Friday shows both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import NamedTuple

from worker.core.figures import SECONDS, Minute, merged
from worker.core.model import ENROLLED

MOST_POINTS = 200
"""Steps of time on a chart: about one for every two pixels of a phone's width, and the tables of so many are 60 KB."""
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1_440, 2_880, 10_080)
"""Minutes that a step of time, or the distance of two marks on the axis, may have: as people count hours and days."""
LONG_GAP = 0.08
"""The part of the whole time from which on a gap is drawn shorter than it was: so there are 12 of them at most."""
SHORTEST_LONG_GAP = 10
"""Minutes up to which every gap is drawn as it was."""
QUOTA = frozenset({"AssociateSoftwareToken", "VerifySoftwareToken", "SetUserMFAPreference"})
"""The operations that count against the quota of enrolments (``ports.Provider``)."""


class Stretch(NamedTuple):
    """A time, from one minute to another."""

    begins: int
    """Whole minutes since the epoch, UTC."""
    ends: int
    """The minute after it."""

    @property
    def minutes(self) -> int:
        """How long it is."""
        return self.ends - self.begins


class Point(NamedTuple):
    """What happened in one step of time."""

    time: Stretch
    worked: float
    """In how many of its minutes something happened."""
    sums: Minute
    """These minutes together."""

    @property
    def enrolled(self) -> int:
        """Users who were delivered or became active."""
        return sum(number for name, number in self.sums.settled.items() if name.partition(":")[0] in ENROLLED)

    @property
    def calls(self) -> int:
        """Calls that count against the quota."""
        return sum(number for name, number in self.sums.attempts.items() if name.partition(":")[0] in QUOTA)

    @property
    def answers(self) -> Counter[str]:
        """What Cognito answered, to whatever operation."""
        found: Counter[str] = Counter()
        for name, number in self.sums.attempts.items():
            found[name.partition(":")[2]] += number
        return found

    def per_second(self, number: int) -> float:
        """That number, over the minutes in which something happened."""
        return number / (60 * self.worked)


@dataclass(frozen=True, slots=True)
class Series:
    """The figures over time, as the charts show them. At least one minute."""

    points: Sequence[Point]
    """Oldest first; none for a time in which nothing happened."""
    stretches: Sequence[Stretch]
    """The times that are drawn to scale; between two of them is a long gap."""
    gaps: Sequence[Stretch]
    """When nothing happened, between the first minute and the last."""
    step: int
    """Minutes of a point."""
    total: Point
    """The time that is drawn, and all figures together."""


def series(minutes: Sequence[Minute], now: float) -> Series | None:
    """Return the figures as they are drawn; ``None`` where there are none.

    ``now``: when the page is made (UTC seconds). The minute that is not over then is counted, and not drawn, because it
    would look slow; unless there is no other.
    """
    if not minutes:
        return None
    minutes = sorted(minutes, key=lambda each: each.minute)
    every, worked = merged(minutes), float(len(minutes))
    if len(minutes) > 1 and minutes[-1].minute >= now // SECONDS:
        minutes, worked = minutes[:-1], worked - 1 + now % SECONDS / SECONDS
    all_of_it = Stretch(minutes[0].minute, minutes[-1].minute + 1)
    gaps = list(_gaps(minutes))
    long = max(SHORTEST_LONG_GAP, LONG_GAP * all_of_it.minutes)
    edges = [all_of_it.begins, *(edge for gap in gaps if gap.minutes > long for edge in gap), all_of_it.ends]
    stretches = [Stretch(*each) for each in zip(edges[::2], edges[1::2], strict=True)]
    drawn = sum(each.minutes for each in stretches)
    step = next((each for each in STEPS if drawn <= each * MOST_POINTS), -(-drawn // MOST_POINTS))
    points = list(_points(minutes, step))
    return Series(points, stretches, gaps, step, Point(all_of_it, worked, every))


def _gaps(minutes: Sequence[Minute]) -> Iterator[Stretch]:
    for one, other in pairwise(minutes):
        if other.minute > one.minute + 1:
            yield Stretch(one.minute + 1, other.minute)


def _points(minutes: Sequence[Minute], step: int) -> Iterator[Point]:
    for number, group in groupby(minutes, key=lambda each: each.minute // step):
        together = list(group)
        yield Point(Stretch(number * step, (number + 1) * step), len(together), merged(together))
