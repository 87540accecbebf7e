"""Answers that no AWS service gives: endless, dripping, from a proxy, packed, half a character. Each is bounded."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from typing import Any

import pytest

from tests.support.emulators import REGION
from tests.support.wire import Behaviour, answer, listening
from worker.adapters.aws import session, transport
from worker.adapters.aws.errors import code, faults
from worker.adapters.aws.session import Aws, AwsTarget
from worker.adapters.cognito.client import cognito
from worker.core.clock import EndpointClock, SystemClock
from worker.core.errors import DependencyUnavailable
from worker.core.model import CredentialKind, Request, Secret, Trouble, TryAgain

MEBIBYTE = 1 << 20


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, aws_credentials: None) -> None:
    monkeypatch.setattr(session, "ATTEMPTS", 1)


async def said(does: Behaviour | bytes, service: str = "dynamodb") -> DependencyUnavailable:
    """What a request that is answered so ends with."""
    async with listening() as wire, Aws(AwsTarget(REGION, endpoints={service: wire.url})) as aws:
        client = await aws.client(service)
        wire.does = does
        with pytest.raises(DependencyUnavailable) as raised, faults(DependencyUnavailable, "it"):
            await asked(client, service, wire.url)
    return raised.value


async def asked(client: Any, service: str, url: str) -> object:
    if service == "dynamodb":
        return (await client.describe_table(TableName="ledger"))["Table"]
    if service == "s3":
        return (await client.list_objects_v2(Bucket="bucket"))["Contents"]
    queue = f"{url}/1/q"
    return (await client.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"]))["Attributes"]


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nx-amzn-requestid: r\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"100000\r\n" + b"a" * MEBIBYTE + b"\r\n")
        await writer.drain()


async def dripping(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nx-amzn-requestid: r\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"1\r\na\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def endless_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"x-more: " + b"a" * 8000 + b"\r\n")
        await writer.drain()


@pytest.mark.parametrize("service", ["dynamodb", "s3", "sqs"])
async def test_an_answer_without_an_end_takes_no_more_than_its_bound(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded = transport.Transport
    monkeypatch.setattr(session, "Transport", lambda **more: bounded(**more, largest=2 * MEBIBYTE))
    tracemalloc.start()
    error = await said(endless, service)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "AnswerTooLong" in str(error)
    assert error.exit_code == 75
    assert most < 30 * MEBIBYTE


async def test_an_answer_that_says_it_is_longer_is_not_read_at_all() -> None:
    error = await said(b"HTTP/1.1 200 OK\r\nx-amzn-requestid: r\r\nContent-Length: 99999999999\r\n\r\n{")
    assert "AnswerTooLong" in str(error)


async def test_an_answer_that_drips_for_ever_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CONNECT_TIMEOUT", 0.2)
    monkeypatch.setattr(session, "DYNAMODB_READ_TIMEOUT", 0.1)
    async with asyncio.timeout(5):
        assert "ReadTimeoutError" in str(await said(dripping))


async def test_headers_without_an_end_are_bounded() -> None:
    async with asyncio.timeout(10):
        assert (await said(endless_headers)).exit_code == 75


@pytest.mark.parametrize("service", ["dynamodb", "s3", "sqs"])
@pytest.mark.parametrize("kind", ["text/html", "text/plain", "application/octet-stream"])
async def test_a_page_of_a_proxy_is_no_success(service: str, kind: str) -> None:
    page = b"<html>Please sign in to the network</html>"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(page)}\r\n\r\n".encode()
    error = await said(head + page, service)
    assert "NotFromAws" in str(error)
    assert "proxy" in error.hint
    assert error.exit_code == 75


@pytest.mark.parametrize(
    "body",
    [b"[]", b"7", b"null", b"{}", b'{"Table": ', b"\xff", b"[" * 100_000, gzip.compress(b"{}")],
    ids=["list", "number", "null", "empty", "torn", "bytes", "deep", "packed"],
)
async def test_a_body_that_is_no_answer_is_waited_for(body: bytes) -> None:
    error = await said(answer(body, "200 OK", "Content-Type: application/x-amz-json-1.0", "Content-Encoding: gzip"))
    assert error.exit_code == 75
    assert "run again" in error.hint


async def test_half_a_character_goes_no_further() -> None:
    assert "NotFromAws" in str(await said(answer(b'{"Table": {"TableName": "\\ud800"}}')))
    whole = answer(b'{"Table": {"TableName": "\\ud83d\\ude00", "Note": "\\\\ud800"}}')
    async with listening() as wire, Aws(AwsTarget(REGION, endpoints={"dynamodb": wire.url})) as aws:
        wire.does = whole
        assert (await (await aws.dynamodb()).describe_table(TableName="t"))["Table"]["TableName"] == "😀"


@pytest.mark.parametrize("does", [endless, endless_headers], ids=["body", "headers"])
async def test_cognito_is_bounded_too(does: Behaviour) -> None:
    async with listening() as wire:
        wire.does = does
        async with cognito(REGION, endpoint_url=wire.url, clock=EndpointClock(SystemClock())) as client:
            reply = await client.associate(Request("ana", CredentialKind.SESSION, Secret("s" * 40), "1", 2e9))
            assert isinstance(reply, TryAgain)
            assert reply.trouble is Trouble.NO_ANSWER
            assert not (await client.ask_time()).told


def test_its_own_failures_have_names() -> None:
    assert code(transport.NotFromAws(error="x")) == "NotFromAws"
