"""The ledger that workers on many hosts share: one DynamoDB table.

Each user is one item, changed only by conditional writes (``writes``); a sparse index finds the unfinished ones
(``reads``). More items contain the workers' counts (``counters``), the shared pace (``pace``), the table's own id
(``identity``), the figures over time (``figures``), and the stamp, which says to which rollout the table belongs
(``rollout``). ``schema`` defines the table, ``rows`` converts rows to items and back.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from worker.adapters.confirmed_lines import Confirmed
from worker.adapters.ledgers.dynamodb.counters import DUPLICATES, EVERY, MALFORMED, Counters, counts
from worker.adapters.ledgers.dynamodb.figures import DynamoFigures
from worker.adapters.ledgers.dynamodb.identity import Identity
from worker.adapters.ledgers.dynamodb.pace import SIGN_IN_PACE, SharedPace
from worker.adapters.ledgers.dynamodb.reads import Reads
from worker.adapters.ledgers.dynamodb.rollout import HAS_USERS, RolloutItem, is_stamped, notes_of, stamp_of
from worker.adapters.ledgers.dynamodb.rows import ROSTER, VERSION, Item, to_enrolment, to_listed, username_of
from worker.adapters.ledgers.dynamodb.writes import Writes
from worker.adapters.ledgers.found import refuse
from worker.core.errors import RowDamaged, RowUnreadable, WorkerError
from worker.core.figures import Minute
from worker.core.model import Counts, Enrolment, Listed, State, WriteResult
from worker.core.ports import Found, WaitingUsers, Workers
from worker.pacing.pace import Pace, PaceStore

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

MAX_ITEM = 400 * 1024
"""The most bytes of an item, names and values together (DynamoDB developer guide, quotas)."""
MOST_CLAIMS = 500
"""Rows of unfinished users that are read to see which workers are alive: some workers hold 64 users each. They cost
as many read units as they have kilobytes."""
BESIDE_THE_RECORD = 48 * 1024
"""The most bytes of an item beside the sealed record: 13 KB of settled requests, a username and a request id of 1 KB
each, 12 KB of events (ten details of 100 characters, which JSON may write as 12 bytes each), a version, and the names;
and what activation needs, an access token of 16 KiB (``requests.message``) or a Session, with the secret, sealed."""


class DynamoLedger:
    """``Ledger``, ``LedgerStats``, ``Roster`` and ``PaceStore`` in one table, for any number of workers on any hosts.

    ``worker``: this process's identity. ``count_every``: seconds between two writes of its counts. ``monotonic``: this
    host's clock, in seconds.
    """

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        worker: str,
        *,
        count_every: float = EVERY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dynamodb, self._table = dynamodb, table
        self._reads = Reads(dynamodb, table)
        self._counters = Counters(dynamodb, table, worker, count_every)
        self._rollout = RolloutItem(dynamodb, table)
        self._writes = Writes(dynamodb, table, self._reads, self._counters, self._rollout)
        self._pace = SharedPace(dynamodb, table, monotonic)
        self._sign_in_pace = SharedPace(dynamodb, table, monotonic, key=SIGN_IN_PACE)
        self._identity = Identity(dynamodb, table)
        self._figures = DynamoFigures(dynamodb, table, self._reads)

    async def look(self, *, must_exist: bool = False) -> Found:
        """See ``ports.Beginning``.

        Whether users follow the stamp of an earlier version is told by the workers' counts, which may have missed them.
        Raises ``UsageError`` if the table is missing, or has another key; ``PersonMustAct`` if it is missing and must
        have been used.
        """
        return await self._found(await self._rollout.read(must_exist=must_exist))

    async def has_users(self) -> bool:
        """See ``ports.Beginning``."""
        return (await self.look()).has_users or await self._reads.has_users()

    async def open(self, stamp: Mapping[str, str], *, must_exist: bool = False, new_rollout: bool = False) -> None:  # noqa: ARG002
        """Check that the table exists and may be used. ``stamp`` is written to it with the first user's row.

        Raises ``UsageError`` if the table is missing, has another key or another stamp, or must have a user and has
        none; ``PersonMustAct`` if the table is missing and must have a user; ``LedgerUnavailable``.
        """
        item = await self._rollout.read(must_exist=must_exist)
        refuse(await self._found(item), stamp, self._table, "ledger.table", must_exist=must_exist)
        self._writes.stamp, self._writes.is_stamped = stamp, is_stamped(item, stamp)

    async def _found(self, item: Item) -> Found:
        stamp, has_users = stamp_of(item), HAS_USERS in item
        if stamp and not has_users:
            has_users = (await self.counts()).accepted > 0
        return Found(exists=True, has_users=has_users, stamp=stamp, notes=notes_of(item))

    async def note(self, name: str, value: str | None, instead_of: str | None) -> bool:
        """See ``ports.Beginning``."""
        return await self._rollout.note(name, value, instead_of)

    async def forget(self, name: str) -> None:
        """Take that part out of the stamp."""
        await self._rollout.forget(name)

    async def restamp(self, name: str, value: str, instead_of: str) -> bool:
        """Change that part of the stamp, if it is ``instead_of`` now; whether it was."""
        done = await self._rollout.restamp(name, value, instead_of)
        if done:
            self._writes.stamp = {**self._writes.stamp, name: value}
        return done

    async def close(self) -> None:
        """Wait until every write has its answer, and write the counts that are not written yet."""
        await self._writes.close()
        await self._reads.close()
        await self._pace.close()
        await self._sign_in_pace.close()
        await self._counters.close()

    # --- ports.Ledger -------------------------------------------------------------------------------------------------

    async def put(self, row: Enrolment, replaces: str | None) -> WriteResult:
        """See ``ports.Ledger``."""
        return await self._writes.put(row, replaces)

    def most_sealed(self, username: str) -> int:  # noqa: ARG002
        """See ``ports.Limited``."""
        return MAX_ITEM - BESIDE_THE_RECORD

    async def read(self, username: str) -> Enrolment | None:
        """See ``ports.Ledger``."""
        item = await self._reads.user(username)
        self._writes.saw(username, item)
        return to_enrolment(item)

    async def unfinished(self) -> AsyncGenerator[Enrolment]:
        """See ``ports.Ledger``. The index is behind the table, usually by less than a second; ``recount`` is exact."""
        unreadable: RowUnreadable | None = None
        async with aclosing(self._reads.unfinished()) as items:
            async for item in items:
                try:
                    row = to_enrolment(item)
                except RowUnreadable as error:
                    unreadable = error
                    continue
                if row is not None and row.is_unfinished:
                    self._writes.saw(username_of(item), item)
                    yield row
        if unreadable is not None:
            raise unreadable

    def is_dead(self, worker: str) -> bool:  # noqa: ARG002
        """Always ``False``: it cannot be known whether a worker on another host is dead."""
        return False

    # --- ports.LedgerStats --------------------------------------------------------------------------------------------

    async def counts(self) -> Counts:
        """See ``ports.LedgerStats``.

        The last second of other workers may be missing, and the last second of workers that were killed.
        """
        return counts((await self._counters.read()).sums)

    async def recount(self) -> Counts:
        """See ``ports.LedgerStats``: every row is read, consistently.

        It takes two seconds longer if ``counts`` seems to be wrong.
        """
        return counts(await self._counters.recount(self._reads.count))

    async def counts_and_waiting(self, most: int) -> tuple[Counts, WaitingUsers | None]:  # noqa: ARG002
        """See ``ports.LookedAt``; no queue is in the table."""
        return await self.counts(), None

    async def workers(self) -> Workers:
        """See ``ports.LookedAt``: by the claims, so a worker without users is missing, and a dead one is counted
        until its claims run out.
        """
        found, seen = set[str](), 0
        with suppress(RowUnreadable):
            async with aclosing(self.unfinished()) as rows:
                async for row in rows:
                    if row.worker is not None and row.lease_until > time.time():
                        found.add(row.worker)
                    if (seen := seen + 1) == MOST_CLAIMS:
                        break
        return Workers(len(found), are_exact=False)

    async def allowed(self) -> float | None:
        """See ``ports.LookedAt``."""
        return await self._pace.allowed()

    async def listed(self, state: State) -> AsyncIterator[Sequence[Listed]]:
        """See ``ports.LedgerStats``. Every item of the table is read."""
        async with aclosing(self._reads.in_state(state)) as pages:
            async for page in pages:
                yield [to_listed(item) for item in page]

    async def count(self, *, duplicates: int = 0, malformed: int = 0) -> None:
        """See ``ports.LedgerStats``.

        Durable within about a second, and at ``close``: a killed worker loses that much.
        """
        self._counters.add(DUPLICATES, duplicates)
        self._counters.add(MALFORMED, malformed)

    # --- ports.Roster -------------------------------------------------------------------------------------------------

    async def add_to_roster(self, usernames: Iterable[str]) -> int:
        """See ``ports.Roster``. Repeating it is harmless."""
        return await self._writes.add_to_roster(usernames)

    async def unrequested(self) -> AsyncIterator[str]:
        """See ``ports.Roster``."""
        async with aclosing(self._reads.unrequested()) as usernames:
            async for username in usernames:
                yield username

    async def is_unrequested(self, username: str) -> bool:
        """See ``ports.Roster``."""
        item = await self._reads.user(username) or {}
        return ROSTER in item and VERSION not in item

    async def roster_count(self) -> int:
        """See ``ports.Roster``; from the workers' counts, and exact after ``recount``."""
        return max(0, (await self._counters.read()).sums[ROSTER])

    # --- ports.FigureStore --------------------------------------------------------------------------------------------

    async def put_figures(self, worker: str, minute: Minute) -> None:
        """See ``ports.FigureStore``."""
        await self._figures.put(worker, minute)

    def figures(self) -> AsyncIterator[Minute]:
        """See ``ports.FigureStore``."""
        return self._figures.read()

    # --- ports.Recoverable --------------------------------------------------------------------------------------------

    async def refusal(self) -> WorkerError | None:
        """See ``ports.Recoverable``: the table is a copy of another one."""
        return await self._identity.refusal()

    def follow(self, channel: Callable[[], Confirmed | None]) -> None:
        """See ``app.stores.StoredLedger``: a channel's file is on one host, and a table is for many."""

    def confirmed(self) -> Confirmed | None:
        """See ``app.stores.StoredLedger``."""
        return None

    def since(self) -> int:
        """See ``ports.Recoverable``; nothing is compared with what a channel on AWS shows unless it is asked for."""
        return 0

    async def in_question(self) -> Mapping[str, int]:
        """See ``ports.Recoverable``: nobody is named outside the table."""
        return {}

    async def every_row(
        self,
        damaged: list[RowDamaged] | None = None,  # noqa: ARG002 - DynamoDB keeps checksums of its own
    ) -> AsyncIterator[Enrolment]:
        """See ``ports.Recoverable``."""
        async with aclosing(self._reads.everything()) as pages:
            async for page in pages:
                for item in page:
                    if (row := to_enrolment(item)) is not None:
                        yield row

    async def examine(self, seconds: float, pause: float = 0.0) -> bool:  # noqa: ARG002
        """See ``ports.Recoverable``: DynamoDB keeps checksums of its own."""
        return True

    async def is_used(self) -> bool:
        """See ``ports.Recoverable``: whether a claim has not run out yet, by this host's clock."""
        async with aclosing(self.unfinished()) as rows:
            async for row in rows:
                if row.worker is not None and row.lease_until > time.time():
                    return True
        return False

    async def begin_recovery(self) -> None:
        """See ``ports.Recoverable``. The stamp stays the other table's until ``end_recovery``."""

    async def end_recovery(self) -> None:
        """See ``ports.Recoverable``."""
        await self._identity.adopt()

    async def tidy(self) -> bool:
        """See ``ports.Ending``: nothing is beside the rows, and what is deleted in a table is gone from it."""
        return True

    # --- pacing.pace.PaceStore ---------------------------------------------------------------------------------------

    async def read_pace(self) -> Pace | None:
        """See ``pacing.pace.PaceStore``."""
        return await self._pace.read_pace()

    async def change_pace(self, change: Callable[[Pace | None], Pace | None]) -> Pace | None:
        """See ``pacing.pace.PaceStore``."""
        return await self._pace.change_pace(change)

    def shared_time(self) -> float:
        """See ``pacing.pace.PaceStore``."""
        return self._pace.shared_time()

    @property
    def sign_in_pace(self) -> PaceStore:
        """The pace of sign-ins, which have a quota of their own."""
        return self._sign_in_pace
