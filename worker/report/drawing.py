"""Curves and areas of one number over time, as SVG path data.

A drawing is ``timeline.WIDTH`` units wide, however wide the page, so that only its shapes are stretched; its height is
in pixels. Each step of time is flat, as what is known of it is one number; where nothing happened there is no line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from worker.report.series import Point
from worker.report.timeline import Timeline
from worker.report.words import span

LINES = 4
"""Lines across a drawing at most, above the base."""

Value = Callable[[Point], float | None]
"""What is drawn of a step of time; ``None``: nothing."""


class Scale:
    """Draws numbers from 0 to about ``highest``; with ``exact`` to that alone, where there are no lines across."""

    def __init__(self, highest: float, timeline: Timeline, height: float, *, exact: bool = False) -> None:
        self._timeline, self._height = timeline, height
        self._step = _nice(highest / LINES)
        self._top = highest if exact else max(highest * 1.04, self._step)
        self._top = self._top or 1.0

    def lines(self, unit: str = "", *, seconds: bool = False) -> Sequence[tuple[float, str]]:
        """The lines across, from the base up, with their labels."""
        found = []
        for number in range(LINES + 1):
            value = self._step * number
            if value <= self._top:
                said = (span(value) if value else "0 s") if seconds else f"{value:.4g}{unit}"
                found.append((self._y(value), said))
        return found

    def line(self, points: Sequence[Point], value: Value) -> str:
        """Path data of a curve."""
        return "".join(
            f"M{run[0][0]:.1f} {run[0][2]:.1f}" + "".join(f"V{y:.1f}H{end:.1f}" for _, end, y in run)
            for run in self._runs(points, value)
        )

    def area(self, points: Sequence[Point], value: Value) -> str:
        """Path data of everything below a curve."""
        return "".join(
            f"M{run[0][0]:.1f} {self._height:.1f}"
            + "".join(f"V{y:.1f}H{end:.1f}" for _, end, y in run)
            + f"V{self._height:.1f}Z"
            for run in self._runs(points, value)
        )

    def band(self, points: Sequence[Point], lower: Value, upper: Value) -> str:
        """Path data of what lies between two curves."""
        path = ""
        for above, below in zip(self._runs(points, upper), self._runs(points, lower), strict=True):
            path += f"M{above[0][0]:.1f} {above[0][2]:.1f}" + "".join(f"V{y:.1f}H{end:.1f}" for _, end, y in above)
            path += "".join(f"V{y:.1f}H{begin:.1f}" for begin, _, y in reversed(below)) + "Z"
        return path

    def _runs(self, points: Sequence[Point], value: Value) -> Iterator[list[tuple[float, float, float]]]:
        """Yield, for each time without a gap, where each step begins, where it ends, and how high it is."""
        run: list[tuple[float, float, float]] = []
        last = None
        for point in points:
            number = value(point)
            if run and (number is None or last != point.time.begins):
                yield run
                run = []
            if number is not None:
                begin, end = (self._timeline.x(each) for each in point.time)
                run.append((begin, end, self._y(number)))
                last = point.time.ends
        if run:
            yield run

    def _y(self, value: float) -> float:
        return self._height * (1 - min(value, self._top) / self._top)


def _nice(value: float) -> float:
    """Return the next number above of the form 1, 2, 2.5 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= value * (1 - 1e-9))
