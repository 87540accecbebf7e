"""Signs the two requests for which Cognito wants AWS credentials: AdminInitiateAuth and AdminSetUserMFAPreference.

The SDK's signer makes the signature, and its default chain finds and renews the credentials (``adapters/aws/session``);
they are first looked for with the first such request. The request itself is sent like all others of ``client.py``:
once, over the same transport.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError
from multidict import CIMultiDict

from worker.adapters.aws.errors import code, refusal
from worker.adapters.aws.transport import headers_of
from worker.adapters.cognito.answers import Operation, pool_fault, sentence
from worker.core.errors import DependencyUnavailable, UsageError
from worker.core.model import PoolFault, Trouble, TryAgain

if TYPE_CHECKING:
    from worker.adapters.aws.session import Aws

SERVICE = "cognito-idp"
"""The service's name in a signature (botocore's model: ``endpointPrefix``)."""


class SignedCalls:
    """The signer for one pool. ``region``: the pool's; ``aws``: where the credentials come from."""

    def __init__(self, aws: Aws, *, region: str, user_pool_id: str) -> None:
        self._aws = aws
        self._region = region
        self._getting: asyncio.Task[Any] | None = None
        self.user_pool_id = user_pool_id

    async def sign(
        self, operation: Operation, url: str, headers: CIMultiDict[str], body: bytes, *, patience: float
    ) -> CIMultiDict[str] | TryAgain | PoolFault:
        """The headers of the signed request (POST); otherwise what it means that it cannot be signed.

        ``patience``: seconds for which credentials are waited for; getting them goes on after that.
        """
        try:
            credentials = await self._credentials(patience)
        except (BotoCoreError, ClientError) as error:
            said = refusal(error)
            if isinstance(said, DependencyUnavailable):
                return TryAgain(Trouble.UNSENT, code(error))
            cause = f"{said}: " if isinstance(said, UsageError) else ""  # else the code alone does not say it
            return pool_fault(operation, code(error), sentence(f"{cause}{said.hint}"))
        if credentials is None:
            return TryAgain(Trouble.UNSENT, ReadTimeoutError.__name__)
        kept = {name: text for name, text in headers.items() if name.lower() != "accept-encoding"}  # proxies change it
        request = AWSRequest("POST", url, headers=kept, data=body)
        SigV4Auth(credentials, SERVICE, self._region).add_auth(request)
        signed = headers_of(request)
        signed["Accept-Encoding"] = headers["Accept-Encoding"]
        return signed

    async def close(self) -> None:
        """Stop getting credentials."""
        if self._getting is not None:
            self._getting.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({self._getting})

    async def _credentials(self, patience: float) -> Any:
        """The credentials of this moment; ``None`` if they take too long. Raises what the SDK does."""
        if self._getting is None:
            self._getting = asyncio.create_task(self._get())
        getting = self._getting
        done, _ = await asyncio.wait({getting}, timeout=patience)
        if not done:
            return None
        if self._getting is getting:
            self._getting = None
        return getting.result()

    async def _get(self) -> Any:
        return await (await self._aws.credentials()).get_frozen_credentials()
