"""How findings are printed, for people and for scripts."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TextIO

from worker.adapters.checks.findings import Finding, Level

_ABOUT = 12
"""Columns for what a finding is about; no adapter has a longer word for itself."""
_TEXT = 8 + _ABOUT + 1
"""Columns before a finding's text: its level, what it is about, and the spaces between."""
_COLOURS = {"ok": "\x1b[32m", "advice": "\x1b[33m", "fails": "\x1b[31;1m"}
_PLAIN = "\x1b[0m"


def show(findings: Sequence[Finding], out: TextIO, *, as_json: bool) -> None:
    """Print the findings, for people or as one JSON object.

    Where ``out`` is a terminal, long sentences are wrapped and levels coloured (not with ``NO_COLOR``); elsewhere a
    finding is a line, and what to do about it another one.
    """
    if as_json:
        rows = [{"about": f.about, "level": f.level, "said": f.said, "cure": f.cure} for f in findings]
        out.write(json.dumps({"ok": not any(f.fails for f in findings), "findings": rows}) + "\n")
        return
    terminal = out.isatty()
    width = max(_TEXT + 30, min(120, shutil.get_terminal_size().columns)) if terminal else sys.maxsize
    coloured = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    for finding in findings:
        level = f"{finding.level.upper():7}"
        first, *rest = _wrapped(finding.said, width - _TEXT)
        out.write(f"{_coloured(level, finding.level) if coloured else level} {finding.about:{_ABOUT}} {first}\n")
        out.writelines(f"{' ' * _TEXT}{line}\n" for line in rest)
        if finding.cure and finding.level is not Level.OK:
            cure = _wrapped(finding.cure, width - _TEXT - 2)
            out.writelines(f"{' ' * _TEXT}{'  ' if number else '→ '}{line}\n" for number, line in enumerate(cure))
    out.write(f"{summary(findings)}\n")


def summary(findings: Sequence[Finding]) -> str:
    """One sentence: whether a run may begin."""
    failing = sum(finding.fails for finding in findings)
    advised = sum(finding.level is Level.ADVICE for finding in findings)
    beside = f"{advised} piece{'s' if advised != 1 else ''} of advice" if advised else "no advice"
    if not failing:
        return f"Nothing stands in the way of a run; {beside}."
    return f"{failing} thing{'s' if failing != 1 else ''} to mend before a run; {beside}."


def _coloured(level: str, name: Level) -> str:
    return f"{_COLOURS[name]}{level}{_PLAIN}"


def _wrapped(text: str, width: int) -> list[str]:
    """Lines, without what a terminal would obey in what others named."""
    printable = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return textwrap.wrap(printable, width, break_on_hyphens=False, break_long_words=False) or [""]
