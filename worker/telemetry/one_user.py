"""What ``show`` prints of one user: for people in lines, for scripts as one object. Pure; no I/O.

Times are UTC, whatever the zone of this host. What others wrote (names, details) is shown escaped, and quoted for the
shell where it stands in a command.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from worker.core import history, rules
from worker.core.causes import UNREQUESTED, why
from worker.core.model import ENROLLED, NEVER, SIGNS_IN, Enrolment, Event, State
from worker.core.record import rfc3339
from worker.core.shell import command_line, quoted
from worker.core.text import escape
from worker.core.words import duration, several

LABEL = 14
"""Characters of the column on the left."""
LONGEST = 100
"""Characters of a line of text: sentences are hard to read in longer ones."""


@dataclass(slots=True)
class Known:
    """What is known of one user."""

    username: str
    at: float
    """When it was looked at (UTC seconds)."""
    row: Enrolment | None = None
    """``None``: no worker has claimed the user yet."""
    worker_is_dead: bool = False
    """Whether the worker that has claimed the user is known to be dead."""
    waiting: int | None = None
    """How many requests of the user wait; ``None`` where the queue cannot be searched for them (SQS)."""
    waits_until: float = 0.0
    """The latest of their deadlines (UTC seconds)."""
    is_on_roster: bool = False
    """Whether the user was named to ``push --roster``; looked at only where there is no row."""
    similar: str | None = None
    """A user in the ledger whose name differs little, where there is none of this name."""
    place: str = ""
    """Where the newest secret lies, once it is delivered, as exactly as the settings tell."""
    source: str = ""
    """That place as ``open`` takes it."""
    is_moved: bool = False
    """Whether ``open`` must first move the records from there into a file."""

    @property
    def is_known(self) -> bool:
        """Whether anybody knows the user."""
        return self.row is not None or self.is_on_roster or bool(self.waiting)


def as_json(known: Known) -> dict[str, Any]:
    """Return what ``show --json`` prints."""
    row = known.row
    if row is None:
        state = UNREQUESTED if known.is_on_roster and not known.waiting else None
        nothing = dict.fromkeys(("reason", "since", "generation", "attempt_id"))
        return {"username": known.username, "state": state, **nothing, "events": []}
    return {
        "username": known.username,
        "state": row.state.value,
        "reason": row.reason and row.reason.value,
        "since": rfc3339(row.since),
        "generation": row.generation,
        "attempt_id": row.sealed and row.sealed.attempt_id,
        "events": [{"at": rfc3339(event.at), "what": event.what, "detail": _detail(event)} for event in row.events],
    }


def lines(known: Known, command: Sequence[str], *, makes_tickets: bool, width: int = LONGEST) -> Iterator[str]:
    """Yield what ``show`` prints for people.

    ``command``: how a command begins, with the settings of this one. ``makes_tickets``: whether requests are made of
    usernames. ``width``: characters of a line; commands are not broken.
    """
    width = max(40, min(width, LONGEST))
    yield escape(known.username)
    yield ""
    for label, text in _told(known):
        first, *more = textwrap.wrap(text, width - LABEL, break_long_words=False, break_on_hyphens=False)
        yield f"{label:<{LABEL}}{first}"
        yield from (" " * LABEL + line for line in more)
    label = "To type"
    for line in next_commands(known, command, makes_tickets=makes_tickets):
        yield f"{label:<{LABEL}}{line}"
        label = ""
    if known.row is not None:
        yield ""
        yield from _timeline(known.row)


def unknown(known: Known, command: Sequence[str], pool: str) -> Iterator[str]:
    """Yield what to say where nobody knows the user, and what to look at next."""
    yield f"nobody knows {known.username!r}: no worker has had a request for that user"
    if known.similar is not None:
        yield f"  → did you mean {known.similar!r}? {command_line(*command, 'show', *_safe(known.similar))}"
        return
    if "@" in known.username or known.username.startswith("+"):
        attribute = "email" if "@" in known.username else "phone_number"
        wanted = f'{attribute} = "{known.username}"'
        asked = command_line("aws", "cognito-idp", "list-users", "--user-pool-id", pool, "--filter", wanted)
        yield f"  → it may be an alias; Cognito's own username counts: {asked}"
    else:
        asked = command_line(
            "aws", "cognito-idp", "admin-get-user", "--user-pool-id", pool, "--username", known.username
        )
        yield f"  → is it Cognito's own username, letter by letter? {asked}"
    if known.waiting is None:
        yield "  → a request may still wait on the queue: SQS cannot be searched for one user"
    else:
        yield "  → no request of theirs waits on the queue, and they are not on the roster: push one"
    yield f"  → is this the right ledger? {command_line(*command, 'config', 'show')}"


def next_commands(known: Known, command: Sequence[str], *, makes_tickets: bool) -> Iterator[str]:
    """Yield the commands that come next for this user, as they are typed."""
    row = known.row
    if row is None or row.is_unfinished:
        if row is None and not known.waiting:
            yield from _push(known.username, command, makes_tickets=makes_tickets)
        yield command_line(*command, "run")
        return
    if row.state in ENROLLED and row.reason is None:
        yield from _open(known, command)
        return
    if known.waiting:
        yield command_line(*command, "run")
    elif row.state is not State.SKIPPED:
        yield from _push(known.username, command, makes_tickets=makes_tickets)
    if row.state is not State.SKIPPED and rules.may_be_dismissed(row):
        yield f"{_as_file(known.username)} | {command_line(*command, 'dismiss', '-', '--why')} TEXT"


def _push(username: str, command: Sequence[str], *, makes_tickets: bool) -> Iterator[str]:
    if makes_tickets:
        yield f"{_as_file(username)} | {command_line(*command, 'push', '--usernames', '-', '--ticket-key')} KEYFILE"
    else:
        yield f"{command_line(*command, 'push')} FILE"


def _open(known: Known, command: Sequence[str]) -> Iterator[str]:
    assert known.row is not None
    if known.is_moved:
        yield f"{command_line(*command, 'open', known.source, '--into')} FILE"
        yield f"{command_line(*command, 'open', '--user', known.username, '-i')} KEYFILE --letters letter.pdf FILE"
    elif known.source:
        yield f"{command_line(*command, 'open', '--user', known.username, '-i')} KEYFILE --letters letter.pdf"
    if known.row.sealed is not None and known.row.sealed.blob:
        yield f"{_as_file(known.username)} | {command_line(*command, 'redeliver', '-')}"


def _told(known: Known) -> Iterator[tuple[str, str]]:
    """Yield what there is to say, each with its label."""
    row, now = known.row, known.at
    if row is None:
        if known.waiting:
            yield "State", "none yet: a request waits, and no worker has claimed the user"
            yield "What to do", "Nothing while a worker runs; otherwise let a run call for the user."
        else:
            told = why(UNREQUESTED)
            yield "State", UNREQUESTED
            yield "Why", told.cause
            yield "What to do", told.cure
    else:
        detail = f" ({escape(row.detail)})" if row.detail else ""
        reason = f": {row.reason.value}{detail}" if row.reason else ""
        yield "State", f"{row.state.value}{reason}, since {_time(row.since)} ({_ago(now - row.since)})"
        told = why(row.state.value, row.reason and row.reason.value, row.detail)
        yield "Why", escape(told.cause)
        yield "What to do", escape(told.cure)
        yield from _attempts(row.events)
        yield from _secret(known, row)
        if row.before is not None:
            yield "Had before", f"the user is {row.before.value} with an earlier secret, which is being replaced"
        if row.doubt:
            yield "In doubt", "an answer was lost: a secret may have been issued that nobody has"
        if row.crashes:
            yield "Crashes", f"{several(row.crashes, 'worker')} died over this user; {rules.MAX_CRASHES} end it"
        if claim := _claim(known, row):
            yield "Claim", claim
        if row.activation is not None and row.is_unfinished and row.state is not State.IN_PROGRESS:
            step = "the preference is left to set" if row.activation.verified else "the secret is to be verified"
            until = "" if row.kind in SIGNS_IN else f"; its credential dies at {_time(row.activation.expires_at)}"
            yield "Activation", f"under way: {step}{until}"
    if known.waiting is None:
        yield "Queue", "not searched: SQS cannot tell whether a request of this user waits"
    elif known.waiting:
        yield "Queue", f"{several(known.waiting, 'request')} of this user {_waits(known)}"
    else:
        yield "Queue", "no request of this user waits"


def _attempts(events: Sequence[Event]) -> Iterator[tuple[str, str]]:
    """How often a worker took the user up, and how often Cognito answered, as far as the events tell."""
    claims = sum(event.times for event in events if event.what in (history.CLAIMED, history.TAKEN_OVER))
    answers = sum(event.times for event in events if event.what == history.ANSWERED)
    least = "at least " if len(events) == history.MOST else ""
    if events:
        yield "Attempts", f"{least}{claims} by workers, {several(answers, 'answer')} of Cognito's"


def _secret(known: Known, row: Enrolment) -> Iterator[tuple[str, str]]:
    sealed = row.sealed
    if sealed is None:
        yield "Secret", "none was recorded"
        return
    yield "Secret", f"generation {sealed.generation}, attempt {sealed.attempt_id}, made {sealed.associated_at}"
    for generation, event in _sent_earlier(row, sealed.generation):
        yield "Sent earlier", f"generation {escape(generation)}, {event.what} {_time(event.at)}: no longer valid"
    in_ledger = "in the ledger, sealed" if sealed.blob else ""
    if row.state is State.SEALED:
        yield "It lies", f"{in_ledger}; not delivered yet"
    elif row.state in ENROLLED:
        yield "It lies", f"in {escape(known.place)}" + (f", and {in_ledger}" if in_ledger else "")
    else:
        yield "It lies", "nowhere where it counts: the user is not delivered with it"


def _sent_earlier(row: Enrolment, newest: int) -> Iterator[tuple[str, Event]]:
    """Yield the secrets that were delivered before the newest one, as far as the events tell: the other letters."""
    generation = ""
    for event in row.events:
        if event.what == history.SEALED:
            generation = event.detail
        elif event.what == history.DELIVERED and generation not in ("", str(newest)):
            yield generation, event


def _claim(known: Known, row: Enrolment) -> str:
    if row.worker is None:
        left = row.lease_until - known.at
        return f"nobody's; an earlier call may still take effect until {_time(row.lease_until)}" if left > 0 else ""
    if known.worker_is_dead:
        return f"worker {escape(row.worker)}, which is dead: the next run takes the user over"
    if row.lease_until <= known.at:
        return f"worker {escape(row.worker)} until {_time(row.lease_until)}, which is over: a run takes the user over"
    return f"worker {escape(row.worker)} until {_time(row.lease_until)}, and longer while it works"


def _waits(known: Known) -> str:
    wait = "waits" if known.waiting == 1 else "wait"
    if known.waits_until >= NEVER:
        return wait
    if known.waits_until <= known.at:
        return f"{wait}; what {'it' if known.waiting == 1 else 'they'} brought died at {_time(known.waits_until)}"
    return f"{wait}; what {'it brought lives' if known.waiting == 1 else 'they brought lives'} until " + _time(
        known.waits_until
    )


def _timeline(row: Enrolment) -> Iterator[str]:
    if not row.events:
        yield "What happened: nothing is kept; an earlier version of the worker wrote this row"
        return
    yield "What happened (UTC; at most the last ten, alike ones once, with the last time):"
    longest = max(len(event.what) for event in row.events)
    for event in row.events:
        yield f"  {_time(event.at, exact=True)}  {escape(event.what):<{longest}}  {escape(_detail(event))}".rstrip()


def _detail(event: Event) -> str:
    """The detail, and how often."""
    if event.times == 1:
        return event.detail
    return f"{event.detail} ({event.times:,} times)" if event.detail else f"{event.times:,} times"


def _time(at: float, *, exact: bool = False) -> str:
    """UTC for people: ``2026-01-31 12:00:00 UTC``."""
    text = rfc3339(at).replace("T", " ")
    return text.removesuffix("Z") if exact else f"{text[:19]} UTC"


def _ago(seconds: float) -> str:
    return f"{duration(seconds)} ago" if seconds >= 0 else f"{duration(-seconds)} ahead of this machine's clock"


def _as_file(username: str) -> str:
    """The beginning of a pipe that names this user as a file of usernames does."""
    plain = username.isprintable() and username == username.strip() and not username.startswith("{")
    return f"printf '%s\\n' {quoted(username if plain else json.dumps({'username': username}))}"


def _safe(username: str) -> list[str]:
    """The username as an argument that is no option, whatever it begins with."""
    return ["--", username] if username.startswith("-") else [username]
