"""One look after the other, where what costs a request each on AWS is seldom looked at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from worker.app.looking import ONE_BY_ONE, Looking
from worker.app.stores import Stores
from worker.core.model import Counts, State
from worker.core.ports import Backlog, Workers
from worker.settings import Settings


class Stored:
    """Ledger and queue of a rollout on AWS, and how often they were asked who is alive."""

    def __init__(self) -> None:
        self.in_progress = self.alive = self.asked = 0

    async def counts_and_waiting(self, most: int) -> tuple[Counts, None]:
        return Counts({State.IN_PROGRESS: self.in_progress}, {}), None

    async def workers(self) -> Workers:
        self.asked += 1
        return Workers(self.alive, are_exact=False)

    async def allowed(self) -> None:
        return None

    async def backlog(self) -> Backlog:
        return Backlog(5)

    async def counted(self) -> tuple[int, int]:
        return 0, 0

    async def dead_letters(self, malformed: int) -> None:
        return None

    def watched_for(self) -> float:
        return 0.0


async def test_who_begins_after_a_look_is_seen_in_the_next_one() -> None:
    stored = Stored()
    aws: Any = SimpleNamespace(ledger=SimpleNamespace(kind="dynamodb"), queue=SimpleNamespace(kind="sqs"))
    look = Looking(cast("Settings", aws), cast("Stores", SimpleNamespace(ledger=stored, queue=stored)), ONE_BY_ONE)

    assert [(await look()).workers for _ in range(3)] == [Workers(0, are_exact=False)] * 3
    assert stored.asked == 1
    stored.in_progress, stored.alive = 4, 1
    assert [(await look()).workers for _ in range(3)] == [Workers(1, are_exact=False)] * 3
    assert stored.asked == 2
