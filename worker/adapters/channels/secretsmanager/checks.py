"""What ``check`` asks for the Secrets Manager channel: may the worker write secrets, and what will they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from worker.adapters.aws.kms import look_at_key
from worker.adapters.channels.kind import ChannelChecks
from worker.adapters.channels.secretsmanager.settings import SecretsManagerSettings
from worker.adapters.checks.findings import Finding, advice, fails, not_checked, ok
from worker.adapters.checks.probes import Probe, Question, permissions
from worker.adapters.checks.seen import Seen

if TYPE_CHECKING:
    from types_aiobotocore_secretsmanager import SecretsManagerClient

PRICE = 0.40
"""US dollars for each secret and month ("AWS Secrets Manager pricing")."""
MANY = 50_000
"""The number of secrets above which ``check`` gives advice about the price, which is $20,000 a month then."""
MOST = 500_000
"""The most secrets in one Region ("AWS Secrets Manager quotas")."""


class SecretsManagerChecks(ChannelChecks[SecretsManagerSettings]):
    """See ``ChannelChecks``."""

    def questions(self, channel: SecretsManagerSettings) -> Sequence[Question]:
        """See ``ChannelChecks``."""
        prefix, key = channel.prefix, channel.kms_key_id
        found = [Question("channel", "its secrets", "secretsmanager", lambda client: look_at_secrets(client, prefix))]
        if key is not None:
            found.append(Question("channel", "its KMS key", "kms", lambda kms: look_at_key(kms, key, {})))
        return found

    def look_at_size(self, seen: Seen) -> Sequence[Finding]:
        """See ``ChannelChecks``: the price of all users' secrets."""
        return [_price(seen)]


async def look_at_secrets(secrets: SecretsManagerClient, prefix: str) -> list[Finding]:
    """Check whether the worker may write secrets, as far as that can be tried without creating one."""
    name, absent = f"{prefix}/check-no-such-secret", frozenset({"ResourceNotFoundException"})
    put = secrets.put_secret_value(SecretId=name, SecretString="probe")
    move = secrets.update_secret_version_stage(SecretId=name, VersionStage="check")
    probes = [
        Probe("secretsmanager:DescribeSecret", secrets.describe_secret(SecretId=name), absent),
        Probe("secretsmanager:PutSecretValue", put, absent),
        Probe("secretsmanager:UpdateSecretVersionStage", move, absent),
    ]
    return await permissions("channel", probes, {"secretsmanager:CreateSecret": "it would create one"})


def _price(seen: Seen) -> Finding:
    if seen.waiting is None and seen.users is None:
        said = f"Secrets Manager: ${PRICE:.2f} a user and month, and nobody counted the users; good for a pilot"
        return not_checked("price", said)
    users = (seen.waiting or 0) + (seen.users or 0)
    said = f"Secrets Manager: about {users:,} users cost ${users * PRICE:,.0f} a month"
    cure = "use channel.kind s3 for a rollout"
    if users > MOST:
        return fails("price", f"{said}, and a Region takes {MOST:,} secrets", cure)
    if users > MANY:
        said = f"{said} (${PRICE:.2f} each); {MOST:,} secrets are the limit of a Region"
        return advice("price", said, cure)
    return ok("price", said)
