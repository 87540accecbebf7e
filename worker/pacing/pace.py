"""The shared pace, and the port to where it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Pace:
    """The shared pace: one row in the ledger that all workers of a rollout reserve their sends from."""

    reserved_until: float
    """The moment (seconds of the clock that the workers share) up to which sends are given away."""
    rate: float
    """Requests/s that the quota seems to bear now; never above the configured rate."""
    changed_at: float
    """When the rate was last cut; rises do not count, or a cut could not follow another within a long round trip."""
    version: int = 0
    length: float = 0.1
    """Seconds that a worker reserves at a time."""


class PaceStore(Protocol):
    """Where the shared pace is kept."""

    async def read_pace(self) -> Pace | None:
        """The pace as it stands, ``None`` before the first."""
        ...

    async def change_pace(self, change: Callable[[Pace | None], Pace | None]) -> Pace | None:
        """Write what ``change`` makes of the pace as it stands (``None`` before the first), and return that.

        ``change`` counts the version up, or returns what it was given if nothing is to be written. It may be called
        several times, until nobody was faster, and in another thread; its last result counts. Where others only
        reserved since then, what it adds to ``reserved_until`` may be added to theirs: what is returned says so.
        """
        ...

    def shared_time(self) -> float:
        """Now, in seconds of the clock that all workers of this ledger share."""
        ...
