"""``check``: what would go wrong, said before anything is touched.

``host`` looks at this host, ``aws`` at everything there, ``rollout`` computes from what was seen, ``show`` prints. What
is asked about the channel comes from its folder. All questions are asked at the same time, each for a few seconds only.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from worker.adapters.aws.session import AwsTarget
from worker.adapters.checks.files import MOUNTS
from worker.adapters.checks.findings import Finding, Level, fails, merged
from worker.adapters.checks.seen import Seen
from worker.app.stores import open_stores
from worker.app.stores import place as place_of
from worker.core.errors import WorkerError
from worker.settings import Settings
from worker.setup.checks import aws, host, pool, requests, rollout
from worker.setup.checks.show import show

__all__ = ["Finding", "Level", "check", "dry_run", "show"]


async def check(settings: Settings, *, place: AwsTarget | None = None, mounts: Path = MOUNTS) -> list[Finding]:
    """Look at everything that a run needs, without a call and without a message taken.

    Where any finding ``fails``, a run would fail, or lose what it must keep. Raises nothing but bugs.
    ``place``: where AWS is, if not where the settings say; ``mounts``: the table of mounted file systems.
    """
    findings, seen = await _looked(settings, place, mounts)
    return merged([*findings, *rollout.look_at(settings, seen)])


async def dry_run(
    settings: Settings, source: str | None = None, *, place: AwsTarget | None = None, mounts: Path = MOUNTS
) -> list[Finding]:
    """The same, and every request that waits in ``source`` (``None``: the queue; ``-``: standard input), read."""
    findings, seen = await _looked(settings, place, mounts)
    try:
        told, found = await requests.look(settings, source)
    except WorkerError as error:
        told, found = [fails("requests", str(error), error.hint)], requests.Content()
    if source is not None:
        seen = seen + found.seen()
    elif settings.queue.kind == "sqlite":
        seen = seen | found.seen()
    return merged([*findings, *told, *rollout.look_at(settings, seen)])


async def _looked(settings: Settings, place: AwsTarget | None, mounts: Path) -> tuple[list[Finding], Seen]:
    reached, (asked, there), (counted, here), beside = await asyncio.gather(
        pool.reach(settings),
        aws.look(settings, place or place_of(settings)),
        _stores(settings),
        asyncio.to_thread(host.look, settings, mounts),
    )
    return [*rollout.look(settings), *beside, *counted, reached, *asked], there | here


async def _stores(settings: Settings) -> tuple[list[Finding], Seen]:
    """What waits, and who is in the ledger, where both are files."""
    if settings.queue.kind != "sqlite" or settings.ledger.kind != "sqlite":
        return [], Seen()
    ledger = settings.ledger
    if not ledger.path.exists():
        if ledger.must_exist:
            return [fails("ledger", f"{ledger.path} does not exist", "restore it, or correct ledger.path")], Seen()
        return [], Seen(waiting=0, sessions=0, users=0)
    try:
        async with open_stores(settings, must_exist=True) as stores:
            backlog, sessions, counts = (
                await stores.queue.backlog(),
                await stores.queue.sessions(),
                await stores.counts(),
            )
    except WorkerError as error:
        return [fails("ledger", str(error), error.hint)], Seen()
    return [], Seen(backlog.waiting, backlog.expired, sessions, counts.accepted)
