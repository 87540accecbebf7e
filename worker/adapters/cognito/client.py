"""Everything that a worker asks Cognito. What the answers mean is in ``answers.py``, ``sign_in_answers.py`` and
``activation_answers.py``.

aioboto3 builds the request only once: method, URL and headers as its client would send them. After that only the
operation's name and the body change, and every request goes directly to the transport of that client (``Transport``),
with its connections, time-outs, proxies and certificates. The SDK's work around the transport is skipped, because it
takes longer than the transport itself, logs whole answers at level DEBUG, and turns an incomplete answer into an empty
success. Nothing is signed, and no AWS credentials are looked for, but for the two operations of ``signed.py``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from multidict import CIMultiDict

from worker.adapters.cognito.activation_answers import ADMIN_PREFER, PREFER, VERIFY, read_prefer, read_verify
from worker.adapters.cognito.answers import ASSOCIATE, Operation, read_answer, read_date, read_fault, why
from worker.adapters.cognito.sign_in import SignInConfig
from worker.adapters.cognito.sign_in_answers import LOOK, RESPOND, read_look, read_sign_in
from worker.core.clock import EndpointClock
from worker.core.errors import UsageError
from worker.core.model import (
    CredentialKind,
    CustomChallenge,
    LookReply,
    PoolFault,
    PreferReply,
    Reply,
    Request,
    Secret,
    SignInReply,
    Trouble,
    TryAgain,
    VerifyReply,
)
from worker.core.ports import TimeAnswer
from worker.settings.types import is_loopback

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

    from worker.adapters.aws.transport import Transport
    from worker.adapters.cognito.signed import SignedCalls

LONGEST_CONNECT = 3.0
"""Seconds for establishing a connection, TLS included; at most three quarters of the call's time-out (see ``cognito``).

It is shorter than the call's time-out, so that it is known if nothing was sent: such a call is not counted as an
attempt. Three seconds leave room for one lost packet (TCP sends it again after one second, RFC 6298).
"""

LARGEST_ANSWER = 1 << 20
"""Bytes of the longest answer of Cognito that is read (1 MiB): a secret, a Session and an error take a few thousand."""

_SERVICE = "AWSCognitoIdentityProviderService."
"""What an operation's name follows in the header ``X-Amz-Target`` (botocore's model: ``targetPrefix``)."""

_ASKS_THE_TIME = {"AccessToken": "none"}
"""Body of the request (GetUser) that only asks what time it is: its answer, a refusal, is dated like any other.

It is a POST, as a cache may answer a GET; an operation that the service, proxies and policies know; and one that counts
against another quota than the enrolments (*UserRead*, 120/s: "Quotas in Amazon Cognito"). "none" is nobody's token.
"""

_FIELD = {CredentialKind.SESSION: "Session", CredentialKind.ACCESS_TOKEN: "AccessToken"}
"""The parameter of AssociateSoftwareToken and VerifySoftwareToken (API reference) that takes each credential."""

_PREFERRED = {"Enabled": True, "PreferredMfa": True}
"""``SoftwareTokenMfaSettings`` (API reference, SetUserMFAPreference)."""

_OF_ONE_ATTEMPT = ("amz-sdk-", "content-length", "x-amzn-trace-id")
"""Prefixes of the headers that belong to a single attempt; they are left out of the draft."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The request as the SDK would send it, without the credential."""

    method: str
    url: str
    headers: CIMultiDict[str]


