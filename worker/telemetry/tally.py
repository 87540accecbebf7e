"""SKELETON."""

from __future__ import annotations

from collections import Counter

from worker.model import Reason, State, Trouble
from worker.ports import Clock


class Tally:
    states: Counter[State]
    reasons: Counter[Reason]
    troubles: Counter[Trouble]
    duplicates: int
    malformed_messages: int
    returned: int
    requests: int
    throttles: int
    in_flight: int
    waiting_for: str
    last_progress: float  # monotonic seconds

    def __init__(self, clock: Clock) -> None: ...
    def settled(self, state: State, reason: Reason | None = None) -> None: ...
    def duplicate(self) -> None: ...
    def malformed(self) -> None: ...
    def given_back(self) -> None: ...
    def sent(self) -> None: ...
    def throttled(self) -> None: ...
    def trouble(self, kind: Trouble) -> None: ...
    def progressed(self) -> None: ...

    @property
    def elapsed(self) -> float:
        raise NotImplementedError

    @property
    def done(self) -> int:
        """Users settled by this run, whatever the outcome."""
        raise NotImplementedError

    @property
    def requests_per_second(self) -> float:
        raise NotImplementedError

    @property
    def users_per_second(self) -> float:
        raise NotImplementedError

    @property
    def idle(self) -> float:
        """Seconds since something moved, for a watchdog."""
        raise NotImplementedError
