"""The call to Cognito, over a real wire on loopback that may also fail."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from contextlib import AbstractAsyncContextManager
from email.utils import formatdate

import pytest

from tests.support.wire import GOOD, SECRET, Behaviour, Wire, answer, unused_port
from worker.adapters.cognito.client import CognitoClient, cognito
from worker.core.clock import AGREEING_ANSWERS, EndpointClock
from worker.core.errors import UsageError
from worker.core.model import CredentialKind, Issued, PoolFault, Reply, Request, Secret, Trouble, TryAgain
from worker.core.ports import TimeAnswer

SESSION, TOKEN = CredentialKind.SESSION, CredentialKind.ACCESS_TOKEN


class StillClock:
    """A clock that a test moves."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def utc(self) -> float:
        return self.now


def request(kind: CredentialKind = SESSION, credential: str = "s" * 40) -> Request:
    return Request(username="ana", kind=kind, credential=Secret(credential), id="1", expires_at=2e9)


def trouble(reply: Reply) -> Trouble:
    assert isinstance(reply, TryAgain)
    return reply.trouble


def client(
    url: str, clock: StillClock | None = None, timeout: float = 5.0
) -> AbstractAsyncContextManager[CognitoClient]:
    return cognito(
        "eu-west-1", endpoint_url=url, call_timeout=timeout, concurrency=4, clock=EndpointClock(clock or StillClock())
    )


# What leaves.


@pytest.mark.parametrize(("kind", "key"), [(SESSION, "Session"), (TOKEN, "AccessToken")])
async def test_the_request_is_what_cognito_wants_and_holds_one_credential(
    wire: Wire, kind: CredentialKind, key: str
) -> None:
    async with client(wire.url) as provider:
        await provider.associate(request(kind, 'a"\u00fc\ud800' + "b" * 20))
    ((head, body),) = wire.seen
    lines = head.lower().split("\r\n")
    assert lines[0] == "post / http/1.1"
    assert "x-amz-target: awscognitoidentityproviderservice.associatesoftwaretoken" in lines
    assert "content-type: application/x-amz-json-1.1" in lines
    assert [line for line in lines if line.startswith("user-agent: mfa-worker")]
    assert not [line for line in lines if line.startswith(("authorization", "amz-sdk", "x-amz-security"))]
    assert json.loads(body) == {key: 'a"\u00fc\ud800' + "b" * 20}


async def test_the_draft_of_the_request_is_never_sent(wire: Wire) -> None:
    async with client(wire.url):
        pass
    assert wire.seen == []


async def test_the_region_and_not_the_environment_says_where_credentials_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER", "http://127.0.0.1:1")
    async with cognito("eu-west-1", clock=EndpointClock(StillClock())) as provider:
        assert provider._draft.url == "https://cognito-idp.eu-west-1.amazonaws.com/"


