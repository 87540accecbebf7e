"""Reading records back from an SQS queue: they are moved to the end of a file, where they stay and are opened.

This is for a queue that no notifying service reads, because each message is removed from the queue here. It needs the
permissions ``sqs:ReceiveMessage``, ``sqs:DeleteMessage`` and ``sqs:GetQueueAttributes``, and ``kms:Decrypt`` for a KMS
key of your own.

A reader that was killed leaves messages hidden for a while. They are waited for, because the queue would look empty.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from worker.adapters.append import append
from worker.adapters.aws.errors import faults
from worker.adapters.aws.sqs import entry_fault, send_all
from worker.adapters.sealed_lines import refuse_other_files
from worker.core.errors import ChannelUnavailable, ExitCode, UsageError
from worker.core.record import is_line

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

POLL = 5
"""Seconds for which one poll waits for a message; SQS allows up to 20 (API reference, ReceiveMessage)."""
QUIET_POLLS = 2
"""How many polls in a row must return nothing new before the queue counts as empty: a single one may miss messages."""
RECEIVERS = 4
"""Polls that are open at the same time, each for up to ten messages."""
LONGEST_WAIT = 60
"""The most seconds to wait for hidden messages: the default visibility timeout is 30 s (SQS developer guide)."""
_COUNTS: Final = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
"""The attributes that add up to the messages that are left; delayed ones are not yet sent to anybody."""
WHAT = "the SQS queue"
"""The queue in error messages."""


async def drain(sqs: SQSClient, url: str, into: Path, tell: Callable[[str], object] = lambda _: None) -> int:
    """Move every sealed record of the queue to the end of the file.

    A message is deleted from the queue only after its line is durable in the file. Messages that are not sealed records
    stay in the queue; return their number. ``tell`` is called with a line for people when there is something to wait
    for. Raises ``UsageError`` if the file cannot be written, ``ChannelUnavailable``, also if messages stayed hidden.
    """
    await _append(into, [])
    foreign: set[str] = set()
    deadline = None
    while True:
        await _receive_all(sqs, url, into, foreign)
        hidden, longest = await _left(sqs, url, tell)
        hidden -= len(foreign)
        if hidden <= 0:
            return len(foreign)
        if deadline is None:
            deadline = time.monotonic() + min(longest, LONGEST_WAIT) + 1
            tell(f"{hidden} messages are hidden, received by a reader that was stopped or still runs; waiting for them")
        elif time.monotonic() >= deadline:
            raise ChannelUnavailable(
                f"{hidden} messages of {WHAT} stay hidden: another reader has received them",
                f"what came is in {into}, and nothing is lost: run it again in {longest} seconds",
            )


async def _receive_all(sqs: SQSClient, url: str, into: Path, foreign: set[str]) -> None:
    """Move messages until the queue looks empty."""
    with faults(ChannelUnavailable, WHAT):
        receivers = [asyncio.ensure_future(_receive(sqs, url, into, foreign)) for _ in range(RECEIVERS)]
        try:
            await asyncio.gather(*receivers)
        finally:
            for receiver in receivers:
                receiver.cancel()
            await asyncio.gather(*receivers, return_exceptions=True)


async def _left(sqs: SQSClient, url: str, tell: Callable[[str], object]) -> tuple[int, int]:
    """How many messages are on the queue, and for how many seconds a received one is hidden at most (approximate)."""
    try:
        with faults(ChannelUnavailable, WHAT):
            answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    except ChannelUnavailable as unavailable:
        if unavailable.exit_code is not ExitCode.PERSON_MUST_ACT:
            raise
        tell(f"whether messages are hidden was not looked at ({unavailable}): {unavailable.hint}")
        return 0, 0
    attributes: Mapping[Any, str] = answer.get("Attributes", {})
    left = sum(int(attributes.get(name) or 0) for name in _COUNTS)
    return left, int(attributes.get("VisibilityTimeout") or 0)


async def _receive(sqs: SQSClient, url: str, into: Path, foreign: set[str]) -> None:
    quiet = 0
    while quiet < QUIET_POLLS:
        reply = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=POLL)
        messages = reply.get("Messages", [])
        ours = [message for message in messages if is_line(message.get("Body", ""))]
        others = {message.get("MessageId", "") for message in messages if message not in ours} - foreign
        foreign |= others
        quiet = 0 if ours or others else quiet + 1
        if ours:
            await _append(into, [message.get("Body", "").encode() + b"\n" for message in ours])
            await _delete(sqs, url, [message.get("ReceiptHandle", "") for message in ours])


async def _delete(sqs: SQSClient, url: str, receipts: Sequence[str]) -> None:
    entries = [{"ReceiptHandle": receipt} for receipt in receipts]
    refused = await send_all(sqs.delete_message_batch, url, entries, what=WHAT, unavailable=ChannelUnavailable)
    for code in refused.values():
        raise entry_fault(code, "DeleteMessageBatch", ChannelUnavailable, WHAT)


async def _append(into: Path, lines: Sequence[bytes]) -> None:
    try:
        if not lines:
            await asyncio.to_thread(refuse_other_files, into, "--into")
        await asyncio.to_thread(append, into, lines, what="--into")
    except OSError as error:
        raise UsageError(
            f"cannot write {into}: {error.strerror}", "choose a folder that exists and is yours; nothing is lost"
        ) from None
