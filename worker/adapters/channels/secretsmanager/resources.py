"""What the Secrets Manager channel has on AWS: nothing has to be made first; who may use what it makes."""

from __future__ import annotations

from collections.abc import Mapping

from worker.adapters.aws import kms
from worker.adapters.aws.policy import Allowed, Role
from worker.adapters.aws.template import TemplatePart
from worker.adapters.channels.secretsmanager.settings import SecretsManagerSettings

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
}


def statements(role: Role) -> list[Allowed]:
    """What a role may do with the secrets, and with their key."""
    return [*STATEMENTS.get(role, ()), *kms.STATEMENTS.get(role, ())]


def template(channel: SecretsManagerSettings) -> TemplatePart:
    """What the roles' policies name."""
    parameters = {"Prefix": (channel.prefix, "What the names of objects and secrets begin with (channel.prefix)")}
    if channel.kms_key_id:
        parameters["Key"] = kms.parameter(channel.kms_key_id)
    return TemplatePart(parameters)
