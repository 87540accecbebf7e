"""Where a rollout stands, seen from outside: what ``status`` prints, and what ``status --watch`` shows of it.

Only looks at ledger and queue count here, so it is the same from every terminal and host, for all workers together.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from worker.core.forecast import a_user_costs
from worker.core.ports import WaitingUsers
from worker.core.time_left import QUIET, Rest, is_quiet, seconds_left
from worker.core.words import duration, several, time_left
from worker.telemetry import report
from worker.telemetry.look import Look, Looks
from worker.telemetry.snapshot import Pace, Plan, Snapshot

WIDTH = 26
"""Columns of the words in the table."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The latest look, and what follows from those before it."""

    looks: Looks
    plan: Plan
    began: float
    """When the first look was taken (monotonic seconds)."""
    before_all: str = ""
    """What a person must do before anything else, where ``run`` refuses this ledger: its numbers lead to nothing."""

    @property
    def look(self) -> Look:
        """The latest one."""
        assert self.looks.last is not None
        return self.looks.last

    @property
    def runs(self) -> bool | None:
        """Whether any worker is alive; ``None`` where that cannot be known."""
        workers = self.look.workers
        if workers is None or (workers.alive == 0 and not workers.are_exact):
            return True if self.looks.users_per_second > 0 else None
        return workers.alive > 0

    @property
    def rest(self) -> Rest:
        """What is left to do."""
        look, plan = self.look, self.plan
        possible = plan.users_per_second
        if look.allowed is not None:
            possible *= min(1.0, look.allowed / plan.quota)
        return Rest(
            max(1.0, look.left - look.backlog.expired) if look.left else 0.0,
            possible,
            self.looks.users_per_second,
            self.looks.seen_for,
            quiet=self.looks.quiet(self.began),
            then=plan.empty_after if look.left else 0.0,
        )

    def snapshot(self, trouble: str = "") -> Snapshot:
        """Everything that the panel shows. ``trouble``: why there is no newer look, in words."""
        look, looks, rest = self.look, self.looks, self.rest
        waits = [trouble] if trouble else list(self._waits(rest))
        return Snapshot(
            now=time.time(),
            counts=look.counts,
            done=look.done,
            total=look.done + look.left,
            is_about=look.is_about,
            pace=Pace(None, self.plan.quota, look.allowed, looks.users_per_second, self.plan.calls),
            backlog=look.backlog,
            seconds_left=None if waits else seconds_left(rest),
            waits=waits,
            is_trouble=bool(trouble),
            workers=look.workers,
        )

    def _waits(self, rest: Rest) -> Iterator[str]:
        if not rest.users:
            return
        if self.runs is False:
            yield "a worker: none runs. Begin one: mfa-worker run"
        elif is_quiet(rest) and rest.quiet > QUIET:
            yield f"an outcome: nobody was finished for {duration(rest.quiet)}; the log of the workers says why"


def waiting(trouble: str) -> Snapshot:
    """What the panel shows before there is anything to look at."""
    return Snapshot(time.time(), None, waits=(trouble,))


def lines(standing: Standing, *, lists_malformed: bool = False) -> Iterator[str]:
    """Yield the lines of ``status`` for people: a table that adds up, how fast it goes, why, and what to do.

    ``lists_malformed``: whether a list of what was malformed follows, so that it is no step to do.
    """
    look = standing.look
    counts, backlog = look.counts, look.backlog
    for word, number in report.states(counts):
        yield _row(f"  {word}", number)
    yield _row("= users in the ledger", counts.accepted)
    yield from _waiting(look)
    for reason, number in sorted(counts.reasons.items()):
        if number:
            yield _row(f"  {reason}", number)
            for code, users in sorted(counts.codes.get(reason, {}).items()):
                if users:
                    yield _row(f"    {code}", users)
    for word, number in (
        ("past their deadline", backlog.expired),
        ("duplicate requests", counts.duplicates),
        ("malformed messages", counts.malformed),
        ("dead letters", counts.dead_letters or 0),
    ):
        if number:
            yield _row(word, number)
    yield from _never_requested(look)
    yield from _pace(standing)
    yield from report.explained(report.reasons_of(counts))
    yield from (step for step in _steps(standing) if not (lists_malformed and step.endswith("status --malformed")))


def _row(word: str, number: int, more: str = "") -> str:
    return f"{word:<{WIDTH}}{number:>12,}{f'  {more}' if more else ''}"


def _waiting(look: Look) -> Iterator[str]:
    """The requests that wait, so that nobody is counted twice who also stands in the ledger."""
    waiting, requests = look.waiting, look.backlog.waiting
    if not requests:
        return
    if waiting is None:
        yield _row("requests that wait", requests, "about; those of users in the ledger are among them")
        return
    yield _row("+ waiting, not begun", waiting.new, "" if waiting.are_exact else "users, at most")
    yield _row("= users in all", look.counts.accepted + waiting.new)
    if others := ", ".join(_of_users_in_the_ledger(waiting)):
        yield _row("requests that wait", requests, f"among them those of {others}")


