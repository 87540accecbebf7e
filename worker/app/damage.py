"""Looks for damage in the files on this host before anything is done with them: a disk may lose or change them.

SQLite reads only what it needs, so a run could go on for hours beside a damaged row, and nobody would know of it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from worker.app.stores import Stores
from worker.core.errors import DependencyUnavailable, PersonMustAct
from worker.engine.shutdown import Shutdown

FILES = 10.0
"""Seconds for which the files are looked at when a run begins: a million users and as many messages take two. A damaged
index could hide somebody's row, so nobody is called before that."""
ROWS = 0.5
"""Seconds for which rows are, as well: some fifty thousand of them. No row that is damaged is ever worked on, so the
others are looked at while the work goes on."""
PAUSE = 0.05
"""Seconds between two pages of rows meanwhile: a page takes 5 ms, and a million users so two minutes."""


async def refuse_damaged(stores: Stores, seconds: float | None = None) -> bool:
    """Look at the files, and return whether all was looked at. Raises ``PersonMustAct`` for damage.

    ``seconds``: look at all of it for so long, and not for as long as a run does.
    """
    is_whole = True
    for file in stores.files:
        is_whole &= await file.examine(seconds or FILES)
    return await stores.ledger.examine(seconds or ROWS) and is_whole


@asynccontextmanager
async def looking_at_all_rows(stores: Stores, shutdown: Shutdown) -> AsyncIterator[None]:
    """Look at all rows while the body runs; the run ends (exit code 3) where one is damaged."""

    async def look() -> None:
        try:
            with suppress(DependencyUnavailable):  # whoever works on the ledger says so
                await stores.ledger.examine(math.inf, PAUSE)
        except PersonMustAct as damage:
            shutdown.request(damage)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
