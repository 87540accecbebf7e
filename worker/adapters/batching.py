"""Work that many tasks ask for at the same time, done in batches: one commit, one fsync or one request for several.

While one batch is being worked on, the next one collects, so batches grow with the load and no timer is needed.
``ThreadBatcher`` passes its batches to a function in a thread of its own (SQLite, files), ``Batcher`` to an async
function (requests to AWS). ``Batches`` is what they have in common.

``some_at_once`` is for the other case: all items are known from the start, and only some may run at a time.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Waiting = tuple[Item, asyncio.Future[Result]]
"""An item, and the future of its result, which the submitter of the item waits for."""


class Batches(ABC, Generic[Item, Result]):
    """The queue of items; up to ``at_once`` batches of up to ``most`` items each run at a time."""

    def __init__(self, *, most: int, at_once: int) -> None:
        self._most = most
        self._at_once = at_once
        self._waiting: deque[Waiting[Item, Result]] = deque()
        self._under_way = 0
        self._timer: asyncio.Handle | None = None
        """Starts the waiting items; ``None``: they start as soon as one of the running batches ends."""
        self._leaves_soon = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def submit(self, item: Item, *, gather: float | None = 0.0) -> asyncio.Future[Result]:
        """Queue this item, and return the future of its result.

        ``gather`` is how many seconds the item waits for others, even if its batch could start: with 0 it waits until
        every task that is ready now has run, with ``None`` not at all. Where no batch can start just now, it goes with
        the next one, whatever ``gather`` says. Cancelling the future does not undo work that has started. Raises
        ``RuntimeError`` after ``close``.
        """
        if self._closed:
            raise RuntimeError("an item was submitted after close")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        self._idle.clear()
        if gather is None or len(self._waiting) >= self._most:
            self.hurry()
        elif gather > 0:
            if self._timer is None and self._under_way < self._at_once:
                self._timer = loop.call_later(gather, self.hurry)
        elif not self._leaves_soon:
            self._stop_timer()
            if self._under_way < self._at_once:
                self._timer = loop.call_soon(self.hurry)
                self._leaves_soon = True
        return future

    def hurry(self) -> None:
        """Start batches of the waiting items now, as many as ``at_once`` allows."""
        self._stop_timer()
        while self._waiting and self._under_way < self._at_once and self._start():
            self._under_way += 1
        if not self._under_way and not self._waiting:
            self._idle.set()

    async def close(self) -> None:
        """Accept no more items, and wait until all submitted ones are done."""
        self._closed = True
        self.hurry()
        await self._idle.wait()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._leaves_soon = False

    @abstractmethod
    def _start(self) -> bool:
        """Start a batch, which calls ``_ended`` when it is done. Return ``False`` if none can start now."""

    def _ended(
        self, batch: Sequence[Waiting[Item, Result]], done: Future[Sequence[Result]] | asyncio.Task[Sequence[Result]]
    ) -> None:
        """Handle the end of a batch: start the next one, and set the results of this one."""
        self._under_way -= 1
        if self._timer is None:
            self.hurry()
        if done.cancelled():
            for _, future in batch:
                future.cancel()
            return
        error = done.exception()
        results: Sequence[Any] = () if error else done.result()
        if error is None and len(results) != len(batch):
            error = ValueError(f"{len(results)} results for {len(batch)} items")
        for number, (_, future) in enumerate(batch):
            if future.done():
                continue
            result = error or results[number]
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)


class ThreadBatcher(Batches[Item, Result]):
    """Calls ``work`` with each batch, in one thread of its own.

    ``work`` returns one result for each item, or raises for all of them. ``prepare`` is called before it in the same
    thread and may take long: items that are submitted meanwhile join the batch. ``most``, the items of one batch,
    limits how long the next batch has to wait.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        name: str,
        most: int = 256,
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(most=most, at_once=1)
        self._work = work
        self._prepare = prepare
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def close(self) -> None:
        """Accept no more items, wait until all submitted ones are done, and end the thread."""
        await super().close()
        self._executor.shutdown()

    def _start(self) -> bool:
        loop = asyncio.get_running_loop()
        batch: list[Waiting[Item, Result]] = []
        done = self._executor.submit(self._do, batch)
        done.add_done_callback(lambda done: loop.call_soon_threadsafe(self._ended, batch, done))
        return True

    def _do(self, batch: list[Waiting[Item, Result]]) -> Sequence[Result]:
        """Fill the batch and do its work; runs in the thread."""
        try:
            self._prepare()
        finally:
            batch += [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        return self._work([item for item, _ in batch])


class Batcher(Batches[Item, Result]):
    """Awaits ``work`` with each batch.

    ``work`` returns for each item its result, or the exception to raise for it; what it raises itself is raised for
    every item of the batch. ``size`` returns the size of an item; the sizes in one batch add up to at most
    ``most_size``, but a single item is never refused.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Coroutine[Any, Any, Sequence[Result | Exception]]],
        *,
        most: int,
        at_once: int,
        size: Callable[[Item], int] = lambda _: 0,
        most_size: int = 0,
    ) -> None:
        super().__init__(most=most, at_once=at_once)
        self._work = work
        self._size = size
        self._most_size = most_size
        self._tasks: set[asyncio.Task[Any]] = set()

    async def flush(self) -> None:
        """Wait until everything that was submitted so far has succeeded or failed."""
        self.hurry()
        if pending := [*self._tasks, *(future for _, future in self._waiting)]:
            await asyncio.wait(pending)

    def cancel(self) -> None:
        """Cancel everything that is not done, and its futures."""
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()

    def _start(self) -> bool:
        batch = self._take()
        if not batch:
            return False
        items = [item for item, _ in batch]
        task = asyncio.create_task(self._work(items))
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._task_ended(batch, ended))
        return True

    def _task_ended(self, batch: list[Waiting[Item, Result]], task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._ended(batch, task)

    def _take(self) -> list[Waiting[Item, Result]]:
        """Take the next batch: the items that have waited longest, without those cancelled meanwhile."""
        batch: list[Waiting[Item, Result]] = []
        total = 0
        while self._waiting and len(batch) < self._most:
            item, future = self._waiting[0]
            if not future.done():
                total += self._size(item)
                if batch and total > self._most_size:
                    break
                batch.append((item, future))
            self._waiting.popleft()
        return batch


async def some_at_once(do: Callable[[Item], Awaitable[None]], items: Iterable[Item], at_once: int) -> None:
    """Await ``do`` for every item, at most ``at_once`` at a time.

    An item is taken from ``items`` only when it can start. The first failure cancels the others and is raised.
    """
    source, tasks = iter(items), set[asyncio.Future[None]]()
    try:
        while True:
            tasks |= {asyncio.ensure_future(do(item)) for item in islice(source, at_once - len(tasks))}
            if not tasks:
                return
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
