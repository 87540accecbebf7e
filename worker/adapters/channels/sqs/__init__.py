"""The SQS channel: one message for each secret, for a service that notifies the users."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from worker.adapters.channels.kind import ChannelKind
from worker.adapters.channels.sqs.settings import SqsSettings

if TYPE_CHECKING:
    from worker.adapters.aws.session import Aws
    from worker.adapters.channels.sqs.channel import SqsChannel
    from worker.adapters.channels.sqs.checks import SqsChecks
    from worker.adapters.channels.sqs.ending import SqsEnding
    from worker.adapters.channels.sqs.resources import SqsResources


class SqsKind(ChannelKind[SqsSettings]):
    """See ``ChannelKind``."""

    settings = SqsSettings
    summary = "a service that notifies"
    scheme = "sqs:"
    source_form = "sqs:URL"
    moved_from = "an SQS queue"

    async def make(self, channel: SqsSettings, aws: Aws) -> SqsChannel:
        """See ``ChannelKind``."""
        from worker.adapters.channels.sqs.channel import SqsChannel

        return SqsChannel(await aws.sqs(), channel.url or "")

    def source(self, channel: SqsSettings) -> str:
        """See ``ChannelKind``."""
        return f"sqs:{channel.url}"

    async def move_records(self, where: str, aws: Aws, into: Path) -> str:
        """See ``ChannelKind``."""
        from worker.adapters.channels.sqs.source import drain

        others = await drain(await aws.sqs(), where, into, lambda line: sys.stderr.write(f"{line}\n"))
        return f"{others} messages of the queue are no sealed records, and stay there" if others else ""

    def checks(self) -> SqsChecks:
        """See ``ChannelKind``."""
        from worker.adapters.channels.sqs.checks import SqsChecks

        return SqsChecks()

    def resources(self) -> SqsResources:
        """See ``ChannelKind``."""
        from worker.adapters.channels.sqs.resources import SqsResources

        return SqsResources()

    def ending(self) -> SqsEnding:
        """See ``ChannelKind``."""
        from worker.adapters.channels.sqs.ending import SqsEnding

        return SqsEnding()


KIND = SqsKind()
