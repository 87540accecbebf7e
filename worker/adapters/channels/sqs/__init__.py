"""The SQS channel: a message a secret, for a service that notifies."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from worker.adapters.channels.kind import ChannelKind
from worker.adapters.channels.sqs.settings import SqsSettings

if TYPE_CHECKING:
    from worker.adapters.aws.init_report import InitReport
    from worker.adapters.aws.policy import Allowed, Role
    from worker.adapters.aws.session import Aws
    from worker.adapters.aws.template import TemplatePart
    from worker.adapters.channels.sqs.channel import SqsChannel
    from worker.adapters.checks.probes import Question


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

        others = await drain(await aws.sqs(), where, into)
        return f"{others} messages of the queue are no sealed records, and stay there" if others else ""

    def questions(self, channel: SqsSettings) -> Sequence[Question]:
        """See ``ChannelKind``."""
        from worker.adapters.channels.sqs.checks import questions

        return questions(channel)

    def parts(self, channel: SqsSettings) -> Collection[str]:
        """See ``ChannelKind``."""
        del channel
        return {"channel_queue"}

    def statements(self, role: Role) -> Sequence[Allowed]:
        """See ``ChannelKind``."""
        from worker.adapters.channels.sqs.resources import STATEMENTS

        return STATEMENTS.get(role, ())

    def template(self, channel: SqsSettings) -> TemplatePart:
        """See ``ChannelKind``."""
        from worker.adapters.channels.sqs.resources import template

        return template(channel)

    async def make_missing(self, channel: SqsSettings, aws: Aws, region: str, report: InitReport) -> Sequence[str]:
        """See ``ChannelKind``."""
        from worker.adapters.channels.sqs.resources import make_missing

        del region
        return await make_missing(channel, await aws.sqs(), report)


KIND = SqsKind()