class Answer(NamedTuple):
    """A complete HTTP answer."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class CognitoClient:
    """``ports.Provider``, ``ports.SignIns`` and ``ports.TimeSource`` for Cognito; ``cognito`` creates it."""

    def __init__(
        self,
        transport: Transport,
        draft: Draft,
        call_timeout: float,
        clock: EndpointClock,
        sign_in: SignInConfig | None = None,
        signed: SignedCalls | None = None,
    ) -> None:
        self._transport = transport
        self._draft = draft
        self._call_timeout = call_timeout
        self._clock = clock
        self._sign_in = sign_in
        self._signed = signed
        self._headers = {ASSOCIATE.name: draft.headers}
        """By operation."""
        self._last_date = ""

    async def ask_time(self) -> TimeAnswer:
        """See ``ports.TimeSource``; takes at most ``call_timeout`` seconds."""
        sent = self._clock.monotonic()
        answer = await self._send(LOOK, _ASKS_THE_TIME)
        if isinstance(answer, Exception):
            return TimeAnswer(told=False, trouble=why(answer))
        assert isinstance(answer, Answer)  # only a signed request is not sent
        if (date := read_date(answer.headers)) is not None:
            self._clock.heard(date, self._clock.monotonic() - sent)
            return TimeAnswer(told=True)
        match read_answer(CredentialKind.ACCESS_TOKEN, *answer):
            case TryAgain(trouble=Trouble.NO_ANSWER, detail=detail):  # of a load balancer or a proxy in between
                return TimeAnswer(told=False, trouble=detail)
        return TimeAnswer(told=False)

    # Each of the following makes exactly one wire attempt of the operation, in at most ``call_timeout`` seconds.

    async def associate(self, request: Request) -> Reply:
        """AssociateSoftwareToken; see ``ports.Provider``."""
        answer = await self._ask(ASSOCIATE, {_FIELD[request.kind]: request.credential.reveal()})
        return read_answer(request.kind, *answer) if isinstance(answer, Answer) else answer

    async def verify(self, request: Request, code: Secret) -> VerifyReply:
        """VerifySoftwareToken; see ``ports.Provider``."""
        content = {_FIELD[request.kind]: request.credential.reveal(), "UserCode": code.reveal()}
        answer = await self._ask(VERIFY, content)
        return read_verify(request.kind, *answer) if isinstance(answer, Answer) else answer

    async def prefer(self, request: Request) -> PreferReply:
        """SetUserMFAPreference, or AdminSetUserMFAPreference on the Session path; see ``ports.Provider``."""
        operation, content = PREFER, {"AccessToken": request.credential.reveal()}
        if request.kind is CredentialKind.SESSION:
            assert self._signed is not None, "activation.mode prefer needs AWS credentials"
            operation = ADMIN_PREFER
            content = {"UserPoolId": self._signed.user_pool_id, "Username": request.username}
        answer = await self._ask(operation, {**content, "SoftwareTokenMfaSettings": _PREFERRED})
        return read_prefer(operation, request.kind, *answer) if isinstance(answer, Answer) else answer

    async def begin(self, request: Request) -> SignInReply:
        """InitiateAuth or AdminInitiateAuth; see ``ports.SignIns``."""
        assert self._sign_in is not None, "a ticket or password needs sign_in.flow"
        operation, content = self._sign_in.begin(request)
        return await self._signs_in(self._sign_in, operation, content, request)

    async def answer(self, request: Request, challenge: CustomChallenge) -> SignInReply:
        """RespondToAuthChallenge; see ``ports.SignIns``."""
        assert self._sign_in is not None, "a ticket needs sign_in.flow"
        return await self._signs_in(self._sign_in, RESPOND, self._sign_in.answer(request, challenge), request)

    async def look(self, request: Request) -> LookReply:
        """GetUser; see ``ports.SignIns``."""
        answer = await self._ask(LOOK, {"AccessToken": request.credential.reveal()})
        return read_look(*answer) if isinstance(answer, Answer) else answer

    async def _signs_in(
        self, config: SignInConfig, operation: Operation, content: Mapping[str, Any], request: Request
    ) -> SignInReply:
        asked = config.asked(operation, request, self._clock.utc())
        answer = await self._ask(operation, content)
        return read_sign_in(asked, *answer) if isinstance(answer, Answer) else answer

    async def _ask(self, operation: Operation, content: Mapping[str, Any]) -> Answer | TryAgain | PoolFault:
        """Send a request once; the answer, or what it means that there is none."""
        sent = self._clock.monotonic()
        answer = await self._send(operation, content)
        if isinstance(answer, Exception):
            return read_fault(answer)
        if not isinstance(answer, Answer):
            return answer
        if (date := answer.headers.get("Date", "")) != self._last_date:  # at most once a second: reading it takes time
            self._last_date = date
            if (told := read_date(answer.headers)) is not None:
                self._clock.heard(told, self._clock.monotonic() - sent)
        return answer

    async def _send(
        self, operation: Operation, content: Mapping[str, Any]
    ) -> Answer | Exception | TryAgain | PoolFault:
        """The answer; or, where there is none, the transport's exception, or why the request cannot be signed."""
        from aiohttp import ClientError
        from botocore.exceptions import HTTPClientError

        draft, body = self._draft, json.dumps(content).encode()
        headers = self._headers.get(operation.name) or self._headers_for(operation)
        try:
            async with asyncio.timeout(self._call_timeout):
                if operation.is_signed:
                    signed = await self._sign(operation, headers, body)
                    if not isinstance(signed, CIMultiDict):
                        return signed
                    headers = signed
                answer = await self._transport.request(draft.method, draft.url, headers, body)
                return Answer(answer.status, answer.headers, await self._transport.read(answer))
        except (ClientError, OSError, ValueError, HTTPClientError) as error:  # a TimeoutError is an OSError
            return error

    def _headers_for(self, operation: Operation) -> CIMultiDict[str]:
        headers = self._headers[operation.name] = self._draft.headers.copy()
        headers["X-Amz-Target"] = _SERVICE + operation.name
        return headers

    async def _sign(
        self, operation: Operation, headers: CIMultiDict[str], body: bytes
    ) -> CIMultiDict[str] | TryAgain | PoolFault:
        """See ``SignedCalls.sign``; leaves at least half of the time for the request itself."""
        assert self._signed is not None, "sign_in.flow admin_user_password needs AWS credentials"
        return await self._signed.sign(operation, self._draft.url, headers, body, patience=self._call_timeout / 2)


