"""The charts: what is drawn on each, what is said of it, and the same as a table. The template makes the SVG."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from worker.core.words import several
from worker.report.drawing import Scale
from worker.report.series import Point, Series
from worker.report.timeline import Timeline
from worker.report.words import day_and_time, rate, span

HEIGHT = 168.0
"""Pixels of a chart without its axis."""
ROW = 32.0
"""Pixels of a row of the answers."""
DIFFERS = 0.05
"""From which part on two curves differ enough that both are drawn."""


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
    scale = Scale(highest, timeline, HEIGHT)
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
        f"{several(total.enrolled, 'user')} enrolled while workers were at it for {span(60 * total.worked)}: "
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
    scale = Scale(max(_p95(p) or 0.0 for p in points), timeline, HEIGHT)
    shapes = [
        Shape("band", scale.band(points, _median, _p95), ""),
        Shape("p95", scale.line(points, _p95), "95\u00a0% were answered within this time"),
        Shape("median", scale.line(points, _median), "half were answered within this time (median)"),
    ]
    slowest = max((p for p in points if p.sums.latency.total), key=lambda p: _p95(p) or 0.0)
    described = (
        f"{several(series.total.sums.latency.total, 'answer')}: half within {span(_median(series.total) or 0)}, "
        f"95\u00a0% within {span(_p95(series.total) or 0)}; slowest from "
        f"{day_and_time(60 * slowest.time.begins)} UTC, when 95\u00a0% took up to {span(_p95(slowest) or 0)}. "
        "These are read from histograms, and good to a third."
    )
    rows = [
        [_when(p), f"{p.sums.latency.total:,}", span(_median(p) or 0), span(_p95(p) or 0)]
        for p in points
        if p.sums.latency.total
    ]
    headings = ["From (UTC)", "Answers", "Median", "95\u00a0%"]
    return Chart(
        "latency", "How long Cognito took to answer", described, shapes, scale.lines(seconds=True), headings, rows
    )


KINDS = {
    "issued": "secret issued",
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
    return [_row(kind, series, timeline, counted) for kind in _kinds(counted)]


def _row(kind: str, series: Series, timeline: Timeline, counted: Counter[str]) -> Row:
    def in_a_minute(point: Point) -> float:
        return point.answers[kind] / point.worked

    most = max(in_a_minute(point) for point in series.points)
    path = Scale(most, timeline, ROW, exact=True).area(series.points, in_a_minute) if most else ""
    peak = f"{most:,.0f}/min" if most >= 10 else f"{most:.2g}/min" if most else "–"
    return Row(_named(kind), counted[kind], _share(counted[kind], counted.total()), peak, path)


def answer_table(series: Series) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return the headings and rows of the same as a table."""
    kinds = _kinds(series.total.answers)
    rows = [[_when(p), *(f"{p.answers[kind]:,}" for kind in kinds)] for p in series.points]
    return ["From (UTC)", *map(_named, kinds)], rows


def _kinds(counted: Counter[str]) -> Sequence[str]:
    known = [kind for kind in KINDS if kind in ALWAYS or counted[kind]]
    return [*known, *sorted(kind for kind in counted if kind not in KINDS)]


def _named(kind: str) -> str:
    return KINDS.get(kind, kind)


def _share(number: int, total: int) -> str:
    if not number:
        return "0\u00a0%"
    share = 100 * number / total
    return f"{share:.0f}\u00a0%" if share >= 10 else f"{share:.1f}\u00a0%" if share >= 0.1 else "< 0.1\u00a0%"


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
