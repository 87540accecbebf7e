"""How many users stand where, without looking at every one: each worker says what it changed, and they are added up.

One item holds it all: ``worker ID`` is a map of that worker's differences since it began, always written whole, so
that repeating the write is harmless; ``base BUCKET`` are numbers to which a worker that ends adds its map, in the same
write that removes it; ``revision`` rises with every write. So a single consistent read is a true snapshot.

A killed worker takes up to ``every`` seconds of differences with it, and a write whose answer was lost is not counted
where another worker replaced it before it was repeated. ``recount`` looks at every row and mends the base.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.ledgers.dynamodb.rows import ROSTER, Bucket, Item
from worker.adapters.ledgers.dynamodb.schema import KEY
from worker.core.errors import LedgerUnavailable
from worker.core.model import Counts, State

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

log = structlog.get_logger()

COUNTS = {KEY: {"S": "counts"}}
"""The key of the one item that holds all counts."""
DUPLICATES = "duplicates"
"""Counts requests whose user was served already."""
MALFORMED = "malformed"
"""Counts messages that were no requests."""
EVERY = 1.0
"""Seconds between two writes of what changed: one write a second for each worker costs next to nothing, and what a
killed worker did not write is mended by ``recount``."""
_UNSEEN = frozenset({DUPLICATES, MALFORMED})
"""What no row tells, so that counting the rows does not mend it."""
_BASE = "base "
"""Attributes that begin so hold what workers that ended counted."""
_WORKER = "worker "
"""Attributes that begin so hold what one worker has counted since it began."""
_REVISION = "revision"
"""Attribute (N) that rises with every write."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What all workers together said at one moment."""

    sums: Counter[Bucket]
    revision: int


