"""The call to Cognito. What its answers mean is in ``answers.py``.

aioboto3 builds the request only once: method, URL and headers as its client would send them. After that only the
credential changes, and every request goes directly to the transport of that client (``Transport``), with its
connections, time-outs, proxies and certificates. The SDK's work around the transport is skipped, because it takes
longer than the transport itself, logs whole answers at level DEBUG, and turns an incomplete answer into an empty
success.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from worker.adapters.cognito.answers import read_answer, read_date, read_fault, why
from worker.core.clock import EndpointClock
from worker.core.errors import UsageError
from worker.core.model import CredentialKind, PreferReply, Reply, Request, Secret, Trouble, TryAgain, VerifyReply
from worker.core.ports import TimeAnswer
from worker.settings.types import is_loopback

if TYPE_CHECKING:
    from multidict import CIMultiDict

    from worker.adapters.aws.transport import Transport

LONGEST_CONNECT = 3.0
"""Seconds for establishing a connection, TLS included; at most three quarters of the call's time-out (see ``cognito``).

It is shorter than the call's time-out, so that it is known if nothing was sent: such a call is not counted as an
attempt. Three seconds leave room for one lost packet (TCP sends it again after one second, RFC 6298).
"""

LARGEST_ANSWER = 1 << 20
"""Bytes of the longest answer of Cognito that is read (1 MiB): a secret, a Session and an error take a few thousand."""

_ASKS_THE_TIME = ("AWSCognitoIdentityProviderService.GetUser", b'{"AccessToken": "none"}')
"""Target and body of the request that only asks what time it is: its answer, a refusal, is dated like any other.

It is a POST, as a cache may answer a GET; an operation that the service, proxies and policies know; and one that counts
against another quota than the enrolments (*UserRead*, 120/s: "Quotas in Amazon Cognito"). "none" is nobody's token.
"""

_FIELD = {CredentialKind.SESSION: "Session", CredentialKind.ACCESS_TOKEN: "AccessToken"}
"""The parameter of AssociateSoftwareToken (API reference) that takes each kind of credential."""

_OF_ONE_ATTEMPT = ("amz-sdk-", "content-length", "x-amzn-trace-id")
"""Prefixes of the headers that belong to a single attempt; they are left out of the draft."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The request as the SDK would send it, without the credential."""

    method: str
    url: str
    headers: CIMultiDict[str]


class CognitoClient:
    """``ports.Provider`` for Cognito; ``cognito`` creates it."""

    def __init__(self, transport: Transport, draft: Draft, call_timeout: float, clock: EndpointClock) -> None:
        self._transport = transport
        self._draft = draft
        self._call_timeout = call_timeout
        self._clock = clock
        self._last_date = ""

    async def ask_time(self) -> TimeAnswer:
        """See ``ports.TimeSource``; takes at most ``call_timeout`` seconds."""
        from aiohttp import ClientError
        from botocore.exceptions import HTTPClientError

        draft, (target, body) = self._draft, _ASKS_THE_TIME
        headers = draft.headers.copy()
        headers["X-Amz-Target"] = target
        sent = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._call_timeout):
                answer = await self._transport.request(draft.method, draft.url, headers, body)
                content = await self._transport.read(answer)
        except (ClientError, OSError, ValueError, HTTPClientError) as error:
            return TimeAnswer(told=False, trouble=why(error))
        if (date := read_date(answer.headers)) is not None:
            self._clock.heard(date, self._clock.monotonic() - sent)
            return TimeAnswer(told=True)
        match read_answer(CredentialKind.ACCESS_TOKEN, answer.status, answer.headers, content):
            case TryAgain(trouble=Trouble.NO_ANSWER, detail=detail):  # of a load balancer or a proxy in between
                return TimeAnswer(told=False, trouble=detail)
        return TimeAnswer(told=False)

    async def associate(self, request: Request) -> Reply:
        """Make exactly one wire attempt of AssociateSoftwareToken, in at most ``call_timeout`` seconds."""
        from aiohttp import ClientError
        from botocore.exceptions import HTTPClientError

        draft = self._draft
        body = json.dumps({_FIELD[request.kind]: request.credential.reveal()}).encode()
        sent = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._call_timeout):
                answer = await self._transport.request(draft.method, draft.url, draft.headers, body)
                content = await self._transport.read(answer)
        except (ClientError, OSError, ValueError, HTTPClientError) as error:  # a TimeoutError is an OSError
            return read_fault(error)
        if (date := answer.headers.get("Date", "")) != self._last_date:  # at most once a second: reading it takes time
            self._last_date = date
            if (told := read_date(answer.headers)) is not None:
                self._clock.heard(told, self._clock.monotonic() - sent)
        return read_answer(request.kind, answer.status, answer.headers, content)

    async def verify(self, request: Request, code: Secret) -> VerifyReply:
        """See ``ports.Provider``."""
        raise NotImplementedError

    async def prefer(self, request: Request) -> PreferReply:
        """See ``ports.Provider``."""
        raise NotImplementedError


