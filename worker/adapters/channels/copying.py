"""Records that are copied for ``open``, sealed as they are, into a file of lines, a few being fetched at a time.

They are opened from that file, so that memory holds no more than what is on its way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import BinaryIO, TypeVar

from worker.core.errors import DependencyUnavailable

MAX_AT_ONCE = 32
"""Objects or secrets that are on their way at the same time."""
LOST = b"{}"
"""The line of what cannot be opened: no record, so that it is counted as not opened."""

Item = TypeVar("Item")


async def write_lines(items: AsyncIterator[Item], line: Callable[[Item], Awaitable[bytes]], file: BinaryIO) -> int:
    """Write the line of each item, in their order; gives the number of lines that are not empty.

    Raises ``DependencyUnavailable`` where the file cannot be written, and what ``items`` and ``line`` raise.
    """
    number = 0
    tasks: deque[asyncio.Task[bytes]] = deque()

    async def first() -> int:
        text = await tasks.popleft()
        try:
            file.write(text + b"\n")
        except OSError as error:
            raise DependencyUnavailable(
                f"a temporary file cannot be written: {error.strerror}", "free space, or set TMPDIR to another folder"
            ) from None
        return 1 if text else 0

    try:
        async for item in items:
            tasks.append(asyncio.ensure_future(line(item)))
            if len(tasks) >= MAX_AT_ONCE:
                number += await first()
        while tasks:
            number += await first()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return number
