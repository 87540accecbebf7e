"""Ends the run when a file that it uses is taken away, also while nothing is written to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from worker.adapters.watched_file import Watched
from worker.core.errors import PersonMustAct
from worker.engine.shutdown import Shutdown

EVERY = 0.5
"""Seconds between two looks, which cost a few microseconds each. Whoever writes looks as well, so this is only for a
worker that has nothing to write, before its next call."""


@asynccontextmanager
async def watch_files(files: Sequence[Watched], shutdown: Shutdown) -> AsyncIterator[None]:
    """Look at these files while the body runs, and at its end; ``shutdown`` has the reason once one was taken away."""
    watching = asyncio.create_task(_watch(files, shutdown))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        await _look(files, shutdown)


async def _watch(files: Sequence[Watched], shutdown: Shutdown) -> None:
    while True:
        await _look(files, shutdown)
        await asyncio.sleep(EVERY)


async def _look(files: Sequence[Watched], shutdown: Shutdown) -> None:
    try:
        await asyncio.to_thread(_check, files)
    except PersonMustAct as taken_away:
        shutdown.request(taken_away)


def _check(files: Sequence[Watched]) -> None:
    for file in files:
        with suppress(OSError):  # what cannot be seen now, whoever writes to it reports
            file.check()