@asynccontextmanager
async def cognito(
    region: str,
    *,
    endpoint_url: str | None = None,
    fips: bool = False,
    call_timeout: float = 10.0,
    concurrency: int = 64,
    clock: EndpointClock,
) -> AsyncIterator[CognitoClient]:
    """A client for Cognito in ``region``, with at most ``concurrency`` connections.

    ``endpoint_url``: another URL of Cognito, such as a VPC endpoint. ``fips``: use AWS's FIPS endpoint.
    ``call_timeout``: seconds for one wire attempt. ``clock`` is told the date of Cognito's answers.

    Raises ``UsageError`` if the SDK cannot work with the region, the URL or its own configuration, and if that leads
    to an address that is neither Cognito's nor configured.
    """
    import aioboto3
    from aiobotocore.config import AioConfig
    from botocore import UNSIGNED
    from botocore.exceptions import BotoCoreError

    from worker.adapters.aws.endpoints import Addresses
    from worker.adapters.aws.transport import Transport

    transports: list[Transport] = []

    def new_transport(**settings: Any) -> Transport:
        """Create the SDK's transport, and remember it: the SDK has no public way to get at it."""
        transports.append(Transport(**settings, largest=LARGEST_ANSWER))
        return transports[-1]

    loopback = is_loopback(urlsplit(endpoint_url or "").hostname or "")
    config = AioConfig(
        http_session_cls=new_transport,  # type: ignore[arg-type]
        connect_timeout=min(LONGEST_CONNECT, 0.75 * call_timeout),
        read_timeout=call_timeout,
        max_pool_connections=concurrency,
        signature_version=UNSIGNED,
        retries={"total_max_attempts": 1, "mode": "standard"},
        ignore_configured_endpoint_urls=True,
        use_fips_endpoint=fips,
        use_dualstack_endpoint=False,
        proxies={} if loopback else None,  # ``None``: those of the environment; a proxy never gets loopback requests
        parameter_validation=False,
        user_agent="mfa-worker",
    )
    async with AsyncExitStack() as stack:
        try:
            opening = aioboto3.Session().client("cognito-idp", region, endpoint_url=endpoint_url, config=config)
            client = await stack.enter_async_context(opening)
            draft = await _draft(client)
            if endpoint_url is None or urlsplit(draft.url)[:2] != urlsplit(endpoint_url)[:2]:
                Addresses("what Cognito is asked, sessions and tokens,", lambda: [endpoint_url]).admit(draft.url)
            await transports[0].open()
        except (BotoCoreError, OSError, ValueError) as error:
            raise UsageError(
                f"the AWS SDK does not work with these settings: {error}",
                "Look at cognito.region, the proxy, and the certificates that AWS_CA_BUNDLE names.",
            ) from error
        yield CognitoClient(transports[0], draft, call_timeout, clock)


class _Drafted(Exception):  # noqa: N818 - no error
    """Carries the finished request out of the SDK, and stops the SDK from sending it."""

    def __init__(self, request: Any) -> None:
        super().__init__("drafted, not sent")
        self.request = request


async def _draft(client: Any) -> Draft:
    """Let the SDK build a request, and take it in the ``before-send`` event, the last one before sending."""
    from multidict import CIMultiDict

    def stop(request: Any, **_: object) -> None:
        raise _Drafted(request)

    client.meta.events.register("before-send.cognito-identity-provider.AssociateSoftwareToken", stop)
    try:
        await client.associate_software_token(AccessToken="draft")
    except _Drafted as drafted:
        request = drafted.request
    else:
        raise AssertionError("the SDK did not stop at the draft")
    texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()}
    headers = CIMultiDict({name: text for name, text in texts.items() if not name.lower().startswith(_OF_ONE_ATTEMPT)})
    headers["Accept-Encoding"] = "identity"
    return Draft(request.method, request.url, headers)
