"""The reconciliation: how many users were accepted and what became of them, as JSON for scripts, a table for people.

Numbers of users come from the ledger; those about the run come from that run's statistics.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from worker.adapters.private_files import look_private, write_private
from worker.core.causes import Why, why
from worker.core.errors import DependencyUnavailable, UsageError
from worker.core.model import NOT_ACTIVATED, STATE_OF, Counts, State
from worker.core.ports import Backlog, Workers
from worker.core.record import parse_object
from worker.core.stats import RunStats
from worker.core.words import STATES, duration, several
from worker.telemetry.logs import clean

_LARGEST = 1_000_000
"""Bytes that a report has at most: it counts users and names none, so it has about 2,000."""

_MOST_CAUSES = 5
"""Causes of one reason that are told apart by their details: codes of AWS are few, but what a channel says may vary."""


def status(counts: Counts, backlog: Backlog) -> dict[str, Any]:
    """Return the object of ``status --json``: every state, even if its number is 0, but only reasons that occur."""
    return {
        "states": {state.value: counts.states.get(state, 0) for state in State},
        "reasons": {str(reason): number for reason, number in sorted(counts.reasons.items()) if number},
        "accepted": counts.accepted,
        "backlog": backlog.waiting,
        "duplicates": counts.duplicates,
        "malformed": counts.malformed,
        "past_session_expiry": backlog.expired,
        "dead_letters": counts.dead_letters,
        **({"codes": _codes(counts)} if counts.codes else {}),
        **({} if counts.unrequested is None else {"roster": {"unrequested": counts.unrequested}}),
    }


def _codes(counts: Counts) -> dict[str, dict[str, int]]:
    return {
        str(reason): {code: number for code, number in sorted(found.items()) if number}
        for reason, found in sorted(counts.codes.items())
    }


def reconciliation(
    counts: Counts, backlog: Backlog, stats: RunStats, *, exit_code: int, stamp: Mapping[str, str]
) -> dict[str, Any]:
    """Return what ``run --report`` writes: ``status``, ``verdict``, ``exit_code``, the ``rollout`` and this ``run``.

    ``stamp`` identifies the rollout: its endpoint, Region and pool, as they are in the ledger.
    """
    seconds = stats.elapsed
    return {
        **status(counts, backlog),
        "verdict": verdict(counts, backlog),
        "exit_code": int(exit_code),
        "rollout": dict(stamp),
        "run": {
            "began_at": datetime.fromtimestamp(stats.began_at, UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "users": stats.done,
            "users_per_second": round(stats.done / seconds, 3) if seconds > 0 else 0.0,
            "states": {state.value: number for state, number in sorted(stats.states.items())},
            "reasons": {reason.value: number for reason, number in sorted(stats.reasons.items())},
            "requests": stats.requests,
            **({"sign_ins": stats.sign_ins, "looks": stats.looks} if stats.sign_ins else {}),
            "quota_lost": stats.quota_lost,
            "again": {trouble.value: number for trouble, number in sorted(stats.troubles.items())},
            "duplicates": stats.duplicates,
            "given_back": stats.returned,
        },
    }


def refuse_other_files(path: Path) -> None:
    """Raise ``UsageError`` where no report can be written to ``path``, or it would take the place of anything else.

    An older report may be replaced, and so may an empty file.
    """
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} for the report", "create it, or name another --report")
    try:
        found = look_private(path, what="the report", forbidden=0)
        is_free = found is None or not found.st_size or (found.st_size < _LARGEST and _is_report(path.read_bytes()))
    except OSError as error:
        raise UsageError(
            f"the report cannot be written to {path}: {error.strerror}",
            "name a file in a folder of yours: --report FILE",
        ) from None
    if not is_free:
        raise UsageError(f"--report would overwrite {path}, which is no report", "name a file that does not exist yet")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(
            f"the report cannot be written: {path.parent} is not writable",
            "name a file in a folder of yours: --report FILE",
        )


def _is_report(data: bytes) -> bool:
    try:
        return {"states", "verdict"} <= parse_object(data).keys()
    except (ValueError, TypeError):
        return False


def write(path: Path, report: Mapping[str, Any]) -> None:
    """Write the report as JSON, mode 0600: all of it or nothing. Raises ``DependencyUnavailable``."""
    try:
        write_private(path, (json.dumps(report, indent=2) + "\n").encode(), what="the report")
    except (OSError, UsageError) as error:
        raise DependencyUnavailable(
            f"the report cannot be written: {getattr(error, 'strerror', None) or error}",
            "the ledger has it all: mfa-worker status --json",
        ) from None


def verdict(counts: Counts, backlog: Backlog) -> str:
    """Return one sentence: in which states the users are, and what to do about those who are not enrolled."""
    return "; ".join([_sum(counts), *next_steps(counts, backlog)]) + "."


def _sum(counts: Counts) -> str:
    parts = [
        f"{number:,} {_word(state, number)}{_why(counts, state)}"
        for state in STATES
        if (number := counts.states.get(state))
    ]
    return f"{counts.accepted:,} accepted" + (f" = {' + '.join(parts)}" if parts else "")


def _word(state: State, number: int) -> str:
    return "needs a new sign-in" if state is State.NEEDS_SESSION and number == 1 else STATES[state]


def _why(counts: Counts, state: State) -> str:
    reasons = sorted(counts.reasons.items(), key=lambda each: (-each[1], each[0]))
    found = [f"{number:,} {reason}" for reason, number in reasons if number and STATE_OF.get(reason) is state]
    return f" ({', '.join(found)})" if found else ""


def next_steps(counts: Counts, backlog: Backlog, *, says_run: bool = True) -> Iterator[str]:
    """Yield what is left for a person to do; ``says_run``: also that another run is needed."""
    if backlog.waiting and says_run:
        wait, them = (
            ("1 request waits", "it") if backlog.waiting == 1 else (f"{backlog.waiting:,} requests wait", "them")
        )
        yield f"{wait}, run again for {them}"
    if counts.dead_letters:
        are, them = ("1 request is a dead letter", "it")
        if counts.dead_letters > 1:
            are, them = f"{counts.dead_letters:,} requests are dead letters", "them"
        yield f"{are}, received too often and not done: mend why, then bring {them} back: mfa-worker redrive"
    if counts.dead_letters is None:
        yield "dead letters were not looked at"
    if counts.unfinished and says_run:
        yield "run again to finish those under way"
    not_active = sum(counts.reasons.get(reason, 0) for reason in NOT_ACTIVATED)
    for state, number, what in (
        (State.NEEDS_SESSION, counts.states.get(State.NEEDS_SESSION), "list those who need a new sign-in"),
        (State.FAILED, counts.states.get(State.FAILED), "list those who failed"),
        (State.DELIVERED, not_active, f"the activation of {not_active:,} is left to you"),
    ):
        if number:
            yield f"{what}: mfa-worker export --state {state.value}"
    if counts.malformed:
        yield f"{counts.malformed:,} malformed, put aside: mfa-worker status --malformed"


def handing_out(counts: Counts, left: int) -> Iterator[str]:
    """Yield how the secrets are handed out, once there are some and nobody is ``left`` for a worker to do."""
    if not left and (counts.states.get(State.DELIVERED) or counts.states.get(State.ACTIVE)):
        yield "hand out the secrets, where the key is: mfa-worker open -i KEYFILE --letters letters.pdf"


Reasons = Mapping[tuple[str, str | None, str | None], int]
"""How many users there are by state, reason and detail."""


def reasons_of(counts: Counts) -> Reasons:
    """Return what is to be explained of the counts: the reasons of everybody who is not simply done or skipped."""
    found: dict[tuple[str, str | None, str | None], int] = {}
    for reason, number in counts.reasons.items():
        state = STATE_OF.get(reason)  # of a reason of a later version nobody knows the state
        if not number or state is State.SKIPPED:
            continue
        codes = counts.codes.get(reason, {})
        found |= {(state or "", reason, code): users for code, users in codes.items()}
        found[state or "", reason, None] = number - sum(codes.values())
    return found


def explained(reasons: Reasons) -> Iterator[str]:
    """Yield two lines for each cause: how many users, the reason and the cause; then what to do about it."""
    numbers: Counter[tuple[str, Why]] = Counter()
    for (state, reason, detail), number in reasons.items():
        if number > 0:
            numbers[reason or state, why(state, reason, detail)] += number
    told: Counter[str] = Counter()
    for (name, (cause, cure)), number in sorted(numbers.items(), key=lambda each: (-each[1], each[0])):
        told[name] += 1
        if told[name] <= _MOST_CAUSES:
            yield f"{number:>7,} {name}: {cause}"
            yield f"{'':8}{cure}"
        elif told[name] == _MOST_CAUSES + 1:
            yield f"{'':8}and more of {name}: mfa-worker status --json has them all, under codes"


def print_table(counts: Counts, backlog: Backlog, stats: RunStats, stream: TextIO) -> None:
    """Print what a run ends with: a table, its speed, each reason's cause and cure, the verdict, what is next."""
    rows = [(f"  {word}", number) for word, number in states(counts)]
    rows += [("= users in the ledger", counts.accepted)]
    for reason, number in sorted(counts.reasons.items()):
        if number:
            rows.append((f"  {reason}", number))
            rows += [(f"    {code}", users) for code, users in sorted(counts.codes.get(reason, {}).items()) if users]
    others = {
        "requests that wait": backlog.waiting,
        "past their deadline": backlog.expired,
        "duplicate requests": counts.duplicates,
        "malformed messages": counts.malformed,
        "dead letters": counts.dead_letters or 0,
        "never requested": counts.unrequested or 0,
    }
    rows += [(word, number) for word, number in others.items() if number]
    lines = [f"{word:<26}{number:>12,}" for word, number in rows]
    lines.append(_speed(stats))
    lines += explained(reasons_of(counts))
    lines.append(f"{_sum(counts)}.")
    steps = [*next_steps(counts, backlog), *handing_out(counts, backlog.waiting + counts.unfinished)]
    stream.write("\n".join([*lines, *(f"→ {step}" for step in steps)]) + "\n")
    stream.flush()


