"""``mfa-worker recover``: brings a ledger that was restored from an older copy up to what the channel shows.

Every row is compared with the newest record of its user in the channel, and with the names outside the ledger of those
whose delivered secret may be dead; ``core.older`` says what follows. Nothing is changed before all of it was read, and
until the last row is written every other command goes on refusing the ledger, so it may be interrupted and done again.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from worker.adapters import channels
from worker.adapters.aws.session import Aws
from worker.adapters.ledgers.found import RECIPIENT
from worker.adapters.sqlite.newest import Found, NewestRecords
from worker.app import older
from worker.app.repair.users import versions
from worker.app.stores import Purpose, StoredLedger, Stores, aws_target, open_stores
from worker.core.errors import PersonMustAct, RowDamaged, UsageError
from worker.core.model import ENROLLED, Enrolment, Lost, Reason, State
from worker.core.older import Shown, damaged, gone, recovered
from worker.core.record import line_address
from worker.requests.usernames import read_usernames
from worker.settings import Settings

AT_ONCE = 256
"""Rows that are written at the same time: the embedded ledger writes them in one commit."""
SOME = 10
"""So many names are kept of those who become delivered, as examples."""


@dataclass(slots=True)
class Plan:
    """What the ledger needs, or got."""

    older: str | None = None
    """Why the ledger counts as an older copy; ``None``: it does not."""
    records: int = 0
    """Users of whom the channel shows a secret."""
    unreadable: int = 0
    """Lines and objects that are no record."""
    without_name: int = 0
    """Users of whom only a hash is known, and who have no row, so that none can be made."""
    delivered: int = 0
    """Users whose row becomes ``delivered``, with the newest secret that the channel shows."""
    added: int = 0
    """Users who get a row, ``delivered``."""
    examples: list[str] = field(default_factory=list)
    """Some of both."""
    in_doubt: list[str] = field(default_factory=list)
    """Users who become ``needs_session: reply_lost``."""
    damaged: list[str] = field(default_factory=list)
    """Those of them whose row is damaged."""
    missing: list[str] = field(default_factory=list)
    """Those of them whose record is gone from the channel's file."""
    lost_since: float | None = None
    """Since when (UTC seconds) records may be gone from it."""
    unknown: list[str] = field(default_factory=list)
    """Users in the file of those in doubt of whom neither the ledger nor the channel knows."""
    done: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether no row has to change."""
        return not (self.delivered or self.added or self.in_doubt)


async def recover(
    settings: Settings, *, files: Sequence[Path] = (), doubt: Path | None = None, act: bool = False
) -> Plan:
    """Return what the ledger needs; with ``act``, do it first.

    ``files``: more files of delivered lines, beside the configured channel. ``doubt``: a file of users whose secret was
    being replaced since the copy was made, for whom nothing else knows it. Raises ``UsageError`` while a worker is at
    work, and for a channel that cannot be read without taking its messages; ``DependencyUnavailable``,
    ``PersonMustAct``.
    """
    doubted = read_usernames(doubt) if doubt is not None else frozenset[str]()
    async with open_stores(settings, Purpose.EXISTING) as stores:
        if await stores.ledger.is_used():
            raise UsageError(
                "a worker is at work with this ledger, or its claims have not run out yet",
                f"stop all workers, and wait for ledger.lease ({settings.ledger.lease:g} s) where one was killed",
            )
        for file in stores.files:  # rows can be repaired one by one, but not what finds them
            await file.examine(math.inf)
        with stores.alive, NewestRecords() as newest:
            found = await older.refusal(settings, stores) or await _wrong_counts(stores)
            plan = Plan(older=str(found) if found else None)
            await _read(settings, files, newest, plan)
            plan.lost_since = await asyncio.to_thread(older.lost_since, settings, stores.ledger)
            names = await stores.ledger.in_question()
            await _Comparison(stores, newest, names, doubted, plan, act=False).go_through()
            if act and (found or not plan.is_empty):
                await stores.ledger.begin_recovery()
                newest.put_back()
                anew = Plan(lost_since=plan.lost_since)
                await _Comparison(stores, newest, names, doubted, anew, act=True).go_through()
                await stores.ledger.end_recovery()
            plan.done = act
            return plan


async def _wrong_counts(stores: Stores) -> PersonMustAct | None:
    """The error if the ledger's counts are not those of its rows; they are counted again at the end."""
    try:
        await stores.ledger.examine(math.inf)
    except RowDamaged:
        return None
    except PersonMustAct as error:
        return error
    return None


