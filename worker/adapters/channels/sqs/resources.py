"""What the SQS channel has on AWS: its queue, made for ``init`` and for CloudFormation alike, and who may use it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from worker.adapters.aws import queue
from worker.adapters.aws.init_report import InitReport
from worker.adapters.aws.policy import Allowed, Role
from worker.adapters.aws.template import TemplatePart, queue_and_policy
from worker.adapters.channels.kind import ChannelResources
from worker.adapters.channels.sqs.settings import SqsSettings

if TYPE_CHECKING:
    from worker.adapters.aws.session import Aws

PROPERTIES = {"SqsManagedSseEnabled": True, "MessageRetentionPeriod": 14 * queue.DAY}
"""Encrypted. Delivered secrets wait for whoever notifies as long as SQS can keep them, 14 days (seconds; SQS developer
guide, quotas), for nobody has another copy."""

QUEUE = "arn:${Partition}:sqs:${Region}:${Account}:${ChannelQueue}"
STATEMENTS: Mapping[Role, tuple[Allowed, ...]] = {
    Role.WORKER: (
        Allowed("channel_queue", "DeliverToQueue", ("sqs:GetQueueAttributes", "sqs:SendMessage"), (QUEUE,), rank=21),
    ),
    Role.OPENER: (
        Allowed("channel_queue", "ReadQueue", ("sqs:DeleteMessage", "sqs:ReceiveMessage"), (QUEUE,), rank=22),
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
}


class SqsResources(ChannelResources[SqsSettings]):
    """See ``ChannelResources``."""

    def parts(self, channel: SqsSettings) -> Collection[str]:  # noqa: ARG002
        """See ``ChannelResources``."""
        return {"channel_queue"}

    def statements(self, role: Role) -> Sequence[Allowed]:
        """See ``ChannelResources``."""
        return STATEMENTS.get(role, ())

    def template(self, channel: SqsSettings) -> TemplatePart:
        """See ``ChannelResources``: the queue and its policy, as ``make_missing`` makes them."""
        return TemplatePart(
            {"ChannelQueue": (queue.name_in(channel.url or ""), "The queue of sealed secrets (channel.url)")},
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
        url, made = await queue.make(sqs, queue.name_in(channel.url or ""), PROPERTIES)
        report.made("channel", url, made)
        if not made:
            report.judged(queue.judged("channel", await queue.attributes_of(sqs, url)))
        return ['channel.kind = "sqs"', f'channel.url = "{url}"']
