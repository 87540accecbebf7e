"""The Secrets Manager channel, for pilots: a secret a user, which an application shows them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, BinaryIO

from worker.adapters.channels.kind import ChannelKind
from worker.adapters.channels.secretsmanager.settings import SecretsManagerSettings

if TYPE_CHECKING:
    from worker.adapters.aws.init_report import InitReport
    from worker.adapters.aws.policy import Allowed, Role
    from worker.adapters.aws.session import Aws
    from worker.adapters.aws.template import TemplatePart
    from worker.adapters.channels.secretsmanager.channel import SecretsManagerChannel
    from worker.adapters.checks.findings import Finding
    from worker.adapters.checks.probes import Question
    from worker.adapters.checks.seen import Seen


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

    def questions(self, channel: SecretsManagerSettings) -> Sequence[Question]:
        """See ``ChannelKind``."""
        from worker.adapters.channels.secretsmanager.checks import questions

        return questions(channel)

    def look_at_size(self, channel: SecretsManagerSettings, seen: Seen) -> Sequence[Finding]:
        """See ``ChannelKind``."""
        from worker.adapters.channels.secretsmanager.checks import price

        del channel
        return [price(seen)]

    def parts(self, channel: SecretsManagerSettings) -> Collection[str]:
        """See ``ChannelKind``."""
        return {"secrets", "key"} if channel.kms_key_id else {"secrets"}

    def statements(self, role: Role) -> Sequence[Allowed]:
        """See ``ChannelKind``."""
        from worker.adapters.channels.secretsmanager.resources import statements

        return statements(role)

    def template(self, channel: SecretsManagerSettings) -> TemplatePart:
        """See ``ChannelKind``."""
        from worker.adapters.channels.secretsmanager.resources import template

        return template(channel)

    async def make_missing(
        self, channel: SecretsManagerSettings, aws: Aws, region: str, report: InitReport
    ) -> Sequence[str]:
        """See ``ChannelKind``."""
        del aws, region
        report.made("secrets", f"nothing has to be made below {channel.prefix}/", made=False)
        return ['channel.kind = "secretsmanager"']


KIND = SecretsManagerKind()
