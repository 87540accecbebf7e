"""Where a moment stands on the time axis, and which moments are named there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from worker.report.series import STEPS, Series, Stretch

WIDTH = 1000.0
"""Of the drawing, in units of its own: it is as wide as the page."""
GAP = 30.0
"""The width of a long gap, in the same units."""
CLOSEST = 0.13
"""The part of the width that one label takes up on a phone (390 pixels), with some room beside it."""
EDGE = 0.07
"""Within this part of the width from either end a label is set against that end, not to stand out."""


class Tick(NamedTuple):
    """A named moment."""

    at: float
    """Where it stands, in percent of the width."""
    label: str
    anchor: str
    """Which end of the label stands there: ``start``, ``middle`` or ``end``."""
    date: str = ""
    """The day, where another one begins than that of the mark before."""


class Timeline:
    """The time axis of all charts of a page."""

    def __init__(self, series: Series) -> None:
        self._stretches = _aligned(series.stretches, series.step)
        width = WIDTH - GAP * (len(self._stretches) - 1)
        self._scale = width / sum(each.minutes for each in self._stretches)

    def x(self, minute: int) -> float:
        """Where that minute begins; one that is in no stretch stands at the end of the stretch before it."""
        place = 0.0
        for each in self._stretches:
            if minute <= each.ends:
                break
            place += each.minutes * self._scale + GAP
        else:
            return WIDTH
        return place + max(0, minute - each.begins) * self._scale

    @property
    def breaks(self) -> Sequence[tuple[float, float]]:
        """Where the long gaps stand: the left edge and the width of each, in percent."""
        return [(100 * self.x(each.ends) / WIDTH, 100 * GAP / WIDTH) for each in self._stretches[:-1]]

    @property
    def ticks(self) -> Sequence[Tick]:
        """The moments that are named, far enough from each other that labels do not meet."""
        drawn = sum(each.minutes for each in self._stretches)
        step = next((each for each in STEPS if drawn <= each / CLOSEST / 1.25), STEPS[-1])
        ticks: list[Tick] = []
        day, last = "", -WIDTH
        for minute in self._marks(step):
            place = self.x(minute)
            if place - last < CLOSEST * WIDTH:
                continue
            moment = datetime.fromtimestamp(60 * minute, UTC)
            date = f"{moment.day} {moment:%b}"
            anchor = "start" if place < EDGE * WIDTH else "end" if place > (1 - EDGE) * WIDTH else "middle"
            ticks.append(Tick(place / WIDTH * 100, f"{moment:%H:%M}", anchor, date if date != day else ""))
            day, last = date, place
        return ticks

    def _marks(self, step: int) -> Iterator[int]:
        for each in self._stretches:
            first = -(-each.begins // step) * step
            if first > each.ends or len(self._stretches) > 1:
                yield each.begins
            yield from range(first, each.ends + 1, step)


def _aligned(stretches: Sequence[Stretch], step: int) -> Sequence[Stretch]:
    """The same, from and to where the points of that many minutes begin and end."""
    return [Stretch(each.begins // step * step, -(-each.ends // step) * step) for each in stretches]
