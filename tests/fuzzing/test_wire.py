"""Made-up bytes on a real connection: as the answer to a call to Cognito, and as a request to the metrics server."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from tests.fuzzing.harness import MARKER
from tests.fuzzing.made_up import changed
from tests.fuzzing.of_cognito import SEEDS
from tests.support.metrics import ask, free_port
from tests.support.wire import answer, listening
from worker.adapters.cognito.client import cognito
from worker.core.clock import EndpointClock, SystemClock
from worker.core.model import CredentialKind, Request, Secret
from worker.core.stats import RunStats
from worker.telemetry.metrics import server
from worker.telemetry.metrics.listening import listen
from worker.telemetry.metrics.watched import Watched

NUMBER = 80
"""Connections of a test."""
ANSWERS = (
    *(answer(body, "400 Bad Request", "x-amzn-errortype: NotAuthorizedException:http://x") for body in SEEDS),
    *(answer(body) for body in SEEDS),
    answer(SEEDS[0]).replace(b"Content-Length", b"Transfer-Encoding: chunked\r\nX"),
    answer(SEEDS[0], "200 OK", "Content-Encoding: gzip"),
    b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/" + MARKER + b"\r\n\r\n",
    b"SSH-2.0-OpenSSH\r\n",
)
QUESTIONS = (
    b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text\r\n\r\n",
    b"HEAD /healthz HTTP/1.0\r\n\r\n",
    b"POST /readyz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"GET http://a:b@c/%2e%2e/" + MARKER + b"?" + MARKER + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\nffffffff\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)


@pytest.mark.parametrize("kind", [CredentialKind.SESSION, CredentialKind.ACCESS_TOKEN])
async def test_whatever_answers_a_call_is_a_reply_without_a_credential_in_it(kind: CredentialKind) -> None:
    random = Random(1)
    asked = Request(username="ana", kind=kind, credential=Secret(MARKER.decode() * 2), id="1", expires_at=2e9)
    async with listening() as wire:
        clock = EndpointClock(SystemClock())

        async def does(writer: asyncio.StreamWriter) -> None:
            writer.write(changed(random.choice(ANSWERS), ANSWERS, random))
            await writer.drain()
            writer.close()

        wire.does = does
        async with cognito("eu-west-1", endpoint_url=wire.url, call_timeout=5.0, clock=clock) as client:
            for _ in range(NUMBER):
                for reply in (await client.associate(asked), await client.verify(asked, Secret("123456"))):
                    assert MARKER.decode() not in repr(reply)
        assert wire.seen


async def test_whatever_is_asked_of_the_metrics_server_it_answers_the_next_one() -> None:
    random, port = Random(1), free_port()
    watched = Watched(RunStats(SystemClock()), watchdog=300.0, ending_takes=30.0)
    async with server.serve(listen("127.0.0.1", port), watched):
        for _ in range(NUMBER):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(changed(random.choice(QUESTIONS), QUESTIONS, random))
            writer.write_eof()
            try:
                said = await reader.read()
            except ConnectionError:
                said = b""
            writer.close()
            assert MARKER not in said
        assert (await ask(port, "/healthz")).status == 200
