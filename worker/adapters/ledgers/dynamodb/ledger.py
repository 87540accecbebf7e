"""The ledger that workers on many hosts share: one DynamoDB table.

A user is one item, changed by conditional writes only (``writes``); a sparse index finds who is unfinished
(``reads``); what the workers counted is one item more (``counters``), the shared pace another (``pace``), the rollout's
stamp the last. ``schema`` says how the table is made, ``rows`` how a row is an item.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.ledgers.dynamodb.counters import DUPLICATES, EVERY, MALFORMED, Counters, counts
from worker.adapters.ledgers.dynamodb.pace import SharedPace
from worker.adapters.ledgers.dynamodb.reads import Reads
from worker.adapters.ledgers.dynamodb.rows import ROSTER, to_enrolment, username_of
from worker.adapters.ledgers.dynamodb.schema import KEY, ROLLOUT
from worker.adapters.ledgers.dynamodb.writes import Writes
from worker.core.errors import LedgerUnavailable, UsageError
from worker.core.model import UNFINISHED, Counts, Enrolment, State, WriteResult
from worker.pacing.pace import Pace

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient


class DynamoLedger:
    """``Ledger``, ``LedgerStats`` and ``PaceStore`` in one table, for any number of workers on any hosts.

    ``worker``: this process's identity. ``count_every``: seconds between two writes of what it counted.
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

    async def open(self, stamp: Mapping[str, str], *, must_exist: bool = False) -> None:
        """Make sure that the table is there and belongs to this rollout: it is stamped at first use.

        Raises ``UsageError`` where it is missing, is none of ours, was never used but must have been, or was stamped
        otherwise; ``LedgerUnavailable``.
        """
        found = await self._stamp(stamp, must_exist=must_exist)
        for name, value in stamp.items():
            if found[_stamped(name)]["S"] != value:
                raise UsageError(
                    f"the ledger {self._table} belongs to another rollout: "
                    f"its {name} is {found[_stamped(name)]['S']!r}, not {value!r}",
                    "use one ledger (ledger.table) for each endpoint, Region and user pool",
                )

    async def _stamp(self, stamp: Mapping[str, str], *, must_exist: bool) -> Mapping[str, Any]:
        """What the table is stamped with, once whatever is missing was added; of several at once, the first one's."""
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
        """Wait until every write has its answer, and write what is counted only here."""
        await self._writes.close()
        await self._reads.close()
        await self._pace.close()
        await self._counters.close()

    # --- ports.Ledger -------------------------------------------------------------------------------------------------

    async def put(self, row: Enrolment, replaces: str | None) -> WriteResult:
        """See ``ports.Ledger``."""
        return await self._writes.put(row, replaces)

    async def read(self, username: str) -> Enrolment | None:
        """See ``ports.Ledger``."""
        item = await self._reads.user(username)
        self._writes.saw(username, item)
        return to_enrolment(item)

    async def unfinished(self) -> AsyncIterator[Enrolment]:
        """See ``ports.Ledger``. Follows the table with a delay, usually below a second; ``recount`` does not."""
        async with aclosing(self._reads.unfinished()) as items:
            async for item in items:
                row = to_enrolment(item)
                if row is not None and row.state in UNFINISHED:
                    self._writes.saw(username_of(item), item)
                    yield row

    def is_dead(self, worker: str) -> bool:  # noqa: ARG002
        """Never: whether a worker on another host is dead cannot be known."""
        return False

    # --- ports.LedgerStats --------------------------------------------------------------------------------------------

    async def counts(self) -> Counts:
        """See ``ports.LedgerStats``: what others did within the last second may be missing, and what killed ones
        did.
        """
        return counts((await self._counters.read()).sums)

    async def recount(self) -> Counts:
        """See ``ports.LedgerStats``: every row is read, consistently.

        Takes two seconds more where ``counts`` seems wrong.
        """
        return counts(await self._counters.recount(self._reads.count))

    async def rows(self, state: State) -> AsyncIterator[Enrolment]:
        """See ``ports.LedgerStats``."""
        async with aclosing(self._reads.in_state(state)) as items:
            async for item in items:
                row = to_enrolment(item)
                if row is not None:
                    yield row

    async def count(self, *, duplicates: int = 0, malformed: int = 0) -> None:
        """See ``ports.LedgerStats``.

        Durable within about a second, and at ``close``: a killed worker loses that much.
        """
        self._counters.add(DUPLICATES, duplicates)
        self._counters.add(MALFORMED, malformed)

    # --- the roster ---------------------------------------------------------------------------------------------------

    async def add_to_roster(self, usernames: Iterable[str]) -> int:
        """Make users visible for whom nobody asked yet; how many were not known before. Repeating it is harmless."""
        return await self._writes.add_to_roster(usernames)

    async def unrequested(self) -> AsyncIterator[str]:
        """Every user on the roster for whom nobody asked yet."""
        async with aclosing(self._reads.unrequested()) as usernames:
            async for username in usernames:
                yield username

    async def roster_count(self) -> int:
        """How many users those are, as the workers last said; exact after ``recount``."""
        return max(0, (await self._counters.read()).sums[ROSTER])

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
    return f"stamp {name}"