class _Comparison:
    """One pass over the ledger and the records; ``act``: it writes the rows."""

    def __init__(
        self,
        stores: Stores,
        newest: NewestRecords,
        names: Mapping[str, int],
        doubted: frozenset[str],
        plan: Plan,
        *,
        act: bool,
    ) -> None:
        self._ledger: StoredLedger = stores.ledger
        self._newest = newest
        self._names, self._doubted = dict(names), set(doubted)
        """Those who were not met yet."""
        self._plan = plan
        self._act = act
        self._activates = RECIPIENT in stores.found.stamp
        self._now = time.time()
        self._writes: list[tuple[Enrolment, str | None]] = []
        self._version = versions(stores.worker)

    async def go_through(self) -> None:
        broken: list[RowDamaged] = []
        async for row in self._ledger.every_row(broken):
            await self._judge(row.username, row, self._take(row.username))
        for each in broken:
            await self._replace_damaged(each)
        for name in [*self._names]:  # their rows are lost
            await self._judge(name, None, self._take(name))
        for username, shown in self._newest.others():
            if username is None:
                self._plan.without_name += 1
                continue
            await self._judge(username, None, shown)
        await self._write()
        self._plan.unknown = sorted(self._doubted)

    def _take(self, username: str) -> Shown | None:
        return self._newest.take(sha256(username.encode("utf-8", "surrogateescape")).digest())

    async def _replace_damaged(self, error: RowDamaged) -> None:
        username = error.username
        if not username.isprintable() and username != username.encode("utf-8", "replace").decode():
            raise PersonMustAct(
                f"the name of a user in the ledger is damaged itself: {username!r}",
                "restore a newer copy of the ledger, then: mfa-worker recover",
            )
        self._plan.damaged.append(username)
        self._plan.in_doubt.append(username)
        self._doubted.discard(username)
        after = damaged(username, self._take(username), self._names.pop(username, None), self._now)
        await self._change(after, error.version)

    async def _judge(self, username: str, row: Enrolment | None, shown: Shown | None) -> None:
        unsure = self._names.pop(username, None)
        if username in self._doubted:
            self._doubted.remove(username)
            unsure = max(unsure or 0, row.generation if row else 0, shown.generation if shown else 0)
        if (after := recovered(username, row, shown, unsure, self._now)) is None:
            if row is None or not self._is_gone(row, shown):
                return
            after = gone(row, self._now)
            self._plan.missing.append(username)
        if after.state is State.DELIVERED and self._activates:
            after = after._replace(reason=Reason.VERIFY_UNKNOWN)  # it was activated since, or it was not
        if after.state is State.DELIVERED:
            self._plan.delivered += row is not None
            self._plan.added += row is None
            if len(self._plan.examples) < SOME:
                self._plan.examples.append(username)
        elif row is None or after.state is not row.state:
            self._plan.in_doubt.append(username)
        await self._change(after, row.version if row else None)

    def _is_gone(self, row: Enrolment, shown: Shown | None) -> bool:
        """Whether the user was delivered since records were lost, and the channel does not show the record."""
        since = self._plan.lost_since
        if since is None or row.state not in ENROLLED or row.sealed is None or row.since < since:
            return False
        return shown is None or shown.generation < row.sealed.generation

    async def _change(self, after: Enrolment, replaces: str | None) -> None:
        if self._act:
            self._writes.append((after._replace(version=next(self._version)), replaces))
            if len(self._writes) >= AT_ONCE:
                await self._write()

    async def _write(self) -> None:
        writes, self._writes = self._writes, []
        for result in await asyncio.gather(*(self._ledger.put(*write) for write in writes)):
            if isinstance(result, Lost):
                raise PersonMustAct(
                    "the ledger was changed meanwhile", "stop all workers, then: mfa-worker recover --yes"
                )


# --- reading the channel ----------------------------------------------------------------------------------------------


async def _read(settings: Settings, files: Sequence[Path], newest: NewestRecords, plan: Plan) -> None:
    """Keep the newest record of each user in the configured channel and in the files."""
    kind = channels.kind_of(settings.channel)
    if kind.moved_from and not files:
        raise UsageError(
            f"{kind.moved_from} cannot be read without taking its messages out",
            "name the files that they were moved to (mfa-worker open … --into FILE): mfa-worker recover --from FILE",
        )
    own = kind.file(settings.channel)
    for path in [*files, *([own] if own is not None and own.exists() else [])]:
        try:
            with path.open("rb") as file:
                newest.keep(_records(file, plan, sealed=True))
        except OSError as error:
            raise UsageError(
                f"cannot read {path}: {error.strerror}", "name the file that the worker delivered to"
            ) from None
    if own is None and not kind.moved_from:
        with tempfile.TemporaryFile() as listed:
            async with Aws(aws_target(settings)) as aws:
                where = kind.source(settings.channel).removeprefix(kind.scheme)
                await kind.list_records(where, aws, listed)
            listed.seek(0)
            newest.keep(_records(listed, plan, sealed=False))
    plan.records = len(newest)


def _records(lines: Iterable[bytes], plan: Plan, *, sealed: bool) -> Iterator[Found]:
    """The record of each line; ``sealed``: a line counts only with what is sealed in it."""
    for line in lines:
        if not line.strip():
            continue
        told = older.told_by(line, sealed=sealed)
        if told is None:
            plan.unreadable += 1
        else:
            user, generation = line_address(told)
            yield user, told.get("username"), generation, told["attempt_id"], told["associated_at"]
