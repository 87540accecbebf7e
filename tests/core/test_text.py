"""Text of unknown origin is shown whole, safe and short."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.text import SHOWN, Named, escape, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("zoë's", "zoë's"),
        ("a\nb", r"a\nb"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\u202eexe.txt", r"\u202eexe.txt"),
        ("a\u200bb", r"a\u200bb"),
        ("\ud800", r"\ud800"),
        ("", ""),
        ("zoë's\n", r"zoë's\n"),
    ],
    ids=[
        "plain",
        "a line's end",
        "a terminal's colour",
        "from right to left",
        "invisible",
        "half a character",
        "empty",
        "plain beside a line's end",
    ],
)
def test_what_cannot_be_printed_is_escaped(text: str, shown: str) -> None:
    assert escape(text) == shown


@given(st.text(st.characters()))
def test_whatever_is_shown_can_be_printed(text: str) -> None:
    assert escape(text).isprintable()


@pytest.mark.parametrize("number", [0, 1, SHOWN, SHOWN + 1, SHOWN + 1000])
def test_the_first_are_named_and_the_rest_counted(number: int) -> None:
    words = [f"user-{each}" for each in range(number)]
    named = Named()
    for each in words:
        named.add(each)
    expected = words[:SHOWN] + {0: [], 1: ["and 1 more"], 1000: ["and 1,000 more"]}[max(0, number - SHOWN)]
    assert (named.total, [*named.lines()]) == (number, expected)
    assert shortened(words) == expected


def test_how_many_are_named_can_be_said() -> None:
    assert shortened(["a", "b", "c"], 1) == ["a", "and 2 more"]
    assert shortened(["a", "b", "c"], 3) == ["a", "b", "c"]
