"""Cells of CSV files that people open in spreadsheet programs, which take some texts for formulas and run them.

A text that begins like a formula gets an apostrophe in front, as OWASP advises ("CSV Injection"); one that begins with
an apostrophe gets another, so that whoever takes one leading apostrophe away always has the text as it was. All cells
are quoted, so that no separator or line end in a text begins a new cell, whatever separator a program guesses.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import TextIO

BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""How texts begin that a spreadsheet program may take for a formula; the last four are their full-width forms, which
some programs take for the same (OWASP, "CSV Injection")."""


def cell(text: str) -> str:
    """Return the text as it stands in a cell. A program may skip blanks in front, so they are skipped here too."""
    return f"'{text}" if text.startswith("'") or text.lstrip(" \x00\ufeff").startswith(BEGINS_FORMULA) else text


class Rows:
    """Writes rows to a file: comma, CRLF, everything quoted (RFC 4180)."""

    def __init__(self, out: TextIO) -> None:
        self._writer = csv.writer(out, quoting=csv.QUOTE_ALL)

    def write(self, texts: Sequence[str]) -> None:
        """Write a row of cells."""
        self._writer.writerow([cell(text) for text in texts])