class Counters:
    """One worker's part, and the sum of all. Everything raises ``LedgerUnavailable``."""

    def __init__(self, dynamodb: DynamoDBClient, table: str, worker: str, every: float = EVERY) -> None:
        self._dynamodb, self._table, self._every = dynamodb, table, every
        self._attribute = f"{_WORKER}{worker}.{uuid.uuid4().hex[:8]}"
        self._mine: Counter[Bucket] = Counter()
        self._unwritten = False
        self._written = False
        self._writing = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    # --- one worker's differences -------------------------------------------------------------------------------------

    def move(self, old: Bucket | None, new: Bucket | None) -> None:
        """A user who counted as ``old`` counts as ``new`` now; ``None``: was or is not there."""
        if old == new:
            return
        if old is not None:
            self._mine[old] -= 1
        if new is not None:
            self._mine[new] += 1
        self._soon()

    def add(self, bucket: Bucket, number: int) -> None:
        """So many more."""
        if number:
            self._mine[bucket] += number
            self._soon()

    def _soon(self) -> None:
        self._unwritten = True
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(self._every, self._begin_writing)

    def _begin_writing(self) -> None:
        self._task = asyncio.create_task(self._write_and_wait())

    async def _write_and_wait(self) -> None:
        try:
            with suppress(LedgerUnavailable):
                await self.write()
        finally:
            self._timer = None
            if self._unwritten:
                self._soon()

    async def write(self) -> None:
        """Everything that changed until now is durable when this returns."""
        async with self._writing:
            if not self._unwritten:
                return
            self._unwritten = False
            mine = {bucket: {"N": str(number)} for bucket, number in self._mine.items() if number}
            try:
                await self._update("SET #mine = :mine ADD #revision :one", {":mine": {"M": mine}, ":one": {"N": "1"}})
            except BaseException:
                self._soon()
                raise
            self._written = True

    async def close(self) -> None:
        """Write what is not written yet, and join the base. Says so where it cannot: rows are right without it."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
        if self._task:
            await asyncio.wait([self._task])
        try:
            await self.write()
            if self._written:
                await self._join_the_base()
        except LedgerUnavailable as unavailable:
            log.warning(
                "counts_not_written", cause=str(unavailable), cure="the next run that ends counts every row again"
            )

    async def _join_the_base(self) -> None:
        changes = {bucket: number for bucket, number in self._mine.items() if number}
        with suppress(_Refused):  # an earlier try did it, whose answer was lost
            await self._add_to_base(changes, remove=True, condition="attribute_exists(#mine)")

    # --- everybody's --------------------------------------------------------------------------------------------------

    async def read(self) -> Snapshot:
        """As all workers last said, this one up to now."""
        await self.write()
        with faults(LedgerUnavailable, "the ledger"):
            answer = await self._dynamodb.get_item(TableName=self._table, Key=COUNTS, ConsistentRead=True)
        return snapshot(answer.get("Item", {}))

    async def recount(self, look: Callable[[], Awaitable[Counter[Bucket]]]) -> Counter[Bucket]:
        """What ``look`` finds, with what no row tells; mends the base where the sum says otherwise.

        A difference may be only what somebody has not written yet: it is one if nobody writes within two periods, nor
        wrote while we looked, nor when we mend. So of two workers that recount at once, one mends and once.
        """
        before = await self.read()
        found = await look()
        after = await self.read()
        if _difference(found, after):
            await asyncio.sleep(2 * self._every)
            later = await self.read()
            difference = _difference(found, later)
            if difference and before.revision == later.revision:
                with suppress(_Refused):
                    await self._mend(difference, later.revision)
            after = later
        return found + Counter({bucket: number for bucket, number in after.sums.items() if bucket in _UNSEEN})

    async def _mend(self, difference: dict[Bucket, int], revision: int) -> None:
        if revision:
            condition = "#revision = :revision"
            await self._add_to_base(difference, condition=condition, values={":revision": {"N": str(revision)}})
        else:
            await self._add_to_base(difference, condition="attribute_not_exists(#revision)")

    async def _add_to_base(
        self,
        numbers: dict[Bucket, int],
        *,
        condition: str,
        values: Item | None = None,
        remove: bool = False,
    ) -> None:
        """Add to the base, in one write with what else changes. Raises ``_Refused`` where the condition fails."""
        names = {f"#b{number}": _BASE + bucket for number, bucket in enumerate(numbers)}
        added = {f":b{number}": {"N": str(each)} for number, each in enumerate(numbers.values())}
        adds = ", ".join(["#revision :one", *(f"#b{number} :b{number}" for number in range(len(numbers)))])
        removes = "REMOVE #mine " if remove else ""
        await self._update(
            f"{removes}ADD {adds}", {":one": {"N": "1"}, **added, **(values or {})}, names, condition=condition
        )

    async def _update(
        self, update: str, values: Item, names: dict[str, str] | None = None, *, condition: str | None = None
    ) -> None:
        used = {"#revision": _REVISION, **(names or {})}
        if "#mine" in update:
            used["#mine"] = self._attribute
        more: dict[str, Any] = {"ConditionExpression": condition} if condition else {}
        with faults(LedgerUnavailable, "the ledger"):
            try:
                await self._dynamodb.update_item(
                    TableName=self._table,
                    Key=COUNTS,
                    UpdateExpression=update,
                    ExpressionAttributeNames=used,
                    ExpressionAttributeValues=values,
                    **more,
                )
            except ClientError as error:
                if code(error) == "ConditionalCheckFailedException":
                    raise _Refused from None
                raise


class _Refused(Exception):  # noqa: N818 - no error: somebody was faster
    """The condition did not hold."""


def snapshot(item: Item) -> Snapshot:
    """The sums that the item says."""
    sums: Counter[Bucket] = Counter()
    for name, value in item.items():
        if name.startswith(_BASE):
            sums[name.removeprefix(_BASE)] += int(value["N"])
        elif name.startswith(_WORKER):
            for bucket, number in value["M"].items():
                sums[bucket] += int(number["N"])
    return Snapshot(sums, int(item.get(_REVISION, {"N": "0"})["N"]))


def counts(sums: Counter[Bucket]) -> Counts:
    """As the ports have it; nothing is less than zero, whatever a killed worker did not say."""
    states: Counter[State] = Counter()
    reasons: Counter[str] = Counter()
    for bucket, number in sums.items():
        if number <= 0 or bucket in _UNSEEN or bucket == ROSTER:
            continue
        state, _, reason = bucket.partition(":")
        states[State(state)] += number
        if reason:
            reasons[reason] += number
    return Counts(states, reasons, max(0, sums[DUPLICATES]), max(0, sums[MALFORMED]))


def _difference(found: Counter[Bucket], said: Snapshot) -> dict[Bucket, int]:
    """What to add to the sums so that they say what was found."""
    buckets = (found.keys() | said.sums.keys()) - _UNSEEN
    return {bucket: lacks for bucket in buckets if (lacks := found[bucket] - said.sums[bucket])}
