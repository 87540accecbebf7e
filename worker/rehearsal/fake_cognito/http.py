"""The network side of the fake Cognito: HTTP/1.1, written by hand for `POST /` alone.

A web framework would cost three times as much processor time, which a benchmark of the worker would then measure. A
call in flight is one timer and no task. It takes effect when the timer fires, whether or not the client is still
connected, as in the real service. Connections that request anything else are handed over to an ordinary web server.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, cast

from worker.rehearsal.fake_cognito import answers
from worker.rehearsal.fake_cognito.answers import Answer
from worker.rehearsal.fake_cognito.faults import Wire
from worker.rehearsal.fake_cognito.operations import OPERATIONS
from worker.rehearsal.fake_cognito.service import FakeRequest, FakeUserPool

_REQUEST_LINE = b"POST / HTTP/1.1\r\n"
"""How a call of the API begins; anything else is handed over to the web server."""

_TARGET = "AWSCognitoIdentityProviderService."
"""What precedes the operation's name in the header `X-Amz-Target`."""

_LARGEST = 64 * 1024
"""The most bytes of the headers, and of the body: far more than an access token has."""

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
"""The first line of an answer, by status; made in advance, because every answer needs one."""


class CognitoProtocol(asyncio.Protocol):
    """One client's connection; its requests are answered one after the other."""

    def __init__(
        self, cognito: FakeUserPool, connections: set[CognitoProtocol], elsewhere: Callable[[], asyncio.Protocol]
    ) -> None:
        self._cognito = cognito
        self._connections = connections
        self._elsewhere = elsewhere
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._busy = False
        self._hanging: FakeRequest | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the new connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from asyncio's
        self._connections.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forget the connection. A call that is in flight still takes effect; one that hangs ends here."""
        self._transport = None
        self._connections.discard(self)
        if self._hanging is not None:
            self._cognito.leave(self._hanging)
            self._hanging = None

    def data_received(self, data: bytes) -> None:
        """Collect bytes until a request is complete."""
        self._received += data
        if not self._busy:
            self._next()

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _next(self) -> None:
        received = self._received
        if not received.startswith(_REQUEST_LINE):
            if not _REQUEST_LINE.startswith(received):
                self._hand_over()
            return
        end = received.find(b"\r\n\r\n")
        if end < 0:
            if len(received) > _LARGEST:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        head = received[:end]
        folded = head.lower()
        length = _field(head, folded, b"content-length")
        if not length.isdigit():
            self._refuse(HTTPStatus.LENGTH_REQUIRED)
        elif int(length) > _LARGEST:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        elif len(received) >= (complete := end + 4 + int(length)):
            self._received = received[complete:]
            self._busy = True
            target, signed = (_field(head, folded, name) for name in (b"x-amz-target", b"authorization"))
            self._serve(target.decode("latin-1"), received[end + 4 : complete], signed.decode("latin-1"))

    def _hand_over(self) -> None:
        transport, received = self._transport, self._received
        if transport is None or not received:
            return
        self._transport = None
        self._connections.discard(self)
        protocol = self._elsewhere()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(received)

    def _serve(self, target: str, body: bytes, authorization: str) -> None:
        operation = target.removeprefix(_TARGET)
        try:
            parameters: Any = json.loads(body)
        except ValueError:
            parameters = None
        if operation not in OPERATIONS or operation == target:
            self._send(answers.UNKNOWN_OPERATION, self._cognito.new_request_id())
        elif not isinstance(parameters, dict):
            self._send(answers.MALFORMED, self._cognito.new_request_id())
        else:
            call = self._cognito.arrive(operation, parameters, authorization)
            delay = self._cognito.delay(call)
            if delay > 0:
                self._loop.call_later(delay, self._finish, call)
            else:
                self._finish(call)

    def _finish(self, call: FakeRequest) -> None:
        answer = self._cognito.act(call)
        wire = Wire.WHOLE if call.fault is None else call.fault.wire
        if wire is Wire.NEVER and self._transport is not None:
            self._hanging = call
            return
        self._cognito.leave(call)
        if wire is Wire.RESET:
            self._reset()
        elif wire is Wire.CLOSED:
            self._close()
        else:
            self._send(answer, call.request_id, wire)

    def _send(self, answer: Answer, request_id: str, wire: Wire = Wire.WHOLE) -> None:
        if self._transport is None:
            return
        head, body = _render(answer, request_id, self._cognito.now())
        length = len(body)
        if wire is Wire.CORRUPT:
            body = b"\xff\xfe" + body[2:]
        elif wire is Wire.TRUNCATED:
            body = body[: length // 2]
            length = len(body)
        elif wire is Wire.CUT_BODY:
            body = body[: length // 2]
        self._transport.write(b"%sContent-Length: %d\r\n\r\n%s" % (head, length, body))
        if wire is Wire.CUT_BODY:
            self._close()
            return
        self._busy = False
        if self._received:
            self._next()

    def _refuse(self, status: HTTPStatus) -> None:
        self._received = b""
        self._send(answers.page(status, status.phrase), self._cognito.new_request_id())
        self._close()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _reset(self) -> None:
        if self._transport is not None:
            # With SO_LINGER at zero seconds the system sends a reset instead of an orderly close.
            peer: socket.socket = self._transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()


def _field(head: bytes, folded: bytes, name: bytes) -> bytes:
    """Return a header's value, empty where there is none; `folded` is the head in lower case."""
    start = folded.find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    end = folded.find(b"\r\n", start)
    return head[start : end if end >= 0 else None].strip()


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def _render(answer: Answer, request_id: str, now: float) -> tuple[bytes, bytes]:
    """Return an answer's head, still without its length, and its body."""
    fields = f"Date: {_date(int(now))}\r\nx-amzn-requestid: {request_id}\r\n"
    if isinstance(answer.body, str):
        fields += "Content-Type: text/html\r\n"
        body = answer.body
    else:
        fields += "Content-Type: application/x-amz-json-1.1\r\n"
        body = json.dumps(answer.body)
        if answer.error is not None:
            fields += f"x-amzn-errortype: {answer.error}\r\n"
    return (_STATUS_LINES[answer.status] + fields).encode(), body.encode()
