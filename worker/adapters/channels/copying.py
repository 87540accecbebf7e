"""Copies sealed records into a file of lines, from which ``open`` opens them; several are fetched at a time.

The file keeps the memory small: only the records that are being fetched are in it.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import BinaryIO, TypeVar

from worker.core.errors import DependencyUnavailable

MAX_AT_ONCE = 32
"""Objects or secrets that are fetched at the same time."""


def lost(name: str) -> bytes:
    """The line for something that cannot be opened: it is not a record, so ``open`` counts it, by this name."""
    return json.dumps({"object": name}).encode("ascii")


Item = TypeVar("Item")


async def write_lines(items: AsyncIterator[Item], line: Callable[[Item], Awaitable[bytes]], file: BinaryIO) -> int:
    """Write the line of each item, in the order of the items; return the number of lines that are not empty.

    Raises ``DependencyUnavailable`` if the file cannot be written, and what ``items`` and ``line`` raise.
    """
    number = 0
    tasks: deque[asyncio.Task[bytes]] = deque()

    async def write_first() -> int:
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
                number += await write_first()
        while tasks:
            number += await write_first()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return number
