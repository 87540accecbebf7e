"""What ``check`` asks for the SQS channel: is its queue there, encrypted and a standard queue, and may the worker send.

No message is received, because that would raise its receive count and hide it from the service that notifies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from worker.adapters.aws.queue import attributes_of, judged, sending
from worker.adapters.channels.kind import ChannelChecks
from worker.adapters.channels.sqs.settings import SqsSettings
from worker.adapters.checks.findings import Finding
from worker.adapters.checks.probes import Question, permissions

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient


class SqsChecks(ChannelChecks[SqsSettings]):
    """See ``ChannelChecks``."""

    def questions(self, channel: SqsSettings) -> Sequence[Question]:
        """See ``ChannelChecks``."""
        url = channel.url or ""
        return [Question("channel", "its queue", "sqs", lambda sqs: look_at_queue(sqs, url))]


async def look_at_queue(sqs: SQSClient, url: str) -> list[Finding]:
    """Check the queue that sealed secrets are sent to. Raises ``QueueUnavailable``."""
    found = judged("channel", await attributes_of(sqs, url))
    return [*found, *await permissions("channel", [sending(sqs, url)])]
