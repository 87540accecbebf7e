"""An event loop without I/O, whose time is whatever the world says, and which runs one callback at a time.

Every simulated process has a loop of its own. Killing a process is never running its loop again; stopping it
(SIGSTOP) is not running it for a while. What other processes and the wire do meanwhile is not affected.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVarTuple

Args = TypeVarTuple("Args")


class VirtualLoop(asyncio.BaseEventLoop):
    """``now`` gives the seconds of virtual time; ``complain`` hears of exceptions that nobody caught."""

    def __init__(self, now: Callable[[], float], complain: Callable[[str], None]) -> None:
        super().__init__()
        self._now = now
        self._complain = complain
        self._callbacks: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_number = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self.set_task_factory(self._make_task)

    # --- what asyncio calls -------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now()

    def call_soon(
        self, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._callbacks.append(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*Args], object],
        *args: *Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._timer_number += 1
        heapq.heappush(self._timers, (when, self._timer_number, handle))
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Args], object],
        *args: *Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now() + delay, callback, *args, context=context)

    def _make_task(self, _: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=self, **options)
        self._tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._complain(f"{context.get('message')}: {error!r}")

    # --- what the world calls -----------------------------------------------------------------------------------------

    def next_moment(self) -> float | None:
        """When there is something to run: a moment that may have passed already, or ``None`` for never."""
        if self._callbacks:
            return self._now()
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def run(self, allowed: Callable[[], bool]) -> bool:
        """Run what is due, one callback after the other, for as long as it is ``allowed``; whether there was any."""
        timers, callbacks, now = self._timers, self._callbacks, self._now()
        while timers and timers[0][0] <= now:
            handle = heapq.heappop(timers)[2]
            if not handle.cancelled():
                callbacks.append(handle)
        if not callbacks:
            return False
        asyncio._set_running_loop(self)
        try:
            while callbacks and allowed():
                callback = callbacks.popleft()
                if not callback.cancelled():
                    callback._run()
        finally:
            asyncio._set_running_loop(None)
        return True

    def abandon(self) -> None:
        """Forget everything that still waits, without letting it do anything: its process is gone."""
        self._complain = lambda _: None
        asyncio._set_running_loop(self)  # so what a coroutine starts as it closes is ours, and closed in its turn
        try:
            for task in self._tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    _close(task.get_coro())
        finally:
            asyncio._set_running_loop(None)
        self._callbacks.clear()
        self._timers.clear()
        self.close()


def _close(coroutine: Any) -> None:
    """Also one that waits for something more when it is closed."""
    for _ in range(10):
        with contextlib.suppress(BaseException):
            coroutine.close()
            break
