"""The SDK's session, so that a failure to get AWS credentials is told as one, with its own cure.

The SDK looks for credentials in its own way, and raises whatever happens then: ``FileNotFoundError`` for a program or a
token that is not there, ``JSONDecodeError`` for what a program printed, an error of STS in the middle of a write to the
ledger. Here all of that becomes ``CredentialsFailed``. What SSO and STS are asked goes over this program's transport.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ReadTimeoutError,
    RefreshWithMFAUnsupportedError,
)

from worker.adapters.aws.errors import CredentialsFailed

PATIENCE = 30.0
"""Seconds that getting credentials may take, all requests included: a helper program that asks a token or a browser
takes a few, STS and SSO take tenths of one; and a claim of a user lasts longer."""
CONNECT_TIMEOUT, READ_TIMEOUT, ATTEMPTS = 5.0, 10.0, 3
"""Of the requests to STS and SSO, in seconds; the SDK's own are a minute each, so two could outlast every patience."""

_BY_METHOD: Mapping[str, str] = {
    "custom-process": "CredentialProcess",
    "assume-role-with-web-identity": "WebIdentityTokenFile",
    "container-role": "ContainerCredentials",
}
"""The SDK's name of a way to get credentials → the code in the table for a failure that names none itself."""


class _WithoutTraceback(logging.Filter):
    """Lets the SDK say that renewing credentials failed, but not repeat what a helper program printed."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = None
        return True


for _name in ("aiobotocore.credentials", "aiobotocore.tokens", "botocore.credentials", "botocore.tokens"):
    logging.getLogger(_name).addFilter(_WithoutTraceback())


class CredentialSession(AioSession):
    """An SDK session whose credentials raise ``CredentialsFailed``, and whose own clients use this transport.

    ``new_transport`` makes the transport of a client that the SDK makes for itself, to ask STS or SSO.
    """

    def __init__(self, new_transport: Callable[..., Any], profile: str | None = None) -> None:
        super().__init__(profile=profile)
        self._new_transport = new_transport
        self._default_transport = getattr(AioConfig(), "http_session_cls", None)
        self._guarded: GuardedCredentials | None = None

    async def get_credentials(self) -> Any:  # type: ignore[override]  # as the SDK's own asynchronous session
        """The ``GuardedCredentials``; ``None`` if there are none. Raises ``CredentialsFailed``."""
        if self._guarded is None:
            with told_as_credentials(self._likely_method()):
                self._refuse_to_ask_nobody()
                async with asyncio.timeout(PATIENCE):
                    found = await super().get_credentials()
            self._guarded = None if found is None else GuardedCredentials(found)
        return self._guarded

    async def require_credentials(self) -> GuardedCredentials:
        """The credentials, which were got or renewed just now. Raises ``CredentialsFailed`` if there are none."""
        found: GuardedCredentials | None = await self.get_credentials()
        if found is None:
            raise CredentialsFailed(NoCredentialsError.__name__, NoCredentialsError())
        await found.get_frozen_credentials()
        return found

    def create_client(self, *args: Any, config: Any = None, **more: Any) -> Any:
        """See the SDK's; a client that it makes for itself, without a transport of its own, gets this program's."""
        if getattr(config, "http_session_cls", self._default_transport) is self._default_transport:
            config = AioConfig(
                connect_timeout=CONNECT_TIMEOUT,
                read_timeout=READ_TIMEOUT,
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            ).merge(config or AioConfig())
            config.http_session_cls = self._new_transport
        return super().create_client(*args, config=config, **more)  # type: ignore[call-overload]

    def _refuse_to_ask_nobody(self) -> None:
        """Raise ``RefreshWithMFAUnsupportedError`` if the SDK would ask for a code where nobody sits at a terminal."""
        if not sys.stdin.isatty() and self.get_scoped_config().keys() >= {"mfa_serial", "role_arn"}:
            raise RefreshWithMFAUnsupportedError

    def _likely_method(self) -> str:
        """By which way credentials are got at once, where the SDK does not say it: a program, if a profile names one.

        All others that raise at once name their cause; those of STS and SSO are got with the first request.
        """
        try:
            return "custom-process" if self.get_scoped_config().get("credential_process") else ""
        except BotoCoreError:
            return ""


class GuardedCredentials:
    """The SDK's credentials, as the SDK's clients use them."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials
        self._renewable = hasattr(credentials, "refresh_needed")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._credentials, name)

    async def get_frozen_credentials(self) -> Any:
        """See the SDK's. Raises ``CredentialsFailed``."""
        if not self._renewable:
            return await self._credentials.get_frozen_credentials()
        with told_as_credentials(self._credentials.method):
            async with asyncio.timeout(PATIENCE):
                return await self._credentials.get_frozen_credentials()

    async def get_account_id(self) -> Any:
        """See the SDK's. Raises ``CredentialsFailed``."""
        if not self._renewable:
            return self._credentials.get_account_id()
        with told_as_credentials(self._credentials.method):
            async with asyncio.timeout(PATIENCE):
                return await self._credentials.get_account_id()


@contextmanager
def told_as_credentials(method: str) -> Iterator[None]:
    """Turn everything that the block raises into ``CredentialsFailed``; ``method``: the SDK's name of the way."""
    try:
        yield
    except CredentialsFailed:
        raise
    except Exception as error:  # noqa: BLE001 - the SDK wraps hardly anything of what its ways to credentials raise
        raise CredentialsFailed(_code(error, method), error) from None


def _code(error: Exception, method: str) -> str:
    if isinstance(error, CredentialRetrievalError):
        provider = str(error.kwargs.get("provider", ""))
        return _BY_METHOD.get(provider, type(error).__name__)
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code") or "unknown")
    if isinstance(error, BotoCoreError):
        return type(error).__name__
    if isinstance(error, TimeoutError) and method != "custom-process":
        return ReadTimeoutError.__name__
    if isinstance(error, RuntimeError):  # "the refreshed credentials are still expired"
        return "RefreshedButExpired"
    return _BY_METHOD.get(method, CredentialRetrievalError.__name__)
