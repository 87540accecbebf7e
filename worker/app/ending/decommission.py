"""``mfa-worker decommission``: takes away what a rollout made, in an order that may be interrupted anywhere.

First the reconciliation is written, then the ways in are shut, then queue and channel go, and the ledger last: as long
as it is there, it says whose rollout all of that belonged to, so doing it again goes on. Without the ledger nothing is
deleted. A step that fails keeps the ledger and lets the next steps go on, unless it only concerns a way in.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from worker.adapters import channels
from worker.adapters.erased_files import being_erased
from worker.app.beginning import CHANNEL, ENDS, ledger_name
from worker.app.ending import here, reconciliation
from worker.app.ending.plan import Item, Plan, unfinished, used
from worker.app.ending.queues import look_at_sqs
from worker.app.stores import StoredLedger, aws_target, open_ledger, stamp, waiting
from worker.app.written_files import refuse_wrong_files
from worker.core.errors import PersonMustAct, UsageError, WorkerError
from worker.core.ports import Found
from worker.core.purging import Holds
from worker.core.record import rfc3339
from worker.core.words import several
from worker.settings import Settings

if TYPE_CHECKING:
    from worker.adapters.aws.session import Aws

Left = Sequence[tuple[str, str]]
"""What a step could not take away, each with the cure."""
BEGAN = "decommission began"
"""When it was begun first (RFC 3339), as ledger and reconciliation remember it."""
LEDGER = "the ledger"
"""What the last step takes away."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is taken away."""

    item: Item
    do: Callable[[], Awaitable[Left]]
    keeps_ledger: bool = True
    """Whether the ledger stays if this fails: secrets must not outlive the record of where they are."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command."""

    act: bool = False
    even_unfinished: bool = False
    """Also while requests wait and users are not finished."""
    app_client: str | None = None
    """The app client to delete, as somebody typed it."""
    report: Path | None = None
    """Where the reconciliation is written, if not in the working directory."""


async def decommission(
    settings: Settings, options: Options, *, show: Callable[[Plan], object], tell: Callable[[str], object]
) -> Plan:
    """Return what is taken away, after ``show`` showed it; with ``options.act``, and nothing in the way, take it away.

    ``tell`` is called with lines for people. Raises ``UsageError``, ``DependencyUnavailable``, ``PersonMustAct``.
    """
    refuse_wrong_files(settings)
    if options.app_client is not None and options.app_client != settings.sign_in.client_id:
        raise UsageError(
            f"--app-client {options.app_client} is not this rollout's: sign_in.client_id is "
            f"{settings.sign_in.client_id or 'not set'}",
            "only the app client that the settings name is deleted; type its id, if no other application uses it",
        )
    from worker.adapters.aws.session import Aws

    async with Aws(aws_target(settings)) as aws:
        if not await _ledger_is_there(settings, aws):
            return await _without_ledger(settings, aws, options, show)
        return await _Decommission(settings, options, aws, tell).run(show)


