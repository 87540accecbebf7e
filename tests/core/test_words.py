"""States, numbers and durations have one word each."""

from __future__ import annotations

import time

import pytest

from worker.core.model import State
from worker.core.words import STATES, duration, several, time_left, time_of_day


def test_every_state_has_a_word_of_its_own() -> None:
    assert STATES.keys() == set(State)
    assert len(set(STATES.values())) == len(State)


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 users"), (1, "1 user"), (2, "2 users"), (1_000_000, "1,000,000 users")]
)
def test_one_is_not_many(number: int, words: str) -> None:
    assert several(number, "user") == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (119.4, "119 s"),
        (120, "2 min"),
        (7_199, "120 min"),
        (7_200, "2 h"),
        (20_000, "5.6 h"),
        (86_400, "24 h"),
        (36_000_000, "10,000 h"),
    ],
)
def test_a_duration_is_as_exact_as_it_is_read(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("seconds", "words"), [(-5.0, "1 s"), (0.0, "1 s"), (0.2, "1 s"), (90.0, "90 s")])
def test_where_work_is_left_so_is_time(seconds: float, words: str) -> None:
    assert time_left(seconds) == words


def test_a_moment_is_told_by_the_clock_on_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as there:
        there.setenv("TZ", "UTC-05:30")
        time.tzset()
        assert time_of_day(1_738_324_869.9) == "17:31:09"
    time.tzset()
