"""The SQS channel's resources on AWS: its queue, the same from ``init`` and from CloudFormation, and who may use it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from worker.adapters.aws import queue
from worker.adapters.aws.init_report import InitReport
from worker.adapters.aws.policy import Allowed, Role
from worker.adapters.aws.template import TemplatePart, queue_and_policy
from worker.adapters.channels.kind import ChannelResources
from worker.adapters.channels.sqs.settings import SqsSettings
from worker.settings.queue_urls import named

if TYPE_CHECKING:
    from worker.adapters.aws.session import Aws

PROPERTIES = {"SqsManagedSseEnabled": True, "MessageRetentionPeriod": 14 * queue.DAY}
"""The queue is encrypted, and keeps messages for 14 days (here in seconds), the longest time that SQS allows (SQS
developer guide, quotas), because a delivered secret has no other copy."""

QUEUE = "arn:${Partition}:sqs:${Region}:${Account}:${ChannelQueue}"
"""The queue's ARN, with placeholders."""
STATEMENTS: Mapping[Role, tuple[Allowed, ...]] = {
    Role.WORKER: (
        Allowed("channel_queue", "DeliverToQueue", ("sqs:GetQueueAttributes", "sqs:SendMessage"), (QUEUE,), rank=21),
    ),
    Role.OPENER: (
        Allowed(
            "channel_queue",
            "ReadQueue",
            ("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"),
            (QUEUE,),
            rank=22,
        ),
    ),
    Role.OPERATOR: (
        Allowed(
            "channel_queue",
            "MakeChannelQueue",
            ("sqs:CreateQueue", "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:SetQueueAttributes"),
            (QUEUE,),
            rank=5,
        ),
    ),
    Role.DECOMMISSIONER: (
        Allowed(
            "channel_queue", "DeleteChannelQueue", ("sqs:DeleteQueue", "sqs:GetQueueAttributes"), (QUEUE,), rank=22
        ),
    ),
}
"""What each role may do with the queue."""


class SqsResources(ChannelResources[SqsSettings]):
    """See ``ChannelResources``."""

    def parts(self, channel: SqsSettings) -> Collection[str]:  # noqa: ARG002
        """See ``ChannelResources``."""
        return {"channel_queue"}

    def statements(self, role: Role) -> Sequence[Allowed]:
        """See ``ChannelResources``."""
        return STATEMENTS.get(role, ())

    def template(self, channel: SqsSettings) -> TemplatePart:
        """See ``ChannelResources``: the queue and its policy, the same as ``make_missing`` creates."""
        return TemplatePart(
            {"ChannelQueue": (named(channel.url or "").name, "The queue of sealed secrets (channel.url)")},
            queue_and_policy("DeliveredQueue", "ChannelQueue", PROPERTIES),
            {"ChannelUrl": ("channel.url", {"Ref": "DeliveredQueue"})},
        )

    async def make_missing(
        self,
        channel: SqsSettings,
        aws: Aws,
        region: str,  # noqa: ARG002
        report: InitReport,
    ) -> Sequence[str]:
        """See ``ChannelResources``: the queue."""
        sqs = await aws.sqs()
        url, made = await queue.make(sqs, named(channel.url or "").name, PROPERTIES)
        report.made("channel", url, made)
        if not made:
            report.judged(queue.judged("channel", await queue.attributes_of(sqs, url)))
        return ['channel.kind = "sqs"', f'channel.url = "{url}"']
