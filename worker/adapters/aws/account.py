"""Which AWS account the credentials of this process belong to."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import WIRE
from worker.core.errors import WorkerError

if TYPE_CHECKING:
    from worker.adapters.aws.session import Aws

PATIENCE = 5.0
"""Seconds that the question may take: a person waits for the answer."""


async def own_account(aws: Aws) -> str:
    """The account of these credentials; empty where STS cannot be asked."""
    with suppress(WorkerError, TimeoutError, ClientError, *WIRE):
        async with asyncio.timeout(PATIENCE):
            return str((await (await aws.client("sts")).get_caller_identity())["Account"])
    return ""
