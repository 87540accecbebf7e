"""The two requests that are signed: by whose credentials, with which signature, and what happens without any."""

from __future__ import annotations

import asyncio
import json
import re
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Never, cast

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.wire import Wire, answer, listening, unused_port
from worker.adapters.aws.session import Aws, AwsTarget
from worker.adapters.cognito.client import CognitoClient, cognito
from worker.adapters.cognito.sign_in import SignInConfig
from worker.adapters.cognito.signed import SignedCalls
from worker.core.clock import EndpointClock, SystemClock
from worker.core.model import CredentialKind, PoolFault, Preferred, Request, Secret, Trouble, TryAgain

REGION, POOL = "eu-west-1", "eu-west-1_Example"
ENROLLED = json.dumps({"ChallengeName": "SOFTWARE_TOKEN_MFA", "Session": "s" * 40}).encode()
SESSION = Request("zoë", CredentialKind.SESSION, Secret("s" * 40), id="1", expires_at=2e9)
PASSWORD = Request("zoë", CredentialKind.PASSWORD, Secret("p"), id="1", expires_at=2e9)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with listening() as wire:
        wire.does = answer(b"{}")
        yield wire


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws_credentials: None) -> Path:
    """A home, and an environment that has nothing of AWS."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / ".aws").mkdir()
    return tmp_path


def has_keys(monkeypatch: pytest.MonkeyPatch, token: str | None = None) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-key")
    if token:
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)


@asynccontextmanager
async def client(wire: Wire, profile: str | None = None, call_timeout: float = 5.0) -> AsyncIterator[CognitoClient]:
    sign_in = SignInConfig("admin_user_password", "exampleclient", None, POOL, 180.0)
    async with Aws(AwsTarget(REGION, profile=profile)) as aws:
        signed = SignedCalls(aws, region=REGION, user_pool_id=POOL)
        clock = EndpointClock(SystemClock())
        async with cognito(
            REGION, endpoint_url=wire.url, call_timeout=call_timeout, clock=clock, sign_in=sign_in, signed=signed
        ) as provider:
            yield provider


def headers_of(head: str) -> dict[str, str]:
    lines = [line.partition(": ") for line in head.split("\r\n")[1:] if line]
    return {name.lower(): text for name, _, text in lines}


@pytest.mark.parametrize("token", [None, "the-session-token"])
async def test_the_signature_is_right_for_what_is_sent(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    has_keys(monkeypatch, token)
    async with client(wire) as provider:
        assert await provider.prefer(SESSION) == Preferred()
    ((head, body),) = wire.seen
    headers = headers_of(head)
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/(\d{8})/eu-west-1/cognito-idp/aws4_request, "
        r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})",
        headers["authorization"],
    )
    assert found is not None
    names = found[2].split(";")
    assert {"content-type", "host", "x-amz-date", "x-amz-target"} <= set(names)
    assert ("x-amz-security-token" in names) is (token is not None)
    assert headers["host"] == wire.url.removeprefix("http://")
    request = AWSRequest("POST", wire.url + "/", headers={name: headers[name] for name in names}, data=body)
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials("AKIAEXAMPLE", "s3cret-key", token), "cognito-idp", REGION)
    assert signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request) == found[3]
    settings = {"Enabled": True, "PreferredMfa": True}
    assert json.loads(body) == {"UserPoolId": POOL, "Username": "zoë", "SoftwareTokenMfaSettings": settings}


async def test_an_administrators_sign_in_names_the_pool(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    has_keys(monkeypatch)
    wire.does = answer(ENROLLED)
    async with client(wire) as provider:
        await provider.begin(PASSWORD)
    ((head, body),) = wire.seen
    headers = headers_of(head)
    assert headers["x-amz-target"] == "AWSCognitoIdentityProviderService.AdminInitiateAuth"
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/")
    assert json.loads(body) == {
        "AuthFlow": "ADMIN_USER_PASSWORD_AUTH",
        "ClientId": "exampleclient",
        "UserPoolId": POOL,
        "AuthParameters": {"USERNAME": "zoë", "PASSWORD": "p"},
    }


async def test_the_unsigned_requests_need_no_credentials_and_stay_unsigned(wire: Wire) -> None:
    async with client(wire, profile="nobody-has-this-profile") as provider:
        await provider.verify(SESSION, Secret("123456"))
        await provider.associate(SESSION)
    assert len(wire.seen) == 2
    assert not [head for head, _ in wire.seen if "authorization" in head.lower()]


@pytest.mark.parametrize(
    ("config", "profile", "code", "cure"),
    [
        ("", None, "NoCredentialsError", "give the process AWS credentials"),
        ("", "work", "ProfileNotFound", "AWS_PROFILE"),
        ("[profile work]\ncredential_process = /nowhere/at-all\n", "work", "CredentialProcess", "credential_process"),
        ("[profile work]\nrole_arn = arn:aws:iam::1:role/x\n", "work", "PartialCredentialsError", "source_profile"),
    ],
)
async def test_without_credentials_nothing_is_sent_and_a_person_must_act(
    wire: Wire, home: Path, config: str, profile: str | None, code: str, cure: str
) -> None:
    (home / ".aws" / "config").write_text(config)
    async with client(wire, profile) as provider:
        for reply in (await provider.prefer(SESSION), await provider.begin(PASSWORD)):
            assert isinstance(reply, PoolFault)
            assert reply.code == code
            assert cure.lower() in reply.cure.lower()
            assert (reply.may_pass, reply.may_be_own) == (False, False)
    assert wire.seen == []


WITH_ROLE = (
    "[profile work]\nrole_arn = arn:aws:iam::123456789012:role/worker\nsource_profile = keys\n"
    "[profile keys]\naws_access_key_id = AKIA\naws_secret_access_key = x\n"
)


async def test_credentials_are_asked_of_no_address_that_is_not_awss(
    wire: Wire, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".aws" / "config").write_text(WITH_ROLE)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://sts.example.invalid")
    async with client(wire, "work") as provider:
        reply = await provider.prefer(SESSION)
    assert isinstance(reply, PoolFault)
    assert "sts.example.invalid" in reply.cure
    assert wire.seen == []


async def test_where_nobody_gives_credentials_now_it_is_tried_again(
    wire: Wire, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".aws" / "config").write_text(WITH_ROLE)
    with unused_port() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        async with client(wire, "work", call_timeout=30) as provider:
            reply = await provider.prefer(SESSION)
    assert isinstance(reply, TryAgain)
    assert reply.trouble is Trouble.UNSENT
    assert wire.seen == []


async def test_a_helper_that_takes_long_sends_nothing_and_is_not_begun_again(wire: Wire, home: Path) -> None:
    helper = home / "helper"
    keys = {"Version": 1, "AccessKeyId": "AKIAHELPER", "SecretAccessKey": "x"}
    log, go = home / "begun", home / "go"
    helper.write_text(
        f"#!{sys.executable}\nimport pathlib, time\nwith open({str(log)!r}, 'a') as log: log.write('x')\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\nprint({json.dumps(json.dumps(keys))})\n"
    )
    helper.chmod(stat.S_IRWXU)
    (home / ".aws" / "config").write_text(f"[profile work]\ncredential_process = {helper}\n")
    async with client(wire, "work", call_timeout=0.4) as provider:
        assert await provider.prefer(SESSION) == TryAgain(Trouble.UNSENT, "ReadTimeoutError")
        assert wire.seen == []
        go.touch()
        async with asyncio.timeout(20):
            while (reply := await provider.prefer(SESSION)) != Preferred():
                assert reply == TryAgain(Trouble.UNSENT, "ReadTimeoutError")
    assert log.read_text() == "x"
    assert "Credential=AKIAHELPER/" in wire.seen[0][0]


class NeverGets:
    """Credentials that never come."""

    ended = False

    async def credentials(self) -> Never:
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True
        raise AssertionError


async def test_the_client_ends_while_credentials_are_still_got(wire: Wire) -> None:
    aws = NeverGets()
    signed = SignedCalls(cast("Aws", aws), region=REGION, user_pool_id=POOL)
    clock = EndpointClock(SystemClock())
    async with cognito(REGION, endpoint_url=wire.url, call_timeout=0.1, clock=clock, signed=signed) as provider:
        assert await provider.prefer(SESSION) == TryAgain(Trouble.UNSENT, "ReadTimeoutError")
        assert not aws.ended
    assert aws.ended