class _Decommission:
    """Plans and does it."""

    def __init__(self, settings: Settings, options: Options, aws: Aws, tell: Callable[[str], object]) -> None:
        self._settings = settings
        self._options = options
        self._aws = aws
        self._tell = tell
        self._plan = Plan()
        self._path = options.report or Path(f"decommissioned-{settings.cognito.user_pool_id}.json")

    async def run(self, show: Callable[[Plan], object]) -> Plan:
        plan, settings = self._plan, self._settings
        async with AsyncExitStack() as stack:
            ledger = await stack.enter_async_context(open_ledger(settings))
            if refusal := await ledger.refusal():
                raise refusal
            found = await ledger.look()
            steps = await self._steps(ledger, found)
            whose = dict(found.stamp) or dict(stamp(settings))
            whose[BEGAN] = _notes(found).get(BEGAN, "")  # a later rollout of the same pool writes another file
            reconciliation.refuse_other_files(self._path, whose)
            plan.stays.insert(0, Item("the reconciliation: each user's state, without secrets", str(self._path)))
            show(plan)
            if not self._options.act or plan.in_the_way:
                return plan
            whose[BEGAN] = await self._begin(ledger, found)
            await reconciliation.write(self._path, ledger, whose, self._told())
            plan.done.append(f"wrote {self._path}")
            *before, last = steps
            may_go = True
            for step in before:
                may_go = await self._do(step) and may_go
            if not may_go:
                plan.left.append(
                    (f"the ledger, {ledger_name(settings)}, stays until everything else is gone", "see above")
                )
                return plan
            await reconciliation.write(self._path, ledger, whose, self._told())
        await self._do(last)
        return plan

    def _told(self) -> dict[str, object]:
        plan = self._plan
        return {
            "planned": [f"{item.what}: {item.where}" for item in plan.removes],
            "done": [*plan.done],
            "left": [said for said, _ in plan.left] + [str(trouble) for trouble in plan.troubles],
            "stays": [f"{item.what}: {item.where}" for item in plan.stays],
        }

    async def _begin(self, ledger: StoredLedger, found: Found) -> str:
        """Say in the ledger that it ends, so that no run begins any more, and with what; return when that began."""
        if ENDS in found.notes:
            return _notes(found).get(BEGAN, "")
        began = rfc3339(time.time())
        note = json.dumps({**_places(self._settings), BEGAN: began}, sort_keys=True)
        if not await ledger.note(ENDS, note, None):
            raise PersonMustAct(
                "somebody else began this just now", "once that has ended: mfa-worker decommission --yes"
            )
        return began

    async def _do(self, step: Step) -> bool:
        """Whether the ledger may go, as far as this step is concerned."""
        plan, what = self._plan, f"{step.item.what}: {step.item.where}"
        self._tell(f"taking away {what}")
        try:
            left = await step.do()
        except WorkerError as error:
            plan.troubles.append(error)
            return not step.keeps_ledger
        plan.left += left
        if not left:
            plan.done.append(f"took away {what}")
        return not (left and step.keeps_ledger)

    # --- the plan -----------------------------------------------------------------------------------------------------

    async def _steps(self, ledger: StoredLedger, found: Found) -> Sequence[Step]:
        plan, settings = self._plan, self._settings
        holds = Holds()
        async for row in ledger.every_row():
            holds.add(row)
        plan.in_the_way += _not_ours(settings, found)
        steps = [*await self._ways_in(), *await self._queues(ledger, holds), *await self._channel(found, holds)]
        if identity := here.own_identity(settings, found):
            steps.append(_files("the worker's own activation identity", [identity]))
        steps.append(self._ledger())
        if await ledger.is_used():
            plan.in_the_way.append(used(settings.ledger.lease))
        plan.removes += [step.item for step in steps]
        return steps

    async def _ways_in(self) -> Sequence[Step]:
        settings, aws, plan = self._settings, self._aws, self._plan
        if settings.sign_in.client_id is None:
            return ()
        from worker.app.ending import pool

        try:
            ways = await pool.look(settings, aws, self._options.app_client)
        except WorkerError as error:
            plan.troubles.append(error)
            return ()
        plan.stays += ways.stays
        pool_id, steps = settings.cognito.user_pool_id, list[Step]()
        if ways.functions:
            copy = self._path.with_name(f"{pool_id}-before.json")
            names = ", ".join(ways.functions)
            item = Item(f"the pool's triggers {names}", pool_id, f"a copy of the pool as it is goes to {copy}")

            async def shut() -> Left:
                await pool.shut_triggers(settings, aws, ways, copy)
                return ()

            steps.append(Step(item, shut, keeps_ledger=False))
        if ways.client is not None:

            async def delete() -> Left:
                await pool.delete_client(settings, aws)
                return ()

            item = Item(
                f"the app client {ways.client!r}", settings.sign_in.client_id or "", "nobody signs in there then"
            )
            steps.append(Step(item, delete, keeps_ledger=False))
        return steps

    async def _queues(self, ledger: StoredLedger, holds: Holds) -> Sequence[Step]:
        settings, plan, steps = self._settings, self._plan, list[Step]()
        dead = requests = 0
        if settings.queue.kind == "sqlite":
            async for page in waiting(settings):
                requests += len(page)
            plan.in_the_way += await here.not_the_queue(settings)
            if files := here.are_there(here.queue_files(settings)):
                steps.append(_files("the queue", files))
        else:
            try:
                found = await look_at_sqs(settings, self._aws)
            except WorkerError as error:
                plan.troubles.append(error)
                plan.in_the_way.append((f"the queue was not looked at: {error}", error.hint))
                return ()
            requests = found.requests
            dead = max(0, found.dead - (await ledger.counts()).malformed)
            for what, queue in found.on_sqs:
                if queue.shared_with:
                    others = ", ".join(queue.shared_with)
                    cure = f"it has the dead letters of {others} too; ours go after their retention period"
                    plan.stays.append(Item(what, queue.url, cure))
                else:
                    note = f"about {queue.messages:,} messages are in it" if queue.messages else ""
                    steps.append(Step(Item(what, queue.url, note), partial(self._queue, queue.url, what)))
        if not self._options.even_unfinished:
            plan.in_the_way += unfinished(holds, requests, dead)
        return steps

    async def _queue(self, url: str, what: str) -> Left:
        from worker.adapters.aws import queue_ending
        from worker.adapters.aws.stacks import stack_of

        if stack := await stack_of(await self._aws.client("cloudformation"), url):
            return [(f"{what}, {url}, belongs to the stack {stack.name}", f"{stack.cure}, then this command again")]
        await queue_ending.delete(await self._aws.sqs(), url, f"{what} {url}")
        return ()

    async def _channel(self, found: Found, holds: Holds) -> Sequence[Step]:
        settings, plan, aws = self._settings, self._plan, self._aws
        kind = channels.kind_of(settings.channel)
        source, used_ones = kind.source(settings.channel), _channels(found)
        for other in used_ones - {source}:
            said = "the rollout delivered there too, and these settings do not name it: look there yourself"
            plan.stays.append(Item("secrets that were delivered", other, said))
        ending = kind.ending()
        if ending is None:
            plan.stays.append(Item("what was delivered", source, "take it away yourself"))
            return ()
        try:
            content = await ending.look(settings.channel, aws)
        except WorkerError as error:
            plan.troubles.append(error)
            plan.in_the_way.append((f"the channel was not looked at: {error}", error.hint))
            return ()
        if not content.what:
            return ()
        note = content.note
        if holds.delivered:
            who = f"{several(holds.delivered, 'user')} delivered and not known to be active"
            who += ": this is the only copy of their secrets, unless they were handed out or copied"
            note = f"{who}; {note}" if note else who
        return [Step(Item(content.what, content.where, note), lambda: ending.remove(settings.channel, aws))]

    def _ledger(self) -> Step:
        settings = self._settings
        if settings.ledger.kind == "sqlite":
            return _files(LEDGER, here.ledger_files(settings), locks=settings.ledger.path)
        table = settings.ledger.table or ""
        note = "AWS keeps a backup of it for 35 days where point-in-time recovery is on; backups of your own stay"
        return Step(Item(f"{LEDGER}, its table", table, note), lambda: self._table(table))

    async def _table(self, table: str) -> Left:
        from worker.adapters.aws import table_ending
        from worker.adapters.aws.stacks import stack_of

        if stack := await stack_of(await self._aws.client("cloudformation"), table):
            return [(f"the table {table} belongs to the stack {stack.name}", f"{stack.cure}, then this command again")]
        await table_ending.delete(await self._aws.dynamodb(), table)
        return ()