async def test_a_proxy_of_the_environment_is_used(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", wire.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with client("http://cognito.invalid") as provider:
        assert isinstance(await provider.associate(request()), Issued)
    assert wire.seen[0][0].startswith("POST http://cognito.invalid/ HTTP/1.1")


async def test_a_region_that_is_no_region_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        async with cognito("not a region", clock=EndpointClock(StillClock())):
            pass


async def test_certificates_that_cannot_be_read_are_a_usage_error(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nonexistent.pem")
    with pytest.raises(UsageError):
        async with client(wire.url):
            pass


def test_importing_the_provider_does_not_import_the_sdk() -> None:
    script = (
        "import sys, worker.adapters.cognito.client; "
        "print([m for m in ('aioboto3', 'botocore', 'aiohttp') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout == b"[]\n"


# Secrets.


async def test_a_session_gets_a_secret_and_the_session_that_can_verify_it(wire: Wire) -> None:
    async with client(wire.url) as provider:
        reply = await provider.associate(request())
    assert reply == Issued(Secret(SECRET), Secret("n" * 40), "r-1")


async def test_a_token_gets_a_secret_and_no_session(wire: Wire) -> None:
    async with client(wire.url) as provider:
        assert await provider.associate(request(TOKEN)) == Issued(Secret(SECRET), None, "r-1")


# A wire that fails.


async def test_a_refused_connection_sent_nothing() -> None:
    with unused_port() as url:
        async with client(url) as provider:
            reply = await provider.associate(request())
    assert reply == TryAgain(Trouble.UNSENT, "ClientConnectorError")


async def test_a_name_that_does_not_exist_sent_nothing() -> None:
    async with client("http://cognito.invalid") as provider:
        reply = await provider.associate(request())
    assert trouble(reply) is Trouble.UNSENT


async def test_tls_that_does_not_come_about_sent_nothing(wire: Wire) -> None:
    async with client(wire.url.replace("http:", "https:"), timeout=1.5) as provider:
        reply = await provider.associate(request())
    assert trouble(reply) is Trouble.UNSENT


async def test_a_connection_that_never_stands_sent_nothing() -> None:
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        first.connect(full.getsockname())  # the only place in the queue
        async with client(f"http://127.0.0.1:{full.getsockname()[1]}", timeout=1.5) as provider:
            reply = await provider.associate(request())
    assert trouble(reply) is Trouble.UNSENT


async def cut(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def break_off(writer: asyncio.StreamWriter) -> None:
    writer.write(answer()[:-30])
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("does", [cut, break_off, b"\x00\x01\x02 nonsense \r\n\r\n"])
async def test_whatever_breaks_after_the_request_left_may_have_acted(wire: Wire, does: Behaviour | bytes) -> None:
    wire.does = does
    async with client(wire.url) as provider:
        assert trouble(await provider.associate(request())) is Trouble.NO_ANSWER


async def test_an_answer_that_does_not_come_in_time_may_be_acting_still(wire: Wire) -> None:
    async def trickle(writer: asyncio.StreamWriter) -> None:
        for byte in answer():
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)

    wire.does = trickle
    async with client(wire.url, timeout=0.3) as provider, asyncio.timeout(2):
        assert await provider.associate(request()) == TryAgain(Trouble.NO_ANSWER, "TimeoutError")


@pytest.mark.parametrize("status", [500, 503, 400])
async def test_one_call_is_one_request_on_the_wire(wire: Wire, status: int) -> None:
    wire.does = answer(b'{"__type": "InternalErrorException"}', f"{status} Sorry")
    async with client(wire.url) as provider:
        assert await provider.associate(request()) == TryAgain(Trouble.SERVER_ERROR, "InternalErrorException")
    assert len(wire.seen) == 1


async def test_a_redirect_is_not_followed_with_the_credential_in_hand(wire: Wire) -> None:
    wire.does = answer(b"", "307 Temporary Redirect", f"Location: {wire.url}/elsewhere")
    async with client(wire.url) as provider:
        assert isinstance(await provider.associate(request()), PoolFault)
    assert len(wire.seen) == 1


async def test_a_cancelled_call_stops_at_once(wire: Wire) -> None:
    arrived = asyncio.Event()

    async def hang(_: asyncio.StreamWriter) -> None:
        arrived.set()

    wire.does = hang
    async with client(wire.url) as provider:
        call = asyncio.create_task(provider.associate(request()))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        wire.does = answer()
        assert isinstance(await provider.associate(request()), Issued)


# The server's clock.


def dated(now: float, *headers: str) -> bytes:
    return answer(GOOD, "200 OK", f"Date: {formatdate(now, usegmt=True)}", *headers)


async def ask(wire: Wire, clock: StillClock, times: int = AGREEING_ANSWERS) -> EndpointClock:
    """The clock after so many questions."""
    endpoint_clock = EndpointClock(clock)
    async with cognito("eu-west-1", endpoint_url=wire.url, clock=endpoint_clock) as provider:
        for _ in range(times):
            assert (await provider.ask_time()).told
    return endpoint_clock


async def test_asking_for_the_time_holds_no_credential_and_does_not_count_against_the_enrolments(wire: Wire) -> None:
    clock = StillClock()
    wire.does = dated(clock.now)
    await ask(wire, clock, 1)
    ((head, body),) = wire.seen
    assert head.lower().startswith("post / http/1.1")
    assert "x-amz-target: awscognitoidentityproviderservice.getuser\r\n" in head.lower()
    assert body == b'{"AccessToken": "none"}'


@pytest.mark.parametrize("skew", [-7200.0, -61.0, -40.0, 0.0, 40.0, 61.0, 7200.0])
async def test_the_date_of_an_answer_shows_how_far_our_clock_is_off(wire: Wire, skew: float) -> None:
    clock = StillClock()
    wire.does = dated(clock.now + skew)
    endpoint_clock = await ask(wire, clock)
    assert endpoint_clock.skew == skew
    assert endpoint_clock.utc() == clock.now + skew


async def test_the_answers_to_calls_are_dated_too(wire: Wire) -> None:
    clock = StillClock()
    endpoint_clock = EndpointClock(clock)
    async with cognito("eu-west-1", endpoint_url=wire.url, clock=endpoint_clock) as provider:
        for _ in range(AGREEING_ANSWERS):
            wire.does = dated(clock.now + 40)
            await provider.associate(request())
            clock.now += 1
    assert endpoint_clock.skew == 40


@pytest.mark.parametrize("date", ["nonsense", "", "Sat, 99 Nov 9999 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_a_date_that_is_none_says_nothing(wire: Wire, date: str) -> None:
    wire.does = answer(GOOD, "200 OK", f"Date: {date}")
    endpoint_clock = EndpointClock(StillClock())
    async with cognito("eu-west-1", endpoint_url=wire.url, clock=endpoint_clock) as provider:
        assert isinstance(await provider.associate(request()), Issued)
        assert await provider.ask_time() == TimeAnswer(told=False)
    assert endpoint_clock.skew is None


@pytest.mark.parametrize(("seconds", "what"), [(0, "1970"), (-86_400, "1969")])
async def test_a_date_of_a_clock_that_never_ran_says_nothing(wire: Wire, seconds: float, what: str) -> None:
    wire.does = dated(seconds)
    endpoint_clock = EndpointClock(StillClock())
    async with cognito("eu-west-1", endpoint_url=wire.url, clock=endpoint_clock) as provider:
        assert not (await provider.ask_time()).told, what


@pytest.mark.parametrize(
    ("status", "trouble"), [("502 Bad Gateway", "HTTP502"), ("503 Sorry", "HTTP503"), ("404 Not Found", "")]
)
async def test_the_date_of_a_proxy_is_not_cognitos(wire: Wire, status: str, trouble: str) -> None:
    page = answer(b"<html>", status, f"Date: {formatdate(1.8e9, usegmt=True)}")
    wire.does = page.replace(b"x-amzn-requestid: r-1\r\n", b"")
    endpoint_clock = EndpointClock(StillClock())
    async with cognito("eu-west-1", endpoint_url=wire.url, clock=endpoint_clock) as provider:
        assert await provider.ask_time() == TimeAnswer(told=False, trouble=trouble)
        await provider.associate(request())
    assert endpoint_clock.skew is None


async def test_an_endpoint_that_cannot_be_reached_says_why_in_words() -> None:
    with unused_port() as url:
        async with client(url) as provider:
            assert await provider.ask_time() == TimeAnswer(told=False, trouble="Connection refused")
