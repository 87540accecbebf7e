"""``check``: finds out, before anything is changed, what would go wrong in a run.

``host`` examines this machine, ``pool`` Cognito, ``aws`` the queue and the table on AWS, and ``requests`` the waiting
requests; the channel's checks are in its folder. ``rollout`` draws conclusions from their results, and ``show`` prints
the findings. All checks run at the same time, and each ends after a few seconds at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from worker.adapters.aws.session import AwsTarget
from worker.adapters.checks.files import MOUNTS
from worker.adapters.checks.findings import Finding, Level, fails, merged, not_checked
from worker.adapters.checks.seen import Seen
from worker.adapters.ledgers.sqlite.look import look
from worker.app import older
from worker.app.damage import refuse_damaged
from worker.app.stores import Purpose, aws_target, open_stores
from worker.core.errors import WorkerError
from worker.core.model import State
from worker.core.ports import Found
from worker.settings import Settings
from worker.setup.checks import (
    activation,
    aws,
    beginning,
    delivered,
    host,
    metrics,
    pool,
    requests,
    rollout,
    sealing,
    waiting,
)
from worker.setup.checks.show import show

__all__ = ["Finding", "Level", "check", "dry_run", "show"]

PATIENCE = 5.0
"""Seconds for which queue and ledger on this host are looked at for damage: half a million users."""


async def check(
    settings: Settings,
    identities: Sequence[Path] = (),
    *,
    target: AwsTarget | None = None,
    mounts: Path = MOUNTS,
) -> list[Finding]:
    """Check everything that a run needs, without enrolling anybody and without leasing a message.

    If any finding ``fails``, a run would fail or lose data. No error is raised: each one is a finding. ``target`` is
    where AWS's services are, if not where the settings say; ``mounts`` is the table of file systems. ``identities``:
    the key files with which a record that is sealed as a trial must open.
    """
    findings, seen = await _examine(settings, identities, target, mounts)
    return merged([*findings, *await waiting.look(settings), *rollout.look_at(settings, seen)])


async def dry_run(
    settings: Settings, source: str | None = None, *, target: AwsTarget | None = None, mounts: Path = MOUNTS
) -> list[Finding]:
    """Check as ``check`` does, and also read every waiting request.

    ``source`` is a file of requests, ``-`` for standard input, or ``None`` for the queue.
    """
    findings, seen = await _examine(settings, (), target, mounts)
    try:
        about_requests, content = await requests.look(settings, source)
    except WorkerError as error:
        about_requests, content = [fails("requests", str(error), error.hint)], requests.Content()
    if source is not None:
        seen = seen + content.seen()
    elif settings.queue.kind == "sqlite":
        seen = seen | content.seen()
    return merged([*findings, *about_requests, *rollout.look_at(settings, seen)])


async def _examine(
    settings: Settings, identities: Sequence[Path], target: AwsTarget | None, mounts: Path
) -> tuple[list[Finding], Seen]:
    """Return all findings but those about the requests, and what is known of queue and ledger."""
    cognito, (on_aws, seen_on_aws), (in_files, seen_in_files), on_this_host = await asyncio.gather(
        pool.reach(settings),
        aws.look(settings, target or aws_target(settings)),
        _stores(settings),
        asyncio.to_thread(host.look, settings, mounts),
    )
    seen = seen_on_aws | seen_in_files
    about_the_channel = await asyncio.to_thread(delivered.look, settings, seen)
    sealed = sealing.look(settings.seal.recipients, identities, settings.users_per_second)
    findings = [
        *sealed,
        *rollout.look(settings),
        *on_this_host,
        *metrics.look(settings),
        *in_files,
        *about_the_channel,
        *cognito,
        *on_aws,
    ]
    return findings, seen


async def _stores(settings: Settings) -> tuple[list[Finding], Seen]:
    """Count the waiting messages and the users in the ledger, if both are in SQLite files."""
    ledger = settings.ledger
    try:
        found = await asyncio.to_thread(look, ledger.path) if ledger.kind == "sqlite" else Found()
        if settings.queue.kind != "sqlite" or ledger.kind != "sqlite":
            of_ledger = [*sealing.of_the_ledger(settings, found), *activation.look(settings, found)]
            return [*(of_ledger if ledger.kind == "sqlite" else []), *_uncounted(settings)], Seen()
        begins = [
            *sealing.of_the_ledger(settings, found),
            *activation.look(settings, found),
            *await beginning.look(settings, found),
        ]
        if not found.exists or (ledger.must_exist and not found.has_users):
            return begins, Seen(waiting=0, sessions=0, users=0, delivered=0)
        async with open_stores(settings, Purpose.EXISTING) as stores:
            if not await refuse_damaged(stores, PATIENCE):
                said = f"whether all of it is undamaged: it was looked at for {PATIENCE:g} s"
                begins.append(not_checked("ledger", said))
            if is_older := await older.refusal(settings, stores):
                return [*begins, fails("ledger", str(is_older), is_older.hint)], Seen()
            backlog, sessions, counts = (
                await stores.queue.backlog(),
                await stores.queue.sessions(),
                await stores.counts(),
            )
            begins += await activation.under_way(settings, stores.ledger, counts)
    except WorkerError as error:
        return [fails("ledger", str(error), error.hint)], Seen()
    has_record = counts.states.get(State.DELIVERED, 0) + counts.states.get(State.ACTIVE, 0)
    return begins, Seen(backlog.waiting, backlog.expired, sessions, counts.accepted, has_record)


def _uncounted(settings: Settings) -> list[Finding]:
    """What nobody counts where only one of queue and ledger is a file; the other one is on AWS."""
    if settings.queue.kind == "sqlite":
        return [not_checked("queue", f"how many requests wait in {settings.queue.path}")]
    if settings.ledger.kind == "sqlite":
        return [not_checked("ledger", f"how many users are in {settings.ledger.path}")]
    return []
