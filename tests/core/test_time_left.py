"""The time that is left: honest from the first seconds, never below zero, and near what it turns out to be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.virtual_time import VirtualTime
from worker.core.model import State
from worker.core.stats import RunStats
from worker.core.time_left import LEAST, Rest, is_quiet, seconds_left, users_per_second

amounts = st.floats(0, 1e7)
speeds = st.floats(0, 5_000)
rests = st.builds(
    Rest,
    users=amounts,
    possible=speeds,
    seen=speeds,
    seen_for=st.floats(0, 10),
    quiet=st.floats(0, 100),
    first_at=st.floats(-10, 600),
    then=st.floats(-10, 600),
)


@given(rests)
def test_it_is_never_negative_and_never_nothing_while_somebody_is_left(rest: Rest) -> None:
    left = seconds_left(rest)
    assert left is None or left >= (LEAST if rest.users > 0 else 0)


@given(rests, st.floats(0.1, 0.9))
def test_with_fewer_users_it_is_never_longer(rest: Rest, part: float) -> None:
    rest = replace(rest, quiet=0.0)
    more, fewer = seconds_left(rest), seconds_left(replace(rest, users=rest.users * part))
    assert more is None or (fewer is not None and fewer <= more)


@given(rests, st.floats(1, 600))
def test_who_is_waited_for_and_a_queue_that_is_watched_take_their_time(rest: Rest, seconds: float) -> None:
    rest = replace(rest, first_at=0.0, then=0.0)
    left = seconds_left(rest)
    later = seconds_left(replace(rest, then=seconds))
    assert (left is None) is (later is None)
    if left is not None and later is not None:
        assert later == pytest.approx(left + seconds)
    if rest.users > 0 and rest.possible > 0 and rest.seen > 0:
        claimed = seconds_left(replace(rest, first_at=seconds))
        assert claimed is not None
        assert claimed >= seconds


def test_before_anybody_is_done_the_rate_and_what_a_user_costs_tell_it() -> None:
    assert seconds_left(Rest(users=1_500, possible=25)) == pytest.approx(60)
    assert seconds_left(Rest(users=1_500, possible=25 / 3)) == pytest.approx(180)


@pytest.mark.parametrize("rest", [Rest(users=0, possible=25), Rest(users=0, possible=0, quiet=100)])
def test_where_nobody_is_left_it_is_nothing(rest: Rest) -> None:
    assert seconds_left(rest) == 0


@pytest.mark.parametrize(
    ("seen", "seen_for", "expected"),
    [(20.0, 0.0, 10.0), (20.0, 4.0, 15.0), (20.0, 8.0, 20.0), (20.0, 9.0, 20.0), (0.5, 8.0, 5.25), (0.5, 16.0, 0.5)],
)
def test_what_was_seen_is_trusted_the_more_the_longer_it_was_and_the_more_users(
    seen: float, seen_for: float, expected: float
) -> None:
    assert users_per_second(Rest(users=100, possible=10, seen=seen, seen_for=seen_for)) == pytest.approx(expected)


@pytest.mark.parametrize("possible", [0.0, 25.0])
def test_it_is_quiet_once_nobody_was_finished_for_more_than_five_seconds(possible: float) -> None:
    assert not is_quiet(Rest(users=1_500, possible=possible, quiet=5.0))
    assert is_quiet(Rest(users=1_500, possible=possible, quiet=5.001))


def test_nobody_knows_it_where_nobody_is_finished_for_long() -> None:
    assert seconds_left(Rest(users=1_500, possible=25, quiet=4.0)) is not None
    assert seconds_left(Rest(users=1_500, possible=25, quiet=6.0)) is None
    assert seconds_left(Rest(users=1_500, possible=0)) is None
    assert not is_quiet(Rest(users=15, possible=0.1, quiet=30))  # at one user in ten seconds that is nothing special
    assert seconds_left(Rest(users=3, possible=25, quiet=60, first_at=30)) == pytest.approx(30.12)  # that is why


def test_the_last_ones_who_should_be_done_have_no_time_left_to_show() -> None:
    assert seconds_left(Rest(users=3, possible=25, quiet=1.0)) == LEAST
    assert seconds_left(Rest(users=3, possible=25, quiet=2.0)) is None
    assert seconds_left(Rest(users=3, possible=0.5, quiet=2.0)) == pytest.approx(6)


class Run:
    """A steady run: ``real`` users/s are finished, of whom ``total`` are to be."""

    def __init__(self, total: int, possible: float, real: float, *, begins_after: float = 0.3) -> None:
        self.clock, self.total, self.possible, self.real = VirtualTime(), total, possible, real
        self.stats = RunStats(self.clock)
        self.began = self.clock.now
        self.next = self.began + begins_after

    def until(self, second: float) -> float | None:
        """Go on to that second of the run, and estimate."""
        while self.next <= self.began + second and self.stats.done < self.total:
            self.clock.now = self.next
            self.stats.settled(State.DELIVERED)
            self.next += 1 / self.real
        self.clock.now = self.began + second
        return seconds_left(
            Rest(
                self.total - self.stats.done,
                self.possible,
                self.stats.users_per_second,
                self.stats.users_seen_for,
                quiet=self.stats.since_outcome,
            )
        )

    @property
    def takes(self) -> float:
        return 0.3 + (self.total - 1) / self.real


@given(st.integers(500, 20_000), st.floats(5, 400))
def test_in_a_steady_run_it_is_right_within_a_fifth_after_five_seconds_and_falls(total: int, real: float) -> None:
    run = Run(total, real, real)
    before = None
    for second in (1, 2, 3, 5, 8, 13, 21, 34):
        if second > run.takes - 2:
            break
        left = run.until(second)
        assert left is not None
        if second >= 5:
            assert left == pytest.approx(run.takes - second, rel=0.2, abs=1.0)
        assert before is None or left <= before * 1.02 + 1
        before = left


@given(st.floats(5, 400), st.floats(0.3, 0.9))
def test_where_half_is_throttled_it_is_right_within_half_a_minute(possible: float, part: float) -> None:
    run = Run(100_000, possible, possible * part)
    left = run.until(12)
    assert left == pytest.approx(run.takes - 12, rel=0.2)


def test_after_an_outage_it_is_right_at_once() -> None:
    run = Run(2_000, 25, 25)
    run.until(20)
    run.next += 60
    assert run.until(50) is None
    left = run.until(85)
    assert left == pytest.approx(run.takes + 60 - 85, rel=0.1)
