"""The pace that all workers of a rollout share, and the port to the store that keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Pace:
    """The shared pace: one row in the ledger, with which all workers of a rollout reserve when they may send."""

    reserved_until: float
    """Up to when time is reserved by some worker, in seconds of the clock that the workers share."""
    rate: float
    """Requests/s that the quota seems to bear now; never above the configured rate."""
    changed_at: float
    """When the rate was last cut, on the same clock. Rises do not count: they would hide when the last cut was."""
    version: int = 0
    """Rises with every write."""
    length: float = 0.1
    """Seconds that a worker reserves at a time."""


class PaceStore(Protocol):
    """Where the shared pace is kept."""

    async def read_pace(self) -> Pace | None:
        """Return the present pace, ``None`` before the first."""
        ...

    async def change_pace(self, change: Callable[[Pace | None], Pace | None]) -> Pace | None:
        """Write what ``change`` makes of the present pace (``None`` before the first), and return what was written.

        ``change`` returns a pace with a higher version, or what it was given if nothing is to be written. It may be
        called in another thread, and several times until no other worker was faster; its last result counts. If other
        workers did nothing but reserve time since then, the store may put the new reservation behind theirs: then the
        returned ``reserved_until`` is later than the one that ``change`` returned.
        """
        ...

    def shared_time(self) -> float:
        """Return the time now, in seconds of the clock that all workers of this ledger share."""
        ...