def states(counts: Counts) -> list[tuple[str, int]]:
    """Return the states that occur, in words, and how many users are in each."""
    rows = [(word, counts.states.get(state, 0)) for state, word in STATES.items()]
    return [(word, number) for word, number in rows if number] or [("delivered", 0)]


def workers(found: Workers | None) -> str:
    """Return how many workers are alive, in words."""
    if found is None:
        return "nobody knows how many workers"
    if found.alive == 0:
        return "no worker runs" if found.are_exact else "no worker holds a user"
    return f"{'' if found.are_exact else 'about '}{several(found.alive, 'worker')}"


def print_lines(lines: Iterable[str], stream: TextIO) -> None:
    """Print lines about what others wrote, without what looks like a credential."""
    with suppress(OSError):
        stream.writelines(f"{clean(line)}\n" for line in lines)
        stream.flush()


def _speed(stats: RunStats) -> str:
    seconds = stats.elapsed
    speed = stats.done / seconds if seconds > 0 else 0.0
    throttled = f", {stats.throttles:,} of them throttled" if stats.throttles else ""
    signed_in = f", {stats.sign_ins:,} to sign in" if stats.sign_ins else ""
    users = f"{several(stats.done, 'user')} in {duration(seconds)} ({speed:.1f}/s)"
    return f"this run: {users}, {several(stats.requests, 'request')}{throttled}{signed_in}"
