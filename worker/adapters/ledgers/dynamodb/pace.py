"""The shared pace in one item, and the shared clock (the timeline) that workers on different hosts derive from it.

The wall clocks of several hosts do not agree to a fraction of a second. So the timeline belongs to no host: each worker
maps it to its own monotonic clock by an offset that only ever grows. A worker that writes the pace writes with it the
present time on the timeline (``written_at``). A worker that reads this knows that the timeline had at least reached
that time when the answer arrived, and moves its own offset forward if it was behind. So all workers follow the fastest
one, and every read corrects for clocks that drift. While no worker runs, the timeline stands still; it goes on from the
time that was written last.

The error: a worker's timeline lags behind the fastest one by at most the smallest age that any item had when this
worker read it, plus what its clock has lost since. Items read while reserving slices may be almost a slice old. So a
worker that notices others also reads the item now and then in the background, often enough to see it right after a
write. That leaves a lag of ``BETWEEN_LOOKS``, the round trip, and what the clock loses until the next such time (at 200
ppm: 6 ms). In a simulation with three hosts 400 ppm apart the lag stays below 60 ms. A new worker reads before it
begins, and soon again: when eight start at once on two cores, the items they see at first are up to 200 ms old, and
four seconds later the lag is below 40 ms. No worker sends in another one's slice of the timeline, so in any T seconds
all of them together send at most ``rate x (T + the largest lag)`` requests. They exceed the rate by at most
``rate x lag`` requests: one request at 25/s and 40 ms. A worker that lags also waits for its slice longer, by its lag.

Reserving a slice adds to the time up to which the timeline is reserved, whatever the others have made of it meanwhile.
So a slow worker is not refused for being slow, but only if another one cut the rate meanwhile. Cutting the rate is
refused only because of another cut. If the reserved time is over, however, a write requires that no other worker has
written. All other values (a raised rate, the length of slices) are as the last writer left them. Simultaneous raises
overwrite each other, so with twenty workers 0.2 s away from the ledger the rate takes three times as long to recover. A
write that the SDK repeats is recognised; if another worker wrote in between, the slice of the first try stays unused.

After a pause of all workers the timeline has not moved. So a lowered rate is not forgotten but rises as usual, to the
full rate within about five minutes; and the rest of the last slice before the pause has to pass first.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
import uuid
from collections.abc import Callable, Container
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.ledgers.dynamodb.rows import Item
from worker.adapters.ledgers.dynamodb.schema import KEY
from worker.core.errors import LedgerUnavailable
from worker.pacing.pace import Pace

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

PACE = "pace"
"""The key of the item with the pace of calls."""
SIGN_IN_PACE = "sign-in pace"
"""The key of the item with the pace of sign-ins; its timeline is its own, too."""
BETWEEN_LOOKS = 0.02
"""Seconds between two reads ("looks") that wait for another worker's write: a write is at most this old when it is
seen, which limits how far this worker's timeline lags behind (see above; in the simulation: below 60 ms). It is a
sampling interval and not a pause after a failure, so it does not grow."""
FIRST_LOOKS = 25
"""The most reads before this worker begins: half a second, after which no other worker seems to be running."""
LOOKS = 75
"""The most reads at a time in the background: a second and a half, in which several slices are reserved."""
CHANGES = 5
"""Writes of others to see in the background before it is enough: from several hosts, some seen sooner than others."""
LOOK_AGAIN_FIRST = 0.5
"""Seconds until the first repetition of the background reads: a host that has just started answers slowly."""
LOOK_AGAIN_LATEST = 30.0
"""The longest interval in seconds between them: clocks that drift by 200 ppm lose 6 ms in that time."""
LESS_OFTEN = 1.25
"""The factor by which that interval grows each time the offset was corrected by no more than ``BETWEEN_LOOKS``."""


class SharedPace:
    """``pacing.pace.PaceStore`` in one item. ``monotonic``: this host's clock, in seconds."""

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        key: str = PACE,
    ) -> None:
        self._dynamodb, self._table, self._monotonic = dynamodb, table, monotonic
        self._key = {KEY: {"S": key}}
        self._offset: float | None = None
        """Seconds by which the timeline is at least ahead of our clock; ``None`` while no timeline is known."""
        self._me = uuid.uuid4().hex
        self._writes = itertools.count(1)
        self._joined = False
        self._looked_at = -math.inf
        """When (by our clock) we last saw a fresh write of another worker, or started to look for one."""
        self._look_after = LOOK_AGAIN_FIRST
        self._looking: asyncio.Task[None] | None = None
        self._written = 0
        """The version of our last write."""
        self._took = 0.0
        """Seconds that our last write took."""
        self._seen: int | None = None
        """The version that ``allowed`` saw last."""
        self._mine: Pace | None = None
        """The stored pace if we wrote it last and no other worker seems to write; saves a read."""

    def shared_time(self) -> float:
        """See ``pacing.pace.PaceStore``."""
        return self._monotonic() + (self._offset or 0.0)

    async def read_pace(self) -> Pace | None:
        """See ``pacing.pace.PaceStore``; the first call waits up to half a second for another worker's write."""
        item = await self._read()
        if item and not self._joined:
            item = await self._look_until_it_changes(item, FIRST_LOOKS, changes=1)
        self._joined = True
        return _pace(item) if item else None

    async def _look_until_it_changes(self, item: Item, looks: int, changes: int) -> Item:
        """Read the item until others have changed it so many times, or ``looks`` times; return the last one read.

        If no other worker changes it, none seems to be running.
        """
        for _ in range(looks):
            version = item["version"]
            await asyncio.sleep(BETWEEN_LOOKS)
            item = await self._read() or item
            if item["version"] != version and not self._is_mine(item):
                self._looked_at = self._monotonic()
                changes -= 1
                if not changes:
                    break
        return item

    async def allowed(self) -> float | None:
        """See ``ports.LookedAt``: known from the second time on, where the pace was written in between.

        A read that need not be consistent, and that tells this worker nothing about the timeline.
        """
        with faults(LedgerUnavailable, "the ledger"):
            answer = await self._dynamodb.get_item(TableName=self._table, Key=self._key)
        item: Any = answer.get("Item")
        if not item:
            return None
        pace, before = _pace(item), self._seen
        self._seen = pace.version
        return pace.rate if before is not None and pace.version != before else None

    async def close(self) -> None:
        """Stop the reads in the background."""
        if self._looking:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def change_pace(self, change: Callable[[Pace | None], Pace | None]) -> Pace | None:
        """See ``pacing.pace.PaceStore``. A worker that is alone needs no read: it knows the stored pace."""
        before = self._mine or await self.read_pace()
        while (pace := change(before)) is not None and pace is not before:
            alone = before is None or before.version == self._written
            self._mine = None
            accepted, stored = await self._put(pace, before)
            if accepted and stored:
                alone &= stored.version == pace.version
                self._mine = stored if alone else None
                self._written = stored.version
                return stored
            before = stored
        return pace

    async def _put(self, pace: Pace, before: Pace | None) -> tuple[bool, Pace | None]:
        """Write the pace; return whether it was accepted, and the pace that is stored now.

        ``writer`` is different for every write, so a write that the SDK repeated is recognised as our own.
        """
        writer, written_at, began = f"{self._me} {next(self._writes)}", self.shared_time(), self._monotonic()
        values = {**_values(pace), "written_at": _number(written_at), "writer": {"S": writer}}
        if before and _adds(pace, before, written_at + self._took):
            accepted, item = await self._update(_addition(values, pace, before))
            stored = _on_top(pace, before, _pace(item)) if accepted and item else None
        else:
            accepted, item = await self._update(_replacement(values, pace))
            stored = pace if accepted else None
        self._took = self._monotonic() - began
        if item:
            self._observe(item)
        if not accepted and item:
            stored, accepted = _pace(item), item["writer"]["S"] == writer
        if accepted:
            self._offset = self._offset or 0.0  # it may be the first write of all, which begins the timeline
        return accepted, stored

    async def _update(self, request: dict[str, Any]) -> tuple[bool, Item | None]:
        """Send the update; return whether it was accepted, and the item before it (or the present one, if refused)."""
        with faults(LedgerUnavailable, "the ledger"):
            try:
                answer: Any = await self._dynamodb.update_item(
                    TableName=self._table,
                    Key=self._key,
                    **request,
                    ReturnValues="ALL_OLD",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except ClientError as error:
                if code(error) != "ConditionalCheckFailedException":
                    raise
                item: Any = error.response.get("Item")
                return False, item or await self._read()
        return True, answer.get("Attributes")

    async def _read(self) -> Item | None:
        with faults(LedgerUnavailable, "the ledger"):
            answer = await self._dynamodb.get_item(TableName=self._table, Key=self._key, ConsistentRead=True)
        item: Any = answer.get("Item")
        if item:
            self._observe(item)
        return item or None

    def _observe(self, item: Item) -> None:
        """Correct the offset by an item that was just read: the timeline has at least reached its ``written_at``."""
        offset = float(item["written_at"]["N"]) - self._monotonic()
        self._offset = offset if self._offset is None else max(self._offset, offset)
        due = self._monotonic() - self._looked_at > self._look_after
        if self._written and due and not self._is_mine(item) and (self._looking is None or self._looking.done()):
            self._looked_at = self._monotonic()
            self._looking = asyncio.create_task(self._look_in_the_background(item))

    def _is_mine(self, item: Item) -> bool:
        writer: str = item["writer"]["S"]
        return writer.startswith(self._me)

    async def _look_in_the_background(self, item: Item) -> None:
        before, began = self._offset or 0.0, self._looked_at
        with suppress(LedgerUnavailable):
            await self._look_until_it_changes(item, LOOKS, changes=CHANGES)
        if (self._offset or 0.0) - before > BETWEEN_LOOKS:
            self._look_after = LOOK_AGAIN_FIRST
        elif self._looked_at > began:  # there was something to see
            self._look_after = min(LESS_OFTEN * self._look_after, LOOK_AGAIN_LATEST)


def _adds(pace: Pace, before: Pace, now: float) -> bool:
    """Whether the change can be written as an addition to ``reserved_until``, even if others reserve meanwhile.

    What it reserves then simply follows theirs. ``now``: when it will be written. If the reserved time is over by then,
    it must not be added to, because the gap since then would be added as well.
    """
    return pace.reserved_until == before.reserved_until or pace.reserved_until > before.reserved_until > now


def _on_top(pace: Pace, before: Pace, found: Pace) -> Pace:
    """The pace as stored after what it adds to ``before`` was added to ``found``, the pace that was really stored."""
    added = pace.reserved_until - before.reserved_until
    return replace(pace, reserved_until=found.reserved_until + added, version=found.version + 1)


def _addition(values: Item, pace: Pace, before: Pace) -> dict[str, Any]:
    """The update that reserves, or cuts the rate, in addition to what others have reserved.

    It is refused if another worker has cut the rate, or started a new timeline, since ``before``.
    """
    added = {"reserved_until": _number(pace.reserved_until - before.reserved_until), "version": {"N": "1"}}
    condition, known = "#changed_at = :known AND #writer <> :writer", {":known": _number(before.changed_at)}
    return _request(values | added, condition, known, added)


def _replacement(values: Item, pace: Pace) -> dict[str, Any]:
    """The update that writes the pace if no other worker has written since it was read."""
    before = {":before": {"N": str(pace.version - 1)}}
    return _request(values, "attribute_not_exists(#version) OR #version = :before", before)


def _request(values: Item, condition: str, compared: Item, added: Container[str] = ()) -> dict[str, Any]:
    terms = (f"#{name} = " + f"#{name} + " * (name in added) + f":{name}" for name in values)
    return {
        "UpdateExpression": "SET " + ", ".join(terms),
        "ConditionExpression": condition,
        "ExpressionAttributeNames": {f"#{name}": name for name in values},
        "ExpressionAttributeValues": {f":{name}": value for name, value in values.items()} | compared,
    }


def _values(pace: Pace) -> Item:
    return {
        "reserved_until": _number(pace.reserved_until),
        "rate": _number(pace.rate),
        "changed_at": _number(pace.changed_at),
        "version": {"N": str(pace.version)},
        "length": _number(pace.length),
    }


def _pace(item: Item) -> Pace:
    reserved_until, rate, changed_at = (float(item[name]["N"]) for name in ("reserved_until", "rate", "changed_at"))
    return Pace(reserved_until, rate, changed_at, int(item["version"]["N"]), float(item["length"]["N"]))


def _number(value: float) -> Item:
    """The number without loss: DynamoDB stores 38 digits, and ``repr`` needs 17."""
    return {"N": repr(value)}
