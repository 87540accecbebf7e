"""What the page is made from: read once by ``app.report_page``, so that all of the page is of one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from worker.core.figures import Minute
from worker.core.model import Counts, Listed, State
from worker.core.ports import Backlog


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A user whom some worker still has to finish."""

    username: str
    state: State
    since: float
    """UTC seconds."""


@dataclass(frozen=True, slots=True)
class Left:
    """Users who are left to a person in one state, or as many of them as the page names."""

    state: State
    users: Sequence[Listed]
    total: int
    """How many there are."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One rollout at one moment."""

    made_at: float
    """UTC seconds."""
    version: str
    """Of the worker that made the page."""
    stamp: Mapping[str, str]
    """The rollout's endpoint, Region and pool."""
    ledger: str
    """Where the ledger is: a path, or a table."""
    counts: Counts
    backlog: Backlog
    command: Sequence[str] = ("mfa-worker",)
    """How a command begins, with the settings file that was read."""
    settings_file: str = ""
    """That file; empty: there was none."""
    makes_tickets: bool = False
    """Whether people are pushed again by their usernames, with tickets."""
    minutes: Sequence[Minute] = ()
    """The figures over time, oldest first."""
    under_way: Sequence[UnderWay] = ()
    """Whoever has been under way for longest, the longest first; a few of them."""
    looked_at: int = 0
    """Among how many of those under way they were found."""
    left: Sequence[Left] | None = None
    """Who is left; ``None``: no user may be named."""
    warnings: Sequence[str] = field(default_factory=tuple)
    """What makes these numbers doubtful, such as a ledger that is an older copy."""
