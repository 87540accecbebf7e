"""Sends the operations that make up almost all requests to AWS without the SDK around them, while they succeed.

A request through the SDK takes four times as much CPU as the same request signed and sent (endpoint rules, event
handlers, models of requests and answers). So the SDK makes the first request of each operation, and what it sent is
kept as a *draft*: method, URL, headers, and the Region and service of the signature. The next requests repeat the draft
with another body, signed by the SDK's signer (60 to 80 µs; forty lines of our own took 10, which is 7 % of a user's
CPU) with the credentials of the SDK's session, which also renews them; they are sent once, over the client's own
``Transport``.

Only a success counts, and with DynamoDB a condition that was not met. After everything else the draft is dropped and
the SDK makes the same request, so its retries, redirects and errors are what callers see. So a request may be sent
once more than the SDK alone would send it: only operations that may be repeated belong here. The SDK repeats them too.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from aiobotocore.session import AioSession
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError

from worker.adapters.aws.errors import WIRE, CredentialsFailed
from worker.adapters.aws.transport import Transport, headers_of, refuse_half_characters, refuse_others

JSON_OPERATIONS = {
    "dynamodb": ("put_item", "transact_write_items", "update_item", "get_item"),
    "sqs": ("receive_message", "delete_message_batch"),
}
"""Service → the client's methods that are sent directly: what a user takes, and nothing that is called rarely."""

CONDITION_NOT_MET = frozenset({"ConditionalCheckFailedException", "TransactionCanceledException"})
"""DynamoDB's codes for writes whose condition was not met. That is an answer like another: the SDK does not repeat such
a request, and to ask again through the SDK would cost another write."""

MOST_USELESS = 3
"""After so many drafts in a row that never brought a success, an operation is left to the SDK: something between here
and the service wants what a draft does not have. One or two may fall into an outage."""

_OF_ONE_REQUEST = (
    "authorization",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
    "content-length",
    "amz-sdk-",
    "x-amzn-trace-id",
    "expect",
)
"""Prefixes of the headers that belong to a single request; they are left out of the draft.

So is ``Expect``: the SDK asks S3 whether it may send the body, which saves sending a large one in vain, and costs a
round trip.
"""

_SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^,]+/[0-9]{8}/([^/,]+)/([^/,]+)/aws4_request,")
"""The Region and service of a signature (AWS general reference, "Signature Version 4": ``Authorization``)."""

_SIGNERS = {"dynamodb": SigV4Auth, "sqs": SigV4Auth, "s3": S3SigV4Auth}
"""The service in a signature → the signer that the SDK uses for it. All others (S3 Express, Outposts) are the SDK's."""

_CHECKSUM = "x-amz-checksum-sha256"
"""The header with which the SDK sends the parameter ``ChecksumSHA256`` (API reference, PutObject)."""

_OF_ONE_OBJECT = {"Key", "Body", "ChecksumSHA256"}
"""The parameters of PutObject that differ from request to request; one without them is left to the SDK."""

Answer = dict[str, Any]
"""An answer as the SDK's client returns it, but without ``ResponseMetadata``."""
Reader = Callable[[int, Mapping[str, str], bytes], Answer]
"""Makes the answer of status, headers and body. Raises ``ClientError`` for an answer that the SDK would turn into that
without repeating the request, and ``ValueError`` for all others."""

_sent: ContextVar[list[Any] | None] = ContextVar("sent", default=None)
"""The requests that the SDK sends in this task (``botocore.awsrequest.AWSPreparedRequest``), while somebody asks."""


@dataclass(slots=True)
class Draft:
    """A request as the SDK sent it, without what belongs to that one alone."""

    method: str
    url: str
    headers: dict[str, str]
    """By name in lower case."""
    signer: type[SigV4Auth]
    service: str
    region: str
    parameters: Answer = field(default_factory=dict)
    """The parameters that all requests by this draft have in common."""
    worked: bool = False
    """Whether it brought a success."""


class Direct:
    """A client of the SDK of which some methods are replaced; all others are the client's own."""

    def __init__(self, client: Any, replaced: Mapping[str, Any]) -> None:
        self._client, self._replaced = client, replaced

    def __getattr__(self, name: str) -> Any:
        return self._replaced[name] if name in self._replaced else getattr(self._client, name)


async def direct(service: str, client: Any, transport: Transport, session: AioSession) -> Any:
    """The client, whose frequent operations do without the SDK where ``service`` has some.

    ``transport``: the client's own. ``session``: the one that made it, for its credentials.
    """
    names = ("put_object",) if service == "s3" else JSON_OPERATIONS.get(service, ())
    credentials = await session.get_credentials() if names else None
    if credentials is None:
        return client
    client.meta.events.register(f"before-send.{client.meta.service_model.service_id.hyphenize()}", _note)
    replaced = {}
    for name in names:
        shortcut = _Shortcut(transport, credentials)
        method, operation = getattr(client, name), client.meta.method_to_api_mapping[name]
        replaced[name] = _PutObject(shortcut, method) if service == "s3" else _Json(shortcut, method, operation)
    return Direct(client, replaced)


def _note(request: Any, **_: object) -> None:
    """Note what the SDK is about to send; its event ``before-send`` comes last, before each attempt."""
    if (sent := _sent.get()) is not None:
        sent.append(request)


