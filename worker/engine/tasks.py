"""The tasks of the users who are worked on, by what they are for, and how they end when the run ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from enum import Enum, auto
from typing import Any

import structlog

from worker.core.resilience.cancellation import CancellationScope

log = structlog.get_logger()

HURRY_TIMEOUT = 10.0
"""Seconds that writes to ledger and queue get after calls were cut off. The manifests in ``config`` give a container
longer to stop than ``run.grace`` and this together."""


class Kind(Enum):
    """What a task is for."""

    MESSAGE = auto()
    """A message whose user is worked on, or a user's other messages after that."""
    EXPIRED = auto()
    """A message whose credential has expired, to be settled without a call."""
    TAKEOVER = auto()
    """A row that a dead worker left unfinished."""


class Tasks:
    """One task for each user who is worked on. ``on_end`` is called whenever one ends."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._tasks: dict[asyncio.Task[None], tuple[Kind, CancellationScope]] = {}
        self._numbers: Counter[Kind] = Counter()

    def __len__(self) -> int:
        return len(self._tasks)

    def number(self, kind: Kind) -> int:
        """How many tasks of that kind there are."""
        return self._numbers[kind]

    def start(self, kind: Kind, work: Coroutine[Any, Any, None], scope: CancellationScope) -> asyncio.Task[None]:
        """Start a task. ``scope`` says when it may be cancelled."""
        task = scope.task = asyncio.create_task(work)
        self._tasks[task] = kind, scope
        self._numbers[kind] += 1
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        kind, _ = self._tasks.pop(task)
        self._numbers[kind] -= 1
        self._on_end()

    async def wind_down(self, grace: float, hurry: asyncio.Event) -> None:
        """Stop users who only wait, let the others finish, and then cut off their calls.

        They have ``grace`` seconds, or until ``hurry`` is set.
        """
        if not self._tasks:
            return
        self._stop(hurry=False)
        all_ended = asyncio.ensure_future(asyncio.wait(set(self._tasks)))
        hurried = asyncio.ensure_future(hurry.wait())
        await asyncio.wait({all_ended, hurried}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        self._stop(hurry=True)
        await asyncio.wait({all_ended}, timeout=HURRY_TIMEOUT)
        if self._tasks:
            log.error(
                "left_behind",
                users=len(self._tasks),
                cause="time was up, and they were still under way",
                cure="nothing is to be mended: the next run takes them over",
            )
        all_ended.cancel()

    def _stop(self, *, hurry: bool) -> None:
        for _, scope in list(self._tasks.values()):
            scope.stop(hurry=hurry)
