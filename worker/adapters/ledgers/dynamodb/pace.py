"""The shared pace in one item, and a clock that workers on different hosts share, made of nothing but that item.

Nobody's wall clock can be trusted to a fraction of a second, so the timeline is nobody's: each worker maps it to its
own monotonic clock by an offset that only ever grows. Whoever writes the pace writes with it what the timeline said
just before (``written_at``); whoever gets to see that knows that the timeline was at least there when the answer
arrived, and moves its own forward if it was behind. So all follow the fastest, clocks that drift are mended with
every look, and with nobody at work the timeline stands still (it goes on from where it was written last).

How wrong it can be: a worker's timeline lags behind the fastest by no more than the smallest age that any item it saw
had on arrival, plus what its clock lost since. What is met with while reserving slices may be most of a slice old, so
whoever meets others looks now and then, in the background, often enough to see items right after they were written:
that leaves ``BETWEEN_LOOKS`` and the way there and back, and what clocks lose until the next look (at 200 ppm: 6 ms).
Simulated with three hosts 400 ppm apart it stays below 60 ms. A new worker looks before it begins, and soon again:
where eight start at once on two cores, what they see then is up to 200 ms old; four seconds later they are within 40.
Nobody sends in another's slice of the timeline, so in any T seconds all together send at most ``rate x (T + the largest
lag)``: they exceed the rate by at most ``rate x lag``, at 25/s and 40 ms by one request. A worker that is behind also
waits longer for its slice, by its lag.

Reserving adds to the moment up to which the timeline is reserved, whatever that is by then, so nobody is refused for
being slower than the others: only if somebody cut the rate meanwhile. A cut is refused for another cut alone. Only on a
timeline that ran dry one writes on condition that nobody else has. All else (the rate, where it rises, the length of
slices) is as the last one wrote it: rises that cross are lost, so with twenty workers 0.2 s away from the ledger a rate
takes three times as long to come back. A write that the SDK repeats is known as the same one; if somebody else wrote in
between, its first slice is lost.

After a pause of everybody the timeline has not moved, so a lowered rate is not forgotten over it but rises as always,
from full within about five minutes; the last slice before the pause is waited out again, which takes below a slice.
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

PACE = {KEY: {"S": "pace"}}
"""The key of the one item."""
BETWEEN_LOOKS = 0.02
"""Seconds between two looks for an item that another worker wrote just now: it is that old at most when it is seen,
which bounds how far this worker's timeline lags behind (see above; simulated: below 60 ms). It is a sampling interval
and no pause after a failure, so it does not grow."""
FIRST_LOOKS = 25
"""Looks at most before work begins: half a second, after which nobody else seems to be at work."""
LOOKS = 75
"""Looks at most later, in the background: a second and a half, in which several slices are reserved."""
CHANGES = 5
"""Fresh items to see in those: of several hosts, and some fresher than others."""
LOOK_AGAIN_FIRST = 0.5
"""Seconds after which the background looks are first repeated: a host that starts is slow to see."""
LOOK_AGAIN_LATEST = 30.0
"""Seconds after which they are repeated at the latest: clocks that drift by 200 ppm lose 6 ms in that time."""
LESS_OFTEN = 1.25
"""Factor of that interval after each time that no more than ``BETWEEN_LOOKS`` was gained."""


class SharedPace:
    """``PaceStore``. ``monotonic``: this host's clock, in seconds."""

    def __init__(self, dynamodb: DynamoDBClient, table: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._dynamodb, self._table, self._monotonic = dynamodb, table, monotonic
        self._offset: float | None = None
        """The timeline is at least this much ahead of our clock; ``None`` before we know of one."""
        self._me = uuid.uuid4().hex
        self._writes = itertools.count(1)
        self._joined = False
        self._looked_at = -math.inf
        """When our clock was last compared with an item that was fresh, or could have been."""
        self._look_after = LOOK_AGAIN_FIRST
        self._looking: asyncio.Task[None] | None = None
        self._written = 0
        """The version that we wrote last."""
        self._took = 0.0
        """Seconds that our last write took."""
        self._mine: Pace | None = None
        """What stands there where nobody else seems to write."""

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
        """The item as it stands after so many changes by others, or looks; if nobody else changes it, none works."""
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

    async def close(self) -> None:
        """Look no more."""
        if self._looking:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def change_pace(self, change: Callable[[Pace | None], Pace | None]) -> Pace | None:
        """See ``pacing.pace.PaceStore``. Who works alone needs no look: it knows what stands there."""
        before = self._mine or await self.read_pace()
        while (pace := change(before)) is not None and pace is not before:
            alone = before is None or before.version == self._written
            self._mine = None
            written, stands = await self._put(pace, before)
            if written and stands:
                alone &= stands.version == pace.version
                self._mine = stands if alone else None
                self._written = stands.version
                return stands
            before = stands
        return pace

    async def _put(self, pace: Pace, before: Pace | None) -> tuple[bool, Pace | None]:
        """Whether it is written, and what stands there now. Repeated by the SDK it is known as the same write."""
        writer, written_at, began = f"{self._me} {next(self._writes)}", self.shared_time(), self._monotonic()
        values = {**_values(pace), "written_at": _number(written_at), "writer": {"S": writer}}
        if before and _adds(pace, before, written_at + self._took):
            accepted, item = await self._update(_addition(values, pace, before))
            stands = _on_top(pace, before, _pace(item)) if accepted and item else None
        else:
            accepted, item = await self._update(_replacement(values, pace))
            stands = pace if accepted else None
        self._took = self._monotonic() - began
        if item:
            self._observe(item)
        if not accepted and item:
            stands, accepted = _pace(item), item["writer"]["S"] == writer
        if accepted:
            self._offset = self._offset or 0.0  # perhaps we began the timeline
        return accepted, stands

    async def _update(self, request: dict[str, Any]) -> tuple[bool, Item | None]:
        """Whether it was accepted, and what stood there; what stands there, if not."""
        with faults(LedgerUnavailable, "the ledger"):
            try:
                answer: Any = await self._dynamodb.update_item(
                    TableName=self._table,
                    Key=PACE,
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
            answer = await self._dynamodb.get_item(TableName=self._table, Key=PACE, ConsistentRead=True)
        item: Any = answer.get("Item")
        if item:
            self._observe(item)
        return item or None

    def _observe(self, item: Item) -> None:
        """The timeline is at least where it was when this was written."""
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
    """Whether it stays right where others reserve meanwhile: what it reserves, if anything, then comes after theirs.

    ``now``: when it will be written; what ran dry by then is not to be continued, or the gap would be added as well.
    """
    return pace.reserved_until == before.reserved_until or pace.reserved_until > before.reserved_until > now


def _on_top(pace: Pace, before: Pace, stood: Pace) -> Pace:
    """The pace once what it adds to ``before`` was added to what stood there."""
    added = pace.reserved_until - before.reserved_until
    return replace(pace, reserved_until=stood.reserved_until + added, version=stood.version + 1)


def _addition(values: Item, pace: Pace, before: Pace) -> dict[str, Any]:
    """Reserve, or cut the rate, after whatever others reserved, unless somebody cut it or the timeline began anew."""
    added = {"reserved_until": _number(pace.reserved_until - before.reserved_until), "version": {"N": "1"}}
    condition, known = "#changed_at = :known AND #writer <> :writer", {":known": _number(before.changed_at)}
    return _request(values | added, condition, known, added)


def _replacement(values: Item, pace: Pace) -> dict[str, Any]:
    """Write this if nobody else has written."""
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
    """Exactly: DynamoDB keeps 38 digits, and ``repr`` needs 17."""
    return {"N": repr(value)}
