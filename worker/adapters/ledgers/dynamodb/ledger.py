"""The ledger that workers on many hosts share: one DynamoDB table.

Each user is one item, changed only by conditional writes (``writes``); a sparse index finds the unfinished ones
(``reads``). More items contain the workers' counts (``counters``), the shared pace (``pace``), the table's own id
(``identity``), and the stamp, which says to which rollout the table belongs. ``schema`` defines the table, ``rows``
converts rows to items and back.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.ledgers.dynamodb.counters import DUPLICATES, EVERY, MALFORMED, Counters, counts
from worker.adapters.ledgers.dynamodb.identity import Identity
from worker.adapters.ledgers.dynamodb.pace import SharedPace
from worker.adapters.ledgers.dynamodb.reads import Reads
from worker.adapters.ledgers.dynamodb.rows import ROSTER, to_enrolment, to_listed, username_of
from worker.adapters.ledgers.dynamodb.schema import KEY, ROLLOUT
from worker.adapters.ledgers.dynamodb.writes import Writes
from worker.core.errors import LedgerUnavailable, PersonMustAct, RowUnreadable, UsageError, WorkerError
from worker.core.model import UNFINISHED, Counts, Enrolment, Listed, State, WriteResult
from worker.pacing.pace import Pace

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

MAX_ITEM = 400 * 1024
"""The most bytes of an item, names and values together (DynamoDB developer guide, quotas)."""
BESIDE_THE_RECORD = 24 * 1024
"""The most bytes of an item beside the sealed record: 13 KB of settled requests, a username and a request id of 1 KB
each, a version, and the names."""


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
        self._writes = Writes(dynamodb, table, self._reads, self._counters)
        self._pace = SharedPace(dynamodb, table, monotonic)
        self._identity = Identity(dynamodb, table)

    async def open(self, stamp: Mapping[str, str], *, must_exist: bool = False) -> None:
        """Check that the table exists and belongs to this rollout: ``stamp`` is written to it at its first use.

        Raises ``UsageError`` if the table is missing, has another key, was never used but must have been, or has
        another stamp; ``PersonMustAct`` if the table is missing and must have been used; ``LedgerUnavailable``.
        """
        item = await self._stamp(stamp, must_exist=must_exist)
        with faults(LedgerUnavailable, "the ledger"):
            found = {name: item[_stamped(name)]["S"] for name in stamp}
        for name, value in stamp.items():
            if found[name] != value:
                raise UsageError(
                    f"the ledger {self._table} belongs to another rollout: "
                    f"its {name} is {found[name]!r}, not {value!r}",
                    "use one ledger (ledger.table) for each endpoint, Region and user pool",
                )

    async def _stamp(self, stamp: Mapping[str, str], *, must_exist: bool) -> Mapping[str, Any]:
        """Write the parts of the stamp that the table does not have yet, and return its stamp.

        If several workers do this at once, the first one's values stay.
        """
        names = {f"#n{number}": _stamped(name) for number, name in enumerate(stamp)}
        values = {f":v{number}": {"S": value} for number, value in enumerate(stamp.values())}
        sets = ", ".join(f"#n{number} = if_not_exists(#n{number}, :v{number})" for number in range(len(stamp)))
        condition: dict[str, Any] = {"ConditionExpression": "attribute_exists(#key)"} if must_exist else {}
        if must_exist:
            names["#key"] = KEY
        with faults(LedgerUnavailable, "the ledger"):
            try:
                answer = await self._dynamodb.update_item(
                    TableName=self._table,
                    Key={KEY: {"S": ROLLOUT}},
                    UpdateExpression=f"SET {sets}",
                    ExpressionAttributeNames=names,
                    ExpressionAttributeValues=values,
                    ReturnValues="ALL_NEW",
                    **condition,
                )
            except ClientError as error:
                match code(error):
                    case "ResourceNotFoundException" if must_exist:
                        raise PersonMustAct(
                            f"the table {self._table} does not exist here, and it must",
                            "restore it: it knows who was delivered already; or correct ledger.table and aws.region. "
                            "Where no rollout has begun: mfa-worker init",
                        ) from None
                    case "ResourceNotFoundException":
                        raise UsageError(
                            f"the table {self._table} does not exist", "create it: mfa-worker init"
                        ) from None
                    case "ConditionalCheckFailedException":
                        raise UsageError(
                            f"the ledger {self._table} does not exist: the table was never used by a rollout",
                            "correct ledger.table, or restore the table: it knows who was delivered already",
                        ) from None
                    case "ValidationException":
                        raise UsageError(
                            f"the table {self._table} is no ledger: its key is another",
                            "correct ledger.table, or create a table: mfa-worker init",
                        ) from None
                raise
            return answer["Attributes"]

    async def close(self) -> None:
        """Wait until every write has its answer, and write the counts that are not written yet."""
        await self._writes.close()
        await self._reads.close()
        await self._pace.close()
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
                if row is not None and row.state in UNFINISHED:
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

    async def roster_count(self) -> int:
        """See ``ports.Roster``; from the workers' counts, and exact after ``recount``."""
        return max(0, (await self._counters.read()).sums[ROSTER])

    # --- ports.Recoverable --------------------------------------------------------------------------------------------

    async def refusal(self) -> WorkerError | None:
        """See ``ports.Recoverable``: the table is a copy of another one."""
        return await self._identity.refusal()

    def since(self) -> int:
        """See ``ports.Recoverable``; nothing is compared with what a channel on AWS shows unless it is asked for."""
        return 0

    async def in_question(self) -> Mapping[str, int]:
        """See ``ports.Recoverable``: nobody is named outside the table."""
        return {}

    async def every_row(self) -> AsyncIterator[Enrolment]:
        """See ``ports.Recoverable``."""
        async with aclosing(self._reads.everything()) as pages:
            async for page in pages:
                for item in page:
                    if (row := to_enrolment(item)) is not None:
                        yield row

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


def _stamped(name: str) -> str:
    """The attribute with this part of the stamp."""
    return f"stamp {name}"
