"""Does in one go, off the event loop, what many tasks ask for at the same time.

One commit for all rows that wait, one fsync for all lines that wait: while one group is being done the next one
gathers, so groups grow with the load and nobody waits for a timer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = 0.05
"""Seconds that a patient item waits for others."""


class Batcher(Generic[Item, Result]):
    """``work`` gets up to ``most`` items, in a thread of its own, and gives as many results, or raises for all.

    ``prepare`` is called before it in that thread, and may take its time: what is submitted meanwhile joins the group.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        name: str,
        most: int = 256,
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        self._work = work
        self._most = most
        self._prepare = prepare
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def submit(self, item: Item, *, patient: bool = False) -> asyncio.Future[Result]:
        """The future result of this item; a ``patient`` one may wait a moment for others. Cancelling undoes nothing."""
        if self._closed:
            raise RuntimeError("asked for work after the end")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if patient and self._idle.is_set():
            loop.call_later(PATIENCE, self._begin, loop)
        else:
            self._begin(loop)
        return future

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting and self._idle.is_set():
            self._idle.clear()
            loop.call_soon(self._start, loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        group: list[tuple[Item, asyncio.Future[Result]]] = []
        work = self._executor.submit(self._do, group)
        work.add_done_callback(lambda work: loop.call_soon_threadsafe(self._finish, loop, group, work))

    def _do(self, group: list[tuple[Item, asyncio.Future[Result]]]) -> Sequence[Result]:
        """In the thread: fill the group, and do its work."""
        try:
            self._prepare()
        finally:
            group += [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        items = [item for item, _ in group]
        results = self._work(items)
        if len(results) != len(items):
            raise ValueError(f"{len(results)} results for {len(items)} items")
        return results

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        group: Sequence[tuple[Item, asyncio.Future[Result]]],
        work: Future[Sequence[Result]],
    ) -> None:
        if self._waiting:
            self._start(loop)
        else:
            self._idle.set()
        error = work.exception()
        results = () if error else work.result()
        for number, (_, future) in enumerate(group):
            if future.done():
                continue
            if error:
                future.set_exception(error)
            else:
                future.set_result(results[number])

    async def close(self) -> None:
        """Wait for everything that was submitted, then end the thread."""
        self._closed = True
        self._begin(asyncio.get_running_loop())
        await self._idle.wait()
        self._executor.shutdown()
