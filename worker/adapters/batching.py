"""Work that many tasks ask for at the same time, done in batches: one commit, one fsync or one request for several.

While one batch is being worked on, the next one collects, so batches grow with the load. At low load an item that is
not urgent may wait a moment (``gather``), so that it goes with another one.
``ThreadBatcher`` passes its batches to a function in a thread of its own (SQLite, files), ``Batcher`` to an async
function (requests to AWS). ``Batches`` is what they have in common.

``some_at_once`` is for the other case: all items are known from the start, and only some may run at a time.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from queue import SimpleQueue
from threading import Thread
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
        self._due = 0.0
        """When that timer fires, in seconds of the event loop's clock; 0: as soon as every ready task has run."""
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
        elif self._under_way < self._at_once:
            self._start_within(gather, loop)
        return future

    def _start_within(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        """Set the timer, unless it fires as early already."""
        if self._timer is not None and self._due == 0.0:
            return
        due = loop.time() + seconds if seconds > 0 else 0.0
        if self._timer is None or due < self._due:
            self._stop_timer()
            self._timer = loop.call_later(seconds, self.hurry) if seconds > 0 else loop.call_soon(self.hurry)
            self._due = due

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

    @abstractmethod
    def _start(self) -> bool:
        """Start a batch, which calls ``_ended`` when it is done. Return ``False`` if none can start now."""

    def _ended(
        self, batch: Sequence[Waiting[Item, Result]], results: Sequence[Any], error: BaseException | None = None
    ) -> None:
        """Handle the end of a batch: start the next one, and set the results of this one.

        ``error`` is set for every item instead of a result; ``CancelledError`` cancels the items' futures.
        """
        self._under_way -= 1
        if self._timer is None:
            self.hurry()
        if isinstance(error, asyncio.CancelledError):
            for _, future in batch:
                future.cancel()
            return
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

    The thread is its own and not one of a ``ThreadPoolExecutor``, with which a batch that does nothing costs 33 µs of
    CPU instead of 24 (measured).
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
        self._orders: SimpleQueue[asyncio.AbstractEventLoop | None] = SimpleQueue()
        """One for each batch to do: the event loop that waits for it; ``None`` ends the thread."""
        self._thread = Thread(target=self._run, name=name, daemon=True)

    async def close(self) -> None:
        """Accept no more items, wait until all submitted ones are done, and end the thread."""
        await super().close()
        if self._thread.ident is not None:
            self._orders.put(None)
            self._thread.join()

    def _start(self) -> bool:
        if self._thread.ident is None:
            self._thread.start()
        self._orders.put(asyncio.get_running_loop())
        return True

    def _run(self) -> None:
        """Do batches; runs in the thread."""
        while (loop := self._orders.get()) is not None:
            self._do(loop)

    def _do(self, loop: asyncio.AbstractEventLoop) -> None:
        batch: list[Waiting[Item, Result]] = []
        results: Sequence[Result] = ()
        failure: BaseException | None = None
        try:
            try:
                self._prepare()
            finally:
                batch += [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            results = self._work([item for item, _ in batch])
        except BaseException as error:  # noqa: BLE001 - it is raised to whoever waits for an item
            failure = error
        with suppress(RuntimeError):  # the event loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(self._ended, batch, results, failure)


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
        if task.cancelled():
            self._ended(batch, (), asyncio.CancelledError())
        elif error := task.exception():
            self._ended(batch, (), error)
        else:
            self._ended(batch, task.result())

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
