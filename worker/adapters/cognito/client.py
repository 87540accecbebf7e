"""The call to Cognito. What its answers mean stands in ``answers.py``.

aioboto3 writes the request once: method, address and headers as its client would send them. After that only the
credential changes, and every request goes straight to the transport that the client was given (``Transport``): its
connections, time-outs, proxies and certificates. What the SDK does around the transport for each call is left out: it
takes longer than the transport itself, logs whole answers at level DEBUG, and makes an empty success of half an answer.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from worker.adapters.cognito.answers import read_answer, read_fault
from worker.core.errors import UsageError
from worker.core.model import CredentialKind, Reply, Request
from worker.core.ports import Clock
from worker.settings.types import is_loopback

if TYPE_CHECKING:
    from multidict import CIMultiDict

    from worker.adapters.aws.transport import Transport

LONGEST_CONNECT = 3.0
"""Seconds for a connection to stand, TLS included; at most three quarters of the call's time-out (see ``cognito``).

It ends before the call does, so that it is known when nothing was sent: such a call counts against nobody. Three
seconds leave room for one lost packet (TCP sends it again after one second, RFC 6298).
"""

SKEW_SAMPLES = 8
"""How many of the last answers tell how far this machine's clock is off. One answer may have been long on its way."""

_FIELD = {CredentialKind.SESSION: "Session", CredentialKind.ACCESS_TOKEN: "AccessToken"}
"""The parameter of AssociateSoftwareToken (API reference) that takes each kind of credential."""

_OF_ONE_ATTEMPT = ("amz-sdk-", "content-length", "x-amzn-trace-id")
"""How the names of headers begin that the SDK makes anew for each attempt: they are no part of the draft."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The request as the SDK would send it, less the credential."""

    method: str
    url: str
    headers: CIMultiDict[str]


class CognitoClient:
    """The ``Provider`` port; ``cognito`` makes it."""

    def __init__(self, transport: Transport, draft: Draft, call_timeout: float, clock: Clock) -> None:
        self._transport = transport
        self._draft = draft
        self._call_timeout = call_timeout
        self._clock = clock
        self._estimates: deque[float] = deque(maxlen=SKEW_SAMPLES)
        self._last_date = ""

    @property
    def skew(self) -> float:
        """Seconds by which the server's clock is ahead of ours; the least that the last answers allow, 0 before any."""
        return min(self._estimates, key=abs, default=0.0)

    async def associate(self, request: Request) -> Reply:
        """Make exactly one wire attempt of AssociateSoftwareToken, in at most ``call_timeout`` seconds."""
        from aiohttp import ClientError

        draft = self._draft
        body = json.dumps({_FIELD[request.kind]: request.credential.reveal()}).encode()
        sent = self._clock.utc()
        try:
            async with asyncio.timeout(self._call_timeout):
                answer = await self._transport.request(draft.method, draft.url, draft.headers, body)
                content = await answer.read()
        except (ClientError, OSError, ValueError) as error:  # a TimeoutError is an OSError
            return read_fault(error)
        if (date := answer.headers.get("Date", "")) != self._last_date:
            self._learn_skew(date, sent)
        return read_answer(request.kind, answer.status, answer.headers, content)

    def _learn_skew(self, date: str, sent: float) -> None:
        """Learn from an answer's ``Date``, and from when its request left (UTC), how far this machine's clock is off.

        ``Date`` counts whole seconds: the answer was written within the second that begins with it.
        """
        self._last_date = date
        try:
            second = parsedate_to_datetime(date).timestamp()
        except (ValueError, OverflowError):
            return
        least, most = second - self._clock.utc(), second + 1 - sent
        self._estimates.append(0.0 if least <= 0 <= most else min(least, most, key=abs))


@asynccontextmanager
async def cognito(
    region: str,
    *,
    endpoint_url: str | None = None,
    fips: bool = False,
    call_timeout: float = 10.0,
    concurrency: int = 64,
    clock: Clock,
) -> AsyncIterator[CognitoClient]:
    """Cognito in ``region``: at most ``concurrency`` connections, ``call_timeout`` seconds for a wire attempt.

    ``endpoint_url``: where Cognito is instead, such as a VPC endpoint. ``fips``: use AWS's FIPS endpoint.

    Raises ``UsageError`` where the SDK cannot work with the region, the address or its own settings.
    """
    import aioboto3
    from aiobotocore.config import AioConfig
    from botocore import UNSIGNED
    from botocore.exceptions import BotoCoreError

    from worker.adapters.aws.transport import Transport

    transports: list[Transport] = []

    def new_transport(**settings: Any) -> Transport:
        """The SDK tells nobody which transport it made, so it is remembered here."""
        transports.append(Transport(**settings))
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
        proxies={} if loopback else None,  # ``None``: those of the environment; none may see what is for this host
        parameter_validation=False,
        user_agent="mfa-worker",
    )
    async with AsyncExitStack() as stack:
        try:
            opening = aioboto3.Session().client("cognito-idp", region, endpoint_url=endpoint_url, config=config)
            client = await stack.enter_async_context(opening)
            draft = await _draft(client)
            await transports[0].open()
        except (BotoCoreError, OSError, ValueError) as error:
            raise UsageError(
                f"the AWS SDK does not work with these settings: {error}",
                "Look at cognito.region, the proxy, and the certificates that AWS_CA_BUNDLE names.",
            ) from error
        yield CognitoClient(transports[0], draft, call_timeout, clock)


class _Drafted(Exception):  # noqa: N818 - no error
    """Carries the request out of the SDK before anything is sent."""

    def __init__(self, request: Any) -> None:
        super().__init__("drafted, not sent")
        self.request = request


async def _draft(client: Any) -> Draft:
    """Let the SDK write a request, and stop it before it is sent: its event ``before-send`` comes last of all."""
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
