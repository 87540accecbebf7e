"""One AWS session for the process, and one client for each service, created when it is first needed.

The SDK finds the credentials in its default way (environment, profile, role, web identity, container, instance); the
only setting for them is the profile's name. Proxies, CA bundles and ``AWS_ENDPOINT_URL_…`` are used as the SDK does by
default, but for these services only: the call to Cognito has a client of its own (``adapters/cognito/client.py``).
Whatever decided where a request goes, the address is looked at (``endpoints``).
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
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.exceptions import BotoCoreError, ClientError

from worker.adapters.aws.credentials import CredentialSession, GuardedCredentials
from worker.adapters.aws.direct import direct
from worker.adapters.aws.endpoints import Addresses
from worker.adapters.aws.errors import refusal
from worker.adapters.aws.transport import Transport
from worker.core.errors import UsageError
from worker.settings.types import is_loopback

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_secretsmanager import SecretsManagerClient
    from types_aiobotocore_sqs import SQSClient

CONNECT_TIMEOUT = 5.0
"""Seconds for establishing a connection, TLS included, before the SDK tries again; its own default is a minute."""

READ_TIMEOUT = 20.0
"""Seconds without a byte of the answer before the SDK sends a request again; for all services not named below."""

SQS_READ_TIMEOUT = 30.0
"""The same for SQS. The answer to a long poll takes up to 20 seconds (API reference, ``ReceiveMessage``:
``WaitTimeSeconds``); ten more are for the network.
"""

DYNAMODB_READ_TIMEOUT = 5.0
"""The same for DynamoDB, which answers within tens of milliseconds. It is short because the time spent on a lost answer
is part of the user's claim."""

ATTEMPTS = 4
"""How often the SDK sends one request at most, the first time included; its pauses grow exponentially, with jitter.
A request that was first sent without the SDK (``direct``) has been sent once more."""


@dataclass(frozen=True, slots=True)
class AwsTarget:
    """Which AWS endpoints to use; everything else is the SDK's own default."""

    region: str
    profile: str | None = None
    fips: bool = False
    endpoints: Mapping[str, str] = field(default_factory=dict)
    """Service (``sqs``, ``dynamodb``, ``s3``, …) → URL, for VPC endpoints and emulators."""
    connections: int = 64
    """The highest number of connections of each client."""


def with_region(target: AwsTarget | None) -> AwsTarget:
    """The target with a Region: its own, or the one of the environment. Raises ``UsageError`` if there is none."""
    target = target or AwsTarget("")
    if target.region:
        return target
    try:
        region = (
            os.environ.get("AWS_REGION")
            or os.environ.get("AWS_DEFAULT_REGION")
            or botocore.session.Session(profile=target.profile).get_config_variable("region")
        )
    except BotoCoreError:
        region = None
    if not region:
        raise UsageError("no AWS Region is given", "set aws.region, or AWS_REGION in the environment")
    return replace(target, region=region)


class Aws:
    """The AWS clients of one process; an async context manager, which closes them."""

    def __init__(self, target: AwsTarget) -> None:
        self._target = target
        self._clients: dict[str, Any] = {}
        self._making = asyncio.Lock()
        self._botocore = CredentialSession(self._transport_for_credentials)
        self._session: aioboto3.Session | None = None

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._clients.clear()
        await self._stack.aclose()

    async def sqs(self) -> SQSClient:
        """The client of SQS. Raises ``PersonMustAct`` if credentials or profile are missing; so do those below."""
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

    async def require_credentials(self) -> None:
        """Get the credentials now.

        Raises ``PersonMustAct``, ``DependencyUnavailable`` or ``UsageError`` if there are none that work.
        """
        try:
            self._session_of_boto()
            await self._botocore.require_credentials()
        except BotoCoreError as error:
            raise refusal(error) from None

    async def credentials(self) -> GuardedCredentials:
        """The credentials for requests that this program signs itself. Raises ``CredentialsFailed`` or another
        ``BotoCoreError`` if there are none that work.
        """
        self._session_of_boto()
        return await self._botocore.require_credentials()

    async def client(self, service: str) -> Any:
        """The client of any service, by the SDK's name of the service."""
        async with self._making:
            if service not in self._clients:
                self._clients[service] = await self._make(service)
            return self._clients[service]

    async def _make(self, service: str) -> Any:
        transports: list[Transport] = []
        addresses = Addresses(f"requests to {service}", lambda: self._configured(service))

        def new_transport(**settings: Any) -> Transport:
            """Create the SDK's transport, and remember it: the SDK has no public way to get at it."""
            transports.append(Transport(**settings, admit=addresses.admit))
            return transports[-1]

        config = AioConfig(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout={"sqs": SQS_READ_TIMEOUT, "dynamodb": DYNAMODB_READ_TIMEOUT}.get(service, READ_TIMEOUT),
            max_pool_connections=self._target.connections,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            use_fips_endpoint=self._target.fips or None,
            proxies={} if is_loopback(urlsplit(self._target.endpoints.get(service, "")).hostname or "") else None,
            parameter_validation=service != "dynamodb",  # it takes a tenth of a write's time
            user_agent="mfa-worker",  # building the default one takes a quarter of a request's time
            http_session_cls=new_transport,  # type: ignore[arg-type]
        )
        try:
            session = self._session_of_boto()
            await self._botocore.require_credentials()
            client = await self._stack.enter_async_context(
                session.client(service, endpoint_url=self._target.endpoints.get(service), config=config)  # type: ignore[call-overload]
            )
            addresses.admit(client.meta.endpoint_url)
            await transports[0].open()
            return await direct(service, client, transports[0], self._botocore)
        except (BotoCoreError, ClientError) as error:
            raise refusal(error) from None

    def _session_of_boto(self) -> aioboto3.Session:
        if self._session is None:
            self._session = aioboto3.Session(
                botocore_session=self._botocore, profile_name=self._target.profile, region_name=self._target.region
            )
        return self._session

    def _transport_for_credentials(self, **settings: Any) -> Transport:
        addresses = Addresses(
            "requests for AWS credentials",
            lambda: [url for service in ("sts", "sso", "sso-oidc") for url in self._configured(service)],
        )
        return Transport(**settings, admit=addresses.admit)

    def _configured(self, service: str) -> list[str | None]:
        """The URLs that somebody has configured for a service: the settings, a variable, the configuration file."""
        whole, profile = self._botocore.full_config, self._botocore.get_scoped_config()
        sdk = ConfiguredEndpointProvider(full_config=whole, scoped_config=profile, client_name=service)
        return [self._target.endpoints.get(service), sdk.provide()]
