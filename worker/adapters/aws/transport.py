"""The HTTP session that the SDK sends its requests with (``AioConfig(http_session_cls=Transport)``).

The SDK's own session (aiobotocore 2.25.1, ``aiobotocore/httpsession.py``) does three things that must not happen here:

- it follows redirects to any host, and sends the credential there;
- it accepts a valid certificate of any host name;
- it checks no certificates at all if there is a proxy.

Changing that from outside would need its private names. This class only uses public names of aiohttp, and has the
methods that the SDK calls: the constructor, ``send``, ``close``, and ``async with``.

It also bounds every answer, in bytes and in time, and takes no success that no AWS service has given: a proxy's page
with status 200 would be an empty answer to the SDK.
"""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
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

from worker.adapters.aws.errors import SettingsRefused
from worker.core.errors import UsageError
from worker.settings.environment import refuse_key_log

REDIRECTS = frozenset({301, 302, 307, 308})
"""HTTP statuses of a redirect (RFC 9110, 15.4)."""
LARGEST = 32 << 20
"""Bytes of the longest answer that is read (32 MiB). The longest that AWS gives are 16 MB (DynamoDB, BatchGetItem) and
ten messages of 1 MiB (SQS), both more in JSON; S3 lists 1,000 keys in at most 8 MB."""
TOTAL = 4.0
"""The most time that an answer may take, as a multiple of the time without a byte of it: who sends a byte now and then
does not hold a request for ever. For the longest, ``LARGEST`` in 80 s, that is 3.4 Mbit/s."""

_REQUEST_IDS = ("x-amzn-requestid", "x-amz-request-id")
"""Headers of which every answer of AWS has one."""
_OF_A_SERVICE = ("application/x-amz-json", "application/json", "application/xml", "text/xml", "application/x-amz-cbor")
"""Types of content in which services answer; an emulator may leave out the request's id."""
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
"""How JSON writes one half of a character beyond 16 bits; a lone half is in no text that can be written."""


class NotFromAws(HTTPClientError):  # noqa: N818 - it names what happened
    """A success that no AWS service gave, or a text that cannot be one of its."""

    fmt = "the answer is not from AWS: {error}"


class AnswerTooLong(HTTPClientError):  # noqa: N818 - it names what happened
    """An answer with more bytes than any that AWS gives."""

    fmt = "the answer is too long: {error}"


class ProxyRefused(ProxyConnectionError):  # noqa: N818 - it names what happened
    """The proxy answers that it wants to know who asks (HTTP status 407), or that this is forbidden."""


class CertificateRefused(SSLError):  # noqa: N818 - it names what happened
    """The certificate is not trusted, or is another host's."""


