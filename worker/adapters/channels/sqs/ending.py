"""The SQS channel at the end of a rollout: its queue, with the sealed secrets that nobody took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from worker.adapters.aws import queue_ending
from worker.adapters.aws.stacks import stack_of
from worker.adapters.channels.kind import ChannelEnding, Content
from worker.adapters.channels.sqs.settings import SqsSettings

if TYPE_CHECKING:
    from worker.adapters.aws.session import Aws

WHAT = "the channel's queue"
"""What errors call it."""


class SqsEnding(ChannelEnding[SqsSettings]):
    """See ``ChannelEnding``."""

    async def look(self, channel: SqsSettings, aws: Aws) -> Content:
        """See ``ChannelEnding``."""
        url = channel.url or ""
        found = await queue_ending.look(await aws.sqs(), url, WHAT)
        if found is None:
            return Content("", url)
        note = f"about {found.messages:,} sealed secrets wait there, and nobody took them" if found.messages else ""
        return Content(WHAT, url, note)

    async def remove(self, channel: SqsSettings, aws: Aws) -> Sequence[tuple[str, str]]:
        """See ``ChannelEnding``."""
        url = channel.url or ""
        if stack := await stack_of(await aws.client("cloudformation"), url):
            return [(f"{WHAT} {url} belongs to the stack {stack.name}", stack.cure)]
        await queue_ending.delete(await aws.sqs(), url, WHAT)
        return ()
