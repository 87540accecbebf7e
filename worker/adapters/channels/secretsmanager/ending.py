"""The Secrets Manager channel at the end of a rollout: every secret that it made below its prefix, and its sentinel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.batching import some_at_once
from worker.adapters.channels.kind import ChannelEnding, Content
from worker.adapters.channels.secretsmanager.channel import BEING_DELETED, GENERATION, WHAT
from worker.adapters.channels.secretsmanager.settings import SecretsManagerSettings
from worker.core.errors import ChannelUnavailable
from worker.core.words import several

if TYPE_CHECKING:
    from types_aiobotocore_secretsmanager import SecretsManagerClient

    from worker.adapters.aws.session import Aws

RECOVERY_DAYS = 7
"""Days for which a deleted secret can be restored, the fewest that AWS takes (API reference, DeleteSecret). It is
sealed, so nobody but a custodian could read it until then."""
AT_ONCE = 16
"""Secrets that are deleted at the same time: AWS takes 50 requests/s (quotas, Secrets Manager)."""


class SecretsManagerEnding(ChannelEnding[SecretsManagerSettings]):
    """See ``ChannelEnding``."""

    async def look(self, channel: SecretsManagerSettings, aws: Aws) -> Content:
        """See ``ChannelEnding``."""
        number = 0
        with faults(ChannelUnavailable, WHAT):
            async for _ in _names(await aws.secretsmanager(), channel.prefix):
                number += 1
        note = (
            f"they can be restored for {RECOVERY_DAYS} days (aws secretsmanager restore-secret), and until then no "
            "other rollout begins under that prefix"
        )
        what = several(number, "secret") if number else ""
        return Content(what, f"{channel.prefix}/ in Secrets Manager", note)

    async def remove(self, channel: SecretsManagerSettings, aws: Aws) -> Sequence[tuple[str, str]]:
        """See ``ChannelEnding``."""
        client = await aws.secretsmanager()

        async def one(name: str) -> None:
            try:
                await client.delete_secret(SecretId=name, RecoveryWindowInDays=RECOVERY_DAYS)
            except ClientError as error:
                if code(error) not in (BEING_DELETED, "ResourceNotFoundException"):
                    raise

        with faults(ChannelUnavailable, WHAT):
            await some_at_once(one, [name async for name in _names(client, channel.prefix)], AT_ONCE)
        return ()


async def _names(client: SecretsManagerClient, prefix: str) -> AsyncIterator[str]:
    """The names of this channel's secrets: every version that it writes has a label of its generation.

    Another rollout's prefix may lie below this one, and other applications' secrets beside ours. One without a version
    is what a kill leaves between CreateSecret and the first version: nothing is in it.
    """
    start = f"{prefix}/"
    pages = client.get_paginator("list_secrets").paginate(Filters=[{"Key": "name", "Values": [start]}])
    async for page in pages:
        for entry in page.get("SecretList", []):
            name = entry.get("Name", "")
            if name.startswith(start) and "/" not in name.removeprefix(start):
                labels = {each for some in (entry.get("SecretVersionsToStages") or {}).values() for each in some}
                if not labels or any(each.startswith(GENERATION) for each in labels):
                    yield name
