"""The live panel: one snapshot as text for a terminal of any size. No clock, no I/O.

From top to bottom: the bar, how far it is and when it ends, what became of the users so far, how fast it goes, what is
waited for, and why some were not enrolled. A terminal with few rows loses the last of these first. No line is longer
than the terminal is wide, or than people like to read, and nothing that names a cause is cut off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, tzinfo

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.text import Text

from worker.core.causes import why
from worker.core.model import NOT_ACTIVATED, STATE_OF, Counts, Reason, State
from worker.core.words import STATES, duration, time_left
from worker.telemetry.logs import clean
from worker.telemetry.report import workers
from worker.telemetry.snapshot import Snapshot

WIDEST = 110
"""Columns that are used at most: longer lines are hard to read, and a wide terminal stays calm."""
LABEL = 10
"""Columns of the words at the left."""
REASONS = 6
"""Reasons that are shown at most; ``status`` shows all."""
CODES = 3
"""Codes that are shown of each reason at most."""
A_DAY = 86_400.0
"""Seconds from which on the day of the week is said with the time of day."""

_COLOURS = {State.DELIVERED: "green", State.ACTIVE: "green", State.NEEDS_SESSION: "yellow", State.FAILED: "red"}
"""The states that are good or bad news."""
_PLAIN = str.maketrans({"·": "|", "…": "...", "–": "-", "×": "x"})
"""What a terminal without Unicode gets instead."""


class Panel:
    """A renderable of rich. ``zone``: the time zone in which times are told; the machine's by default."""

    def __init__(self, snapshot: Snapshot, zone: tzinfo | None = None) -> None:
        self._snapshot = snapshot
        self._zone = zone

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines that fit."""
        width = min(options.max_width, WIDEST)
        lines = list(_lines(self._snapshot, width, self._zone, most=max(1, options.size.height - 1)))
        if options.ascii_only:
            for line in lines:
                if isinstance(line, Text):
                    line.plain = line.plain.translate(_PLAIN).encode("ascii", "replace").decode("ascii")
        for line in lines:
            yield line
            if isinstance(line, ProgressBar):  # which ends no line
                yield Segment.line()


def _lines(snapshot: Snapshot, width: int, zone: tzinfo | None, most: int) -> Iterator[RenderableType]:
    """Yield the lines, at most so many; each is a renderable of one row."""
    how_far = _wrapped(_how_far(snapshot, zone), width, 0) if snapshot.counts or not snapshot.waits else []
    head = [*_bar(snapshot, width), *how_far]
    if snapshot.has_ended:
        yield from head[:most]
        return
    parts = [
        _labelled("stopping", Text(snapshot.stopping, style="bold yellow"), width) if snapshot.stopping else [],
        _waits(snapshot, width),
        _labelled("so far", _items(_so_far(snapshot), width), width) if snapshot.counts else [],
        _labelled("rate", _items(_rate(snapshot), width), width) if snapshot.pace.quota else [],
        list(_reasons(snapshot.counts, width)) if snapshot.counts else [],
    ]
    room = most - len(head)
    if room <= 0:
        yield from [line for line in head if isinstance(line, Text)][:most]
        return
    shown: list[list[Text]] = []
    for part in parts:  # the most important first, whole or not at all, only the reasons in part
        taken = part[:room] if part is parts[-1] else part if len(part) <= room else []
        shown.append(taken)
        room -= len(taken)
    stopping, waits, so_far, rate, reasons = shown
    yield from head
    if head and room > 0 and any(shown):
        yield Text()
    for lines in (so_far, rate, waits, stopping, reasons):
        yield from lines


# --- the parts --------------------------------------------------------------------------------------------------------


def _bar(snapshot: Snapshot, width: int) -> Iterator[RenderableType]:
    if snapshot.total:
        yield ProgressBar(
            total=snapshot.total, completed=snapshot.done, width=width, complete_style="cyan", finished_style="green"
        )


def _how_far(snapshot: Snapshot, zone: tzinfo | None) -> Text:
    if snapshot.counts is None:
        return Text("Looking at the ledger…", style="dim")
    line = Text()
    if snapshot.total is None:
        line.append(f"{snapshot.done:,}", "bold").append(" users done")
    else:
        about = "about " if snapshot.is_about else ""
        line.append(f"{snapshot.done:,}", "bold").append(f" of {about}{snapshot.total:,} users")
        if snapshot.total:
            line.append(f" · {_percent(snapshot.done, snapshot.total)}")
    if snapshot.has_ended:
        if snapshot.elapsed is not None:
            line.append(f" · ended after {duration(snapshot.elapsed)}")
    elif snapshot.seconds_left is not None and snapshot.seconds_left > 0:
        line.append(" · ").append(f"{time_left(snapshot.seconds_left)} left", "bold")
        line.append(f" · ends about {_clock_time(snapshot, zone)}")
    return line


def _so_far(snapshot: Snapshot) -> Sequence[Text]:
    assert snapshot.counts is not None
    counts = snapshot.counts
    pending = counts.reasons.get(Reason.ACTIVATION_PENDING, 0)
    not_activated = sum(counts.reasons.get(reason, 0) for reason in NOT_ACTIVATED)
    found = {**counts.states, State.DELIVERED: counts.states.get(State.DELIVERED, 0) - pending - not_activated}
    if not snapshot.is_trouble:  # else everybody passes through that state within a moment, which is no news
        found[State.IN_PROGRESS] = found.get(State.IN_PROGRESS, 0) + found.pop(State.SEALED, 0)
    parts = [
        Text(f"{found[state]:,} {words}", _COLOURS.get(state, ""))
        for state, words in STATES.items()
        if found.get(state, 0) > 0
    ]
    if pending:
        parts.append(Text(f"{pending:,} being activated"))
    if not_activated:
        parts.append(Text(f"{not_activated:,} delivered, not activated", "yellow"))
    parts += [Text(words) for words in _beside(snapshot)]
    return parts or [Text("nobody yet", "dim")]


def _beside(snapshot: Snapshot) -> Iterator[str]:
    """What is no user's state, and still worth knowing."""
    assert snapshot.counts is not None
    for number, words in (
        (snapshot.counts.duplicates, "duplicates"),
        (snapshot.counts.malformed, "malformed"),
        (snapshot.counts.dead_letters or 0, "dead letters"),
        (snapshot.backlog.expired, "past their deadline"),
        (max(0, snapshot.to_expire - snapshot.backlog.expired), "will expire before their turn"),
    ):
        if number:
            yield f"{number:,} {words}"


