"""What is known of a run at this moment: metrics and health are made of it, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from worker.core.model import Counts
from worker.core.ports import Backlog
from worker.core.stats import RunStats


class Dependency(StrEnum):
    """What a worker may have to wait for. The few words that outsiders see, in place of an error's own text."""

    ENDPOINT = "endpoint"
    POOL = "pool"
    LEDGER = "ledger"
    CHANNEL = "channel"
    QUEUE = "queue"
    OTHER = "other"


_BEGIN = {
    "Cognito's endpoint": Dependency.ENDPOINT,
    "Cognito to stop refusing": Dependency.POOL,
    "the ledger": Dependency.LEDGER,
    "the channel": Dependency.CHANNEL,
    "the queue": Dependency.QUEUE,
}
"""How the texts begin that say for people what a worker waits for (``CircuitBreaker.waiting_for`` and the like)."""


def dependency(waiting_for: str) -> Dependency:
    """What a text says that the worker waits for."""
    return next((each for words, each in _BEGIN.items() if waiting_for.startswith(words)), Dependency.OTHER)


class Work(Protocol):
    """The loop of a worker, as far as it is watched."""

    @property
    def under_way(self) -> int:
        """How many users are worked on."""

    @property
    def knows_time(self) -> bool:
        """Whether Cognito's endpoint has told its time, or is known to name none: before that nobody is called."""

    @property
    def waiting_for(self) -> str | None:
        """What keeps calls from leaving at this moment, in words; ``None`` where nothing does."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """The whole rollout, as ledger and queue counted it."""

    counts: Counts
    backlog: Backlog
    earliest_deadline: float | None
    """When the first credential that waits dies (UTC seconds); ``None`` where none waits."""
    counted_at: float
    """UTC seconds."""


@dataclass(slots=True)
class Watched:
    """One run. The command keeps it up to date, at the cost of a few assignments in a whole run."""

    stats: RunStats
    watchdog: float
    """``run.watchdog``: seconds without progress after which the run ends itself."""
    ending_takes: float
    """Seconds that an end takes at most, from its cause until nobody is worked on: ``run.grace`` and the writes."""
    ending: Callable[[], int | None] = lambda: None
    """The exit code with which the run is ending; ``None`` while it is not."""
    skew: Callable[[], float | None] = lambda: None
    """Seconds by which Cognito's clock is ahead of ours, where that is known."""
    malformed: Callable[[], int] = lambda: 0
    """How many messages on the queue could not be read."""
    work: Work | None = None
    """The loop, while it works; ``None`` before and after."""
    has_worked: bool = False
    """Whether the loop was entered at all."""
    rollout: Rollout | None = None
    """As it was counted last."""
    unreadable: Dependency | None = None
    """What did not answer when the rollout was to be counted last: queue or ledger."""

    @property
    def waits_for(self) -> Dependency | None:
        """What the worker waits for before it can make a call; ``None`` where it can."""
        if self.work is None:
            return None
        if not self.work.knows_time:
            return Dependency.ENDPOINT
        return dependency(text) if (text := self.work.waiting_for) else self.unreadable
