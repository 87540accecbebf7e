"""A few requests on the wire at once; what comes while they are gathers, and leaves together.

At ordinary rates a lane is free and everything leaves alone, at half the price of a transaction. Only when the service
or this process cannot keep up does enough wait to be worth a group, which costs a fifth of the time for each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from worker.core.errors import LedgerUnavailable

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")

LANES = 4
"""Requests on the wire at once; with an answer in 5 ms, 800/s leave alone."""
FEWEST, MOST = 4, 25
"""How many leave together. More save little, and hold the event loop for longer (DynamoDB takes 100)."""


@dataclass(eq=False, slots=True)
class _Waiting(Generic[Asked, Answered]):
    asked: Asked
    user: str
    answer: asyncio.Future[Answered]


class Coalescer(Generic[Asked, Answered]):
    """``one`` does one; ``many`` does several of different users, and answers each or says why it has no answer.

    What is asked about one user is done one after another, in the order in which it came.
    """

    def __init__(
        self,
        one: Callable[[Asked], Awaitable[Answered]],
        many: Callable[[Sequence[Asked]], Awaitable[Sequence[Answered | LedgerUnavailable]]],
    ) -> None:
        self._one, self._many = one, many
        self._waiting: deque[_Waiting[Asked, Answered]] = deque()
        self._busy: set[str] = set()
        self._on_the_wire: set[asyncio.Task[None]] = set()

    async def do(self, asked: Asked, user: str) -> Answered:
        """The answer. Whoever is cancelled while waiting for it undoes nothing that has left."""
        waiting: _Waiting[Asked, Answered] = _Waiting(asked, user, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._leave()
        return await waiting.answer

    async def close(self) -> None:
        """Wait until everything has its answer."""
        while self._on_the_wire:
            await asyncio.wait(self._on_the_wire)

    def _leave(self) -> None:
        while len(self._on_the_wire) < LANES and (group := self._take()):
            self._busy.update(each.user for each in group)
            task = asyncio.create_task(self._send(group))
            self._on_the_wire.add(task)
            task.add_done_callback(lambda task, group=group: self._back(task, group))  # type: ignore[misc]

    def _take(self) -> list[_Waiting[Asked, Answered]]:
        """Who leaves next: several where enough wait, else the first; nobody whose user is on the wire."""
        looked_at: list[_Waiting[Asked, Answered]] = []
        ready: list[_Waiting[Asked, Answered]] = []
        users = set(self._busy)
        while self._waiting and len(ready) < MOST:
            each = self._waiting.popleft()
            if each.answer.done():  # cancelled
                continue
            looked_at.append(each)
            if each.user not in users:
                users.add(each.user)
                ready.append(each)
        group = ready if len(ready) >= FEWEST else ready[:1]
        leaving = set(map(id, group))
        self._waiting.extendleft(each for each in reversed(looked_at) if id(each) not in leaving)
        return group

    async def _send(self, group: list[_Waiting[Asked, Answered]]) -> None:
        answers: Sequence[Answered | BaseException]
        try:
            if len(group) == 1:
                answers = [await self._one(group[0].asked)]
            else:
                answers = await self._many([each.asked for each in group])
        except asyncio.CancelledError:
            for each in group:
                each.answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - handed to those who asked
            answers = [error] * len(group)
        for each, answer in zip(group, answers, strict=True):
            if each.answer.done():
                continue
            if isinstance(answer, BaseException):
                each.answer.set_exception(answer)
            else:
                each.answer.set_result(answer)

    def _back(self, task: asyncio.Task[None], group: list[_Waiting[Asked, Answered]]) -> None:
        self._on_the_wire.discard(task)
        self._busy.difference_update(each.user for each in group)
        if not task.cancelled():
            task.result()
        self._leave()
