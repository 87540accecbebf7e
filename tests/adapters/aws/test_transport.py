"""How requests leave, over a real wire on loopback: whom they trust, where they never go, and what a failure is called.

For the call to Cognito and for the other services alike.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import aioboto3
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from tests.support.emulators import REGION
from tests.support.wire import GOOD, SECRET, Authority, answer, listening, proxying, unused_port
from worker.adapters.aws.session import Aws, AwsTarget
from worker.adapters.aws.transport import Transport
from worker.adapters.cognito.client import cognito
from worker.core.clock import EndpointClock, SystemClock
from worker.core.errors import UsageError
from worker.core.model import CredentialKind, Issued, Reply, Request, Secret, Trouble, TryAgain

CREDENTIAL = "a-credential-" + "s" * 40


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, aws_credentials: None) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setattr("worker.adapters.aws.session.ATTEMPTS", 1)


async def called(url: str, times: int = 1) -> Reply:
    """What the last of so many calls to Cognito at that address came to."""
    request = Request("ana", CredentialKind.SESSION, Secret(CREDENTIAL), "1", 2e9)
    async with cognito(REGION, endpoint_url=url, call_timeout=2.0, clock=EndpointClock(SystemClock())) as client:
        replies = [await client.associate(request) for _ in range(times)]
    return replies[-1]


async def asked(url: str) -> str:
    """What a question to another service at that address came to: ``ok``, or the kind of its failure."""
    async with Aws(AwsTarget(REGION, endpoints={"secretsmanager": url})) as aws:
        return await outcome(await aws.secretsmanager())


async def outcome(service: Any) -> str:
    try:
        await service.describe_secret(SecretId="one")
    except (BotoCoreError, ClientError) as error:
        return type(error).__name__
    return "ok"


# Whom they trust.


@pytest.mark.parametrize("behind_a_proxy", [False, True])
async def test_a_server_with_the_right_certificate_is_called(
    authority: Authority, behind_a_proxy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.file))
    async with listening(authority.server("aws.test", "localhost")) as wire, proxying(wire) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        url = "https://aws.test" if behind_a_proxy else wire.url.replace("127.0.0.1", "localhost")
        assert isinstance(await called(url), Issued)
        assert await asked(url) == "ok"
        assert len(wire.seen) == 2
        assert len(proxy.heads) == (2 if behind_a_proxy else 0)


@pytest.mark.parametrize("behind_a_proxy", [False, True])
@pytest.mark.parametrize("wrong", ["the host", "the authority", "an empty bundle"])
async def test_a_server_with_a_wrong_certificate_is_told_nothing(
    authority: Authority, tmp_path: Path, behind_a_proxy: bool, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = "" if wrong == "an empty bundle" else str(authority.file)
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    other = Authority(tmp_path) if wrong == "the authority" else authority
    names = ("elsewhere.test",) if wrong == "the host" else ("aws.test", "localhost")
    async with listening(other.server(*names)) as wire, proxying(wire) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        url = "https://aws.test" if behind_a_proxy else wire.url.replace("127.0.0.1", "localhost")
        reply = await called(url)
        assert isinstance(reply, TryAgain)
        assert reply.trouble is Trouble.UNSENT
        assert await asked(url) == "CertificateRefused"
        assert wire.seen == []


@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:1"])
async def test_certificates_are_read_before_the_first_call(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nonexistent.pem")
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(UsageError, match="No such file"):
        async with cognito(REGION, clock=EndpointClock(SystemClock())):
            pass


# Where they go, and where they never go.


async def test_a_proxy_is_told_who_asks_it(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.file))
    async with listening(authority.server("aws.test")) as wire, proxying(wire) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("http://", "http://ana:word@"))
        assert isinstance(await called("https://aws.test"), Issued)
        assert "proxy-authorization: basic yw5hondvcmq=" in proxy.heads[0].lower()
        assert "proxy-authorization" not in wire.seen[0][0].lower()


@pytest.mark.parametrize("there", [False, True])
async def test_what_a_proxy_does_not_let_through_was_never_sent(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening() as wire, proxying(wire) as proxy:
        proxy.refuses = True
        with unused_port() as nowhere:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url if there else nowhere)
            reply = await called("https://aws.test")
            assert isinstance(reply, TryAgain)
            assert reply.trouble is Trouble.UNSENT
            assert await asked("https://aws.test") == ("ProxyRefused" if there else "ProxyConnectionError")
        assert wire.seen == []


async def test_what_is_meant_for_loopback_goes_through_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with unused_port() as nowhere:
        monkeypatch.setenv("HTTP_PROXY", nowhere)
        async with listening() as wire:
            assert isinstance(await called(wire.url), Issued)
            assert await asked(wire.url) == "ok"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    async with listening() as elsewhere, listening() as wire:
        wire.does = answer(b"{}", f"{status} Over there", f"Location: {elsewhere.url}/")
        await called(wire.url)
        await asked(wire.url)
        assert elsewhere.seen == []
        assert len(wire.seen) == 2


@pytest.mark.parametrize("status", [301, 302, 307])
async def test_a_bucket_behind_a_redirect_that_names_no_region_is_a_failure_and_no_endless_question(
    status: int,
) -> None:
    async with listening() as elsewhere, listening() as wire:
        wire.does = answer(b"", f"{status} Over there", f"Location: {elsewhere.url}/")
        async with Aws(AwsTarget(REGION, endpoints={"s3": wire.url})) as aws:
            s3 = await aws.s3()
            with pytest.raises(EndpointConnectionError):
                await s3.get_object(Bucket="bucket", Key="key")
        assert elsewhere.seen == []
        assert len(wire.seen) == 2


async def test_nobody_is_asked_for_credentials_where_nothing_is_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    async with listening() as wire, listening() as metadata:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url)
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", metadata.url)
        assert isinstance(await called(wire.url), Issued)
        assert metadata.seen == []
        assert "authorization" not in wire.seen[0][0].lower()


# One wire attempt.


async def test_a_connection_that_was_used_before_and_breaks_is_not_tried_again() -> None:
    async with listening() as wire:

        async def once(writer: asyncio.StreamWriter) -> None:
            if len(wire.seen) == 1:
                writer.write(answer())
            else:
                writer.transport.abort()

        wire.does = once
        reply = await called(wire.url, times=2)
        assert isinstance(reply, TryAgain)
        assert reply.trouble is Trouble.NO_ANSWER
        assert len(wire.seen) == 2


@pytest.mark.parametrize(
    "half",
    [
        answer(GOOD, "200 OK").replace(b"Content-Length: ", b"Content-Length: 9"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n" + GOOD[:64] + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + GOOD[:20],
    ],
)
async def test_half_of_a_good_answer_is_no_answer(half: bytes) -> None:
    async def break_off(writer: asyncio.StreamWriter) -> None:
        writer.write(half)
        await writer.drain()
        writer.close()

    async with listening() as wire:
        wire.does = break_off
        reply = await called(wire.url)
        assert isinstance(reply, TryAgain)
        assert reply.trouble is Trouble.NO_ANSWER


async def test_a_secret_is_not_lost_over_an_identity_that_is_no_text() -> None:
    async with listening() as wire:
        wire.does = answer().replace(b"x-amzn-requestid: r-1", b"x-amzn-requestid: r\xff")
        assert await called(wire.url) == Issued(Secret(SECRET), Secret("n" * 40), "r?")


async def test_no_log_at_any_level_tells_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with listening() as wire:
        await called(wire.url)
        for does in (answer(GOOD, "500 Sorry"), answer(GOOD[:40]), answer()[:-20] + b"\r\n", b"nonsense\r\n\r\n"):
            wire.does = does
            await called(wire.url)
    assert len(wire.seen) == 5
    for secret in (CREDENTIAL, SECRET, "n" * 20):
        assert secret not in caplog.text


# What a failure is called.


async def nothing(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def silence(_: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    "does",
    [
        answer(b"{}"),
        answer(b"{}", "500 Sorry"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\nConnection: close\r\n\r\n{}",
        b"\x00\x01 nonsense\r\n\r\n",
        nothing,
        silence,
        "nobody there",
        "no TLS",
    ],
)
async def test_a_failure_has_the_name_that_the_sdks_own_transport_gives_it(does: Any) -> None:
    """So that the SDK's retries, and what people are told, stay as they are."""
    names = set()
    async with listening() as wire:
        if not isinstance(does, str):
            wire.does = does
        with unused_port() as nowhere:
            url = {"nobody there": nowhere, "no TLS": wire.url.replace("http", "https")}.get(str(does), wire.url)
            for transport in (AIOHTTPSession, cast("type[AIOHTTPSession]", Transport)):
                config = AioConfig(
                    connect_timeout=1,
                    read_timeout=0.3,
                    retries={"total_max_attempts": 1},
                    http_session_cls=transport,
                )
                opened = aioboto3.Session().client("secretsmanager", REGION, endpoint_url=url, config=config)
                async with opened as service:
                    names.add(await outcome(service))
    assert len(names) == 1


async def test_a_call_costs_no_more_than_a_call_of_the_sdk() -> None:
    """The reason why the SDK only drafts the request: half of what its own call costs, at the most."""
    async with (
        listening() as wire,
        cognito(REGION, endpoint_url=wire.url, clock=EndpointClock(SystemClock())) as client,
    ):
        request = Request("ana", CredentialKind.SESSION, Secret(CREDENTIAL), "1", 2e9)
        session = aioboto3.Session(aws_access_key_id="x", aws_secret_access_key="x")
        async with session.client("cognito-idp", REGION, endpoint_url=wire.url) as sdk:
            ours = await cpu(lambda: client.associate(request))
            theirs = await cpu(lambda: sdk.associate_software_token(Session=CREDENTIAL))
    assert ours < 0.8 * theirs


async def cpu(call: Callable[[], Awaitable[object]]) -> float:
    """Seconds of CPU for a call and what the wire spends on answering it: the least of five times a hundred."""
    least = 1e9
    for _ in range(5):
        began = time.process_time()
        for _ in range(100):
            await call()
        least = min(least, (time.process_time() - began) / 100)
    return least
