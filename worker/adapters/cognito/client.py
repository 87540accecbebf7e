"""The call to Cognito. What its answers mean stands in ``cognito_answers``.

aioboto3 writes the request once: address, headers and body as its client would send them. After that only the
credential changes, and every request leaves through that client's own transport: its connections, time-outs, proxies
and TLS. What the client does around the transport for each call is left out: it takes longer than the transport itself,
logs whole answers at level DEBUG, and makes an empty success of half an answer.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from worker.adapters.cognito.answers import read_answer, read_fault
from worker.core.errors import UsageError
from worker.core.model import Again, CredentialKind, Reply, Request, Trouble
from worker.core.ports import Clock
from worker.settings.types import is_loopback

USER_AGENT = "mfa-worker"

LONGEST_CONNECT = 3.0
"""Seconds; at most three quarters of the call's time-out, so that it is known when nothing was sent."""

_FIELD = {CredentialKind.SESSION: "Session", CredentialKind.ACCESS_TOKEN: "AccessToken"}
_OF_ONE_ATTEMPT = ("amz-sdk-", "content-length", "x-amzn-trace-id")


class CognitoClient:
    """The ``Provider`` port; ``cognito`` makes it."""

    def __init__(self, transport: Any, draft: Any, call_timeout: float, clock: Clock) -> None:
        self._transport = transport
        self._draft = draft
        self._call_timeout = call_timeout
        self._clock = clock
        self._estimates: deque[float] = deque(maxlen=8)
        self._last_date = ""

    @property
    def skew(self) -> float:
        """Seconds by which the server's clock is ahead of ours; the least that the last answers allow, 0 before any."""
        return min(self._estimates, key=abs, default=0.0)

    async def associate(self, request: Request) -> Reply:
        """Make exactly one wire attempt of AssociateSoftwareToken, in at most ``call_timeout`` seconds."""
        from botocore.exceptions import BotoCoreError

        letter = self._letter(request)
        sent = self._clock.utc()
        try:
            async with asyncio.timeout(self._call_timeout):
                answer = await self._transport.send(letter)
                body = await answer.content
        except TimeoutError:
            return Again(Trouble.NO_ANSWER, "TimeoutError")
        except BotoCoreError as error:
            return read_fault(error)
        if (date := answer.headers.get("date", "")) != self._last_date:
            self._learn_skew(date, sent)
        return read_answer(request.kind, answer.status_code, answer.headers, body)

    def _letter(self, request: Request) -> Any:
        from botocore.awsrequest import AWSPreparedRequest

        body = json.dumps({_FIELD[request.kind]: request.credential.reveal()}).encode()
        headers = {**self._draft.headers, "Content-Length": str(len(body))}
        return AWSPreparedRequest(self._draft.method, self._draft.url, headers, body, stream_output=False)  # type: ignore[arg-type]

    def _learn_skew(self, date: str, sent: float) -> None:
        """``Date`` counts whole seconds: the answer was written within the second that begins with it."""
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

    Raises ``UsageError`` where the SDK cannot work with the region, the address or its own settings.
    """
    import aioboto3
    from aiobotocore.config import AioConfig
    from botocore import UNSIGNED
    from botocore.exceptions import BotoCoreError

    transports: list[Any] = []

    def transport(**settings: Any) -> Any:
        transports.append(_transport_class()(**settings))
        return transports[-1]

    config = AioConfig(
        http_session_cls=transport,  # type: ignore[arg-type]
        connect_timeout=min(LONGEST_CONNECT, 0.75 * call_timeout),
        read_timeout=call_timeout,
        max_pool_connections=concurrency,
        signature_version=UNSIGNED,
        retries={"total_max_attempts": 1, "mode": "standard"},
        ignore_configured_endpoint_urls=True,
        use_fips_endpoint=fips,
        use_dualstack_endpoint=False,
        proxies={} if is_loopback(urlsplit(endpoint_url or "").hostname or "") else None,  # no proxy may see it
        parameter_validation=False,
        user_agent=USER_AGENT,
    )
    async with AsyncExitStack() as stack:
        try:
            opening = aioboto3.Session().client("cognito-idp", region, endpoint_url=endpoint_url, config=config)
            client = await stack.enter_async_context(opening)
            draft = await _draft(client)
            await transports[0].open(draft.url)
        except (BotoCoreError, OSError, ValueError) as error:
            raise UsageError(
                f"the AWS SDK does not work with these settings: {error}",
                "Look at cognito.region, the proxy, and the certificates that AWS_CA_BUNDLE names.",
            ) from error
        yield CognitoClient(transports[0], draft, call_timeout, clock)


class _Drafted(Exception):  # noqa: N818 - it carries the draft out of the SDK before anything is sent
    def __init__(self, request: Any) -> None:
        super().__init__("drafted, not sent")
        self.request = request


async def _draft(client: Any) -> Any:
    """One request as the SDK would send it: method, address and headers, without those that belong to one attempt."""

    def stop(request: Any, **_: object) -> None:
        raise _Drafted(request)

    client.meta.events.register("before-send.cognito-identity-provider.AssociateSoftwareToken", stop)
    try:
        await client.associate_software_token(AccessToken="draft")
    except _Drafted as drafted:
        draft = drafted.request
    else:
        raise AssertionError("the SDK did not stop at the draft")
    texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in draft.headers.items()}
    draft.headers = {name: text for name, text in texts.items() if not name.lower().startswith(_OF_ONE_ATTEMPT)}
    return draft


def _transport_class() -> Any:
    """aioboto3's transport, save that it follows no redirect: that would be another attempt, and to anywhere."""
    from aiobotocore.httpsession import AIOHTTPSession

    class Straight:
        def __init__(self, session: Any) -> None:
            self._session = session

        def request(self, method: str, **options: Any) -> Any:
            return self._session.request(method, allow_redirects=False, **options)

    class Transport(AIOHTTPSession):
        async def open(self, url: str) -> None:
            """Read the certificates now: that takes a while, and fails where they cannot be read."""
            await self._get_session(self._proxy_config.proxy_url_for(url))  # type: ignore[attr-defined]

        async def _get_session(self, proxy_url: str | None) -> Straight:
            return Straight(await super()._get_session(proxy_url))  # type: ignore[misc]

    return Transport