def _files(what: str, files: Sequence[Path], locks: Path | None = None) -> Step:
    """Erase these files, of which some may not exist, and the folder of locks beside ``locks``."""

    async def erase() -> Left:
        if locks is not None:
            here.remove_locks(locks)
        await here.erase_all(files)
        return ()

    there = here.are_there(files) or files
    where = ", ".join(map(str, there))
    return Step(Item(what, where, "overwritten, then deleted; a disk may keep old blocks (SSD)"), erase)


def _places(settings: Settings) -> dict[str, str | None]:
    """Where queue and channel are, as the ledger remembers it once the end has begun."""
    queue = settings.queue.url if settings.queue.kind == "sqs" else str(settings.queue.path)
    source = channels.kind_of(settings.channel).source(settings.channel)
    return {"queue": queue, "channel": source}


def _notes(found: Found) -> dict[str, str]:
    """What the ledger remembers of the end that has begun; nothing where it has not."""
    noted: dict[str, str] = json.loads(found.notes.get(ENDS, "{}"))
    return noted


def _channels(found: Found) -> set[str]:
    """The sources of all channels that the rollout delivered to, as far as the ledger remembers them."""
    return {name.removeprefix(CHANNEL) for name in found.notes if name.startswith(CHANNEL)}


def _not_ours(settings: Settings, found: Found) -> Sequence[tuple[str, str]]:
    """What speaks against these settings being this rollout's."""
    ledger, source = ledger_name(settings), channels.kind_of(settings.channel).source(settings.channel)
    if not found.has_users:
        said = f"no user has a row in {ledger}, so nothing shows that anything here belongs to a rollout"
        return [(said, "correct the settings; what was never used can be deleted by hand")]
    if (was := _notes(found)) and not _places(settings).items() <= was.items():
        said = f"it began with the queue {was.get('queue')} and the channel {was.get('channel')}"
        return [(said, "these settings name others: put them back as they were until it is done")]
    if (used_ones := _channels(found)) and source not in used_ones:
        said = f"this rollout never delivered to {source}, but to {', '.join(sorted(used_ones))}"
        return [(said, "correct the settings of the channel")]
    return []


