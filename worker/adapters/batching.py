"""Does what many tasks ask for at the same time in batches: one commit, one fsync, one request for several of them.

While one batch is being done the next one gathers, so batches grow with the load, and nobody has to wait for a timer.
``ThreadBatcher`` gives its batches to a function in a thread of its own (SQLite, files), ``Batcher`` to an async
function (requests to AWS). What they share is ``Batches``.

``some_at_once`` is for the other case: all items are at hand already, and only some may be under way at a time.
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
"""An item, and the future of its result, which whoever submitted the item waits for."""


class Batches(ABC, Generic[Item, Result]):
    """Items wait for their turn; up to ``at_once`` batches of up to ``most`` items are under way at a time."""

    def __init__(self, *, most: int, at_once: int) -> None:
        self._most = most
        self._at_once = at_once
        self._waiting: deque[Waiting[Item, Result]] = deque()
        self._under_way = 0
        self._timer: asyncio.Handle | None = None
        """When what waits will leave; ``None`` where it leaves as soon as fewer batches are under way."""
        self._leaves_soon = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def submit(self, item: Item, *, gather: float | None = 0.0) -> asyncio.Future[Result]:
        """The future result of this item.

        ``gather`` is for how many seconds the item waits for others, even if its batch could leave: 0 is just long
        enough to hear all tasks that can run now, and ``None`` not at all. Cancelling the future undoes nothing.
        Raises ``RuntimeError`` after ``close``.
        """
        if self._closed:
            raise RuntimeError("asked for work after the end")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        self._idle.clear()
        if gather is None or len(self._waiting) >= self._most:
            self.hurry()
        elif gather > 0:
            if self._timer is None:
                self._timer = loop.call_later(gather, self.hurry)
        elif not self._leaves_soon:
            self._stop_timer()
            if self._under_way < self._at_once:
                self._timer = loop.call_soon(self.hurry)
                self._leaves_soon = True
        return future

    def hurry(self) -> None:
        """Let what waits leave now, as far as the number of batches under way allows it."""
        self._stop_timer()
        while self._waiting and self._under_way < self._at_once and self._start():
            self._under_way += 1
        if not self._under_way and not self._waiting:
            self._idle.set()

    async def close(self) -> None:
        """Take nothing more, and wait for everything that was submitted."""
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
        """Begin a batch, of which ``_ended`` is told when it is done. ``False`` where nothing can leave now."""

    def _ended(
        self, batch: Sequence[Waiting[Item, Result]], done: Future[Sequence[Result]] | asyncio.Task[Sequence[Result]]
    ) -> None:
        """A batch is done: begin the next one, and hand out the results."""
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
    """``work`` gets each batch, in a thread of its own, and gives as many results, or raises for all.

    ``prepare`` is called before it in that thread, and may take its time: what is submitted meanwhile joins the batch.
    ``most`` bounds for how long one batch keeps the next waiting.
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
        """Take nothing more, wait for everything that was submitted, and end the thread."""
        await super().close()
        self._executor.shutdown()

    def _start(self) -> bool:
        loop = asyncio.get_running_loop()
        batch: list[Waiting[Item, Result]] = []
        done = self._executor.submit(self._do, batch)
        done.add_done_callback(lambda done: loop.call_soon_threadsafe(self._ended, batch, done))
        return True

    def _do(self, batch: list[Waiting[Item, Result]]) -> Sequence[Result]:
        """In the thread: fill the batch, and do its work."""
        try:
            self._prepare()
        finally:
            batch += [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        return self._work([item for item, _ in batch])


class Batcher(Batches[Item, Result]):
    """``work`` gets each batch and gives for each item its result, or the exception to raise for it.

    Where ``work`` raises, everybody in the batch gets that. ``size`` tells how large an item is, and ``most_size`` how
    large the items of a batch may be together, unless it is only one.
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
        """Wait until everything that was submitted so far is done, well or not."""
        self.hurry()
        if pending := [*self._tasks, *(future for _, future in self._waiting)]:
            await asyncio.wait(pending)

    def cancel(self) -> None:
        """Give up whatever is not done: its futures are cancelled."""
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
        """Who leaves next: the first who wait, without those who were cancelled meanwhile."""
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
    """``do`` for every item, so many at a time, taking no item before it can begin.

    The first failure ends the others and is raised.
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