_SDK_ERRORS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], type[BotoCoreError]], ...] = (
    (aiohttp.ClientConnectorCertificateError, CertificateRefused),
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
        admit: Callable[[str], None] = lambda _: None,
        largest: int = LARGEST,
        **_never_set: object,
    ) -> None:
        """The SDK calls this, with values from its configuration and the environment.

        ``timeout``: seconds to connect, and seconds without a byte of the answer. ``proxies``: URL scheme → proxy.
        ``verify``: the file with the trusted certificates, or ``True`` for the SDK's own. ``connector_args``: further
        arguments of ``aiohttp.TCPConnector``. ``admit``: raises ``UsageError`` for a URL that the SDK must not send to
        (see ``endpoints``). ``largest``: bytes of the longest answer. The other arguments are ignored: this program
        never sets them (``client_cert``, ``proxies_config``), or aiobotocore's own session ignores them too
        (``socket_options``).
        """
        connect, read = timeout
        self._timeout = aiohttp.ClientTimeout(total=connect + TOTAL * read, sock_connect=connect, sock_read=read)
        self._proxies = ProxyConfiguration(proxies)
        self._verify = verify or True  # an empty AWS_CA_BUNDLE names no file; it does not mean "check nothing"
        self._connections = max_pool_connections
        self._connector_args = connector_args
        self._admit, self._largest = admit, largest
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
        """Read the certificates now, because that takes a while, and not at the first request.

        Raises ``UsageError`` if there are none.
        """
        refuse_key_log(os.environ)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which demands a valid certificate for the right host
        _trust(tls, get_cert_path(self._verify))  # type: ignore[arg-type]  # a path too
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

    async def read(self, answer: aiohttp.ClientResponse) -> bytes:
        """The body of the answer. Raises ``AnswerTooLong``, and what ``request`` raises."""
        if answer.content_length is not None and answer.content_length <= self._largest:
            return await answer.read()
        parts, length = list[bytes](), answer.content_length or 0
        try:
            while length <= self._largest and (part := await answer.content.readany()):
                parts.append(part)
                length += len(part)
        except BaseException:
            answer.close()
            raise
        if length > self._largest:
            answer.close()
            raise AnswerTooLong(error=f"more than {self._largest} bytes")
        answer.release()
        return b"".join(parts)

    async def send(self, request: Any) -> AioAWSResponse:
        """Send a request of the SDK (``botocore.awsrequest.AWSPreparedRequest``) once.

        Raises ``BotoCoreError``; ``SettingsRefused`` for an address that is not admitted.
        """
        headers = headers_of(request)
        headers["Accept-Encoding"] = "identity"  # objects of S3 must arrive unchanged
        chunked = headers.pop("Transfer-Encoding", "").lower() == "chunked" or None  # aiohttp needs it as an argument
        try:
            self._admit(request.url)
            answer = await self.request(request.method, request.url, headers, request.body, chunked=chunked)
            lower_case = {name.lower(): text for name, text in answer.headers.items()}
            _demand_region(request.method, answer.status, lower_case)
            raw: Any = answer
            if not request.stream_output or answer.status >= 300:
                raw = _Whole(await self.read(answer))
                refuse_half_characters(raw.body)
            try:
                refuse_others(answer.status, lower_case)
            except NotFromAws:
                answer.close()
                raise
            response = AioAWSResponse(str(answer.url), answer.status, lower_case, raw)  # type: ignore[arg-type]
            if raw is not answer:
                await response.content  # type: ignore[misc]  # the response keeps the body that was read
        except UsageError as refused:
            raise SettingsRefused(refused) from None
        except (NotFromAws, AnswerTooLong):
            raise
        except Exception as error:
            kind = next(kind for ours, kind in _SDK_ERRORS if isinstance(error, ours))
            if isinstance(error, aiohttp.ClientHttpProxyError) and error.status in (401, 403, 407):
                kind = ProxyRefused
            raise kind(endpoint_url=request.url, proxy_url="the proxy", error=error) from error
        return response


class _Whole:
    """A body that was read, in the form that ``AioAWSResponse`` asks for."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def read(self) -> bytes:
        return self.body


def _trust(tls: ssl.SSLContext, path: Any) -> None:
    try:
        tls.load_verify_locations(path)
    except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
        why = "holds no certificate" if isinstance(error, ssl.SSLError) else str(getattr(error, "strerror", error))
        raise UsageError(
            f"the file of trusted certificates {Path(path)} cannot be used: {why}",
            "let AWS_CA_BUNDLE (or REQUESTS_CA_BUNDLE, or ca_bundle in ~/.aws/config) name a PEM file, or nothing",
        ) from None


def refuse_others(status: int, headers: Mapping[str, str]) -> None:
    """Raise ``NotFromAws`` for a success that has neither the request id of AWS nor a service's type of content.

    ``headers`` by their names in lower case.
    """
    if status >= 300 or any(name in headers for name in _REQUEST_IDS):
        return
    kind = headers.get("content-type", "").lower()
    if kind.startswith(_OF_A_SERVICE) or (not kind and "etag" in headers):
        return
    raise NotFromAws(error="no request id, and another type of content")


def refuse_half_characters(body: bytes) -> None:
    """Raise ``NotFromAws`` for JSON with half a character, which no ledger, file or terminal takes."""
    if b"\\u" not in body or not _HALF_CHARACTER.search(body):
        return
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise NotFromAws(error="half a character") from None
    except (ValueError, RecursionError):  # no JSON: whoever reads it says so
        return


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
