"""Whose turn it is: who was delivered goes first, else whoever came first, and who is cancelled blocks nobody."""

from __future__ import annotations

import asyncio

from worker.core.turn import Turn


class Queue:
    """Users who take a turn each, and the order in which they got it."""

    def __init__(self) -> None:
        self.turn = Turn()
        self.order: list[str] = []

    def comes(self, name: str) -> asyncio.Task[None]:
        return asyncio.create_task(self._take(name))

    async def _take(self, name: str) -> None:
        await self.turn.take(goes_first=name.startswith("delivered"))
        try:
            self.order.append(name)
            await asyncio.sleep(0)
        finally:
            self.turn.give()


async def test_the_delivered_go_first_and_the_others_in_the_order_of_coming() -> None:
    queue = Queue()
    await queue.turn.take(goes_first=False)
    tasks = [queue.comes(name) for name in ("new 1", "new 2", "delivered 1", "new 3", "delivered 2")]
    await asyncio.sleep(0)
    queue.turn.give()
    await asyncio.gather(*tasks)
    assert queue.order == ["delivered 1", "delivered 2", "new 1", "new 2", "new 3"]


async def test_one_has_the_turn_at_a_time() -> None:
    queue = Queue()
    await queue.turn.take(goes_first=False)
    task = queue.comes("new")
    await asyncio.sleep(0.01)
    assert queue.order == []
    queue.turn.give()
    await task
    await queue.turn.take(goes_first=False)


async def test_whoever_is_cancelled_while_waiting_blocks_nobody() -> None:
    queue = Queue()
    await queue.turn.take(goes_first=False)
    cancelled, waiting = queue.comes("new 1"), queue.comes("new 2")
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    queue.turn.give()
    await waiting
    assert queue.order == ["new 2"]


async def test_whoever_is_cancelled_just_when_the_turn_comes_hands_it_on() -> None:
    for cancels_first in (False, True):
        queue = Queue()
        await queue.turn.take(goes_first=False)
        cancelled, waiting = queue.comes("new 1"), queue.comes("new 2")
        await asyncio.sleep(0)
        if cancels_first:
            cancelled.cancel()
            queue.turn.give()
        else:
            queue.turn.give()
            cancelled.cancel()
        await asyncio.wait([cancelled, waiting])
        assert queue.order == ["new 2"]
        await asyncio.wait_for(queue.turn.take(goes_first=False), 1)
