"""Combines requests into batches when many wait; when few do, each one is sent alone.

Only ``AT_ONCE`` requests are sent at the same time; what arrives meanwhile waits. At ordinary rates a slot is free, and
each write is sent alone, which costs half as much as in a transaction. Only when the service or this process cannot
keep up do enough writes wait to be sent as one batch, which takes a fifth of the time for each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from worker.adapters.batching import Batcher, Waiting

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")

AT_ONCE = 4
"""Requests that are sent at the same time: with an answer in 5 ms, 800 writes/s are sent alone."""
FEWEST = 4
"""How many must wait before they are sent as a batch: for fewer the double price is not worth it."""
MOST = 25
"""The largest batch. Larger ones save little, and block the event loop for longer (DynamoDB takes 100)."""


class Coalescer(Batcher[tuple[str, Asked], Answered], Generic[Asked, Answered]):
    """Sends with ``one`` what goes alone, and with ``many`` a batch of different users.

    ``many`` returns the answer to each, or the exception to raise for it. Requests about the same user are sent one
    after another, in the order in which they came.
    """

    def __init__(
        self,
        one: Callable[[Asked], Awaitable[Answered]],
        many: Callable[[Sequence[Asked]], Awaitable[Sequence[Answered | Exception]]],
    ) -> None:
        super().__init__(self._send, most=MOST, at_once=AT_ONCE)
        self._one, self._many = one, many
        self._busy: set[str] = set()
        """Users with a request under way."""

    async def do(self, asked: Asked, user: str) -> Answered:
        """Send the request and return its answer. Cancelling this does not undo a request that was sent."""
        return await self.submit((user, asked), gather=None)

    async def _send(self, batch: list[tuple[str, Asked]]) -> Sequence[Answered | Exception]:
        if len(batch) == 1:
            return [await self._one(batch[0][1])]
        return await self._many([asked for _, asked in batch])

    def _take(self) -> list[Waiting[tuple[str, Asked], Answered]]:
        """Take the next batch: several if enough wait, otherwise the first; none of a user with a request under way."""
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

    def _ended(
        self,
        batch: Sequence[Waiting[tuple[str, Asked], Answered]],
        results: Sequence[Any],
        error: BaseException | None = None,
    ) -> None:
        self._busy.difference_update(user for (user, _), _ in batch)
        super()._ended(batch, results, error)
