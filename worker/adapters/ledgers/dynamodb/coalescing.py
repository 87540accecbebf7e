"""A few requests on the wire at once; what comes while they are gathers, and leaves together.

At ordinary rates one of the few is free and everything leaves alone, at half the price of a transaction. Only when the
service or this process cannot keep up does enough wait to be worth a batch, which costs a fifth of the time for each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from worker.adapters.batching import Batcher, Waiting
from worker.core.errors import LedgerUnavailable

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")

AT_ONCE = 4
"""Requests on the wire at a time; with an answer in 5 ms, 800/s leave alone."""
FEWEST = 4
"""How many have to wait before they leave together: fewer are not worth the double price."""
MOST = 25
"""How many leave together at most. More save little, and hold the event loop for longer (DynamoDB takes 100)."""


class Coalescer(Batcher[tuple[str, Asked], Answered], Generic[Asked, Answered]):
    """``one`` does one; ``many`` does several of different users, and answers each or says why it has no answer.

    What is asked about one user is done one after another, in the order in which it came.
    """

    def __init__(
        self,
        one: Callable[[Asked], Awaitable[Answered]],
        many: Callable[[Sequence[Asked]], Awaitable[Sequence[Answered | LedgerUnavailable]]],
    ) -> None:
        super().__init__(self._send, most=MOST, at_once=AT_ONCE)
        self._one, self._many = one, many
        self._busy: set[str] = set()
        """Users about whom a request is on the wire."""

    async def do(self, asked: Asked, user: str) -> Answered:
        """The answer. Whoever is cancelled while waiting for it undoes nothing that has left."""
        return await self.submit((user, asked), gather=None)

    async def _send(self, batch: list[tuple[str, Asked]]) -> Sequence[Answered | Exception]:
        if len(batch) == 1:
            return [await self._one(batch[0][1])]
        return await self._many([asked for _, asked in batch])

    def _take(self) -> list[Waiting[tuple[str, Asked], Answered]]:
        """Who leaves next: several where enough wait, else the first; nobody about whom a request is on the wire."""
        looked_at: list[Waiting[tuple[str, Asked], Answered]] = []
        ready: list[Waiting[tuple[str, Asked], Answered]] = []
        users = set(self._busy)
        while self._waiting and len(ready) < MOST:
            each = self._waiting.popleft()
            (user, _), answer = each
            if answer.done():  # cancelled
                continue
            looked_at.append(each)
            if user not in users:
                users.add(user)
                ready.append(each)
        batch = ready if len(ready) >= FEWEST else ready[:1]
        leaving = set(map(id, batch))
        self._waiting.extendleft(each for each in reversed(looked_at) if id(each) not in leaving)
        self._busy.update(user for (user, _), _ in batch)
        return batch

    def _ended(self, batch: Sequence[Waiting[tuple[str, Asked], Answered]], done: Any) -> None:
        self._busy.difference_update(user for (user, _), _ in batch)
        super()._ended(batch, done)
