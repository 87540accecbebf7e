"""The Secrets Manager channel, for pilots: one secret for each user, which an application shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from worker.adapters.channels.kind import ChannelKind
from worker.adapters.channels.secretsmanager.settings import SecretsManagerSettings

if TYPE_CHECKING:
    from worker.adapters.aws.session import Aws
    from worker.adapters.channels.secretsmanager.channel import SecretsManagerChannel
    from worker.adapters.channels.secretsmanager.checks import SecretsManagerChecks
    from worker.adapters.channels.secretsmanager.resources import SecretsManagerResources


class SecretsManagerKind(ChannelKind[SecretsManagerSettings]):
    """See ``ChannelKind``."""

    settings = SecretsManagerSettings
    summary = "pilots"
    scheme = "secretsmanager:"
    source_form = "secretsmanager:PREFIX"

    async def make(self, channel: SecretsManagerSettings, aws: Aws) -> SecretsManagerChannel:
        """See ``ChannelKind``."""
        from worker.adapters.channels.secretsmanager.channel import SecretsManagerChannel

        return SecretsManagerChannel(
            await aws.secretsmanager(), channel.prefix, kms_key_id=channel.kms_key_id, names=channel.names
        )

    def source(self, channel: SecretsManagerSettings) -> str:
        """See ``ChannelKind``."""
        return f"secretsmanager:{channel.prefix}"

    async def copy_records(self, where: str, aws: Aws, file: BinaryIO) -> int:
        """See ``ChannelKind``."""
        from worker.adapters.channels.secretsmanager.source import copy_secrets

        return await copy_secrets(await aws.secretsmanager(), where, file)

    def checks(self) -> SecretsManagerChecks:
        """See ``ChannelKind``."""
        from worker.adapters.channels.secretsmanager.checks import SecretsManagerChecks

        return SecretsManagerChecks()

    def resources(self) -> SecretsManagerResources:
        """See ``ChannelKind``."""
        from worker.adapters.channels.secretsmanager.resources import SecretsManagerResources

        return SecretsManagerResources()


KIND = SecretsManagerKind()
