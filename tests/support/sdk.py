"""The real SDK, pointed at the fake Cognito: what its tests look through, so that they see what a client sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig
from botocore import UNSIGNED
from botocore.exceptions import ClientError

from worker.rehearsal.fake_cognito.client import FakeCognito

_SESSION = aioboto3.Session()


@asynccontextmanager
async def cognito_at(url: str, *, read_timeout: float = 10.0) -> AsyncIterator[Any]:
    """A client of Cognito that signs nothing and tries once; seconds."""
    config = AioConfig(
        signature_version=UNSIGNED,
        retries={"total_max_attempts": 1},
        read_timeout=read_timeout,
        max_pool_connections=100,
        ignore_configured_endpoint_urls=True,
    )
    async with _SESSION.client("cognito-idp", region_name="eu-nowhere-1", endpoint_url=url, config=config) as client:
        yield client


def code_of(error: ClientError) -> tuple[str, str]:
    """The error's code and message."""
    return error.response["Error"]["Code"], error.response["Error"]["Message"]


async def until_in_flight(fake_cognito: FakeCognito, calls: int) -> None:
    """Return once just so many calls are in flight."""
    async with asyncio.timeout(10):
        while (await fake_cognito.stats()).in_flight != calls:
            pass
