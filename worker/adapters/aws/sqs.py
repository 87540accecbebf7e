"""What all users of SQS need: sending batches that may fail in part, and telling FIFO queues from standard ones.

SQS answers with status 200 even if some entries of a batch failed, and an answer that was cut off looks like an empty
success. So an entry counts as done only if the answer lists it as successful.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from botocore.exceptions import ClientError

from worker.adapters.aws.error_table import Kind
from worker.adapters.aws.errors import code, fault, faults, means
from worker.core.errors import DependencyUnavailable, QueueUnavailable
from worker.core.resilience.backoff import Backoff, retry
from worker.settings.queue_urls import FIFO

Item = TypeVar("Item")
Entry = Mapping[str, Any]
"""One entry of a batch as the SDK takes it, without its ``Id``."""
Operation = Callable[..., Awaitable[Any]]
"""A batch operation of the SDK's client."""

BATCH = 10
"""The highest number of entries in a batch (SQS developer guide, quotas)."""
PATIENCE = 60.0
"""Seconds for which requests are repeated during an outage of SQS before the run ends: short outages are over by
then."""
BACKOFF = Backoff(first=0.4, longest=5.0, jitter=0.5)
"""Pauses while SQS fails: short at first; in the end each of many workers sends one request every few seconds."""
TIMEOUT = 15.0
"""Seconds after which a request is given up, all attempts of the SDK included."""
_NOT_CONFIRMED = "no confirmation"
"""Used as the code of an entry that the answer does not mention."""
_THROTTLED = ("RequestThrottled", "ThrottlingException", "KmsThrottled", "OverLimit")
"""Endings of error codes that SQS marks as the sender's fault, although waiting helps."""

_OF_EVERYBODY = frozenset({Kind.PERMISSION, Kind.KEY, Kind.CREDENTIALS, Kind.CLOCK, Kind.ACCOUNT})
"""Why an entry of a batch failed as every other one would have."""


class Failure(NamedTuple):
    """Why an entry did not succeed."""

    code: str
    for_good: bool
    """Whether it is useless to try again."""


async def send_once(
    operation: Operation,
    url: str,
    entries: Sequence[Entry],
    *,
    what: str,
    unavailable: type[DependencyUnavailable] = QueueUnavailable,
    within: float = TIMEOUT,
    of_the_entries: Collection[str] = (),
) -> dict[int, Failure]:
    """Send one batch, and return the entries that did not succeed, by their index in ``entries``.

    ``what``: the queue in words, for errors. ``within``: time-out in seconds. ``of_the_entries``: codes of a whole
    batch that its entries are to blame for, not the queue: they come back as the failure of each, for good. Raises
    ``unavailable`` if the whole batch failed otherwise.
    """
    named = [{**entry, "Id": str(number)} for number, entry in enumerate(entries)]
    with faults(unavailable, what):
        try:
            async with asyncio.timeout(within):
                answer = await operation(QueueUrl=url, Entries=named)
        except ClientError as error:
            if code(error) not in of_the_entries:
                raise
            return dict.fromkeys(range(len(named)), Failure(code(error), for_good=True))
    confirmed = {found.get("Id") for found in answer.get("Successful", ())}
    failed = {
        number: Failure(_NOT_CONFIRMED, for_good=False)
        for number, entry in enumerate(named)
        if entry["Id"] not in confirmed
    }
    for found in answer.get("Failed", ()):
        with suppress(KeyError, ValueError):
            name = str(found.get("Code") or "unknown")
            is_ours = str(found.get("SenderFault")).lower() == "true" and not name.endswith(_THROTTLED)
            failed[int(found["Id"])] = Failure(name, for_good=is_ours)
    return failed


async def send_all(
    operation: Operation,
    url: str,
    entries: Sequence[Entry],
    *,
    what: str,
    unavailable: type[DependencyUnavailable] = QueueUnavailable,
    patience: float = PATIENCE,
) -> dict[int, str]:
    """Send one batch until every entry has succeeded or been refused for good.

    Return the codes of the refused entries, by their index in ``entries``. Raises ``unavailable`` at once if a person
    must act (also if only entries were refused for that), otherwise after ``patience`` seconds of failure.
    """
    left, refused = dict(enumerate(entries)), dict[int, str]()

    async def send_what_is_left() -> None:
        numbers = list(left)
        failed = await send_once(operation, url, list(left.values()), what=what, unavailable=unavailable)
        for at, number in enumerate(numbers):
            failure = failed.get(at)
            if failure is not None and (denied := denial(failure, operation, unavailable, what)) is not None:
                raise denied
            if failure is not None and failure.for_good:
                refused[number] = failure.code
            if failure is None or failure.for_good:
                del left[number]
        if left:
            codes = ", ".join(sorted({failure.code for failure in failed.values()}))
            raise unavailable(
                f"{what} cannot be used: {codes} for {len(left)} in a batch",
                "look at the service and the network; nothing is lost, run again",
            )

    if left:
        await retry(send_what_is_left, on=unavailable, backoff=BACKOFF, patience=patience)
    return refused


def denial(
    failure: Failure, operation: Operation, unavailable: type[DependencyUnavailable], what: str
) -> DependencyUnavailable | None:
    """The exception for an entry that failed because of a permission, a key or credentials; ``None`` for any other."""
    name = "".join(word.title() for word in getattr(operation, "__name__", "").split("_"))
    error = ClientError({"Error": {"Code": failure.code}}, name)
    return fault(error, unavailable, what) if failure.for_good and means(error).kind in _OF_EVERYBODY else None


def entry_fault(code: str, operation: str, unavailable: type[DependencyUnavailable], what: str) -> Exception:
    """The exception for one entry that failed with ``code``, worded as if the whole ``operation`` had failed."""
    return fault(ClientError({"Error": {"Code": code}}, operation), unavailable, what)


def in_batches(items: Iterable[Item], size: Callable[[Item], int] = lambda _: 0, most: int = 0) -> Iterator[list[Item]]:
    """Split the items into batches of at most ten, in which the sizes add up to at most ``most``."""
    batch, total = list[Item](), 0
    for item in items:
        if len(batch) == BATCH or (batch and total + size(item) > most):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size(item)
    if batch:
        yield batch


def is_fifo(url: str, attributes: Mapping[Any, Any] | None = None) -> bool:
    """Whether it is a FIFO queue, by its attributes or by the end of its name (SQS API reference, CreateQueue)."""
    return url.endswith(FIFO) or (attributes or {}).get("FifoQueue") == "true"


def is_encrypted(attributes: Mapping[Any, Any]) -> bool:
    """Whether SQS encrypts the queue at rest, with a key of its own or one of KMS."""
    return bool(attributes.get("KmsMasterKeyId")) or str(attributes.get("SqsManagedSseEnabled")).lower() == "true"
