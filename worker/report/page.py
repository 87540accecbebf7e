"""Puts the facts into the template: one HTML file that needs nothing else, and asks nobody for anything.

The style sheet stands in the page, and its digest in the page's Content-Security-Policy, which allows nothing besides:
no script, no font, no picture from elsewhere. Everything that comes from outside is escaped by Jinja2; what could be a
credential is masked, and what is not printable is escaped, before that.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from worker.core.causes import COMMAND, DEAD_LETTERS, MALFORMED, UNREQUESTED, Why, why
from worker.core.figures import SECONDS
from worker.core.model import STATE_OF, Reason, State
from worker.core.text import escape as as_text
from worker.core.words import STATES
from worker.report import charts, words
from worker.report.facts import Facts
from worker.report.file import GENERATOR
from worker.report.series import Series, series
from worker.report.steps import export_of, steps
from worker.report.timeline import Timeline
from worker.report.verdict import done, verdict
from worker.telemetry.logs import clean

LOOKED_BACK = 5
"""Minutes from which the present pace is told: enough that one in which a worker started does not decide."""
LONG_WAIT = 10.0
"""Seconds from which on it is worth telling that a user is under way; a call takes less than one."""
MOST_GAPS = 6
"""So many times without figures are listed in a line below the charts."""

MEANINGS = {
    State.DELIVERED: "their newest secret is ready to be handed out",
    State.ACTIVE: "the same, and its first code was verified",
    State.SKIPPED: "not to be enrolled",
    State.NEEDS_SESSION: "their credential can no longer be used",
    State.FAILED: "the request will not succeed as it is",
    State.SEALED: "a worker has the secret in hand",
    State.IN_PROGRESS: "a worker has begun with them",
}
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}( protection)?")
"""A detail that is a code of a service or of ours, and surely no name of a user and nothing that somebody wrote."""
_OURS = frozenset(Reason) - {Reason.DISMISSED}
"""Reasons whose detail no person wrote."""


class Part(NamedTuple):
    """One state in the reconciliation."""

    state: State
    words: str
    meaning: str
    number: int
    share: str
    begins: float
    """Where it begins in the bar, in percent."""
    width: float


class Cause(NamedTuple):
    """One reason, with what stands behind it."""

    reason: str
    words: str
    """The words of its state."""
    number: int
    why: Why
    codes: Sequence[tuple[str, int]]
    """Codes that came with it, and for how many users."""
    is_left: bool
    """Whether somebody has to do something."""


def render(facts: Facts) -> str:
    """Return the page."""
    figures = series(facts.minutes, facts.made_at)
    timeline = Timeline(figures) if figures else None
    style = files(__package__).joinpath("page.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    found = verdict(facts.counts, facts.backlog)
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            facts=facts,
            generator=Markup(GENERATOR),  # noqa: S704 - our own
            style=Markup(style),  # noqa: S704 - our own file
            digest=digest,
            verdict=found,
            done=done(facts.counts),
            parts=list(_parts(facts)),
            apart=list(_apart(facts)),
            series=figures,
            timeline=timeline,
            enrolments=charts.enrolments(figures, timeline) if figures and timeline else None,
            answers=charts.answers(figures, timeline) if figures and timeline else (),
            answer_table=charts.answer_table(figures) if figures else None,
            latency=charts.latency(figures, timeline) if figures and timeline else None,
            gaps=list(_gaps(figures)) if figures else (),
            causes=list(_causes(facts)),
            long_waits=[user for user in facts.under_way if facts.made_at - user.since >= LONG_WAIT],
            steps=list(steps(facts)),
            export_of=export_of,
            states=STATES,
            under_way={**STATES, State.DELIVERED: "delivered, activation under way"},
            missing=_missing(facts, figures),
            pace=_pace(facts),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("worker.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number="{:,}".format,
        time=words.full,
        period=words.period,
        machine=words.machine_time,
        span=words.span,
        plain=as_text,
        safe_text=clean,
    )
    environment.filters["commands"] = _marked
    return environment


def _parts(facts: Facts) -> Iterator[Part]:
    total, begins = facts.counts.accepted, 0.0
    for state, said in STATES.items():
        number = facts.counts.states.get(state, 0)
        width = 100 * number / total if total else 0.0
        yield Part(state, said, MEANINGS[state], number, _percent(number, total), begins, width)
        begins += width


def _percent(number: int, total: int) -> str:
    if not number or not total:
        return "–"
    share = 100 * number / total
    rounded = f"{share:.1f}"
    if rounded == "100.0" and number != total:
        return "> 99.9 %"
    return "< 0.1 %" if rounded == "0.0" else f"{rounded.removesuffix('.0')} %"


def _apart(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """Yield what is counted beside the users: its name, the number, and what it means."""
    counts, backlog = facts.counts, facts.backlog
    yield "waiting requests", f"{backlog.waiting:,}", "on the queue, those that a worker holds included"
    if backlog.expired:
        yield "… past their deadline", f"{backlog.expired:,}", "their credential is dead; they end without a call"
    yield "duplicate requests", f"{counts.duplicates:,}", "nothing was to do for them"
    yield "malformed messages", f"{counts.malformed:,}", "put aside by reason and digest; no users"
    dead = "not looked at" if counts.dead_letters is None else f"{counts.dead_letters:,}"
    yield "dead letters", dead, "requests that were received too often and not done"
    if counts.unrequested is not None:
        yield "never requested", f"{counts.unrequested:,}", "on the roster, and no worker has seen a request"


def _causes(facts: Facts) -> Iterator[Cause]:
    """Yield the reasons, those first that are left to somebody, and among them those of most users."""
    counts = facts.counts
    found = []
    for reason, number in counts.reasons.items():
        if number > 0:
            state = STATE_OF.get(reason)
            is_left = state is not State.SKIPPED and reason != Reason.ACTIVATION_PENDING
            codes = _codes(facts, reason)
            only = codes[0][0] if len(codes) == 1 and codes[0][1] == number else None
            said = STATES[state] if state else "of a later version"
            found.append(Cause(str(reason), said, number, why(state or "", reason, only), codes, is_left))
    for name, number_or_none, is_left in (
        (DEAD_LETTERS, counts.dead_letters, True),
        (MALFORMED, counts.malformed, True),
        (UNREQUESTED, counts.unrequested, True),
    ):
        if number_or_none:
            found.append(Cause(name.replace("_", " "), "counted apart", number_or_none, why(name), (), is_left))
    yield from sorted(found, key=lambda each: (not each.is_left, each.words == "counted apart", -each.number))


def _codes(facts: Facts, reason: str) -> list[tuple[str, int]]:
    """Return the codes that came with a reason. What a person wrote may name a user, so it needs leave to be shown."""
    names_users = facts.left is not None
    codes = facts.counts.codes.get(reason, {}).items()
    known = [(clean(code), number) for code, number in codes if number > 0 and (names_users or _is_code(reason, code))]
    return sorted(known, key=lambda each: (-each[1], each[0]))[:20]


def _is_code(reason: str, detail: str) -> bool:
    return reason in _OURS and _CODE.fullmatch(detail) is not None


def _gaps(figures: Series) -> Iterator[str]:
    """Yield the longest times without figures, oldest first, and how many more there are."""
    longest = sorted(figures.gaps, key=lambda gap: -gap.minutes)[:MOST_GAPS]
    for gap in sorted(longest):
        begins, ends = (words.day_and_time(60 * each) for each in gap)
        yield f"{begins} to {ends} ({words.span(60 * gap.minutes)})"
    if more := len(figures.gaps) - len(longest):
        yield f"and {more:,} shorter"


def _pace(facts: Facts) -> str:
    """Say how long what waits will take at the present pace; empty where nothing waits, or nobody is at work."""
    now = int(facts.made_at // SECONDS)
    settled = [minute.settled.total() for minute in facts.minutes if now - LOOKED_BACK <= minute.minute < now]
    waiting = facts.backlog.waiting - facts.backlog.expired
    if waiting <= 0 or not sum(settled) or facts.minutes[-1].minute < now - 1:
        return ""
    speed = sum(settled) / SECONDS / len(settled)
    said = f"At the pace of the last minutes, {words.rate(speed)}, what waits takes"
    return f"{said} about {words.span(max(60, waiting / speed))} more."


def _missing(facts: Facts, figures: Series | None) -> str:
    """Say of how many users there are no figures over time; empty where there are of all."""
    finished = facts.counts.accepted - facts.counts.unfinished
    known = figures.total.sums.settled.total() if figures else 0
    if known >= finished:
        return ""
    return (
        f"The figures over time hold {known:,} outcomes, and the ledger {finished:,} users with one. The others were "
        "settled without figures: by a worker of an earlier version, by hand, or by one that was killed before it "
        "wrote its last ten seconds."
    )


def _marked(text: str) -> Markup:
    """Mark the commands in a sentence as code."""
    marked, last = Markup(""), 0
    for found in COMMAND.finditer(text):
        marked += escape(text[last : found.start()]) + Markup("<code>") + escape(found[0]) + Markup("</code>")
        last = found.end()
    return marked + escape(text[last:])
