"""The quota admits what it should, and the memory of what arrived counts right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.rehearsal.fake_cognito import quota
from worker.rehearsal.fake_cognito.quota import TokenBucket, Traffic


def test_an_idle_quota_saves_up_one_second() -> None:
    bucket = TokenBucket(25, None, 0.0)
    assert [bucket.take(100.0) for _ in range(26)] == [True] * 25 + [False]


def test_the_burst_can_be_set_apart_from_the_rate() -> None:
    bucket = TokenBucket(25, 3, 0.0)
    assert [bucket.take(100.0) for _ in range(4)] == [True] * 3 + [False]


def test_requests_at_exactly_the_rate_are_all_admitted() -> None:
    bucket = TokenBucket(25, 1, 0.0)
    assert all(bucket.take(number / 25) for number in range(10_000))


def test_a_fifth_too_fast_loses_a_sixth() -> None:
    bucket = TokenBucket(100, None, 0.0)
    admitted = sum(bucket.take(number / 120) for number in range(120_000))
    assert admitted == pytest.approx(100_000 + 100, abs=2)


def test_no_quota_admits_everything() -> None:
    bucket = TokenBucket(None, None, 0.0)
    assert all(bucket.take(0.0) for _ in range(1000))


def test_a_changed_quota_holds_from_that_moment_on() -> None:
    bucket = TokenBucket(10, None, 0.0)
    assert [bucket.take(0.0) for _ in range(10)] == [True] * 10
    bucket.change(100, None, 0.5)
    assert [bucket.take(0.5) for _ in range(6)] == [True] * 5 + [False], "half a second at the old rate"
    bucket.change(2, None, 10.0)
    assert [bucket.take(10.0) for _ in range(3)] == [True] * 2 + [False]
    bucket.change(None, None, 10.0)
    assert bucket.take(10.0)
    bucket.change(1, None, 10.0)
    assert [bucket.take(10.0) for _ in range(2)] == [True, False]


def test_the_largest_window_is_any_second_not_a_second_of_the_clock() -> None:
    traffic = Traffic()
    for now in (0.1, 0.9, 0.95, 1.05, 1.1, 3.0):
        traffic.arrive(now, admitted=True)
    assert traffic.largest_window() == 4
    assert traffic.largest_window(since=0.95, until=3.0) == 3
    assert traffic.largest_window(since=5.0) == 0


def test_requests_one_second_apart_share_no_window() -> None:
    traffic = Traffic()
    for now in (1.0, 2.0, 3.0):
        traffic.arrive(now, admitted=True)
    assert traffic.largest_window() == traffic.largest_window(since=0.0) == 1


@given(st.lists(st.floats(0, 10), min_size=1, max_size=60))
def test_the_window_counted_on_the_way_is_the_one_found_afterwards(times: list[float]) -> None:
    times.sort()
    traffic = Traffic()
    for now in times:
        traffic.arrive(now, admitted=True)
    slow = max(sum(now - 1.0 < other <= now for other in times) for now in times)
    assert traffic.largest_window() == traffic.largest_window(since=0.0) == slow


def test_utilisation_is_what_was_admitted_by_what_was_refilled() -> None:
    traffic = Traffic()
    assert traffic.utilisation(25) is None
    for number in range(101):
        traffic.arrive(number / 25, admitted=number != 50)
    assert traffic.utilisation(25) == pytest.approx(0.99)
    assert traffic.utilisation(25, since=2.5, until=4.0) == pytest.approx(1.0, abs=0.03)
    assert traffic.utilisation(None) is None
    assert traffic.count() == (101, 100)
    assert traffic.count(since=1.0, until=2.0) == (25, 25)
    assert (traffic.first, traffic.last) == (0.0, 4.0)


def test_the_memory_of_arrivals_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "ARRIVALS_KEPT", 100)
    traffic = Traffic()
    for number in range(1000):
        traffic.arrive(number / 8, admitted=True)
        assert traffic.count()[0] <= 101
    assert traffic.largest_window() == 8
    assert traffic.last == 999 / 8
