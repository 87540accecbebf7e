"""All that the panel shows of a rollout at one moment, as plain values: made from looks and a run's statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from worker.core.model import Counts
from worker.core.ports import Backlog, Workers


@dataclass(frozen=True, slots=True)
class Plan:
    """What of the settings and the command line the panel has to know."""

    quota: float
    """Requests/s of all workers."""
    users_per_second: float
    """Users/s for whom that suffices."""
    calls: int = 1
    """Requests that a user costs at least."""
    source: str | None = None
    """Where the requests come from if not from the queue, so that nobody knows how many there are."""
    is_wave: bool = False
    """Whether only some users are worked on."""
    follow: bool = False
    """Whether the run stays when the queue is empty."""
    empty_after: float = 0.0
    """Seconds for which a queue is watched that looks empty."""
    grace: float = 0.0
    """Seconds for which users who were begun are waited for at the end."""


class Pace(NamedTuple):
    """How fast it goes."""

    calls_per_second: float | None
    """Requests/s that count against the quota, of this worker; ``None`` where only the ledger is looked at."""
    quota: float
    """Requests/s of all workers that are configured."""
    allowed: float | None = None
    """Requests/s of all workers that Cognito seems to bear now; ``None``: as configured, or nobody sends."""
    users_per_second: float = 0.0
    """Users/s who were finished lately, by all workers."""
    calls: int = 1
    """Requests that a user costs at least."""
    sign_ins_per_second: float = 0.0
    throttled: int = 0
    """Answers of "too many requests" so far in this run."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is shown. Times are UTC seconds."""

    now: float
    counts: Counts | None
    """The whole rollout's; ``None`` until the ledger answered."""
    done: int = 0
    """Users who are done."""
    total: int | None = None
    """Users in all, as far as is known; ``None`` where nobody can know, as with a pipe."""
    is_about: bool = False
    """Whether that total is approximate."""
    pace: Pace = field(default_factory=lambda: Pace(None, 0.0))
    backlog: Backlog = field(default_factory=lambda: Backlog(0))
    seconds_left: float | None = None
    elapsed: float | None = None
    """Seconds since the run began; ``None`` for a look from outside."""
    waits: Sequence[str] = ()
    """What is waited for, in whole phrases, the most important first."""
    is_trouble: bool = False
    """Whether the first of them is an outage."""
    workers: Workers | None = None
    to_expire: int = 0
    """Waiting requests that will expire before their turn."""
    stopping: str = ""
    """That the run is being stopped, in words; empty where it is not."""
    has_ended: bool = False
    """Whether this is the last picture."""
