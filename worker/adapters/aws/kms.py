"""A KMS key of the rollout's own: which role may use it, and the check whether the worker can use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code
from worker.adapters.aws.policy import Allowed, Role
from worker.adapters.checks.findings import Finding, fails, ok
from worker.adapters.checks.probes import missing, refused

if TYPE_CHECKING:
    from types_aiobotocore_kms import KMSClient

KEY = "arn:${Partition}:kms:${Region}:${Account}:key/${Key}"
"""The key's ARN, with placeholders."""
STATEMENTS: Mapping[Role, tuple[Allowed, ...]] = {
    Role.WORKER: (Allowed("key", "Encrypt", ("kms:Decrypt", "kms:GenerateDataKey"), (KEY,), rank=90),),
    Role.OPENER: (Allowed("key", "Decrypt", ("kms:Decrypt",), (KEY,), rank=90),),
}
"""What each role may do with the key, for every channel that encrypts with one."""


def parameter(kms_key_id: str) -> tuple[str, str]:
    """The parameter ``Key`` of the CloudFormation template: its default, and its description."""
    return kms_key_id.rpartition("/")[2], "The id of the KMS key (channel.kms_key_id)"


async def look_at_key(kms: KMSClient, key: str, context: Mapping[str, str]) -> list[Finding]:
    """Check whether the worker may use the channel's KMS key. Raises what the SDK raises."""
    try:
        await kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=context, DryRun=True)
    except ClientError as error:
        if missing(error) or code(error) == "NotFoundException":
            return [fails("channel", f"there is no KMS key {key}", "correct channel.kms_key_id")]
        if refused(error):
            cure = "allow kms:GenerateDataKey on it: config/iam/worker.json, and the key's own policy"
            return [fails("channel", f"the KMS key {key} cannot be used", cure)]
        if code(error) != "DryRunOperationException":
            raise
    return [ok("channel", f"the KMS key {key} can be used")]
