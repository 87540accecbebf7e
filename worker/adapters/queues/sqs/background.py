"""Work on SQS messages that no task waits for: deletes and give-backs are collected and sent ten at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from worker.adapters.aws.sqs import BATCH
from worker.adapters.batching import Batcher

Item = TypeVar("Item")

AT_ONCE = 8
"""Batches of one kind sent at the same time: with an answer in 20 ms, 4,000 entries/s."""
GATHER = 0.05
"""Seconds for which an item waits for others: at 200 users/s that fills a batch, and a request with ten entries costs
as much as one with a single entry."""


class Background(Generic[Item]):
    """Passes items to ``do`` in batches of ten, or of fewer after a moment, a few batches at a time.

    ``do`` retries by itself; what it raises in the end is raised by the next ``flush`` or ``check``.
    """

    def __init__(self, do: Callable[[list[Item]], Awaitable[None]]) -> None:
        self._do = do
        self._batcher: Batcher[Item, None] = Batcher(self._do_batch, most=BATCH, at_once=AT_ONCE)
        self._not_done = 0
        self._error: Exception | None = None

    def __len__(self) -> int:
        """The number of items that are not done."""
        return self._not_done

    def add(self, item: Item) -> None:
        """Add an item to the next batch."""
        self._not_done += 1
        self._batcher.submit(item, gather=GATHER)

    def hurry(self) -> None:
        """Start batches of the waiting items now."""
        self._batcher.hurry()

    async def _do_batch(self, batch: list[Item]) -> Sequence[None]:
        try:
            await self._do(batch)
        except Exception as error:  # noqa: BLE001 - raised by ``check``
            self._error = error
        finally:
            self._not_done -= len(batch)
        return [None] * len(batch)

    def check(self) -> None:
        """Raise what a batch has failed with; each failure only once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    async def flush(self) -> None:
        """Wait until everything that was added so far is done. Raises what ``do`` failed with."""
        await self._batcher.flush()
        self.check()

    def cancel(self) -> None:
        """Cancel everything that is not done."""
        self._batcher.cancel()
