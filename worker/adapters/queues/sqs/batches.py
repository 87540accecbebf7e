"""What goes to SQS by tens: entries of one operation gather for a moment, leave together, and those that fail go again.

A batch may fail in part, with status 200; and a reply that was cut off on its way reads as an empty success. So an
entry is done only where the answer names it among the successful.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Generic, TypeVar

from worker.adapters.aws.errors import faults
from worker.core.errors import ExitCode, QueueUnavailable

Item = TypeVar("Item")
Entry = Mapping[str, Any]
"""One entry of a batch as the SDK takes it, without its ``Id``."""
Operation = Callable[..., Awaitable[Any]]
"""A batch operation of the SDK's client."""

QUEUE = "the queue"
LATER = "look at the service and the network; nothing is lost, run again"
TEN = 10
"""Entries in a batch at most (SQS developer guide)."""
PATIENCE = 60.0
"""Seconds for which an outage is bridged."""
AT_ONCE = 8
"""Batches of one kind on the wire at a time."""
MOMENT = 0.05
"""Seconds for which an entry waits for others."""
_LONGEST_PAUSE = 5.0
_TIMEOUT = 15.0
"""Seconds after which a request is given up; the SDK's own attempts are within."""
_THROTTLED = ("RequestThrottled", "ThrottlingException", "KmsThrottled", "OverLimit")


def backoff(tries: int) -> float:
    """Seconds before the next try, after so many (from 1) have failed: half to all of what doubles each time."""
    return random.uniform(0.5, 1.0) * min(_LONGEST_PAUSE, 0.2 * 2.0 ** min(tries, 10))  # noqa: S311


class Outage:
    """For how long something has been failing, and when that has lasted too long to be bridged."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self.tries = 0
        self._since = 0.0
        self._error: QueueUnavailable | None = None

    def failed(self, error: QueueUnavailable) -> None:
        """Once more."""
        if self._error is None:
            self._since = time.monotonic()
        self.tries += 1
        self._error = error

    def over(self) -> bool:
        """It works again; whether it did not before."""
        was_unavailable = self._error is not None
        self.tries, self._error = 0, None
        return was_unavailable

    def check(self) -> None:
        """Raise the ``QueueUnavailable`` that lasts: at once where a person must act, else when patience is over."""
        if self._error is None:
            return
        if self._error.exit_code == ExitCode.PERSON_MUST_ACT or time.monotonic() - self._since >= self.patience:
            raise self._error


async def send_once(
    operation: Operation, url: str, entries: Sequence[Entry], *, within: float = _TIMEOUT, what: str = QUEUE
) -> dict[int, tuple[str, bool]]:
    """Send one batch; of each entry that did not succeed the code, and whether trying again is of no use.

    ``within`` in seconds. Raises ``QueueUnavailable`` where the whole batch failed.
    """
    named = [{**entry, "Id": str(number)} for number, entry in enumerate(entries)]
    with faults(QueueUnavailable, what):
        async with asyncio.timeout(within):
            answer = await operation(QueueUrl=url, Entries=named)
    done = {found.get("Id") for found in answer.get("Successful", ())}
    failed = {number: ("NoAnswer", False) for number, entry in enumerate(named) if entry["Id"] not in done}
    for found in answer.get("Failed", ()):
        with suppress(KeyError, ValueError):
            code = str(found.get("Code", "unknown"))
            is_ours = str(found.get("SenderFault")).lower() == "true" and not code.endswith(_THROTTLED)
            failed[int(found["Id"])] = (code, is_ours)
    return failed


async def send_all(
    operation: Operation, url: str, entries: Sequence[Entry], *, patience: float = PATIENCE, what: str = QUEUE
) -> dict[int, str]:
    """Send one batch until every entry succeeded, or was refused for good: of those the codes.

    Raises ``QueueUnavailable`` after ``patience`` seconds of failure.
    """
    left, refused, outage = dict(enumerate(entries)), dict[int, str](), Outage(patience)
    while left:
        numbers = list(left)
        try:
            failed = await send_once(operation, url, list(left.values()), what=what)
        except QueueUnavailable as unavailable:
            outage.failed(unavailable)
        else:
            refused |= {numbers[at]: code for at, (code, for_good) in failed.items() if for_good}
            left = {numbers[at]: left[numbers[at]] for at, (_, for_good) in failed.items() if not for_good}
            if not left:
                break
            codes = ", ".join(sorted({code for code, _ in failed.values()}))
            outage.failed(QueueUnavailable(f"{what} cannot be used: {codes} for {len(left)} in a batch", LATER))
        outage.check()
        await asyncio.sleep(backoff(outage.tries))
    return refused


def tens(items: Iterable[Item], size: Callable[[Item], int] = lambda _: 0, most: int = 0) -> Iterator[list[Item]]:
    """The items in batches of at most ten, whose sizes together are at most ``most``."""
    batch, total = list[Item](), 0
    for item in items:
        if len(batch) == TEN or (batch and total + size(item) > most):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size(item)
    if batch:
        yield batch


async def some_at_once(do: Callable[[Item], Awaitable[None]], items: Iterable[Item], most: int = AT_ONCE) -> None:
    """``do`` for every item, ``most`` at a time, without holding all items. The first failure ends it and is raised."""
    source, tasks = iter(items), set[asyncio.Future[None]]()
    try:
        while True:
            tasks |= {asyncio.ensure_future(do(item)) for item in islice(source, most - len(tasks))}
            if not tasks:
                return
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Gathered(Generic[Item]):
    """Items that nobody waits for: by tens, or after a moment, they go through ``do``, a few batches at once.

    ``do`` tries for as long as patience lasts; what it raises then, ``flush`` and ``check`` tell.
    """

    def __init__(self, do: Callable[[list[Item]], Awaitable[None]]) -> None:
        self._do = do
        self._waiting: list[Item] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._places = asyncio.Semaphore(AT_ONCE)
        self._error: BaseException | None = None
        self._going = 0

    def __len__(self) -> int:
        """How many items are not done."""
        return len(self._waiting) + self._going

    def add(self, item: Item) -> None:
        """Let it go with the next batch."""
        self._waiting.append(item)
        if len(self._waiting) >= TEN:
            self.hurry()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(MOMENT, self.hurry)

    def hurry(self) -> None:
        """Let go what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for batch in tens(self._waiting):
            self._going += len(batch)
            task = asyncio.create_task(self._go(batch))
            self._tasks.add(task)
            task.add_done_callback(self._gone)
        self._waiting = []

    async def _go(self, batch: list[Item]) -> None:
        try:
            async with self._places:
                await self._do(batch)
        finally:
            self._going -= len(batch)

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = error

    def check(self) -> None:
        """Raise what a batch failed with, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    async def flush(self) -> None:
        """Return when everything that was added so far is done. Raises ``QueueUnavailable`` where it could not be."""
        self.hurry()
        if tasks := list(self._tasks):
            await asyncio.wait(tasks)
        self.check()

    def cancel(self) -> None:
        """Give up whatever is not done."""
        for task in list(self._tasks):
            task.cancel()