async def _ledger_is_there(settings: Settings, aws: Aws) -> bool:
    if settings.ledger.kind == "sqlite":
        return settings.ledger.path.exists()
    from worker.adapters.aws.table_ending import is_there

    return await is_there(await aws.dynamodb(), settings.ledger.table or "")


async def _without_ledger(settings: Settings, aws: Aws, options: Options, show: Callable[[Plan], object]) -> Plan:
    """Finish what a kill left half erased; nothing else is deleted, because nothing says whose it is."""
    plan = Plan()
    files = [*here.queue_files(settings), *here.ledger_files(settings)]
    rests = [path for path in files if being_erased(path).exists()]
    if rests:
        plan.removes.append(Item("what is left of files that are half erased", ", ".join(map(str, rests))))
    else:
        ending = channels.kind_of(settings.channel).ending()
        there = [str(path) for path in here.are_there(files)]
        if ending is not None and (content := await ending.look(settings.channel, aws)).what:
            there.append(f"{content.what}: {content.where}")
        if settings.queue.kind == "sqs":
            there += [f"{what}: {queue.url}" for what, queue in (await look_at_sqs(settings, aws)).on_sqs]
        if there:
            said = f"there is no ledger at {ledger_name(settings)}, which alone says what belongs to this rollout"
            cure = "correct the settings or restore the ledger; what is surely yours, delete by hand"
            plan.in_the_way.append((f"{said}, and these are there: {'; '.join(there)}", cure))
        else:
            plan.done.append("nothing of this rollout is left where these settings say")
    show(plan)
    if options.act and rests:
        await here.erase_all(rests)
        plan.done.append("erased what was left")
    return plan
