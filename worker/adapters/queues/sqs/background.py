"""What is done to SQS messages without anybody waiting for it: deletes and give-backs gather, and leave by tens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from worker.adapters.aws.sqs import BATCH
from worker.adapters.batching import Batcher

Item = TypeVar("Item")

AT_ONCE = 8
"""Batches of one kind on the wire at a time: with an answer in 20 ms, 4,000 entries/s."""
GATHER = 0.05
"""Seconds for which an item waits for others: at 200 users/s that fills a batch, and a request costs the same for ten.
"""


class Background(Generic[Item]):
    """Items that nobody waits for: by tens, or after a moment, they go through ``do``, a few batches at once.

    ``do`` tries for as long as patience lasts; what it raises then, ``flush`` and ``check`` tell.
    """

    def __init__(self, do: Callable[[list[Item]], Awaitable[None]]) -> None:
        self._do = do
        self._batcher: Batcher[Item, None] = Batcher(self._do_batch, most=BATCH, at_once=AT_ONCE)
        self._not_done = 0
        self._error: Exception | None = None

    def __len__(self) -> int:
        """How many items are not done."""
        return self._not_done

    def add(self, item: Item) -> None:
        """Let it go with the next batch."""
        self._not_done += 1
        self._batcher.submit(item, gather=GATHER)

    def hurry(self) -> None:
        """Let go what waits."""
        self._batcher.hurry()

    async def _do_batch(self, batch: list[Item]) -> Sequence[None]:
        try:
            await self._do(batch)
        except Exception as error:  # noqa: BLE001 - told by ``check``
            self._error = error
        finally:
            self._not_done -= len(batch)
        return [None] * len(batch)

    def check(self) -> None:
        """Raise what a batch failed with, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    async def flush(self) -> None:
        """Return when everything that was added so far is done. Raises ``QueueUnavailable`` where it could not be."""
        await self._batcher.flush()
        self.check()

    def cancel(self) -> None:
        """Give up whatever is not done."""
        self._batcher.cancel()
