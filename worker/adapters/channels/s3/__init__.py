"""The S3 channel: an object a secret, in a bucket that only adds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, BinaryIO

from worker.adapters.channels.kind import ChannelKind
from worker.adapters.channels.s3.settings import S3Settings

if TYPE_CHECKING:
    from worker.adapters.aws.init_report import InitReport
    from worker.adapters.aws.policy import Allowed, Role
    from worker.adapters.aws.session import Aws
    from worker.adapters.aws.template import TemplatePart
    from worker.adapters.channels.s3.channel import S3Channel
    from worker.adapters.checks.probes import Question


class S3Kind(ChannelKind[S3Settings]):
    """See ``ChannelKind``."""

    settings = S3Settings
    summary = "an object a secret"
    scheme = "s3://"
    source_form = "s3://BUCKET/PREFIX"

    async def make(self, channel: S3Settings, aws: Aws) -> S3Channel:
        """See ``ChannelKind``."""
        from worker.adapters.channels.s3.channel import S3Channel

        return S3Channel(
            await aws.s3(),
            channel.bucket or "",
            channel.prefix,
            kms_key_id=channel.kms_key_id,
            names=channel.names,
        )

    def source(self, channel: S3Settings) -> str:
        """See ``ChannelKind``."""
        return f"s3://{channel.bucket}/{channel.prefix}"

    async def copy_records(self, where: str, aws: Aws, file: BinaryIO) -> int:
        """See ``ChannelKind``."""
        from worker.adapters.channels.s3.source import copy_objects

        bucket, _, prefix = where.partition("/")
        return await copy_objects(await aws.s3(), bucket, prefix, file)

    def questions(self, channel: S3Settings) -> Sequence[Question]:
        """See ``ChannelKind``."""
        from worker.adapters.channels.s3.checks import questions

        return questions(channel)

    def parts(self, channel: S3Settings) -> Collection[str]:
        """See ``ChannelKind``."""
        return {"bucket", "key"} if channel.kms_key_id else {"bucket"}

    def statements(self, role: Role) -> Sequence[Allowed]:
        """See ``ChannelKind``."""
        from worker.adapters.channels.s3.resources import statements

        return statements(role)

    def template(self, channel: S3Settings) -> TemplatePart:
        """See ``ChannelKind``."""
        from worker.adapters.channels.s3.resources import template

        return template(channel)

    async def make_missing(self, channel: S3Settings, aws: Aws, region: str, report: InitReport) -> Sequence[str]:
        """See ``ChannelKind``."""
        from worker.adapters.channels.s3.resources import make_missing

        return await make_missing(channel, await aws.s3(), region, report)


KIND = S3Kind()
