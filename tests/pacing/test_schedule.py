"""The arithmetic of the shared timeline: slices never overlap, nothing is saved up, the rate does only what it may."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.pacing.pace import Pace
from worker.pacing.schedule import (
    CUT,
    FARTHEST,
    FIRST_SLICE,
    FORGET_AFTER,
    LAGS,
    LOWEST,
    LOWEST_RATE,
    MARGIN,
    MAX_LAG,
    NUDGE,
    RISE,
    ROUND,
    SHRINK,
    SLICE,
    TooMany,
    cut,
    plan,
)

rates = st.floats(0.05, 5000)
moments = st.floats(0, 1e9)
paces = st.builds(Pace, reserved_until=moments, rate=rates, changed_at=moments, version=st.integers(0, 9))


def too_many(now: float) -> TooMany:
    """From somebody who knew all that was to be known."""
    return TooMany(now, math.inf)


def within(rate: float, configured: float) -> bool:
    return min(configured, max(LOWEST * configured, LOWEST_RATE)) <= rate <= configured


@given(st.none() | paces, moments, rates)
def test_a_slice_is_ours_alone_and_lies_ahead(pace: Pace | None, now: float, configured: float) -> None:
    written, mine = plan(pace, now, configured)
    assert now <= mine.start < mine.end == written.reserved_until
    if pace and pace.reserved_until <= now + FARTHEST:
        assert mine.start >= pace.reserved_until
    assert written.version == (pace.version if pace else 0) + 1


@given(st.none() | paces, moments, rates)
def test_a_slice_holds_at_least_one_send_and_no_more_than_the_rate_allows(
    pace: Pace | None, now: float, configured: float
) -> None:
    _, mine = plan(pace, now, configured)
    assert mine.sends >= 1
    assert mine.sends <= configured * (mine.end - mine.start) + 1e-3 * mine.sends + 1e-6 * now


@given(st.none() | paces, moments, rates)
def test_the_rate_stays_between_the_lowest_and_the_configured_one(
    pace: Pace | None, now: float, configured: float
) -> None:
    written, _ = plan(pace, now, configured)
    assert within(written.rate, configured)
    assert within(cut(written, too_many(now), configured).rate, configured)


@given(rates, st.floats(0.1, 1.0))
def test_the_rate_rises_by_a_part_of_the_configured_one_for_each_second_of_work(configured: float, part: float) -> None:
    pace = Pace(100.0, max(configured * part, min(LOWEST_RATE, configured)), 0.0, 1)
    written, mine = plan(pace, 99.9, configured)
    risen = pace.rate + RISE * configured * (mine.end - mine.start)
    assert math.isclose(written.rate, min(configured, risen))
    assert written.changed_at == pace.changed_at


@given(rates, moments)
def test_too_many_cuts_the_rate_once_for_all_who_did_not_know_of_it(configured: float, now: float) -> None:
    pace = Pace(now, configured, now - 10, 3)
    once = cut(pace, TooMany(now, known=now - 10), configured)
    assert once == replace(pace, rate=min(configured, max(CUT * configured, LOWEST_RATE)), changed_at=now)
    assert cut(once, TooMany(now + 0.1, known=now - 10), configured) is once
    again = cut(once, TooMany(now + 0.1, known=now), configured)
    assert again == replace(pace, rate=min(configured, max(CUT * once.rate, LOWEST_RATE)), changed_at=now + 0.1)


def test_cuts_never_stop_everything() -> None:
    pace = Pace(0.0, 100.0, 0.0)
    for moment in range(1, 500):
        pace = cut(pace, too_many(moment + 0.5), 100.0)
    assert pace.rate == LOWEST * 100.0


def test_unused_time_is_lost_and_not_saved_up() -> None:
    written, first = plan(None, 1000.0, 25.0)
    _, later = plan(written, 1010.0, 25.0)
    assert later.start == 1010.0
    assert first.sends == later.sends == FIRST_SLICE * 25


def lengths(pace: Pace, aheads: Iterable[float], *, lag: float = 0.0) -> list[float]:
    """Of the slices that are reserved one after another, each when the timeline is reserved so far ahead."""
    found = []
    for ahead in aheads:
        pace, mine = plan(replace(pace, reserved_until=1000.0), 1000.0 - ahead, 1000.0, lag=lag)
        found.append(mine.end - mine.start)
    return found


def test_a_first_slice_is_short() -> None:
    _, first = plan(None, 1000.0, 100.0)
    assert first.end - first.start == pytest.approx(FIRST_SLICE, rel=0.01)


def test_slices_grow_little_by_little_where_there_is_room_and_shrink_where_there_is_none() -> None:
    growing = lengths(plan(None, 1000.0, 1000.0)[0], [0.1] * 100)
    assert growing == sorted(growing)
    assert growing[0] < 1.2 * FIRST_SLICE
    assert growing[-1] == pytest.approx(SLICE * 0.9, rel=0.05)
    shrinking = lengths(Pace(1000.0, 1000.0, 0.0, 1, SLICE), [0.9] * 100)
    assert shrinking == sorted(shrinking, reverse=True)
    assert shrinking[-1] == pytest.approx(SLICE * 0.1, rel=0.25)


@pytest.mark.parametrize(("ahead", "part"), [(1.4, NUDGE), (1.6, SHRINK), (3.0, SHRINK)])
def test_where_many_have_just_joined_slices_shrink_at_once(ahead: float, part: float) -> None:
    shrinking = lengths(Pace(1000.0, 1000.0, 0.0, 1, SLICE), [ahead] * 10)
    assert shrinking == pytest.approx([SLICE * (1 - part) ** (number + 1) for number in range(10)], abs=0.004)


@pytest.mark.parametrize("workers", [1, 2, 4, 8, 16])
def test_all_have_their_turn_within_a_round_and_with_the_same_share(workers: int) -> None:
    pace, mine = plan(Pace(1000.0, 400.0, 900.0), 999.99, 400.0)
    turns = [mine] * workers
    for _ in range(90 * workers):
        begun = turns[-workers]  # whose next slice is reserved when the last one begins
        pace, mine = plan(pace, max(begun.start, 999.99), 400.0, owed=begun.owed)
        turns.append(mine)
    shares = [sum(one.sends for one in turns[-30 * workers :][number::workers]) for number in range(workers)]
    assert max(shares) - min(shares) <= 0.02 * max(shares)
    assert turns[-1].start - turns[-1 - workers].start <= ROUND


def test_what_is_rounded_off_a_slice_the_next_one_makes_up_for() -> None:
    pace, sends, owed = Pace(1000.0, 25.0, 900.0, length=0.1), 0, 0.0
    for _ in range(100):
        _, mine = plan(pace, 999.2, 25.0, owed=owed)
        sends, owed = sends + mine.sends, mine.owed
        assert abs(owed) <= 0.5
    (length,) = {plan(pace, 999.2, 25.0)[0].length}
    assert 25.0 * length % 1 > 0.1
    assert sends == pytest.approx(100 * 25.0 * length, abs=1)


@pytest.mark.parametrize("rate", [0.5, 1.0, 3.0])
def test_at_a_low_rate_a_slice_is_one_send(rate: float) -> None:
    written, _ = plan(None, 1000.0, rate)
    _, mine = plan(written, 1000.01, rate)
    assert mine.sends == 1
    assert -0.5 <= mine.owed < 0, "no more than half a send is taken from later ones"
    assert mine.end - mine.start == pytest.approx(1 / rate, rel=0.01)


def test_where_the_timeline_ran_dry_a_slice_outlasts_what_it_takes_to_reserve_one_but_not_by_minutes() -> None:
    pace = Pace(1000.0, 1000.0, 0.0, 1, FIRST_SLICE)
    for lag, length in ((0.01, FIRST_SLICE), (0.4, LAGS * 0.4), (60.0, LAGS * MAX_LAG)):
        _, mine = plan(pace, 1001.0, 1000.0, lag=lag)
        assert mine.end - mine.start == pytest.approx(length, rel=0.01)


def test_while_reserving_takes_long_slices_grow_until_it_keeps_pace() -> None:
    pace = Pace(1000.0, 1000.0, 0.0, 1, FIRST_SLICE)
    assert lengths(pace, [0.2] * 200, lag=0.8)[-1] == pytest.approx(LAGS * 0.8 - 0.2, rel=0.05)


@pytest.mark.parametrize("most", [1, 7, 500])
def test_no_more_is_reserved_than_there_is_use_for(most: int) -> None:
    _, mine = plan(Pace(1000.0, 100.0, 900.0, 1, 0.4), 999.8, 100.0, most=most)
    assert mine.sends == min(most, 40)
    assert mine.end - mine.start == pytest.approx(mine.sends * (1 + MARGIN) / 100.0)


@pytest.mark.parametrize("rate", [0.5, 1.0, 25.0, 1000.0])
def test_workers_in_turn_share_one_rate_without_gap_or_overlap(rate: float) -> None:
    pace, mine = plan(None, 1000.0, rate)
    slices = [mine]
    for _ in range(100):
        pace, mine = plan(pace, pace.reserved_until - 0.01, rate)
        slices.append(mine)
    assert all(one.end == other.start for one, other in pairwise(slices))
    span = slices[-1].end - slices[0].start
    assert 0.99 * rate * span <= sum(one.sends for one in slices) <= rate * span


def test_a_timeline_that_another_clock_reserved_is_not_waited_for() -> None:
    absurd = Pace(reserved_until=5000.0, rate=20.0, changed_at=5000.0, version=7)
    written, mine = plan(absurd, 1000.0, 25.0)
    assert mine.start == 1000.0
    assert written.version == 8
    assert cut(written, too_many(1001.1), 25.0).rate < written.rate


@pytest.mark.parametrize(
    ("rate", "ahead", "waited_for"), [(25.0, 59, True), (25.0, 61, False), (0.5, 199, True), (0.5, 201, False)]
)
def test_at_most_a_minute_or_a_hundred_sends_that_are_reserved_are_waited_for(
    rate: float, ahead: float, waited_for: bool
) -> None:
    _, mine = plan(Pace(1000.0 + ahead, rate, 900.0), 1000.0, rate)
    assert mine.start == 1000.0 + (ahead if waited_for else 0)


def test_a_low_rate_is_forgotten_after_a_long_silence_and_no_sooner() -> None:
    slow = Pace(reserved_until=1000.0, rate=5.0, changed_at=900.0, version=7)
    assert plan(slow, 1000.0 + FORGET_AFTER - 1, 25.0)[0].rate < 6
    assert plan(slow, 1000.0 + FORGET_AFTER + 1, 25.0)[0].rate == 25.0


def test_a_lower_configured_rate_holds_at_once() -> None:
    _, mine = plan(Pace(1000.0, 100.0, 900.0), 999.0, 10.0)
    assert mine.sends / (mine.end - mine.start) <= 10.0


def test_a_cut_from_the_future_of_another_clock_does_not_forbid_cuts() -> None:
    pace = replace(Pace(1000.0, 25.0, 0.0), changed_at=9e9)
    assert cut(pace, too_many(1000.1), 25.0).rate == CUT * 25.0
