"""The figures over time: an item for each worker and hour, with an attribute for each minute.

The index of the table lists these items, in a partition of their own, so they are found without reading any user. What
an update costs grows with the item, so no item takes the figures of several workers, or of a whole day.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from worker.adapters.aws.errors import faults
from worker.adapters.ledgers.dynamodb.reads import BATCH, Reads
from worker.adapters.ledgers.dynamodb.rows import Item
from worker.adapters.ledgers.dynamodb.schema import KEY, SHARD
from worker.core.errors import LedgerUnavailable
from worker.core.figures import Minute, load, merged

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

FIGURES = "figures#"
"""Prefix of the items' keys; then the hour, and the worker."""
PARTITION = "figures"
"""The partition of the index that lists them."""
_MINUTE = "m"
"""Prefix of the attributes; then the minute of the hour."""
_MINUTES = 60
"""Minutes of an hour."""


class DynamoFigures:
    """``ports.FigureStore``. All methods raise ``LedgerUnavailable``."""

    def __init__(self, dynamodb: DynamoDBClient, table: str, reads: Reads) -> None:
        self._dynamodb, self._table, self._reads = dynamodb, table, reads

    async def put(self, worker: str, minute: Minute) -> None:
        """See ``ports.FigureStore``."""
        hour, of_hour = divmod(minute.minute, _MINUTES)
        with faults(LedgerUnavailable, "the ledger"):
            await self._dynamodb.update_item(
                TableName=self._table,
                Key={KEY: {"S": f"{FIGURES}{hour:09}#{worker}"}},
                UpdateExpression="SET #shard = :figures, #minute = :text",
                ExpressionAttributeNames={"#shard": SHARD, "#minute": f"{_MINUTE}{of_hour}"},
                ExpressionAttributeValues={":figures": {"S": PARTITION}, ":text": {"S": minute.dump()}},
            )

    async def read(self) -> AsyncIterator[Minute]:
        """See ``ports.FigureStore``. What was written within the last second may be missing: the index is behind."""
        keys = sorted([key async for key in self._reads.keys_in(PARTITION)])
        found: list[Minute] = []
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            items = await self._reads.items([{KEY: {"S": key}} for key in batch])
            found += [minute for item in items for minute in _minutes(item)]
            complete = _hour_of(keys[start + BATCH]) * _MINUTES if start + BATCH < len(keys) else None
            found.sort(key=lambda each: each.minute)
            for number, of_workers in groupby(list(found), key=lambda each: each.minute):
                if complete is None or number < complete:
                    yield merged(of_workers)
            found = [] if complete is None else [each for each in found if each.minute >= complete]


def _minutes(item: Item) -> Iterator[Minute]:
    hour = _hour_of(item[KEY]["S"])
    for name, value in item.items():
        of_hour = name.removeprefix(_MINUTE)
        if name.startswith(_MINUTE) and of_hour.isascii() and of_hour.isdigit():
            minute = load(hour * _MINUTES + int(of_hour), value.get("S", ""))
            if minute is not None:
                yield minute


def _hour_of(key: str) -> int:
    """The hour in the key of an item; whole hours since the epoch."""
    return int(key.removeprefix(FIGURES).partition("#")[0])
