"""Cells of CSV files: no text becomes a formula, and every text can be had back."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.handout.handed import text_of
from worker.handout.cells import Rows, cell

TEXTS = st.text() | st.text(alphabet="=+-@\t\r\n'\" ,;a＝")


@given(TEXTS)
def test_every_text_can_be_had_back(text: str) -> None:
    assert text_of(cell(text)) == text


@given(TEXTS)
def test_no_cell_begins_like_a_formula(text: str) -> None:
    assert (
        not cell(text).lstrip(" \x00\ufeff").startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))
    )


@pytest.mark.parametrize("text", ["ada", "Köln", "a=b", "o'hara", "JBSWY3DP", "otpauth://totp/x?secret=A&issuer=B", ""])
def test_what_cannot_be_a_formula_stays_as_it_is(text: str) -> None:
    assert cell(text) == text


@given(st.lists(st.lists(TEXTS, min_size=2, max_size=2), max_size=5))
def test_another_reader_gets_the_same_rows(rows: list[list[str]]) -> None:
    out = io.StringIO(newline="")
    written = Rows(out)
    for row in rows:
        written.write(row)
    read = list(csv.reader(io.StringIO(out.getvalue(), newline="")))
    assert [[text_of(text) for text in row] for row in read] == rows
