"""Figures over time: nothing is counted twice or lost, whatever the clock does, and a minute is a few bytes."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.answers import LABELS, answer
from worker.core.figures import ENROLS, Minute, load, merged
from worker.core.histogram import CALL_SECONDS, USER_SECONDS, Histogram
from worker.core.minutes import KEPT, Minutes
from worker.core.model import NotEnrolled, PoolFault, Reason, Refused, State, Trouble, TryAgain
from worker.core.stats import RunStats

START = 1_800_000_000.0
"""The beginning of a minute, UTC seconds."""


class Clock:
    """Time that stands until it is moved; the two clocks can be moved apart."""

    def __init__(self) -> None:
        self.now, self.ahead = 500.0, START - 500.0

    def monotonic(self) -> float:
        return self.now

    def utc(self) -> float:
        return self.now + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stats(clock: Clock) -> RunStats:
    return RunStats(clock)


def enrol(stats: RunStats, number: int = 1, seconds: float = 0.08) -> None:
    for _ in range(number):
        stats.answered(ENROLS, "issued", seconds)
        stats.settled(State.DELIVERED)
        stats.finished_after(2 * seconds)


def delivered(minutes: list[Minute]) -> dict[int, int]:
    return {each.minute - int(START) // 60: each.settled["delivered"] for each in minutes}


# --- histograms -------------------------------------------------------------------------------------------------------


def test_a_bound_belongs_to_its_bucket_and_what_is_beyond_all_has_one_of_its_own() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (-1.0, 1.0, 1.5, 2.0, 99.0):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert (histogram.total, histogram.sum) == (5, 103.5)


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ([4, 0, 0, 0], 0.5, 0.5),
        ([4, 0, 0, 0], 1.0, 1.0),
        ([2, 0, 2, 0], 0.5, 1.0),
        ([2, 0, 2, 0], 0.75, 3.0),
        ([0, 4, 0, 0], 0.25, 1.25),
        ([0, 0, 0, 4], 0.5, 4.0),
    ],
)
def test_a_quantile_is_as_far_in_its_bucket_as_its_share_of_what_is_there(
    counts: list[int], share: float, value: float
) -> None:
    assert Histogram((1.0, 2.0, 4.0), counts).quantile(share) == value


def test_histograms_of_different_bounds_are_not_put_together() -> None:
    for together in (Histogram.__add__, Histogram.__sub__):
        with pytest.raises(ValueError, match="shorter"):
            together(Histogram(CALL_SECONDS), Histogram(USER_SECONDS))


def test_quantiles_lie_in_the_bucket_of_their_observation() -> None:
    histogram = Histogram(CALL_SECONDS)
    assert histogram.quantile(0.5) is histogram.mean is None
    for value in (0.06, 0.06, 0.06, 0.4):
        histogram.observe(value)
    assert 0.05 < (histogram.quantile(0.5) or 0) <= 0.075
    assert 0.3 < (histogram.quantile(0.99) or 0) <= 0.5
    histogram.observe(500.0)
    assert histogram.quantile(1.0) == 10.0


@given(st.lists(st.floats(0, 1e6)), st.lists(st.floats(0, 1e6)))
def test_whatever_was_observed_since_a_copy_is_the_difference(before: list[float], after: list[float]) -> None:
    histogram, alone = Histogram(USER_SECONDS), Histogram(USER_SECONDS)
    for value in before:
        histogram.observe(value)
    earlier = histogram.copy()
    for value in after:
        histogram.observe(value)
        alone.observe(value)
    since = histogram - earlier
    assert since.counts == alone.counts
    assert since.sum == pytest.approx(alone.sum, abs=1e-6)
    assert (earlier + alone).counts == histogram.counts
    assert (earlier + alone).sum == pytest.approx(histogram.sum)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_each_answer_has_a_label_of_its_own() -> None:
    assert len({*LABELS.values(), *Trouble}) == len(LABELS) + len(Trouble)
    assert answer(TryAgain(Trouble.THROTTLED)) == "throttled"
    assert answer(Refused(State.FAILED, Reason.REFUSED, "a detail")) == "refused"
    assert answer(PoolFault("Code", "cure")) == "pool_fault"
    assert answer(NotEnrolled()) == "not_enrolled"


# --- minutes ----------------------------------------------------------------------------------------------------------


def test_a_minute_in_which_nothing_happened_is_not_written(stats: RunStats, clock: Clock) -> None:
    minutes = Minutes(stats, clock)
    clock.now += 600
    assert list(minutes.look()) == []


def test_a_minute_grows_until_it_is_over(stats: RunStats, clock: Clock) -> None:
    minutes = Minutes(stats, clock)
    for expected in (2, 4, 6):
        enrol(stats, 2)
        clock.now += 10
        assert delivered(list(minutes.look())) == {0: expected}


def test_what_happened_before_a_full_minute_belongs_to_the_minute_before(stats: RunStats, clock: Clock) -> None:
    minutes = Minutes(stats, clock)
    clock.now += 55
    minutes.look()
    enrol(stats)
    assert (minutes.until_next(10.0), minutes.until_next(2.0)) == (5.0, 2.0)
    clock.now += 5
    written = list(minutes.look())
    enrol(stats, 2)
    clock.now += 10
    assert delivered(written) == {0: 1}
    assert delivered(list(minutes.look())) == {0: 1, 1: 2}


def test_what_was_written_is_not_written_again(stats: RunStats, clock: Clock) -> None:
    minutes = Minutes(stats, clock)
    enrol(stats)
    for each in minutes.look():
        minutes.written(each)
    assert list(minutes.look()) == []


def test_what_came_while_a_write_was_under_way_is_written_next(stats: RunStats, clock: Clock) -> None:
    minutes = Minutes(stats, clock)
    enrol(stats)
    (first,) = minutes.look()
    enrol(stats)
    minutes.look()
    minutes.written(first)
    assert delivered(list(minutes.look())) == {0: 2}


def test_minutes_are_those_of_the_corrected_clock(stats: RunStats, clock: Clock) -> None:
    clock.ahead -= 7200
    minutes = Minutes(stats, clock)
    clock.ahead += 7200  # Cognito told the time
    enrol(stats)
    clock.now += 5
    assert delivered(list(minutes.look())) == {0: 1}


def test_a_clock_that_is_set_back_overwrites_nothing(stats: RunStats, clock: Clock) -> None:
    minutes = Minutes(stats, clock)
    for _ in range(3):
        enrol(stats)
        clock.now += 60
        for each in minutes.look():
            minutes.written(each)
    clock.ahead -= 180
    enrol(stats, 5)
    clock.now += 10
    assert delivered(list(minutes.look())) == {0: 6}


def test_a_machine_that_slept_keeps_its_figures_where_they_were(stats: RunStats, clock: Clock) -> None:
    minutes = Minutes(stats, clock)
    enrol(stats)
    clock.now += 3600
    assert delivered(list(minutes.look())) == {0: 1}


def test_a_ledger_that_is_away_for_long_costs_a_bounded_memory(stats: RunStats, clock: Clock) -> None:
    minutes = Minutes(stats, clock)
    for _ in range(KEPT + 30):
        enrol(stats)
        clock.now += 60
        written = list(minutes.look())
    assert len(written) == KEPT


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 200), st.floats(-400, 400)), max_size=30))
def test_whatever_the_clock_does_everybody_is_counted_once(steps: list[tuple[int, float, float]]) -> None:
    clock = Clock()
    stats = RunStats(clock)
    minutes, ledger = Minutes(stats, clock), dict[int, Minute]()
    for users, seconds, jump in steps:
        enrol(stats, users)
        clock.now += seconds
        clock.ahead += jump
        for each in minutes.look():
            ledger[each.minute] = each
            minutes.written(each)
    everything = list(ledger.values())
    assert sum(each.settled.total() for each in everything) == stats.done
    assert sum(each.attempts.total() for each in everything) == stats.attempts.total()
    assert sum(each.latency.total for each in everything) == stats.latency_of(ENROLS).total
    assert sum(each.lease_to_outcome.total for each in everything) == stats.lease_to_outcome.total
    assert all(number > 0 for each in everything for number in each.settled.values())


def test_the_longest_wait_is_that_of_its_minute(stats: RunStats, clock: Clock) -> None:
    minutes = Minutes(stats, clock)
    enrol(stats, seconds=40.0)
    clock.now += 60
    enrol(stats, seconds=1.0)
    minutes.look()
    enrol(stats, seconds=2.0)
    clock.now += 5
    assert [each.longest for each in minutes.look()] == [80.0, 4.0]


def test_a_minute_tells_outcomes_with_their_reasons_and_the_pace_at_its_end(stats: RunStats, clock: Clock) -> None:
    minutes = Minutes(stats, clock)
    stats.configured_per_second = 25.0
    for rate in (25.0, 12.5):
        stats.allows(rate)
        stats.settled(State.NEEDS_SESSION, Reason.SESSION_EXPIRED)
    stats.settled(State.DELIVERED)
    (minute,) = minutes.look()
    assert minute.settled == {"needs_session:session_expired": 2, "delivered": 1}
    assert (minute.allowed, minute.configured) == (12.5, 25.0)


# --- as text ----------------------------------------------------------------------------------------------------------


def busy() -> Minute:
    """A minute at the quota, with a little of everything that a day brings."""
    latency, waits = Histogram(CALL_SECONDS), Histogram(USER_SECONDS)
    for number in range(1500):
        latency.observe(0.04 + number / 10_000)
        waits.observe(0.2 + number / 1_000)
    settled = Counter({"delivered": 1470, "needs_session:session_expired": 21, "failed:refused": 9})
    attempts = Counter({f"{ENROLS}:issued": 1470, f"{ENROLS}:throttled": 12, f"{ENROLS}:refused": 30})
    return Minute(29_000_000, settled, attempts, latency, waits, 1.7, 24.85, 25.0)


def test_a_minute_is_a_few_hundred_bytes_and_reads_back() -> None:
    text = busy().dump()
    found = load(29_000_000, text)
    assert found is not None
    assert (found.settled, found.attempts, found.latency.counts) == (
        busy().settled,
        busy().attempts,
        busy().latency.counts,
    )
    assert found.latency.sum == pytest.approx(busy().latency.sum, rel=0.001)
    assert len(text) < 450
    assert " " not in text
    assert text.endswith('"m":1.7,"r":[24.85,25]}')
    assert found.dump() == text


def test_buckets_of_another_version_fall_into_ours() -> None:
    values = json.loads(busy().dump())
    values["c"] = [3.5, {"0.03": 2, "0.05": 1, "60": 4, "": 1}]
    found = load(1, json.dumps(values))
    assert found is not None
    assert found.latency.counts[CALL_SECONDS.index(0.05)] == 3
    assert found.latency.counts[-1] == 5


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"s":1}', busy().dump()[:-5], busy().dump().replace("21", "{}")]
)
def test_what_cannot_be_read_is_left_out(text: str) -> None:
    assert load(1, text) is None


def test_merged_minutes_are_the_first_of_them_with_everything() -> None:
    whole = merged([busy(), Minute(28_999_999, Counter(delivered=1), allowed=20.0, configured=25.0)])
    assert whole.minute == 28_999_999
    assert whole.settled["delivered"] == 1471
    assert whole.latency == busy().latency
    assert (whole.allowed, whole.configured, whole.longest) == (20.0, 25.0, 1.7)