class _Shortcut:
    """The draft of one operation, and how it is sent."""

    def __init__(self, transport: Transport, credentials: Any) -> None:
        self._transport, self._credentials = transport, credentials
        self._useless = 0
        self.draft: Draft | None = None

    async def send(
        self, draft: Draft, url: str, changed: Mapping[str, str], body: bytes, read: Reader
    ) -> Answer | None:
        """Send the draft once, with that URL, those headers and that body; ``None`` where the SDK must do it.

        Raises ``ClientError`` if ``read`` does, and ``CredentialsFailed``.
        """
        try:
            request = AWSRequest(draft.method, url, headers={**draft.headers, **changed}, data=body)
            frozen = await self._credentials.get_frozen_credentials()
            draft.signer(frozen, draft.service, draft.region).add_auth(request)
            headers = headers_of(request)
            headers["Accept-Encoding"] = "identity"
            answer = await self._transport.request(draft.method, url, headers, body)
            content = await self._transport.read(answer)
            refuse_others(answer.status, answer.headers)
            read_answer = read(answer.status, answer.headers, content)
        except CredentialsFailed:
            raise
        except ClientError:
            draft.worked = True
            raise
        except WIRE:
            if self.draft is draft:
                self.draft = None
                self._useless = 0 if draft.worked else self._useless + 1
            return None
        draft.worked = True
        return read_answer

    async def learn(self, call: Callable[[], Awaitable[Answer]], common: Answer, ending: str = "") -> Answer:
        """Let the SDK make the request; where it succeeds and there is no draft, keep what it sent last as the draft.

        ``common``: see ``Draft.parameters``. ``ending``: the end of the URL that belongs to this request alone.
        """
        sent: list[Any] = []
        token = _sent.set(sent)
        try:
            answer = await call()
        finally:
            _sent.reset(token)
        if self.draft is None and self._useless < MOST_USELESS and sent:
            self.draft = _drafted(sent[-1], common, ending)
        return answer


def _drafted(request: Any, common: Answer, ending: str) -> Draft | None:
    """The draft that the SDK's request makes; ``None`` if it is of a form that is not known here."""
    headers = {name.lower(): text for name, text in headers_of(request).items()}
    scope = _SCOPE.match(headers.get("authorization", ""))
    region, service = scope.groups() if scope else ("", "")
    signer = _SIGNERS.get(service)
    if signer is None or "transfer-encoding" in headers or not request.url.endswith(ending):
        return None
    kept = {name: text for name, text in headers.items() if not name.startswith(_OF_ONE_REQUEST)}
    return Draft(request.method, request.url.removesuffix(ending), kept, signer, service, region, common)


class _Json:
    """An operation of a service that speaks JSON (botocore: ``JSONSerializer``, ``JSONParser``)."""

    def __init__(self, shortcut: _Shortcut, by_sdk: Callable[..., Awaitable[Answer]], operation: str) -> None:
        self._shortcut, self._by_sdk, self._operation = shortcut, by_sdk, operation
        self.__name__ = by_sdk.__name__  # what errors about single entries call it

    async def __call__(self, **parameters: Any) -> Answer:
        """See the client's own method."""
        if (draft := self._shortcut.draft) is not None:
            body = json.dumps(parameters, separators=(",", ":"), default=_encoded).encode()
            answer = await self._shortcut.send(draft, draft.url, {}, body, self._read)
            if answer is not None:
                return answer
        return await self._shortcut.learn(lambda: self._by_sdk(**parameters), {})

    def _read(self, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
        checksum = headers.get("x-amz-crc32")  # of DynamoDB; the SDK checks it too
        if checksum is not None and int(checksum) != zlib.crc32(body):
            raise ValueError("the answer is damaged")
        refuse_half_characters(body)
        answer = json.loads(body, object_hook=_decoded)
        if not isinstance(answer, dict):
            raise ValueError("the answer is no object")  # noqa: TRY004 - it is the text that is wrong
        if status == 200:
            return {name: value for name, value in answer.items() if value is not None}
        code = str(answer.pop("__type", "")).rpartition("#")[2].partition(":")[0]  # a namespace before, a URL behind
        if status != 400 or code not in CONDITION_NOT_MET:
            raise ValueError(f"the status is {status}")
        error: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(answer | error, self._operation)


def _encoded(value: bytes) -> str:
    """Bytes as DynamoDB's JSON has them."""
    return base64.b64encode(value).decode("ascii")


def _decoded(found: Answer) -> Answer:
    """An object of the answer; where it is DynamoDB's for bytes (``{"B": …}``), with bytes, as the SDK has it."""
    if len(found) == 1 and isinstance(text := found.get("B"), str):
        return {"B": base64.b64decode(text)}
    return found


class _PutObject:
    """S3's PutObject for requests that differ in nothing but the key, the body, and the body's checksum."""

    def __init__(self, shortcut: _Shortcut, by_sdk: Callable[..., Awaitable[Answer]]) -> None:
        self._shortcut, self._by_sdk = shortcut, by_sdk

    async def __call__(self, **parameters: Any) -> Answer:
        """See the client's own method."""
        if not parameters.keys() >= _OF_ONE_OBJECT:
            return await self._by_sdk(**parameters)
        common = {name: value for name, value in parameters.items() if name not in _OF_ONE_OBJECT}
        key, draft = quote(parameters["Key"], safe="/~"), self._shortcut.draft
        if draft is not None and draft.parameters == common:
            checksum = {_CHECKSUM: parameters["ChecksumSHA256"]}
            answer = await self._shortcut.send(draft, draft.url + key, checksum, parameters["Body"], _put)
            if answer is not None:
                return answer
        return await self._shortcut.learn(lambda: self._by_sdk(**parameters), common, key)


def _put(status: int, headers: Mapping[str, str], _body: bytes) -> Answer:
    if status != 200 or "ETag" not in headers:  # API reference, PutObject: what S3 answers has one
        raise ValueError(f"the status is {status}")
    return {"ETag": headers["ETag"]}
