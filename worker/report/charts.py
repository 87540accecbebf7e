"""The charts, as lines and areas in units of a drawing; the template writes them down as SVG.

A drawing is ``timeline.WIDTH`` units wide, however wide the page, so that only its shapes are stretched; its height is
in pixels. Each step of time is flat, as what is known of it is one number; where nothing happened there is no line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from worker.report.series import Point, Series
from worker.report.timeline import Timeline
from worker.report.words import clock_time, day_and_time, duration, many, rate

HEIGHT = 168.0
"""Pixels of a chart without its axis."""
ROW = 32.0
"""Pixels of a row of the answers."""
LINES = 4
"""Lines across a chart at most, above the base."""
DIFFERS = 0.03
"""From which part on two curves differ enough that both are drawn."""

Value = Callable[[Point], float | None]
"""What is drawn of a step of time; ``None``: nothing."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One curve or area."""

    kind: str
    """Its class in the style sheet."""
    path: str
    """SVG path data."""
    words: str
    """What it shows, for the legend; empty: it is not in it."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A whole drawing."""

    name: str
    """Its id in the page."""
    title: str
    described: str
    """What it shows, in words, for whoever does not see it; also printed below it."""
    shapes: Sequence[Shape]
    lines: Sequence[tuple[float, str]]
    """Lines across: pixels from above, and the label."""
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    """The same as a table."""
    height: float = HEIGHT


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of answer, with a small chart of its own."""

    words: str
    number: int
    share: str
    peak: str
    path: str


def enrolments(series: Series, timeline: Timeline) -> Chart:
    """Draw enrolments against the quota."""
    points, total = series.points, series.total
    highest = max(max(p.per_second(max(p.enrolled, p.calls)), p.sums.configured, p.sums.allowed) for p in points)
    scale = _Scale(highest, timeline)
    shapes = [
        Shape("area", scale.area(points, _enrolled), "users enrolled per second"),
        Shape("enrolled", scale.line(points, _enrolled), ""),
    ]
    if total.calls > total.enrolled * (1 + DIFFERS):
        shapes.append(Shape("calls", scale.line(points, _calls), "calls per second that count against the quota"))
    if any(p.sums.allowed < p.sums.configured * (1 - DIFFERS) for p in points):
        shapes.append(Shape("allowed", scale.line(points, _allowed), "the rate that Cognito's answers allowed"))
    shapes.append(Shape("quota", scale.line(points, _configured), "the rate that the settings allow"))
    best = max(points, key=lambda p: p.per_second(p.enrolled))
    described = (
        f"{many(total.enrolled, 'user')} enrolled while workers were at it for {duration(60 * total.worked)}: "
        f"{rate(total.per_second(total.enrolled))} on average, {rate(best.per_second(best.enrolled))} at most "
        f"({day_and_time(60 * best.time.begins)} UTC), and {rate(total.per_second(total.calls))} calls on average "
        f"of the {rate(total.sums.configured)} that the settings allow."
    )
    rows = [
        [
            *(_when(p), f"{p.enrolled:,}", f"{p.calls:,}", f"{p.per_second(p.calls):.1f}"),
            *(f"{p.sums.configured:.4g}", f"{p.sums.allowed:.4g}"),
        ]
        for p in points
    ]
    headings = ["From (UTC)", "Enrolled", "Calls", "Calls/s", "Set", "Allowed"]
    return Chart("enrolments", "Enrolments against the quota", described, shapes, scale.lines("/s"), headings, rows)


def latency(series: Series, timeline: Timeline) -> Chart | None:
    """Draw how long Cognito's answers to the enrolment call took; ``None`` where there were none."""
    if not series.total.sums.latency.total:
        return None
    points = series.points
    scale = _Scale(max(_p95(p) or 0.0 for p in points), timeline)
    shapes = [
        Shape("band", scale.band(points, _median, _p95), ""),
        Shape("p95", scale.line(points, _p95), "95 % were answered within this time"),
        Shape("median", scale.line(points, _median), "half were answered within this time (median)"),
    ]
    slowest = max((p for p in points if p.sums.latency.total), key=lambda p: _p95(p) or 0.0)
    described = (
        f"{many(series.total.sums.latency.total, 'answer')}: half within {duration(_median(series.total) or 0)}, "
        f"95 % within {duration(_p95(series.total) or 0)}; slowest from {day_and_time(60 * slowest.time.begins)} UTC, "
        f"when 95 % took up to {duration(_p95(slowest) or 0)}. Read from histograms, so these are good to about a third."
    )
    rows = [
        [_when(p), f"{p.sums.latency.total:,}", duration(_median(p) or 0), duration(_p95(p) or 0)]
        for p in points
        if p.sums.latency.total
    ]
    headings = ["From (UTC)", "Answers", "Median", "95 %"]
    return Chart(
        "latency", "How long Cognito took to answer", described, shapes, scale.lines(seconds=True), headings, rows
    )