def _rate(snapshot: Snapshot) -> Sequence[Text]:
    pace, parts = snapshot.pace, []
    is_slowed = pace.allowed is not None and pace.allowed < 0.95 * pace.quota
    if pace.calls_per_second is not None:
        parts.append(Text(f"{pace.calls_per_second:.1f} of {pace.quota:g} calls/s"))
    if pace.calls_per_second is None or pace.calls > 1 or (snapshot.workers and snapshot.workers.alive > 1):
        parts.append(Text(f"{pace.users_per_second:.1f} users/s"))
    if pace.calls_per_second is None:
        parts.append(Text(f"quota {pace.quota:g} calls/s"))
    if pace.calls > 1:
        parts.append(Text(f"{pace.calls} calls a user"))
    if pace.sign_ins_per_second:
        parts.append(Text(f"{pace.sign_ins_per_second:.1f} sign-ins/s"))
    if is_slowed:
        parts.append(Text(f"slowed down to {pace.allowed:.1f} calls/s, as Cognito throttles", "yellow"))
    elif pace.throttled:
        parts.append(Text(f"{pace.throttled:,} throttled"))
    found = snapshot.workers
    is_worth_it = found is not None and (found.alive > 1 or pace.calls_per_second is None)
    if is_worth_it and found and (found.alive or found.are_exact or not pace.users_per_second):
        parts.append(Text(workers(found)))
    return parts


def _waits(snapshot: Snapshot, width: int) -> list[Text]:
    lines: list[Text] = []
    for number, phrase in enumerate(snapshot.waits):
        style = "bold yellow" if snapshot.is_trouble and number == 0 else ""
        lines += _labelled("waits for" if number == 0 else "", Text(clean(phrase), style), width)
    return lines


