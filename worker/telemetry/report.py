"""The reconciliation: who was accepted and what became of everyone, as JSON for scripts and as a table for people."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from worker.core.errors import DependencyAway
from worker.core.model import Census, Reason, State
from worker.core.ports import Backlog
from worker.core.stats import Tally

_WORDS = {
    State.DELIVERED: "delivered",
    State.ACTIVE: "active",
    State.SKIPPED: "skipped",
    State.NEEDS_SESSION: "need a session",
    State.FAILED: "failed",
    State.SEALED: "sealed but not delivered",
    State.IN_PROGRESS: "in progress",
}

_FAILURES = {
    Reason.INVALID_PARAMETER,
    Reason.CREDENTIAL_MISMATCH,
    Reason.RETRIES_EXHAUSTED,
    Reason.WORKER_CRASHED,
}
"""All other reasons are those of users who need a session."""


def status(census: Census, backlog: Backlog) -> dict[str, Any]:
    """The object of ``status --json``: all states, but only the reasons that occur."""
    return {
        "states": {state.value: census.states.get(state, 0) for state in State},
        "reasons": {str(reason): number for reason, number in sorted(census.reasons.items()) if number},
        "accepted": census.accepted,
        "backlog": backlog.waiting,
        "duplicates": census.duplicates,
        "malformed": census.malformed,
        "past_session_expiry": backlog.expired,
        **({} if census.unrequested is None else {"roster": {"unrequested": census.unrequested}}),
    }


def reconciliation(
    census: Census, backlog: Backlog, tally: Tally, *, exit_code: int, stamp: Mapping[str, str]
) -> dict[str, Any]:
    """``status`` with its ``verdict``, the ``exit_code``, the ``rollout`` it is about, and what this ``run`` did."""
    seconds = tally.elapsed
    return {
        **status(census, backlog),
        "verdict": verdict(census, backlog),
        "exit_code": int(exit_code),
        "rollout": dict(stamp),
        "run": {
            "began_at": datetime.fromtimestamp(tally.began_at, UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "users": tally.done,
            "users_per_second": round(tally.done / seconds, 3) if seconds > 0 else 0.0,
            "states": {state.value: number for state, number in sorted(tally.states.items())},
            "reasons": {reason.value: number for reason, number in sorted(tally.reasons.items())},
            "requests": tally.requests,
            "quota_lost": tally.quota_lost,
            "again": {trouble.value: number for trouble, number in sorted(tally.troubles.items())},
            "duplicates": tally.duplicates,
            "given_back": tally.returned,
        },
    }


def write(path: Path, report: Mapping[str, Any]) -> None:
    """Write the report as JSON, mode 0600: the whole of it or nothing. Raises ``DependencyAway``."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(report, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise DependencyAway(
            f"the report cannot be written: {error.strerror}", "the ledger has it all: mfa-worker status --json"
        ) from None


def verdict(census: Census, backlog: Backlog) -> str:
    """One sentence: where everybody is, and what to do about those who are not enrolled."""
    parts = [
        f"{census.states[state]:,} {word}{_why(census, state)}"
        for state, word in _WORDS.items()
        if census.states.get(state)
    ]
    told = [
        f"{census.accepted:,} accepted" + (f" = {' + '.join(parts)}" if parts else ""),
        *_next_steps(census, backlog),
    ]
    return "; ".join(told) + "."


def _why(census: Census, state: State) -> str:
    if state not in (State.NEEDS_SESSION, State.FAILED):
        return ""
    reasons = sorted(census.reasons.items(), key=lambda each: (-each[1], each[0]))
    found = [
        f"{number:,} {reason}"
        for reason, number in reasons
        if number and (reason in _FAILURES) == (state is State.FAILED)
    ]
    return f" ({', '.join(found)})" if found else ""


def _next_steps(census: Census, backlog: Backlog) -> Iterator[str]:
    if backlog.waiting:
        yield f"{backlog.waiting:,} requests wait, run again for them"
    if census.unfinished:
        yield "run again to finish those under way"
    for state, cure in ((State.NEEDS_SESSION, "sign them in again"), (State.FAILED, "see why")):
        if census.states.get(state):
            yield f"{cure}: mfa-worker export --state {state.value}"


def print_table(
    census: Census, backlog: Backlog, tally: Tally | None, stream: TextIO, *, quota: float | None = None
) -> None:
    """For people: states, reasons, what waits, and the verdict; of a run also its speed.

    With ``quota`` (requests/s) also how long the waiting requests will take at least.
    """
    rows = [(word, census.states.get(state, 0)) for state, word in _WORDS.items()]
    rows = [(word, number) for word, number in rows if number] or [("delivered", 0)]
    rows += [("accepted", census.accepted), ("waiting", backlog.waiting)]
    rows += [(f"  {reason}", number) for reason, number in sorted(census.reasons.items()) if number]
    others = {
        "past their deadline": backlog.expired,
        "duplicate requests": census.duplicates,
        "malformed messages": census.malformed,
        "never requested": census.unrequested or 0,
    }
    rows += [(word, number) for word, number in others.items() if number]
    lines = [f"{word:<26}{number:>12,}" for word, number in rows]
    if tally is not None:
        lines.append(_speed(tally))
    if quota and backlog.waiting:
        lines.append(f"{duration(backlog.waiting / quota)} left at {quota:g} requests/s")
    stream.write("\n".join([*lines, verdict(census, backlog)]) + "\n")
    stream.flush()


def _speed(tally: Tally) -> str:
    seconds = tally.elapsed
    speed = tally.done / seconds if seconds > 0 else 0.0
    throttled = f", {tally.throttles:,} of them throttled" if tally.throttles else ""
    return (
        f"this run: {tally.done:,} users in {duration(seconds)} ({speed:.1f}/s), {tally.requests:,} requests{throttled}"
    )


def duration(seconds: float) -> str:
    """For people: ``42 s``, ``7 min``, ``5.6 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"
