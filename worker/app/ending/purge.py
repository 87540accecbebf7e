"""``mfa-worker purge``: erases what is secret or personal and is needed no more; the ledger's states stay.

Sealed records that the ledger kept after their delivery, requests and dead letters, with the attributes in them, and
the list of malformed messages. What is sealed in the row of a user who is not finished is the outbox, and stays. So it
may be interrupted anywhere and done again, and every other command works afterwards.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from worker.adapters.batching import some_at_once
from worker.adapters.queues.sqlite.queue import SqliteQueue
from worker.app.beginning import ledger_name
from worker.app.ending import here
from worker.app.ending.plan import Item, Plan, unfinished, used
from worker.app.ending.queues import Queues, look_at_sqs
from worker.app.repair.users import AT_ONCE, patiently, versions
from worker.app.stores import Purpose, Stores, aws_target, mark_path, open_stores
from worker.core.errors import DependencyUnavailable, PersonMustAct, WorkerError
from worker.core.model import Enrolment, Lost
from worker.core.purging import Holds, purged
from worker.core.words import several
from worker.settings import Settings

BACKUPS = "backups, and copies that somebody made of it, still hold what is erased here, until they are deleted"
"""What no command can reach."""


async def purge(
    settings: Settings,
    *,
    act: bool,
    even_unfinished: bool,
    activations: bool,
    show: Callable[[Plan], object],
    tell: Callable[[str], object],
) -> Plan:
    """Return what is erased, after ``show`` showed it; with ``act``, and where nothing is in the way, erase it.

    ``even_unfinished``: also while requests wait and users are unfinished, who are left as they are. ``activations``:
    also what lets an activation go on that was left to a person. ``tell`` is called with lines for people. Raises
    ``UsageError`` if there is no ledger, ``DependencyUnavailable``, ``PersonMustAct``.
    """
    async with open_stores(settings, Purpose.EXISTING) as stores:
        if refusal := await stores.ledger.refusal():
            raise refusal
        holds = Holds()
        async for row in stores.ledger.every_row():
            holds.add(row)
        queues = await _look_at_queues(settings, stores)
        plan = await _plan(settings, holds, queues, activations=activations)
        plan.in_the_way += await here.not_the_queue(settings)
        if not even_unfinished:
            notes = (await stores.ledger.counts()).malformed if queues.dead else 0
            plan.in_the_way += unfinished(holds, queues.requests, max(0, queues.dead - notes))
        if await stores.ledger.is_used():
            plan.in_the_way.append(used(settings.ledger.lease))
        show(plan)
        if act and not plan.in_the_way:
            with stores.alive:
                await _do(settings, stores, queues, plan, activations=activations, tell=tell)
        return plan


async def _plan(settings: Settings, holds: Holds, queues: Queues, *, activations: bool) -> Plan:
    plan, ledger = Plan(), ledger_name(settings)
    plan.removes.append(
        Item(f"{holds.sealed:,} sealed records of users who are done", ledger, "redeliver cannot send them any more")
    )
    kept = f"what an activation needs, of {several(holds.activations, 'user')} delivered with a reason"
    if activations:
        plan.removes.append(Item(kept, ledger, "a new credential then brings each of them a new secret"))
    elif holds.activations:
        said = "work left for a person: with a new token it goes on. To give that up: --activations"
        plan.stays.append(Item(kept, ledger, said))
    if settings.queue.kind == "sqlite":
        where = str(settings.queue.path)
        plan.removes.append(Item(f"{queues.requests:,} requests, with their credentials and attributes", where))
        plan.removes.append(Item(f"{queues.malformed:,} malformed messages (reason and digest)", where))
    for what, queue in queues.on_sqs:
        item = Item(f"about {queue.messages:,} messages of {what}", queue.url)
        if queue.shared_with:
            others = ", ".join(queue.shared_with)
            plan.stays.append(Item(item.what, item.where, f"it has the dead letters of {others} too: redrive ours"))
        else:
            plan.removes.append(item)
    if settings.ledger.kind == "sqlite":
        plan.removes.append(Item("names that matter no more, and what was deleted", str(mark_path(settings))))
    plan.stays.append(Item("every user's state, reason and history, and the roster", ledger))
    plan.stays.append(Item("the delivered secrets, sealed", _channel(settings), "mfa-worker decommission removes them"))
    if (days := await _days_of_backups(settings, plan)) > 0:
        cure = f"aws dynamodb update-continuous-backups --table-name {settings.ledger.table} "
        cure += "--point-in-time-recovery-specification PointInTimeRecoveryEnabled=false"
        plan.stays.append(Item(f"the table as it was, for {days} days (point-in-time recovery)", ledger, cure))
    plan.stays.append(Item(BACKUPS, "elsewhere"))
    return plan


def _channel(settings: Settings) -> str:
    from worker.adapters import channels

    return channels.kind_of(settings.channel).source(settings.channel)


async def _days_of_backups(settings: Settings, plan: Plan) -> int:
    if settings.ledger.kind != "dynamodb":
        return 0
    from worker.adapters.aws.session import Aws
    from worker.adapters.aws.table_ending import backup_days

    try:
        async with Aws(aws_target(settings)) as aws:
            return await backup_days(await aws.dynamodb(), settings.ledger.table or "")
    except WorkerError as error:
        plan.troubles.append(error)
        return 0


async def _look_at_queues(settings: Settings, stores: Stores) -> Queues:
    if settings.queue.kind == "sqlite":
        _, malformed = await stores.queue.counted()
        listed = 0
        async for page in stores.queue.put_aside_list():
            listed += sum(each.number for each in page)
        return Queues((await stores.queue.backlog()).waiting, min(listed, malformed))
    from worker.adapters.aws.session import Aws

    async with Aws(aws_target(settings)) as aws:
        return await look_at_sqs(settings, aws)


async def _do(
    settings: Settings,
    stores: Stores,
    queues: Queues,
    plan: Plan,
    *,
    activations: bool,
    tell: Callable[[str], object],
) -> None:
    """The queue first: what waits there is not sealed."""
    if isinstance(stores.queue, SqliteQueue):
        await stores.queue.purge()
    else:
        await _purge_sqs(settings, queues, tell)
    erased = await _purge_rows(settings, stores, activations=activations)
    is_erased = await stores.ledger.tidy()
    if isinstance(stores.queue, SqliteQueue):
        is_erased = await stores.queue.tidy() and is_erased
    plan.done.append(f"erased what was sealed in the rows of {erased:,} users, and emptied the queue")
    if not is_erased:
        plan.troubles.append(
            DependencyUnavailable(
                f"another process reads {settings.ledger.path}, and what was deleted still stands in its log (-wal)",
                f"end it (fuser -v {settings.ledger.path} lists the processes), then: mfa-worker purge --yes",
            )
        )


async def _purge_rows(settings: Settings, stores: Stores, *, activations: bool) -> int:
    version, ledger, erased = versions(stores.worker), stores.ledger, 0

    async def one(row: Enrolment) -> None:
        nonlocal erased
        if (new := purged(row, time.time(), activations=activations)) is None:
            return
        written = new._replace(version=next(version))
        if isinstance(await patiently(lambda: ledger.put(written, row.version), settings), Lost):
            raise PersonMustAct("the ledger was changed meanwhile", "stop all workers, then: mfa-worker purge --yes")
        erased += 1

    page: list[Enrolment] = []
    async for row in ledger.every_row():
        page.append(row)
        if len(page) == AT_ONCE:
            await some_at_once(one, page, AT_ONCE)
            page = []
    await some_at_once(one, page, AT_ONCE)
    return erased


async def _purge_sqs(settings: Settings, queues: Queues, tell: Callable[[str], object]) -> None:
    from worker.adapters.aws import queue_ending
    from worker.adapters.aws.session import Aws

    async with Aws(aws_target(settings)) as aws:
        sqs = await aws.sqs()

        def pausing(what: str) -> Callable[[float], Awaitable[object]]:
            return lambda seconds: queue_ending.pause_saying(seconds, tell, what)

        ours = [each for each in queues.on_sqs if not each[1].shared_with]
        await asyncio.gather(*(queue_ending.purge(sqs, each, what, pausing(what)) for what, each in ours))
