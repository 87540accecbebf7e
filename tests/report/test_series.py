"""Minutes become steps of time and places on an axis: nothing is lost, nothing overlaps, and a week stays small."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.report_samples import BEGAN, SAMPLES, minute
from worker.core.figures import Minute
from worker.report import charts
from worker.report.series import MOST_POINTS, Stretch, series
from worker.report.timeline import WIDTH, Timeline

LATER = 4e9
"""UTC seconds after everything here."""


def at(*minutes: int, users: int = 3) -> list[Minute]:
    return [minute(BEGAN + each, random.Random(each), users=users) for each in minutes]


def test_without_minutes_there_is_nothing_to_draw() -> None:
    assert series([], 0) is None


@pytest.mark.parametrize("minutes", [2, 199, 201, 840, 10_080])
def test_however_long_it_took_there_are_few_points_and_nobody_is_lost(minutes: int) -> None:
    settled = at(0)[0].settled
    found = series([Minute(BEGAN + n, settled=settled) for n in range(minutes)], LATER)

    assert found is not None
    assert len(found.points) <= MOST_POINTS + 1
    assert sum(point.enrolled for point in found.points) == found.total.enrolled == 3 * minutes


def test_a_long_gap_takes_no_more_room_than_a_short_one_and_both_are_told() -> None:
    found = series(at(*range(60), *range(70, 100), *range(5_000, 5_060)), LATER)

    assert found is not None
    assert list(found.gaps) == [Stretch(BEGAN + 60, BEGAN + 70), Stretch(BEGAN + 100, BEGAN + 5_000)]
    timeline = Timeline(found)
    [(_, width)] = timeline.breaks
    assert width == 3.0
    assert timeline.x(BEGAN + 5_060) == pytest.approx(WIDTH)


@given(st.sets(st.integers(0, 20_000), min_size=1, max_size=60))
def test_on_the_axis_time_only_goes_forward_and_labels_do_not_meet(minutes: set[int]) -> None:
    found = series([Minute(BEGAN + each) for each in minutes], LATER)

    assert found is not None
    timeline = Timeline(found)
    places = [timeline.x(edge) for point in found.points for edge in point.time]
    assert all(one <= other + 1e-6 for one, other in pairwise(places))
    assert 0 <= places[0] <= places[-1] <= WIDTH + 1e-6
    assert all(other.at - one.at >= 12.9 for one, other in pairwise(timeline.ticks))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_chart_stays_within_its_frame_and_its_table_says_the_same(name: str) -> None:
    facts = SAMPLES[name]()
    found = series(facts.minutes, facts.made_at)
    if found is None:
        return
    timeline = Timeline(found)
    for chart in filter(None, (charts.enrolments(found, timeline), charts.latency(found, timeline))):
        for shape in chart.shapes:
            numbers = [float(each) for each in shape.path.translate(str.maketrans("MVHZ", "    ")).split()]
            assert all(0 <= number <= WIDTH + 0.1 for number in numbers)
            assert "nan" not in shape.path
        assert all(len(row) == len(chart.headings) for row in chart.rows)
    enrolled = sum(int(row[1].replace(",", "")) for row in charts.enrolments(found, timeline).rows)
    assert enrolled == found.total.enrolled


def test_answers_of_a_later_version_are_shown_by_their_own_name() -> None:
    found = series([Minute(BEGAN, attempts=at(0)[0].attempts + type(at(0)[0].attempts)({"NewCall:moon": 2}))], LATER)

    assert found is not None
    assert [row.words for row in charts.answers(found, Timeline(found))][-1] == "moon"


def test_the_minute_that_is_not_over_is_counted_and_not_drawn() -> None:
    found = series(at(0, 1, 2), 60 * (BEGAN + 2) + 30)

    assert found is not None
    assert [point.time.begins for point in found.points] == [BEGAN, BEGAN + 1]
    assert found.total.enrolled == 9
    assert found.total.worked == 2.5
    assert found.total.time.minutes == 2
