"""How many users are in each state, without reading every row: each worker writes its changes, and they are added up.

All counts are in one item. The attribute ``worker ID`` is a map of that worker's changes since it began, always written
as a whole, so that repeating the write is harmless. The attributes ``base BUCKET`` are numbers; a worker that ends adds
its map to them in the same write that removes the map. ``revision`` rises with every write. So a single consistent read
is a true snapshot.

The counts can be slightly wrong: a killed worker loses up to ``every`` seconds of its changes, and a write whose answer
was lost is not counted if another worker replaced the row before it was repeated. ``recount`` reads every row and
corrects the base.
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
from worker.adapters.ledgers.dynamodb.schema import COUNTS_KEY, KEY
from worker.adapters.ledgers.reading import known_state
from worker.core.errors import LedgerUnavailable
from worker.core.model import Counts, State

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

log = structlog.get_logger()

COUNTS = {KEY: {"S": COUNTS_KEY}}
"""The key of the one item with all counts."""
DUPLICATES = "duplicates"
"""The bucket for requests whose user was served already."""
MALFORMED = "malformed"
"""The bucket for messages that were no valid requests."""
EVERY = 1.0
"""Seconds between two writes of a worker's changes: one write a second costs next to nothing, and what a killed worker
did not write is corrected by ``recount``."""
_NOT_IN_ROWS = frozenset({DUPLICATES, MALFORMED})
"""Buckets that cannot be counted from the rows, so that ``recount`` cannot correct them."""
_BASE = "base "
"""Prefix of the attributes with the counts of workers that have ended."""
_WORKER = "worker "
"""Prefix of the attributes with the counts of one worker since it began."""
_REVISION = "revision"
"""Attribute (N) that rises with every write."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The sum of all workers' counts at one moment."""

    sums: Counter[Bucket]
    revision: int


class Counters:
    """The counts of this worker, and the sum of all. All methods raise ``LedgerUnavailable``."""

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

    # --- this worker's changes ----------------------------------------------------------------------------------------

    def move(self, old: Bucket | None, new: Bucket | None) -> None:
        """Count a user under ``new`` instead of ``old``; ``None`` for a user without an item."""
        if old == new:
            return
        if old is not None:
            self._mine[old] -= 1
        if new is not None:
            self._mine[new] += 1
        self._write_soon()

    def add(self, bucket: Bucket, number: int) -> None:
        """Add ``number`` to the bucket."""
        if number:
            self._mine[bucket] += number
            self._write_soon()

    def _write_soon(self) -> None:
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
                self._write_soon()

    async def write(self) -> None:
        """Write all changes until now; they are durable on return."""
        async with self._writing:
            if not self._unwritten:
                return
            self._unwritten = False
            mine = {bucket: {"N": str(number)} for bucket, number in self._mine.items() if number}
            try:
                await self._update("SET #mine = :mine ADD #revision :one", {":mine": {"M": mine}, ":one": {"N": "1"}})
            except BaseException:
                self._write_soon()
                raise
            self._written = True

    async def close(self) -> None:
        """Write what is not written yet, and add it to the base. Failure is only logged, because the rows are right."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
        if self._task:
            await asyncio.wait([self._task])
        try:
            await self.write()
            if self._written:
                await self._move_to_base()
        except LedgerUnavailable as unavailable:
            log.warning(
                "counts_not_written", cause=str(unavailable), cure="the next run that ends counts every row again"
            )

    async def _move_to_base(self) -> None:
        changes = {bucket: number for bucket, number in self._mine.items() if number}
        with suppress(_Refused):  # an earlier attempt has done it, but its answer was lost
            await self._add_to_base(changes, remove=True, condition="attribute_exists(#mine)")

    # --- the sum of all workers ---------------------------------------------------------------------------------------

    async def read(self) -> Snapshot:
        """The sums as last written by the other workers, and up to now by this one."""
        await self.write()
        with faults(LedgerUnavailable, "the ledger"):
            answer = await self._dynamodb.get_item(TableName=self._table, Key=COUNTS, ConsistentRead=True)
        return snapshot(answer.get("Item", {}))

    async def recount(self, count_rows: Callable[[], Awaitable[Counter[Bucket]]]) -> Counter[Bucket]:
        """Return what ``count_rows`` counts, with the buckets that are not in the rows; correct the base if it differs.

        A difference may only mean that a worker has not written its changes yet. It is an error only if no worker
        writes during the count, within two periods after it, and until the correction. So if two workers recount at
        once, the base is corrected once.
        """
        before = await self.read()
        found = await count_rows()
        after = await self.read()
        if _difference(found, after):
            await asyncio.sleep(2 * self._every)
            later = await self.read()
            difference = _difference(found, later)
            if difference and before.revision == later.revision:
                with suppress(_Refused):
                    await self._correct_base(difference, later.revision)
            after = later
        return found + Counter({bucket: number for bucket, number in after.sums.items() if bucket in _NOT_IN_ROWS})

    async def _correct_base(self, difference: dict[Bucket, int], revision: int) -> None:
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
        """Add to the base, and with ``remove`` delete this worker's map in the same write.

        Raises ``_Refused`` if the condition is not met.
        """
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


class _Refused(Exception):  # noqa: N818 - no error: another worker was faster
    """The condition of a write was not met."""


def snapshot(item: Item) -> Snapshot:
    """The sums of all counts in the item."""
    sums: Counter[Bucket] = Counter()
    for name, value in item.items():
        if name.startswith(_BASE):
            sums[name.removeprefix(_BASE)] += int(value["N"])
        elif name.startswith(_WORKER):
            for bucket, number in value["M"].items():
                sums[bucket] += int(number["N"])
    return Snapshot(sums, int(item.get(_REVISION, {"N": "0"})["N"]))


def counts(sums: Counter[Bucket]) -> Counts:
    """The sums as ``model.Counts``; no number is below zero, even if a killed worker has not written its changes."""
    states: Counter[State] = Counter()
    reasons: Counter[str] = Counter()
    codes: dict[str, Counter[str]] = {}
    for bucket, number in sums.items():
        if number <= 0 or bucket in _NOT_IN_ROWS or bucket == ROSTER:
            continue
        state, reason, detail = [*bucket.split(":", 2), "", ""][:3]
        states[known_state(state)] += number
        if reason:
            reasons[reason] += number
        if detail:
            codes.setdefault(reason, Counter())[detail] += number
    return Counts(states, reasons, max(0, sums[DUPLICATES]), max(0, sums[MALFORMED]), codes)


def _difference(found: Counter[Bucket], written: Snapshot) -> dict[Bucket, int]:
    """What to add to the written sums to get those that were found."""
    buckets = (found.keys() | written.sums.keys()) - _NOT_IN_ROWS
    return {bucket: missing for bucket in buckets if (missing := found[bucket] - written.sums[bucket])}
