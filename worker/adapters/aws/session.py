"""One AWS session for the process, and one client a service, made when it is first asked for.

Credentials come the default way (environment, profile, role, web identity, container, instance); nothing of them is a
setting here but the profile's name. Proxies, CA bundles and ``AWS_ENDPOINT_URL_…`` count as the SDK has it, for these
services only: the call to Cognito goes its own way (see ``cognito``).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import aioboto3
import botocore.session
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError

from worker.adapters.aws.errors import refusal
from worker.adapters.aws.s3_endpoint import ask_once_a_bucket
from worker.core.errors import UsageError
from worker.settings.types import is_loopback

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_secretsmanager import SecretsManagerClient
    from types_aiobotocore_sqs import SQSClient

LONG_POLL = 20.0
"""Seconds that SQS holds a poll at most."""
_READ_TIMEOUTS = {"sqs": LONG_POLL + 10, "dynamodb": 5.0}
"""Seconds without an answer after which a request is made again."""


@dataclass(frozen=True, slots=True)
class AwsTarget:
    """Where AWS is: what is not said here is the SDK's own default."""

    region: str
    profile: str | None = None
    fips: bool = False
    endpoints: Mapping[str, str] = field(default_factory=dict)
    """Service (``sqs``, ``dynamodb``, ``s3``, …) → URL, for VPC endpoints and emulators."""
    connections: int = 64
    """A client's connections at most."""


def with_region(place: AwsTarget | None) -> AwsTarget:
    """The place with a Region: its own, or the environment's. Raises ``UsageError`` where neither says one."""
    place = place or AwsTarget("")
    if place.region:
        return place
    try:
        region = (
            os.environ.get("AWS_REGION")
            or os.environ.get("AWS_DEFAULT_REGION")
            or botocore.session.Session(profile=place.profile).get_config_variable("region")
        )
    except BotoCoreError:
        region = None
    if not region:
        raise UsageError("no AWS Region is given", "set aws.region, or AWS_REGION in the environment")
    return replace(place, region=region)


class Aws:
    """The AWS services of one process. For ``async with``."""

    def __init__(self, place: AwsTarget) -> None:
        self._place = place
        self._clients: dict[str, Any] = {}
        self._making = asyncio.Lock()
        self._session: aioboto3.Session | None = None

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._clients.clear()
        await self._stack.aclose()

    async def sqs(self) -> SQSClient:
        """The client of SQS. Raises ``PersonMustAct`` where credentials or profile are missing; so do the others."""
        client: SQSClient = await self.client("sqs")
        return client

    async def dynamodb(self) -> DynamoDBClient:
        """The client of DynamoDB."""
        client: DynamoDBClient = await self.client("dynamodb")
        return client

    async def s3(self) -> S3Client:
        """The client of S3."""
        client: S3Client = await self.client("s3")
        return client

    async def secretsmanager(self) -> SecretsManagerClient:
        """The client of Secrets Manager."""
        client: SecretsManagerClient = await self.client("secretsmanager")
        return client

    async def client(self, service: str) -> Any:
        """The client of any service, by the SDK's name of it."""
        async with self._making:
            if service not in self._clients:
                self._clients[service] = await self._make(service)
            return self._clients[service]

    async def _make(self, service: str) -> Any:
        config = AioConfig(
            connect_timeout=5.0,
            read_timeout=_READ_TIMEOUTS.get(service, 20.0),
            max_pool_connections=self._place.connections,
            retries={"mode": "standard", "total_max_attempts": 4},
            use_fips_endpoint=self._place.fips or None,
            proxies={} if is_loopback(urlsplit(self._place.endpoints.get(service, "")).hostname or "") else None,
            tcp_keepalive=True,
            parameter_validation=service != "dynamodb",  # a tenth of what its writes cost
            user_agent="mfa-worker",  # building the default one is a quarter of what a request costs
        )
        try:
            if self._session is None:
                self._session = aioboto3.Session(profile_name=self._place.profile, region_name=self._place.region)
            client = await self._stack.enter_async_context(
                self._session.client(service, endpoint_url=self._place.endpoints.get(service), config=config)  # type: ignore[call-overload]
            )
        except BotoCoreError as error:
            raise refusal(error) from None
        if service == "s3":
            ask_once_a_bucket(client)
        return client
