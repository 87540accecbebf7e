"""``check``: says what would go wrong in a run, before anything is touched.

``host`` looks at this machine, ``pool`` at Cognito, ``aws`` at queue and table there, ``requests`` at what waits; the
channel's questions come from its folder. ``rollout`` computes from what they saw, ``show`` prints. All questions
are asked at the same time, and each is given up after a few seconds.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from worker.adapters.aws.session import AwsTarget
from worker.adapters.checks.files import MOUNTS
from worker.adapters.checks.findings import Finding, Level, fails, merged
from worker.adapters.checks.seen import Seen
from worker.app.stores import aws_target, open_stores
from worker.core.errors import WorkerError
from worker.settings import Settings
from worker.setup.checks import aws, host, pool, requests, rollout
from worker.setup.checks.show import show

__all__ = ["Finding", "Level", "check", "dry_run", "show"]


async def check(settings: Settings, *, target: AwsTarget | None = None, mounts: Path = MOUNTS) -> list[Finding]:
    """Look at everything that a run needs, without enrolling anybody and without taking a message.

    Where any finding ``fails``, a run would fail, or lose what it must keep. No error is raised: each is a finding.
    ``target`` is where AWS's services are, if not where the settings say; ``mounts`` is the table of file systems.
    """
    findings, seen = await _looked(settings, target, mounts)
    return merged([*findings, *rollout.look_at(settings, seen)])


async def dry_run(
    settings: Settings, source: str | None = None, *, target: AwsTarget | None = None, mounts: Path = MOUNTS
) -> list[Finding]:
    """What ``check`` finds, and what is found in every request that waits.

    ``source`` is a file of requests, ``-`` for standard input, or ``None`` for the queue.
    """
    findings, seen = await _looked(settings, target, mounts)
    try:
        told, found = await requests.look(settings, source)
    except WorkerError as error:
        told, found = [fails("requests", str(error), error.hint)], requests.Content()
    if source is not None:
        seen = seen + found.seen()
    elif settings.queue.kind == "sqlite":
        seen = seen | found.seen()
    return merged([*findings, *told, *rollout.look_at(settings, seen)])


async def _looked(settings: Settings, target: AwsTarget | None, mounts: Path) -> tuple[list[Finding], Seen]:
    cognito, (on_aws, seen_on_aws), (in_files, seen_in_files), on_this_host = await asyncio.gather(
        pool.reach(settings),
        aws.look(settings, target or aws_target(settings)),
        _stores(settings),
        asyncio.to_thread(host.look, settings, mounts),
    )
    findings = [*rollout.look(settings), *on_this_host, *in_files, cognito, *on_aws]
    return findings, seen_on_aws | seen_in_files


async def _stores(settings: Settings) -> tuple[list[Finding], Seen]:
    """How many messages wait and how many users are in the ledger, where both are SQLite files."""
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
