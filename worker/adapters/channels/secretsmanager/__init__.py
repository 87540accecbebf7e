"""The Secrets Manager channel, for pilots: one secret for each user, which an application shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from worker.adapters.channels.kind import ChannelKind
from worker.adapters.channels.secretsmanager.settings import SecretsManagerSettings
from worker.core.model import Sealed

if TYPE_CHECKING:
    from worker.adapters.aws.session import Aws
    from worker.adapters.channels.secretsmanager.channel import SecretsManagerChannel
    from worker.adapters.channels.secretsmanager.checks import SecretsManagerChecks
    from worker.adapters.channels.secretsmanager.ending import SecretsManagerEnding
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

    def place(self, channel: SecretsManagerSettings, username: str, sealed: Sealed) -> str:
        """See ``ChannelKind``: the secret's name, and which of its versions."""
        from worker.adapters.aws.naming import secret_segment

        name = f"{channel.prefix}/{secret_segment(username, channel.names)}"
        return f"the secret {name}, version {sealed.attempt_id}"

    async def copy_records(self, where: str, aws: Aws, file: BinaryIO, *, every: bool = False) -> int:  # noqa: ARG002
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

    def ending(self) -> SecretsManagerEnding:
        """See ``ChannelKind``."""
        from worker.adapters.channels.secretsmanager.ending import SecretsManagerEnding

        return SecretsManagerEnding()


KIND = SecretsManagerKind()
