"""What the commands at the end of a rollout show before they do it, and what keeps them from doing it."""

from __future__ import annotations

from dataclasses import dataclass, field

from worker.core.errors import WorkerError
from worker.core.purging import Holds
from worker.core.words import several

RUN = "mfa-worker run; or give up what waits: --even-unfinished"
"""What to do about users who are not finished, and about requests that wait."""
REDRIVE = "mfa-worker redrive, then run; or give them up: --even-unfinished"
"""What to do about dead letters."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing, and where it is."""

    what: str
    where: str
    note: str = ""
    """More about it that a person should know before it is gone, or the command that takes it away; empty: nothing."""


@dataclass(slots=True)
class Plan:
    """What is taken away, what stays, and why it cannot be done now."""

    removes: list[Item] = field(default_factory=list)
    """In the order in which it is done."""
    stays: list[Item] = field(default_factory=list)
    """What is left on purpose."""
    in_the_way: list[tuple[str, str]] = field(default_factory=list)
    """What forbids it, each with the cure."""
    troubles: list[WorkerError] = field(default_factory=list)
    """What could not be looked at, or could not be done."""
    left: list[tuple[str, str]] = field(default_factory=list)
    """What could not be taken away although nothing failed, each with the cure."""
    done: list[str] = field(default_factory=list)
    """What was done."""


def unfinished(holds: Holds, waiting: int, dead_letters: int | None) -> list[tuple[str, str]]:
    """What a run has still to do, each with the cure: it would be lost."""
    found = []
    if holds.unfinished.total:
        named = ", ".join(holds.unfinished.lines())
        secrets = f"; {holds.outbox:,} of them with a secret that is not delivered" if holds.outbox else ""
        found.append((f"{_are(holds.unfinished.total, 'user', 'is', 'are')} not finished: {named}{secrets}", RUN))
    if waiting:
        found.append((f"{_are(waiting, 'request', 'waits', 'wait')} on the queue", RUN))
    if dead_letters:
        said = f"{_are(dead_letters, 'dead letter', 'waits', 'wait')}, and dead letters are requests too"
        found.append((said, REDRIVE))
    return found


def _are(number: int, what: str, one: str, many: str) -> str:
    return f"{several(number, what)} {one if number == 1 else many}"


def used(lease: float) -> tuple[str, str]:
    """A worker is at work; ``lease``: for how many seconds a claim holds."""
    return (
        "a worker is at work with this ledger, or its claims have not run out yet",
        f"stop all workers, and wait for ledger.lease ({lease:g} s) where one was killed",
    )
