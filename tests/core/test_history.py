"""A history tells the newest of what happened, in a bounded space; what repeats itself drives out nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rows import happened, histories
from worker.core import history
from worker.core.history import LONGEST_DETAIL, MOST, and_then, dump, load, load_text
from worker.core.model import Event
from worker.core.record import rfc3339

NOW = 1_790_000_000.123
MOST_BYTES = 13_000
"""Bytes of the longest history that is stored: ten details of 100 characters, each of them 12 bytes long as JSON."""


def told(*words: str) -> list[tuple[str, str, int]]:
    events: tuple[Event, ...] = ()
    for number, each in enumerate(words):
        what, _, detail = each.partition(": ")
        events = and_then(events, NOW + number, what, detail)
    return [(event.what, event.detail, event.times) for event in events]


def stored(events: tuple[Event, ...]) -> tuple[Event, ...]:
    return load(json.loads(dump(events)))


@given(st.lists(happened, max_size=3 * MOST))
def test_any_history_is_bounded_in_order_and_comes_back_as_it_was_stored(events: list[tuple[float, str, str]]) -> None:
    found = histories(events)
    assert len(found) <= MOST
    assert [event.at for event in found] == sorted(event.at for event in found)
    assert stored(found) == found
    if events:
        _, what, detail = events[-1]
        assert (found[-1].what, found[-1].detail) == (what, detail[:LONGEST_DETAIL])


def test_nine_conflicts_are_one_event_that_says_how_often_and_when_last() -> None:
    events = and_then((), NOW, "claimed")
    for second in range(9):
        events = and_then(events, NOW + second, "answered", "conflict")
    assert events == (Event(NOW, "claimed"), Event(NOW + 8, "answered", "conflict", 9))


def test_a_user_who_is_given_back_for_hours_keeps_what_was_told_before() -> None:
    churn = ["claimed", "answered: throttled", "given back"] * 50
    assert told("claimed", "sealed: 7", "delivered", *churn) == [
        ("claimed", "", 1),
        ("sealed", "7", 1),
        ("delivered", "", 1),
        ("claimed", "", 50),
        ("answered", "throttled", 50),
        ("given back", "", 50),
    ]


def test_every_secret_is_told_of_its_own() -> None:
    assert told("claimed", "sealed: 7", "delivered", "claimed", "sealed: 8", "delivered") == [
        ("claimed", "", 1),
        ("sealed", "7", 1),
        ("delivered", "", 1),
        ("claimed", "", 1),
        ("sealed", "8", 1),
        ("delivered", "", 1),
    ]


def test_of_too_many_events_the_oldest_is_dropped() -> None:
    assert [detail for _, detail, _ in told(*(f"sealed: {number}" for number in range(MOST + 3)))] == [
        str(number) for number in range(3, MOST + 3)
    ]


def test_on_a_clock_that_was_set_back_an_event_has_the_time_of_the_one_before_it() -> None:
    events = and_then(and_then((), NOW, "claimed"), NOW - 3600, "given back")
    assert events == (Event(NOW, "claimed"), Event(NOW, "given back"))


def test_a_time_is_kept_to_the_millisecond() -> None:
    assert and_then((), 1_790_000_000.123456, "claimed")[0].at == 1_790_000_000.123


def test_what_is_stored_is_short_and_bounded() -> None:
    usual: tuple[Event, ...] = ()
    for what, detail in (("claimed", ""), ("answered", "issued"), ("sealed", "1790000000123"), ("delivered", "")):
        usual = and_then(usual, NOW, what, detail)
    assert len(dump(usual)) < 80
    longest: tuple[Event, ...] = ()
    for number in range(MOST):
        longest = and_then(longest, NOW, f"of a later version {number}", f"{number}" + "😀" * 1000)
    assert len(dump(longest)) < MOST_BYTES


@pytest.mark.parametrize(
    "damaged",
    [
        *([7], [7, 8], [7, [1]], ["x", [1, "c"]], {"events": 1}, [7, [1, "c", "d", "often"]], 5),
        *([float("nan"), [0, "c"]], [7, [float("inf"), "c"]], [10**20, [0, "c"]], [-7, [0, "c"]]),
        [253_402_300_799_999, [1, "c"]],
    ],
)
def test_a_history_that_cannot_be_read_counts_as_none(damaged: object) -> None:
    assert load(damaged) == ()


@pytest.mark.parametrize("damaged", ["{", "[1, [0,", b"\xff\xfe", 7, "[" * 100_000])
def test_nor_does_a_stored_text_that_is_damaged_keep_anybody_from_working_on_the_user(damaged: object) -> None:
    assert load_text(damaged) == ()


@pytest.mark.parametrize("text", [None, "", "[]"])
def test_a_row_without_a_history_has_no_events(text: str | None) -> None:
    assert load_text(text) == ()


def test_what_is_stored_is_what_other_versions_read_and_write() -> None:
    events = (Event(1.5, "claimed"), Event(1.75, "answered", "conflict", 9), Event(1.75, "sealed", "7"))
    text = '[1500,[0,"c"],[250,"a","conflict",9],[0,"s","7"]]'
    assert dump(events) == text
    assert load_text(text) == events


def test_the_latest_time_that_is_read_can_be_shown() -> None:
    (event,) = load([253_402_300_799_999, [0, "c"]])
    assert rfc3339(event.at).startswith("9999-12-31T23:59:59.99")


def test_a_word_of_a_later_version_is_shown_as_it_is() -> None:
    assert load([1000, [0, "levitated", "twice", 2]]) == (Event(1.0, "levitated", "twice", 2),)


def test_every_word_has_a_letter_of_its_own() -> None:
    words = {value for name, value in vars(history).items() if name.isupper() and isinstance(value, str)}
    assert words == history._LETTERS.keys()
    assert len(history._WORDS) == len(words)