@asynccontextmanager
async def cognito(
    region: str,
    *,
    endpoint_url: str | None = None,
    fips: bool = False,
    call_timeout: float = 10.0,
    concurrency: int = 64,
    clock: EndpointClock,
    sign_in: SignInConfig | None = None,
    signed: SignedCalls | None = None,
) -> AsyncIterator[CognitoClient]:
    """A client for Cognito in ``region``, with at most ``concurrency`` connections.

    ``endpoint_url``: another URL of Cognito, such as a VPC endpoint. ``fips``: use AWS's FIPS endpoint.
    ``call_timeout``: seconds for one wire attempt. ``clock`` is told the date of Cognito's answers. ``sign_in``: how
    users are signed in, where they are; ``signed``: the signer for the requests that need AWS credentials, where
    settings bring such requests about (``sign_in.flow`` admin_user_password; ``activation.mode`` prefer with Sessions).

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
                Addresses("what Cognito is asked, credentials and all,", lambda: [endpoint_url]).admit(draft.url)
            await transports[0].open()
        except (BotoCoreError, OSError, ValueError) as error:
            raise UsageError(
                f"the AWS SDK does not work with these settings: {error}",
                "Look at cognito.region, the proxy, and the certificates that AWS_CA_BUNDLE names.",
            ) from error
        if signed is not None:
            stack.push_async_callback(signed.close)
        yield CognitoClient(transports[0], draft, call_timeout, clock, sign_in, signed)


class _Drafted(Exception):  # noqa: N818 - no error
    """Carries the finished request out of the SDK, and stops the SDK from sending it."""

    def __init__(self, request: Any) -> None:
        super().__init__("drafted, not sent")
        self.request = request


async def _draft(client: Any) -> Draft:
    """Let the SDK build a request, and take it in the ``before-send`` event, the last one before sending."""

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
