"""The HTTP session that the SDK sends its requests with (``AioConfig(http_session_cls=Transport)``).

The SDK's own session (aiobotocore 2.25.1, ``aiobotocore/httpsession.py``) does three things that must not happen here:

- it follows redirects to any host, and sends the credential there;
- it accepts a valid certificate of any host name;
- it checks no certificates at all if there is a proxy.

Changing that from outside would need its private names. This class only uses public names of aiohttp, and has the
methods that the SDK calls: the constructor, ``send``, ``close``, and ``async with``.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Self

import aiohttp
from aiobotocore.awsrequest import AioAWSResponse
from botocore.exceptions import (
    BotoCoreError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.httpsession import ProxyConfiguration, get_cert_path
from multidict import CIMultiDict
from yarl import URL

REDIRECTS = frozenset({301, 302, 307, 308})
"""HTTP statuses of a redirect (RFC 9110, 15.4)."""

_SDK_ERRORS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], type[BotoCoreError]], ...] = (
    (aiohttp.ClientSSLError, SSLError),
    ((aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError), ProxyConnectionError),
    ((aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError), ConnectionClosedError),
    (aiohttp.ConnectionTimeoutError, ConnectTimeoutError),
    (TimeoutError, ReadTimeoutError),
    (aiohttp.ClientConnectionError, EndpointConnectionError),
    (Exception, HTTPClientError),
)
"""aiohttp's exception → the SDK's exception for it; the first match counts. The SDK decides by these what to retry."""


class Transport:
    """Sends requests with aiohttp: follows no redirects, and checks certificates and host names, with a proxy too."""

    def __init__(
        self,
        *,
        timeout: tuple[float, float],
        proxies: Mapping[str, str],
        verify: bool | str,
        max_pool_connections: int,
        connector_args: Mapping[str, Any],
        **_never_set: object,
    ) -> None:
        """The SDK calls this, with values from its configuration and the environment.

        ``timeout``: seconds to connect, and seconds without a byte of the answer. ``proxies``: URL scheme → proxy.
        ``verify``: the file with the trusted certificates, or ``True`` for the SDK's own. ``connector_args``: further
        arguments of ``aiohttp.TCPConnector``. The other arguments are ignored: this program never sets them
        (``client_cert``, ``proxies_config``), or aiobotocore's own session ignores them too (``socket_options``).
        """
        connect, read = timeout
        self._timeout = aiohttp.ClientTimeout(sock_connect=connect, sock_read=read)
        self._proxies = ProxyConfiguration(proxies)
        self._verify = verify or True  # an empty AWS_CA_BUNDLE names no file; it does not mean "check nothing"
        self._connections = max_pool_connections
        self._connector_args = connector_args
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def open(self) -> None:
        """Read the certificates now, because that takes a while, and not at the first request. Raises ``OSError``."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which demands a valid certificate for the right host
        tls.load_verify_locations(get_cert_path(self._verify))  # type: ignore[arg-type]  # a path too
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, ssl=tls, **self._connector_args),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers={"Content-Type"},
            auto_decompress=False,
        )

    async def request(
        self, method: str, url: str, headers: CIMultiDict[str], body: Any, *, chunked: bool | None = None
    ) -> aiohttp.ClientResponse:
        """Send a request once, and return the answer, whose body is not read. A redirect is returned as the answer.

        Raises ``aiohttp.ClientError``, ``OSError`` (of which ``TimeoutError`` is one) or ``ValueError``.
        """
        if self._session is None:
            await self.open()
        assert self._session is not None
        return await self._session.request(
            method,
            URL(url, encoded=True),
            headers=headers,
            data=body,
            chunked=chunked,
            allow_redirects=False,
            proxy=self._proxies.proxy_url_for(url),
        )

    async def send(self, request: Any) -> AioAWSResponse:
        """Send a request of the SDK (``botocore.awsrequest.AWSPreparedRequest``) once. Raises ``BotoCoreError``."""
        headers = headers_of(request)
        headers["Accept-Encoding"] = "identity"  # objects of S3 must arrive unchanged
        chunked = headers.pop("Transfer-Encoding", "").lower() == "chunked" or None  # aiohttp needs it as an argument
        try:
            answer = await self.request(request.method, request.url, headers, request.body, chunked=chunked)
            lower_case = {name.lower(): text for name, text in answer.headers.items()}
            _demand_region(request.method, answer.status, lower_case)
            response = AioAWSResponse(str(answer.url), answer.status, lower_case, answer)  # type: ignore[arg-type]
            if not request.stream_output:
                await response.content  # type: ignore[misc]  # this reads the body, and the response keeps it
        except Exception as error:
            kind = next(kind for ours, kind in _SDK_ERRORS if isinstance(error, ours))
            raise kind(endpoint_url=request.url, proxy_url="the proxy", error=error) from error
        return response


def _demand_region(method: str, status: int, headers: Mapping[str, str]) -> None:
    """Raise ``ClientConnectionError`` where a redirect answers HeadBucket and does not name the bucket's Region.

    The SDK sends HeadBucket to learn that Region after S3 redirected it. S3 names it in any answer; something else,
    such as a load balancer that redirects to https, does not, and the SDK would ask again until Python's stack ends.
    """
    if method == "HEAD" and status in REDIRECTS and "x-amz-bucket-region" not in headers:
        raise aiohttp.ClientConnectionError("a redirect that does not name the bucket's Region")


def headers_of(request: Any) -> CIMultiDict[str]:
    """The headers of a request of the SDK (``botocore.awsrequest.AWSPreparedRequest``), all as text."""
    return CIMultiDict({name: _text(value) for name, value in request.headers.items()})


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
