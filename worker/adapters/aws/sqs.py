"""What everybody who talks to SQS needs: batches that may fail in part, and whether a queue is a FIFO one.

A batch may fail in part, with status 200; and a reply that was cut off on its way reads as an empty success. So an
entry is done only where the answer names it among the successful.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import fault, faults
from worker.core.errors import DependencyUnavailable, QueueUnavailable
from worker.core.resilience.backoff import Backoff, retry

Item = TypeVar("Item")
Entry = Mapping[str, Any]
"""One entry of a batch as the SDK takes it, without its ``Id``."""
Operation = Callable[..., Awaitable[Any]]
"""A batch operation of the SDK's client."""

BATCH = 10
"""Entries in a batch at most (SQS developer guide, quotas)."""
PATIENCE = 60.0
"""Seconds for which an outage of SQS is bridged before the run ends: AWS's own hiccups are over by then."""
BACKOFF = Backoff(first=0.4, longest=5.0, jitter=0.5)
"""Pauses while SQS fails: soon again at first, and at most one request in some seconds from each of many workers."""
TIMEOUT = 15.0
"""Seconds after which a request is given up; the SDK's own attempts are within."""
_NOT_CONFIRMED = "no confirmation"
"""Stands for the code of an entry that the answer does not mention."""
_THROTTLED = ("RequestThrottled", "ThrottlingException", "KmsThrottled", "OverLimit")
"""Ends of codes that SQS calls the sender's fault, although waiting helps."""


class Failure(NamedTuple):
    """Why an entry did not succeed."""

    code: str
    for_good: bool
    """Whether trying it again is of no use."""


async def send_once(
    operation: Operation,
    url: str,
    entries: Sequence[Entry],
    *,
    what: str,
    unavailable: type[DependencyUnavailable] = QueueUnavailable,
    within: float = TIMEOUT,
) -> dict[int, Failure]:
    """Send one batch; gives, by their place in ``entries``, those that did not succeed.

    ``what`` is the queue in words, for errors; ``within`` in seconds. Raises ``unavailable`` where the whole batch
    failed.
    """
    named = [{**entry, "Id": str(number)} for number, entry in enumerate(entries)]
    with faults(unavailable, what):
        async with asyncio.timeout(within):
            answer = await operation(QueueUrl=url, Entries=named)
    confirmed = {found.get("Id") for found in answer.get("Successful", ())}
    failed = {
        number: Failure(_NOT_CONFIRMED, for_good=False)
        for number, entry in enumerate(named)
        if entry["Id"] not in confirmed
    }
    for found in answer.get("Failed", ()):
        with suppress(KeyError, ValueError):
            code = str(found.get("Code") or "unknown")
            is_ours = str(found.get("SenderFault")).lower() == "true" and not code.endswith(_THROTTLED)
            failed[int(found["Id"])] = Failure(code, for_good=is_ours)
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
    """Send one batch until every entry succeeded, or was refused for good; gives the codes of the refused, by place.

    Raises ``unavailable`` at once where a person must act, else after ``patience`` seconds of failure.
    """
    left, refused = dict(enumerate(entries)), dict[int, str]()

    async def send_what_is_left() -> None:
        numbers = list(left)
        failed = await send_once(operation, url, list(left.values()), what=what, unavailable=unavailable)
        for at, number in enumerate(numbers):
            failure = failed.get(at)
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


def entry_fault(code: str, operation: str, unavailable: type[DependencyUnavailable], what: str) -> Exception:
    """That one entry failed with ``code``, in the same words as if the whole ``operation`` had."""
    return fault(ClientError({"Error": {"Code": code}}, operation), unavailable, what)


def in_batches(items: Iterable[Item], size: Callable[[Item], int] = lambda _: 0, most: int = 0) -> Iterator[list[Item]]:
    """The items in batches of at most ten, whose sizes together are at most ``most``."""
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
    """Whether it is a FIFO queue: its name must end so (SQS API reference, CreateQueue), and its attributes say so."""
    return url.endswith(".fifo") or (attributes or {}).get("FifoQueue") == "true"