KINDS = {
    "issued": "a secret",
    "verified": "code verified",
    "preferred": "TOTP preferred",
    "signed_in": "signed in",
    "challenge": "asked for the ticket",
    "not_enrolled": "has no factor yet",
    "already_enrolled": "has a factor already",
    "throttled": "throttled",
    "conflict": "conflict",
    "server_error": "error of the service",
    "no_answer": "no answer",
    "unsent": "never left",
    "locked": "locked for some minutes",
    "wrong_code": "wrong code",
    "refused": "refused for this user",
    "pool_fault": "refused for everybody",
}
"""Words for each kind of answer (``core.answers``), in the order of the page."""
ALWAYS = ("issued", "throttled", "conflict", "server_error", "no_answer")
"""Kinds that are shown even if there were none: that nobody was throttled is worth knowing."""


def answers(series: Series, timeline: Timeline) -> Sequence[Row]:
    """Draw each kind of answer in a row of its own, and to its own scale, so that the rare ones are seen too."""
    counted = series.total.answers
    everything = counted.total()
    kinds = [kind for kind in KINDS if kind in ALWAYS or counted[kind]]
    kinds += sorted(kind for kind in counted if kind not in KINDS)
    rows = []
    for kind in kinds:
        number = counted[kind]
        best = max(series.points, key=lambda p: p.answers[kind] / p.worked)
        scale = _Scale(best.answers[kind] / best.worked, timeline, ROW, exact=True)
        path = scale.area(series.points, lambda p, kind=kind: p.answers[kind] / p.worked) if number else ""  # type: ignore[misc]
        peak = f"{best.answers[kind] / best.worked:,.0f}/min at {clock_time(60 * best.time.begins)}" if number else ""
        rows.append(Row(KINDS.get(kind, kind), number, _share(number, everything), peak, path))
    return rows


def answer_table(series: Series) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return the headings and rows of the same as a table."""
    counted = series.total.answers
    kinds = [kind for kind in KINDS if kind in ALWAYS or counted[kind]]
    kinds += sorted(kind for kind in counted if kind not in KINDS)
    rows = [[_when(p), *(f"{p.answers[kind]:,}" for kind in kinds)] for p in series.points]
    return ["From (UTC)", *(KINDS.get(kind, kind).capitalize() for kind in kinds)], rows


def _share(number: int, total: int) -> str:
    if not number:
        return "0 %"
    share = 100 * number / total
    return f"{share:.0f} %" if share >= 10 else f"{share:.1f} %" if share >= 0.1 else "< 0.1 %"


def _when(point: Point) -> str:
    return day_and_time(60 * point.time.begins)


def _enrolled(point: Point) -> float:
    return point.per_second(point.enrolled)


def _calls(point: Point) -> float:
    return point.per_second(point.calls)


def _configured(point: Point) -> float:
    return point.sums.configured


def _allowed(point: Point) -> float:
    return point.sums.allowed


def _median(point: Point) -> float | None:
    return point.sums.latency.quantile(0.5)


def _p95(point: Point) -> float | None:
    return point.sums.latency.quantile(0.95)


class _Scale:
    """Draws numbers from 0 to about ``highest``."""

    def __init__(self, highest: float, timeline: Timeline, height: float = HEIGHT, *, exact: bool = False) -> None:
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
                said = (duration(value) if value else "0 s") if seconds else f"{value:.4g}{unit}"
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