def _reasons(counts: Counts, width: int) -> Iterator[Text]:
    found = [
        (reason, number)
        for reason, number in sorted(counts.reasons.items(), key=lambda each: (-each[1], each[0]))
        if number and reason != Reason.ACTIVATION_PENDING
    ]
    digits = max((len(f"{number:,}") for _, number in found[:REASONS]), default=0)
    for place, (reason, number) in enumerate(found[:REASONS]):
        line = Text(f"{number:>{digits},} ").append(clean(reason), _colour(reason))
        line.append(_cause(counts, reason, number))
        yield from _labelled("why" if place == 0 else "", line, width, hanging=digits + 1)
    if len(found) > REASONS:
        yield from _labelled("", Text(f"and {len(found) - REASONS} more reasons: mfa-worker status", "dim"), width)


def _cause(counts: Counts, reason: str, number: int) -> str:
    """The cause, as ``status`` says it where all have the same code; else the codes too, the most frequent first."""
    state = STATE_OF.get(reason, State.FAILED)
    codes = sorted(counts.codes.get(reason, {}).items(), key=lambda each: (-each[1], each[0]))
    if len(codes) == 1 and codes[0][1] == number:
        return f": {clean(why(state, reason, codes[0][0]).cause)}"
    named = [clean(code) for code, _ in codes[:CODES]] + ["…"] * (len(codes) > CODES)
    in_brackets = f" ({', '.join(named)})" if named else ""
    return f"{in_brackets}: {why(state, reason).cause}"


def _colour(reason: str) -> str:
    return {State.FAILED: "red", State.SKIPPED: ""}.get(STATE_OF.get(reason, State.NEEDS_SESSION), "yellow")


# --- words and lines --------------------------------------------------------------------------------------------------


def _percent(done: int, total: int) -> str:
    """Such as ``39 %``: 100 only where it is everybody, and with a decimal near the end of a large rollout."""
    share = 100 * done / total
    if done < total and share >= 99:
        return f"{min(share, 99.9):.1f} %"
    return f"{share:.0f} %"


def _clock_time(snapshot: Snapshot, zone: tzinfo | None) -> str:
    assert snapshot.seconds_left is not None
    end = datetime.fromtimestamp(snapshot.now + snapshot.seconds_left, zone)
    return f"{end:%a %H:%M}" if snapshot.seconds_left >= A_DAY else f"{end:%H:%M}"


def _items(parts: Sequence[Text], width: int) -> Text:
    """Return the parts one after the other, in lines that break between two of them."""
    text, room = Text(), 0
    for part in parts:
        needed = part.cell_len + len(" · ")
        if text and needed > room:
            text.append(" ·\n")
            room = width - LABEL
        elif text:
            text.append(" · ")
        else:
            room = width - LABEL
        text.append_text(part)
        room -= needed
    return text


def _labelled(label: str, text: Text, width: int, *, hanging: int = 0) -> list[Text]:
    """Return the text in lines beside its label; from the second line on ``hanging`` columns further in."""
    if width < 4 * LABEL:  # no room for two columns
        return _wrapped(Text(f"{label}: " if label else "").append_text(text), width, 2)
    lines = []
    for number, part in enumerate(_wrapped(text, width - LABEL, hanging)):
        lines.append(Text().append(f"{label if number == 0 else '':<{LABEL}}", "dim").append_text(part))
    return lines


def _wrapped(text: Text, width: int, hanging: int) -> list[Text]:
    """Return the text in lines of at most ``width`` columns, broken between words, or within one that is too long."""
    console = _MEASURING
    first, *rest = text.wrap(console, width, tab_size=4)
    if not rest or not hanging:
        return [_trimmed(line) for line in (first, *rest)]
    begun = len(first.plain)
    begun += len(text.plain[begun:]) - len(text.plain[begun:].lstrip())
    more = text[begun:].wrap(console, width - hanging, tab_size=4)
    return [_trimmed(first), *(Text(" " * hanging).append_text(_trimmed(line)) for line in more)]


def _trimmed(line: Text) -> Text:
    line.rstrip()
    return line


_MEASURING = Console(width=WIDEST)
"""Rich asks it how to break lines; nothing is written to it."""
