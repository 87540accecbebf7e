"""Prints the findings of ``check`` and ``run --dry-run``, for people and for scripts."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from typing import TextIO

from worker.adapters.checks.findings import Finding, Level
from worker.core.text import escape

_WORDS = {"ok": "OK", "not_checked": "–", "advice": "ADVICE", "fails": "FAILS"}
"""How each level is written for people: what nobody looked at gets no word that could be taken for a judgement."""
_COLOURS = {"ok": "green", "not_checked": "dim", "advice": "yellow", "fails": "bold red"}
"""The colour of each level on a terminal, as rich names it."""


def show(findings: Sequence[Finding], out: TextIO, *, as_json: bool) -> None:
    """Print the findings, for people or as one JSON object.

    On a terminal, long sentences are wrapped and levels coloured (not with ``NO_COLOR``). Elsewhere each finding is one
    line, and what to do about it another. Control characters are escaped, because findings contain names of files and
    answers of services, which must not control the terminal.
    """
    if as_json:
        rows = [{"about": f.about, "level": f.level, "said": f.said, "cure": f.cure} for f in findings]
        out.write(json.dumps({"ok": not any(f.fails for f in findings), "findings": rows}) + "\n")
        return
    from rich.console import Console  # imported only here, because it would slow the start of every other command
    from rich.text import Text

    console = Console(file=out, force_terminal=out.isatty())
    before = " " * 21  # seven columns for the level, twelve for what the finding is about, and a blank after each
    width = max(51, min(120, console.width)) if console.is_terminal else sys.maxsize
    for finding in findings:
        head = f"{_WORDS[finding.level]:7} {finding.about:12} "
        text = _wrapped(finding.said, width, head, before)
        if finding.cure and finding.level is not Level.OK:
            text += "\n" + _wrapped(finding.cure, width, f"{before}→ ", f"{before}  ")
        line = Text(text)
        if not console.no_color:
            line.stylize(_COLOURS[finding.level], 0, 7)
        console.print(line, soft_wrap=True)
    out.write(f"{summary(findings)}\n")


def summary(findings: Sequence[Finding]) -> str:
    """Return one sentence: whether a run may begin."""
    failing = sum(finding.fails for finding in findings)
    advised = sum(finding.level is Level.ADVICE for finding in findings)
    beside = f"{advised} piece{'s' if advised != 1 else ''} of advice" if advised else "no advice"
    unseen = sum(finding.level is Level.NOT_CHECKED for finding in findings)
    beside += f"; {unseen} thing{'s' if unseen != 1 else ''} not looked at (–)" if unseen else ""
    if not failing:
        return f"Nothing stands in the way of a run{' that was looked at' if unseen else ''}; {beside}."
    return f"{failing} thing{'s' if failing != 1 else ''} to mend before a run; {beside}."


def _wrapped(text: str, width: int, first: str, rest: str) -> str:
    """Return the text wrapped to ``width``: the first line begins with ``first``, the others with ``rest``.

    No word is broken, because it may be a path that somebody wants to copy.
    """
    lines = textwrap.wrap(escape(text), width - len(rest), break_on_hyphens=False, break_long_words=False)
    return first + f"\n{rest}".join(lines)
