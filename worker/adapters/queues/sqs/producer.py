"""Sending to SQS: requests to the queue, and reports of malformed messages to the dead-letter queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from worker.adapters.aws.sqs import PATIENCE, in_batches, send_all
from worker.adapters.batching import some_at_once
from worker.adapters.queues.sqs.attributes import QUEUE
from worker.adapters.queues.sqs.dead_letters import DIGEST, REASON, WHAT
from worker.core.errors import ExitCode, QueueUnavailable
from worker.core.model import Request
from worker.core.ports import Pushed

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

MAX_BYTES = 256 * 1024
"""Bytes of one batch and of one message: SQS accepts 1 MiB today, but older queues only this (SQS developer guide)."""
AT_ONCE = 8
"""Batches sent at the same time while pushing: with an answer in 20 ms, 4,000 requests/s."""


class SqsProducer:
    """Sends to the queue at ``url``, and to the one at ``dead_letter_url`` if it is given."""

    def __init__(
        self, sqs: SQSClient, url: str, dead_letter_url: str | None, count_malformed: Callable[[int], Awaitable[None]]
    ) -> None:
        self._sqs = sqs
        self._url = url
        self._dead_letter_url = dead_letter_url
        self._count_malformed = count_malformed

    async def push(self, requests: Iterable[tuple[Request, bytes]]) -> Pushed:
        """See ``ports.Producer``; duplicates are not detected here: the ledger finds them later.

        Raises ``QueueUnavailable`` after a minute of failure. Some of the requests may be on the queue then; pushing
        all of them again only creates duplicates.
        """
        accepted = 0

        async def send(bodies: list[bytes]) -> None:
            nonlocal accepted
            entries = [{"MessageBody": body.decode()} for body in bodies]
            if refused := await send_all(self._sqs.send_message_batch, self._url, entries, what=QUEUE):
                unavailable = QueueUnavailable(
                    f"the queue refused {len(refused)} messages: {', '.join(sorted(set(refused.values())))}",
                    "look at the queue's attributes (MaximumMessageSize: 256 KiB), then push again",
                )
                unavailable.exit_code = ExitCode.PERSON_MUST_ACT  # it would refuse them again
                raise unavailable
            accepted += len(bodies)

        bodies = (_as_sqs_allows(body) for _, body in requests)
        await some_at_once(send, in_batches(bodies, len, MAX_BYTES), AT_ONCE)
        return Pushed(accepted)

    async def put_aside(self, reason: str, digest: str, number: int = 1) -> None:
        """See ``ports.Producer``. Raises ``QueueUnavailable``, and what ``count_malformed`` raises."""
        if self._dead_letter_url is not None:
            await self.send_aside([(reason, digest)])
        await self._count_malformed(number)

    async def send_aside(self, found: Sequence[tuple[str, str]], *, patience: float = PATIENCE) -> None:
        """Send up to ten pairs of reason and digest to the dead-letter queue. Raises ``QueueUnavailable``."""
        assert self._dead_letter_url is not None
        entries = [
            {
                "MessageBody": digest,
                "MessageAttributes": {
                    REASON: {"DataType": "String", "StringValue": reason},
                    DIGEST: {"DataType": "String", "StringValue": digest},
                },
            }
            for reason, digest in found
        ]
        send, url = self._sqs.send_message_batch, self._dead_letter_url
        if refused := await send_all(send, url, entries, patience=patience, what=WHAT):
            codes = ", ".join(sorted(set(refused.values())))
            raise QueueUnavailable(f"{WHAT} refused what is malformed: {codes}", "look at its attributes and policy")


def _as_sqs_allows(body: bytes) -> bytes:
    """The same JSON without U+FFFE and U+FFFF, which SQS refuses (SQS API reference, SendMessage)."""
    text = body.replace(b"\xef\xbf\xbe", b"\\ufffe").replace(b"\xef\xbf\xbf", b"\\uffff")
    assert len(text) <= MAX_BYTES, "a well-formed request is never this long"
    return text
