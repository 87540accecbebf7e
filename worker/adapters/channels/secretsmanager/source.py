"""Reading records back from Secrets Manager: the current version of each secret is copied as a line.

This needs permissions that the worker does not have: ``secretsmanager:ListSecrets`` and ``GetSecretValue``, and
``kms:Decrypt`` for a KMS key of your own.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, BinaryIO

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.aws.naming import hashed, secret_segment
from worker.adapters.channels import sentinel
from worker.adapters.channels.copying import lost, write_lines
from worker.core.errors import ChannelUnavailable
from worker.core.record import is_line

if TYPE_CHECKING:
    from types_aiobotocore_secretsmanager import SecretsManagerClient


async def copy_secrets(client: SecretsManagerClient, prefix: str, file: BinaryIO) -> int:
    """Copy the current version of each secret under the prefix as a line; return their number.

    The list of secrets may be five minutes behind (API reference, ListSecrets).
    """

    async def line(name: str) -> bytes:
        try:
            value = (await client.get_secret_value(SecretId=name, VersionStage="AWSCURRENT")).get("SecretString", "")
        except ClientError as error:
            if code(error) == "ResourceNotFoundException":  # deleted since it was listed, or not written so far
                return b""
            raise
        if not is_line(value):
            return lost(name)
        username = str(json.loads(value).get("username"))
        known = (hashed(username), secret_segment(username, "username"))
        return value.encode() if name.rpartition("/")[2] in known else lost(name)

    with faults(ChannelUnavailable, "Secrets Manager"):
        return await write_lines(_secrets(client, prefix), line, file)


async def _secrets(client: SecretsManagerClient, prefix: str) -> AsyncIterator[str]:
    start = prefix.rstrip("/") + "/"
    pages = client.get_paginator("list_secrets").paginate(Filters=[{"Key": "name", "Values": [start]}])
    async for page in pages:
        for entry in page.get("SecretList", []):
            name = entry.get("Name", "")
            segment = name.removeprefix(start)
            if name.startswith(start) and "/" not in segment and segment != sentinel.NAME:
                yield name
