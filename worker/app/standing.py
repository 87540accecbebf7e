"""What ``status`` does: one look at the rollout, or one after the other until it is told to end."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from worker.app import older
from worker.app.beginning import NoLedger, ledger_name, say_new
from worker.app.looking import ONE_BY_ONE, Looking, plan_of
from worker.app.stores import Purpose, Stores, open_stores
from worker.core.errors import DependencyUnavailable, WorkerError
from worker.core.words import time_of_day
from worker.settings import Settings
from worker.telemetry.look import Look, Looks
from worker.telemetry.standing import Standing

BETWEEN = 2.0
"""Seconds between the two looks of ``status`` while workers run, from which it tells their speed: long enough for the
second in which a worker on AWS gathers its counts."""
EVERY = 1.0
"""Seconds between two looks of ``status --watch`` at least."""
EVERY_ON_AWS = 2.0
"""The same where a look is three requests to AWS: some 130,000 a day. What they cost is in ``docs/operations.md``."""
COST = 20
"""How many times as long as a look took the pause after it is: at a million rows, too, a twentieth of a core."""
LONGEST_PAUSE = 5.0
"""Seconds that such a pause lasts at most, however long a look took: on AWS it takes time and hardly any work."""
ASK_AGAIN = 1.0
"""Seconds until a ledger is looked for again that does not exist yet."""


Seen = tuple[Standing | None, str]
"""Where the rollout stands, ``None`` before there is a ledger; and what keeps it from being seen, in words."""


async def standing(settings: Settings, *, measures: bool) -> Standing:
    """Look at the rollout; where workers run and ``measures``, twice, to tell how fast they are.

    Raises ``UsageError`` if there is no ledger.
    """
    async with _opened(settings) as (stores, refused):
        looking, looks, began = Looking(settings, stores, ONE_BY_ONE), Looks(), time.monotonic()
        looks.add(await _with_roster(looking, stores))
        found = Standing(looks, plan_of(settings), began, before_all=refused.hint or "" if refused else "")
        if measures and found.look.left and found.runs is not False:
            await asyncio.sleep(BETWEEN)
            looks.add(await _with_roster(looking, stores))
        return found


async def _with_roster(looking: Looking, stores: Stores) -> Look:
    look = await looking()
    return replace(look, counts=replace(look.counts, unrequested=await stores.ledger.roster_count()))


@asynccontextmanager
async def _opened(settings: Settings, *, says_new: bool = True) -> AsyncIterator[tuple[Stores, WorkerError | None]]:
    """Open what is there; with why ``run`` would refuse this ledger, which is logged."""
    async with open_stores(settings, Purpose.EXISTING) as stores:
        if says_new:
            say_new(settings, stores.found)
        yield stores, await older.warn(settings, stores)


async def watch(settings: Settings) -> AsyncGenerator[Seen]:
    """Yield where the rollout stands, again and again, until the first signal.

    Raises what a person must act on; a ledger or queue that is away is waited for.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    while not ended.is_set():
        try:
            async with _opened(settings, says_new=False) as (stores, _):
                async for each in _looks(settings, stores, ended):
                    yield each
        except NoLedger:
            yield None, f"a ledger: there is none at {ledger_name(settings)} yet; the first push or run begins one"
            await _pause(ended, ASK_AGAIN)


async def _looks(settings: Settings, stores: Stores, ended: asyncio.Event) -> AsyncGenerator[Seen]:
    every = EVERY if settings.ledger.kind == settings.queue.kind == "sqlite" else EVERY_ON_AWS
    looking = Looking(settings, stores, ONE_BY_ONE)
    found, trouble, since = Standing(Looks(), plan_of(settings), time.monotonic()), "", 0.0
    while not ended.is_set():
        began = time.monotonic()
        try:
            found.looks.add(await looking())
            trouble = ""
        except DependencyUnavailable as away:
            since = since if trouble else time.time()
            trouble = f"{away} (since {time_of_day(since)})"
        for each in stores.watched:
            each.check()
        yield (found if found.looks.last else None), trouble
        await _pause(ended, max(every, min(COST * (time.monotonic() - began), LONGEST_PAUSE)))


async def _pause(ended: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until the watcher is told to end."""
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        pass
