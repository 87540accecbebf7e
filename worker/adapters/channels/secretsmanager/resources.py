"""The Secrets Manager channel's resources on AWS: nothing has to be created first; who may use its secrets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from worker.adapters.aws import kms
from worker.adapters.aws.init_report import InitReport
from worker.adapters.aws.policy import Allowed, Role
from worker.adapters.aws.template import TemplatePart
from worker.adapters.channels.kind import ChannelResources
from worker.adapters.channels.secretsmanager.settings import SecretsManagerSettings

if TYPE_CHECKING:
    from worker.adapters.aws.session import Aws

SECRETS = "arn:${Partition}:secretsmanager:${Region}:${Account}:secret:${Prefix}/*"
STATEMENTS: Mapping[Role, tuple[Allowed, ...]] = {
    Role.WORKER: (
        Allowed(
            "secrets",
            "DeliverToSecrets",
            (
                "secretsmanager:CreateSecret",
                "secretsmanager:DescribeSecret",
                "secretsmanager:PutSecretValue",
                "secretsmanager:UpdateSecretVersionStage",
            ),
            (SECRETS,),
            rank=22,
        ),
    ),
    Role.OPENER: (
        Allowed("secrets", "ListSecrets", ("secretsmanager:ListSecrets",), ("*",), rank=21),
        Allowed("secrets", "ReadSecrets", ("secretsmanager:GetSecretValue",), (SECRETS,), rank=21),
    ),
    Role.DECOMMISSIONER: (
        Allowed("secrets", "ListSecrets", ("secretsmanager:ListSecrets",), ("*",), rank=21),
        Allowed("secrets", "DeleteSecrets", ("secretsmanager:DeleteSecret",), (SECRETS,), rank=21),
    ),
}


class SecretsManagerResources(ChannelResources[SecretsManagerSettings]):
    """See ``ChannelResources``."""

    def parts(self, channel: SecretsManagerSettings) -> Collection[str]:
        """See ``ChannelResources``."""
        return {"secrets", "key"} if channel.kms_key_id else {"secrets"}

    def statements(self, role: Role) -> Sequence[Allowed]:
        """See ``ChannelResources``; those for the KMS key are included."""
        return [*STATEMENTS.get(role, ()), *kms.STATEMENTS.get(role, ())]

    def template(self, channel: SecretsManagerSettings) -> TemplatePart:
        """See ``ChannelResources``: only the parameters that the roles' policies need."""
        parameters = {"Prefix": (channel.prefix, "What the names of objects and secrets begin with (channel.prefix)")}
        if channel.kms_key_id:
            parameters["Key"] = kms.parameter(channel.kms_key_id)
        return TemplatePart(parameters)

    async def make_missing(
        self,
        channel: SecretsManagerSettings,
        aws: Aws,  # noqa: ARG002
        region: str,  # noqa: ARG002
        report: InitReport,
    ) -> Sequence[str]:
        """See ``ChannelResources``: nothing, because the worker creates each secret itself."""
        report.made("secrets", f"nothing has to be made below {channel.prefix}/", made=False)
        return ['channel.kind = "secretsmanager"']