def _of_users_in_the_ledger(waiting: WaitingUsers) -> Iterator[str]:
    for number, what in (
        (waiting.unfinished, "in progress"),
        (waiting.again, "tried again"),
        (waiting.done, "served already"),
    ):
        if number:
            yield f"{several(number, 'user')} {what}"
    users = waiting.new + waiting.unfinished + waiting.again + waiting.done
    if waiting.are_exact and waiting.messages > users:
        yield f"{waiting.messages - users:,} more for the same users"


def _never_requested(look: Look) -> Iterator[str]:
    if not look.counts.unrequested:
        return
    if look.waiting is None or not look.waiting.are_exact:
        yield _row("on the roster, no row yet", look.counts.unrequested, "their requests may wait on the queue")
    elif never := look.counts.unrequested - look.waiting.on_roster:
        yield _row("never requested", never, "on the roster, and no request waits for them")


def _pace(standing: Standing) -> Iterator[str]:
    """How fast it goes, by whom, and until when."""
    snapshot, rest, look = standing.snapshot(), standing.rest, standing.look
    quota = f"{standing.plan.quota:g} calls/s{a_user_costs(standing.plan.quota, standing.plan.calls)}"
    if not rest.users:
        return
    if standing.runs:
        slowed = (
            ""
            if look.allowed is None or look.allowed > 0.95 * standing.plan.quota
            else (f", slowed down to {look.allowed:.1f}, as Cognito throttles")
        )
        yield f"{report.workers(look.workers)}: {snapshot.pace.users_per_second:.1f} users/s; quota {quota}{slowed}"
        if snapshot.seconds_left is not None:
            end = datetime.fromtimestamp(time.time() + snapshot.seconds_left, UTC).astimezone()
            yield f"{time_left(snapshot.seconds_left)} left, ends about {end:%a %H:%M}"
        else:
            yield from snapshot.waits
    else:
        soonest = seconds_left(Rest(rest.users, rest.possible, then=rest.then))
        nobody = "no worker runs" if standing.runs is False else "no worker is to be seen"
        yield f"{nobody}; {time_left(soonest or 0.0)} left at {quota}"


def _steps(standing: Standing) -> Iterator[str]:
    if standing.before_all:
        yield f"→ {standing.before_all}"
        return
    look = standing.look
    steps = list(report.next_steps(look.counts, look.backlog, says_run=False))
    if look.left and not standing.runs:
        steps.insert(0, "work is left, run again: mfa-worker run")
    steps += report.handing_out(look.counts, look.left)
    for step in steps:
        yield f"→ {step}"


def print_lines(standing: Standing, out: TextIO, *, lists_malformed: bool = False) -> None:
    """Print what ``lines`` says."""
    out.writelines(f"{line}\n" for line in lines(standing, lists_malformed=lists_malformed))
    out.flush()


def line(standing: Standing, trouble: str = "") -> str:
    """Return one line, where nothing can be drawn: for the log of a watcher."""
    snapshot = standing.snapshot(trouble)
    counts = ", ".join(f"{number:,} {word}" for word, number in report.states(standing.look.counts))
    about = "about " if snapshot.is_about else ""
    left = f"; {time_left(snapshot.seconds_left)} left" if snapshot.seconds_left else ""
    waits = f"; waits for {snapshot.waits[0]}" if snapshot.waits else ""
    rate = f"{snapshot.pace.users_per_second:.1f} users/s, " if standing.looks.seen_for else ""
    return (
        f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {snapshot.done:,} of {about}{snapshot.total:,} users ({counts}); "
        f"{rate}{report.workers(snapshot.workers)}{left}{waits}"
    )


def as_json(standing: Standing, trouble: str = "") -> dict[str, Any]:
    """Return a line of ``status --watch --json``: what ``status --json`` says, and what two looks show.

    After the first look the speed is ``None``: it takes two to tell it.
    """
    snapshot, look = standing.snapshot(trouble), standing.look
    left = snapshot.seconds_left
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **report.status(look.counts, look.backlog),
        "users_done": look.done,
        "users_left": look.left,
        "users_per_second": round(standing.looks.users_per_second, 1) if standing.looks.seen_for else None,
        "allowed": None if look.allowed is None else round(look.allowed, 1),
        "workers": None if look.workers is None else look.workers.alive,
        "seconds_left": None if left is None else round(left),
        **({"waits": list(snapshot.waits)} if snapshot.waits else {}),
    }
