"""The S3 channel: one object for each secret, in a bucket where objects are added and never replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from worker.adapters.channels.kind import ChannelKind
from worker.adapters.channels.s3.settings import S3Settings
from worker.core.model import Sealed

if TYPE_CHECKING:
    from worker.adapters.aws.session import Aws
    from worker.adapters.channels.s3.channel import S3Channel
    from worker.adapters.channels.s3.checks import S3Checks
    from worker.adapters.channels.s3.ending import S3Ending
    from worker.adapters.channels.s3.resources import S3Resources


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

    def place(self, channel: S3Settings, username: str, sealed: Sealed) -> str:
        """See ``ChannelKind``: the object's URI."""
        from worker.adapters.channels.s3.keys import key_of

        key = key_of(channel.prefix, username, channel.names, sealed.generation, sealed.attempt_id)
        return f"s3://{channel.bucket}/{key}"

    async def copy_records(self, where: str, aws: Aws, file: BinaryIO, *, every: bool = False) -> int:
        """See ``ChannelKind``."""
        from worker.adapters.channels.s3.source import copy_objects

        bucket, _, prefix = where.partition("/")
        return await copy_objects(await aws.s3(), bucket, prefix, file, every=every)

    async def list_records(self, where: str, aws: Aws, file: BinaryIO) -> int:
        """See ``ChannelKind``: the keys tell all that is asked."""
        from worker.adapters.channels.s3.source import list_objects

        bucket, _, prefix = where.partition("/")
        return await list_objects(await aws.s3(), bucket, prefix, file)

    def checks(self) -> S3Checks:
        """See ``ChannelKind``."""
        from worker.adapters.channels.s3.checks import S3Checks

        return S3Checks()

    def resources(self) -> S3Resources:
        """See ``ChannelKind``."""
        from worker.adapters.channels.s3.resources import S3Resources

        return S3Resources()

    def ending(self) -> S3Ending:
        """See ``ChannelKind``."""
        from worker.adapters.channels.s3.ending import S3Ending

        return S3Ending()


KIND = S3Kind()
