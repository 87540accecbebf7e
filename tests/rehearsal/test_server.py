"""The fake Cognito serves the real SDK as Cognito would, tells the truth about it, and never outlives its parent."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import aioboto3
import aiohttp
import pytest
from botocore.exceptions import ClientError

from tests.support.sdk import cognito_at, until_in_flight
from tests.support.totp import code_at
from worker.rehearsal.fake_cognito.client import FakeCognito, FakeCognitoError, serve_fake_cognito, start_fake_cognito
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig

INSTANT = FakeCognitoConfig(quota=None, latency=0.0)
TARGET = "AWSCognitoIdentityProviderService.AssociateSoftwareToken"


@pytest.fixture
async def fake_cognito() -> AsyncIterator[FakeCognito]:
    async with serve_fake_cognito(INSTANT) as fake_cognito:
        yield fake_cognito


@pytest.fixture
async def client(fake_cognito: FakeCognito) -> AsyncIterator[Any]:
    async with cognito_at(fake_cognito.url) as client:
        yield client


@asynccontextmanager
async def connected(fake_cognito: FakeCognito) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = fake_cognito.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    status = int((await reader.readline()).split()[1])
    head = await reader.readuntil(b"\r\n\r\n")
    return status, await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))


def request(session: str) -> bytes:
    body = json.dumps({"Session": session}).encode()
    return f"POST / HTTP/1.1\r\nx-amz-target: {TARGET}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def test_a_user_enrols_by_session_through_the_sdk(fake_cognito: FakeCognito, client: Any) -> None:
    [credential] = await fake_cognito.sign_in(["ana"])
    issued = await client.associate_software_token(Session=credential.value)
    assert len(base64.b32decode(issued["SecretCode"])) == 20
    assert issued["Session"] != credential.value
    code = code_at(issued["SecretCode"], time.time())
    verified = await client.verify_software_token(Session=issued["Session"], UserCode=code)
    assert verified["Status"] == "SUCCESS"

    user = (await fake_cognito.truth())["ana"]
    assert [secret.secret_code for secret in user.secrets] == [issued["SecretCode"]]
    assert user.secrets[0].request_id == issued["ResponseMetadata"]["RequestId"]
    assert (user.secrets[0].credential, user.verified, user.preference) == ("session", 1, False)


async def test_a_user_enrols_by_access_token_through_the_sdk(fake_cognito: FakeCognito, client: Any) -> None:
    [credential] = await fake_cognito.sign_in(["ana"], credential="token")
    token, enabled = credential.value, {"Enabled": True, "PreferredMfa": True}
    issued = await client.associate_software_token(AccessToken=token)
    assert "Session" not in issued
    with pytest.raises(ClientError, match="User does not have delivery config set"):
        await client.set_user_mfa_preference(AccessToken=token, SoftwareTokenMfaSettings=enabled)
    right = code_at(issued["SecretCode"], time.time())
    with pytest.raises(ClientError, match="EnableSoftwareTokenMFAException"):
        await client.verify_software_token(AccessToken=token, UserCode=f"{(int(right) + 1) % 1_000_000:06d}")
    await client.verify_software_token(AccessToken=token, UserCode=right)
    await client.set_user_mfa_preference(AccessToken=token, SoftwareTokenMfaSettings=enabled)
    user = (await fake_cognito.truth())["ana"]
    assert (user.verified, user.preference) == (1, True)

    await fake_cognito.revoke(["ana"])
    with pytest.raises(ClientError, match="Access Token has been revoked"):
        await client.associate_software_token(AccessToken=token)


async def test_a_user_signs_in_and_prefers_as_an_admin_does_through_the_sdk(
    fake_cognito: FakeCognito, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fake_cognito.configure(mfa="required")
    await fake_cognito.add_users(["ana", "ben"], password="pw {username}")
    app, pool = fake_cognito.config.client_id, fake_cognito.config.user_pool_id
    given = {"USERNAME": "ana", "PASSWORD": "pw ana"}
    begun = await client.initiate_auth(ClientId=app, AuthFlow="USER_PASSWORD_AUTH", AuthParameters=given)
    assert begun["ChallengeName"] == "MFA_SETUP"
    issued = await client.associate_software_token(Session=begun["Session"])
    code = code_at(issued["SecretCode"], time.time())
    await client.verify_software_token(Session=issued["Session"], UserCode=code)

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "AKIDEXAMPLE")
    aws: Any = aioboto3.Session()
    async with aws.client("cognito-idp", region_name="us-east-1", endpoint_url=fake_cognito.url) as admin:
        preferred = {"Enabled": True, "PreferredMfa": True}
        await admin.admin_set_user_mfa_preference(UserPoolId=pool, Username="ana", SoftwareTokenMfaSettings=preferred)
        flow = {"ClientId": app, "UserPoolId": pool, "AuthFlow": "ADMIN_USER_PASSWORD_AUTH"}
        asked = await admin.admin_initiate_auth(**flow, AuthParameters=given)
        assert asked["ChallengeName"] == "SOFTWARE_TOKEN_MFA"

    answer = {"USERNAME": "ana", "SOFTWARE_TOKEN_MFA_CODE": code_at(issued["SecretCode"], time.time() + 30)}
    signed_in = await client.respond_to_auth_challenge(
        ClientId=app, ChallengeName="SOFTWARE_TOKEN_MFA", Session=asked["Session"], ChallengeResponses=answer
    )
    told = await client.get_user(AccessToken=signed_in["AuthenticationResult"]["AccessToken"])
    assert (told["UserMFASettingList"], told["PreferredMfaSetting"]) == (["SOFTWARE_TOKEN_MFA"], "SOFTWARE_TOKEN_MFA")
    stats = await fake_cognito.stats()
    assert stats.signed == {"AdminSetUserMFAPreference": 1, "AdminInitiateAuth": 1}
    assert {name: each.wire_requests for name, each in stats.categories.items()} == {
        "UserResourceUpdate": 3,
        "UserAuthentication": 2,
        "UserAuthentication, answers": 1,
        "UserRead": 1,
    }


async def test_every_answer_names_its_request_and_the_services_time(fake_cognito: FakeCognito, client: Any) -> None:
    await fake_cognito.configure(clock_skew=-3600)
    with pytest.raises(ClientError) as caught:
        await client.associate_software_token(Session="x" * 20)
    told = caught.value.response["ResponseMetadata"]
    assert str(uuid.UUID(told["RequestId"])) == told["RequestId"]
    assert told["HTTPHeaders"]["x-amzn-errortype"] == "NotAuthorizedException"
    assert told["HTTPHeaders"]["content-type"] == "application/x-amz-json-1.1"
    assert parsedate_to_datetime(told["HTTPHeaders"]["date"]).timestamp() == pytest.approx(time.time() - 3600, abs=5)


async def test_over_the_quota_the_sdk_sees_too_many_requests() -> None:
    now = 1000.0
    async with serve_fake_cognito(FakeCognitoConfig(quota=5, latency=0.0), monotonic=lambda: now) as fake_cognito:
        credentials = await fake_cognito.sign_in(f"user-{number}" for number in range(8))
        async with cognito_at(fake_cognito.url) as client:
            calls = (client.associate_software_token(Session=credential.value) for credential in credentials)
            results = await asyncio.gather(*calls, return_exceptions=True)
        errors = [result for result in results if isinstance(result, client.exceptions.TooManyRequestsException)]
        assert len(errors) == 3
        stats = await fake_cognito.stats()
        assert (stats.wire_requests, stats.admitted, stats.refused, stats.issued) == (8, 5, 3, 5)
        assert stats.largest_window == 8
        assert len(await fake_cognito.truth()) == 5


async def test_overlapping_calls_for_one_user_are_refused_and_seen(fake_cognito: FakeCognito, client: Any) -> None:
    await fake_cognito.set_latency(0.4, jitter=0.01)
    credentials = await fake_cognito.sign_in(["ana", "ana", "ben"])
    calls = (client.associate_software_token(Session=credential.value) for credential in credentials)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["dict", "ConcurrentModificationException", "dict"]
    stats = await fake_cognito.stats()
    assert stats.overlapping == {"ana": 1}
    assert (stats.most_in_flight, stats.most_in_flight_one_user, stats.in_flight) == (3, 2, 0)
    await fake_cognito.reset_stats()
    fresh = await fake_cognito.stats()
    assert (fresh.wire_requests, fresh.overlapping, fresh.most_in_flight_one_user) == (0, {}, 0)


async def test_many_calls_wait_out_the_latency_together(fake_cognito: FakeCognito, client: Any) -> None:
    await fake_cognito.set_latency(0.3)
    credentials = await fake_cognito.sign_in(f"user-{number}" for number in range(80))
    calls = (client.associate_software_token(Session=credential.value) for credential in credentials)
    await asyncio.gather(*calls)
    stats = await fake_cognito.stats()
    assert stats.most_in_flight > 10
    assert stats.acted == stats.issued == 80


async def test_a_call_takes_effect_though_its_client_died_meanwhile(fake_cognito: FakeCognito) -> None:
    await fake_cognito.set_latency(0.5)
    [credential] = await fake_cognito.sign_in(["ana"])
    async with connected(fake_cognito) as (_, writer):
        writer.write(request(credential.value))
        await until_in_flight(fake_cognito, 1)
    assert await fake_cognito.truth() == {}
    await until_in_flight(fake_cognito, 0)
    assert len((await fake_cognito.truth())["ana"].secrets) == 1


async def test_sessions_are_signed_in_by_the_thousand(fake_cognito: FakeCognito) -> None:
    signed_in = [
        credential async for credential in fake_cognito.sign_in_many(2000, prefix="ana/", start=7, validity=900)
    ]
    assert [credential.username for credential in signed_in] == [f"ana/{number}" for number in range(7, 2007)]
    assert len({credential.value for credential in signed_in}) == 2000
    assert {round((credential.expires_at - time.time()) / 900, 1) for credential in signed_in} == {1.0}
    asked = signed_in[0].request()
    assert asked.keys() == {"username", "session", "expires_at"}
    assert asked["expires_at"].endswith("Z")
    assert asked["session"] not in repr(signed_in[0])


@pytest.mark.parametrize("username", ["../etc/passwd", "\x1b[2J", "👩‍👩‍👧", "a\nb\u2028c", '"\\', "ünï", " "])
async def test_any_username_comes_through_the_wire(fake_cognito: FakeCognito, client: Any, username: str) -> None:
    [credential] = await fake_cognito.sign_in([username], credential="token")
    await client.associate_software_token(AccessToken=credential.value)
    await fake_cognito.set_faults(f"conflict@{username}=1")
    with pytest.raises(client.exceptions.ConcurrentModificationException):
        await client.associate_software_token(AccessToken=credential.value)
    assert list(await fake_cognito.truth()) == [username]


async def test_what_cannot_be_done_is_refused_in_words(fake_cognito: FakeCognito) -> None:
    with pytest.raises(FakeCognitoError, match="did you mean conflict"):
        await fake_cognito.set_faults("conflikt=1")
    with pytest.raises(FakeCognitoError, match="while it runs: region"):
        await fake_cognito.configure(region="eu-north-1")
    with pytest.raises(FakeCognitoError, match="1 to 128 characters"):
        await fake_cognito.sign_in([""])
    with pytest.raises(FakeCognitoError, match="session or token"):
        await fake_cognito.sign_in(["ana"], credential="cookie")  # type: ignore[arg-type]


async def test_requests_in_pieces_and_in_a_row_are_answered_in_order(fake_cognito: FakeCognito) -> None:
    await fake_cognito.set_latency(0.01)
    [credential] = await fake_cognito.sign_in(["ana"])
    sent = request("x" * 20) + request(credential.value) + request(credential.value)
    async with connected(fake_cognito) as (reader, writer):
        for start in range(0, len(sent), 97):
            writer.write(sent[start : start + 97])
            await writer.drain()
            await asyncio.sleep(0)
        answers = [await answer(reader) for _ in range(3)]
    assert [status for status, _ in answers] == [400, 200, 400]
    assert "SecretCode" in json.loads(answers[1][1])
    assert b"only be used once" in answers[2][1]


@pytest.mark.parametrize(
    ("sent", "status", "told"),
    [
        (b"POST / HTTP/1.1\r\n\r\n", 411, b"Length Required"),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 411, b"Length Required"),
        (b"POST / HTTP/1.1\r\ncontent-length: 70000\r\n\r\n", 413, b"Too Large"),
        (b"POST / HTTP/1.1\r\nx: " + b"y" * 70000, 431, b"Too Large"),
        (b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}", 400, b"UnknownOperationException"),
        (b"POST / HTTP/1.1\r\nx-amz-target: X.Y\r\ncontent-length: 2\r\n\r\n{}", 400, b"UnknownOperation"),
        (b"POST / HTTP/1.1\r\nX-Amz-Target:%s\r\ncontent-length: 2\r\n\r\n[]" % TARGET.encode(), 400, b"Serialization"),
        (b"POST / HTTP/1.1\r\nX-Amz-Target:%s\r\ncontent-length: 1\r\n\r\n{" % TARGET.encode(), 400, b"Serialization"),
        (b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n", 404, b"Not Found"),
    ],
)
async def test_what_is_no_request_is_refused_and_not_counted(
    fake_cognito: FakeCognito, sent: bytes, status: int, told: bytes
) -> None:
    async with connected(fake_cognito) as (reader, writer):
        writer.write(sent)
        got = await answer(reader)
    assert got[0] == status
    assert told in got[1]
    assert (await fake_cognito.stats()).wire_requests == 0


async def test_one_connection_can_ask_cognito_first_and_control_afterwards(fake_cognito: FakeCognito) -> None:
    async with connected(fake_cognito) as (reader, writer):
        writer.write(request("x" * 20))
        assert (await answer(reader))[0] == 400
        writer.write(b"GET /_control/stats HTTP/1.1\r\nhost: x\r\n\r\n")
        status, body = await answer(reader)
    assert status == 200
    assert json.loads(body)["wire_requests"] == 1


async def test_arrivals_can_be_counted_for_a_part_of_the_time() -> None:
    now = 100.0
    async with serve_fake_cognito(FakeCognitoConfig(quota=10, latency=0.0), monotonic=lambda: now) as fake_cognito:
        async with cognito_at(fake_cognito.url) as client:
            for number in range(21):
                now = 100.0 + number / 10
                with pytest.raises(client.exceptions.NotAuthorizedException):
                    await client.associate_software_token(Session="x" * 20)
        whole, part = await fake_cognito.stats(), await fake_cognito.stats(since=100.45, until=100.95)
    assert whole.utilisation == pytest.approx(1.0)
    assert (whole.first_arrival, whole.last_arrival, whole.largest_window) == (100.0, 102.0, 10)
    assert (part.wire_requests, part.largest_window) == (5, 5)
    assert part.utilisation == pytest.approx(1.0)


async def test_a_process_of_its_own_serves_and_ends_with_the_context() -> None:
    config = FakeCognitoConfig(quota=None, latency=0.0, faults=("conflict=1x",), session_validity=60)
    async with start_fake_cognito(config) as fake_cognito, cognito_at(fake_cognito.url) as client:
        assert fake_cognito.pid != os.getpid()
        [credential] = await fake_cognito.sign_in(["ana"])
        with pytest.raises(client.exceptions.ConcurrentModificationException):
            await client.associate_software_token(Session=credential.value)
        await client.associate_software_token(Session=credential.value)
        assert len((await fake_cognito.truth())["ana"].secrets) == 1
        assert (await fake_cognito.stats()).faults == {"conflict": 1}
    with pytest.raises(ProcessLookupError):
        os.kill(fake_cognito.pid, 0)


async def test_a_process_that_cannot_start_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FakeCognitoError, match="did not start"):
        async with start_fake_cognito(FakeCognitoConfig(faults=("conflikt=1",))):
            pass
    assert "did you mean conflict" in capfd.readouterr().err


@pytest.mark.parametrize("ended_by", ["end of input", "SIGTERM"])
async def test_the_command_serves_until_its_input_ends_or_it_is_told_to(ended_by: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "worker.rehearsal.fake_cognito.server", "--port", "0"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    url = json.loads(await process.stdout.readline())["url"]
    # A client that is still connected, and waits, keeps nobody alive.
    async with aiohttp.ClientSession() as http, http.get(f"{url}/_control/stats") as response:
        assert response.status == 200
        if ended_by == "SIGTERM":
            process.send_signal(signal.SIGTERM)
        else:
            process.stdin.close()
        async with asyncio.timeout(10):
            rest = await process.stdout.read()
            assert (await process.wait(), rest) == (0, b"")
