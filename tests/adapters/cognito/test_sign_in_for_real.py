"""Sign-in, look, call, verification and preference against services that judge them: the project's own fake Cognito
for every status of a user, and two emulators, as far as each goes.

moto signs in by password, takes the Session that follows a temporary password, checks codes and sets both preferences;
its secret is always the same. ministack signs in by password and by the pool's triggers, and takes any Session.
"""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.emulators import REGION, Emulator, fresh
from tests.support.totp import code_at
from worker.adapters.aws.session import Aws, AwsTarget
from worker.adapters.cognito.client import CognitoClient, cognito
from worker.adapters.cognito.sign_in import SignInConfig
from worker.adapters.cognito.signed import SignedCalls
from worker.core.clock import EndpointClock, SystemClock
from worker.core.model import (
    AlreadyEnrolled,
    CredentialKind,
    CustomChallenge,
    Issued,
    NotEnrolled,
    PoolFault,
    Preferred,
    Reason,
    Refused,
    Request,
    Secret,
    SignedIn,
    Trouble,
    TryAgain,
    Verified,
    WrongCode,
)
from worker.rehearsal.fake_cognito.client import FakeCognito, serve_fake_cognito
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig
from worker.requests.ticket import make_ticket, new_key, read_not_after

PASSWORD = "Correct-Horse-9"
KEY = new_key().strip()
MOTOS_SECRET = "ASDFASDFASDF"
"""Too short for one of Cognito's, so that the worker takes it for a lost one."""


def with_password(username: str = "ana", password: str = PASSWORD) -> Request:
    return Request(username, CredentialKind.PASSWORD, Secret(password), id="1", expires_at=2e9)


def signed_in(request: Request, reply: object) -> Request:
    assert isinstance(reply, SignedIn), reply
    return request.signed_in(reply.kind, reply.credential, 2e9)


def wrong_code(secret_code: str) -> Secret:
    """A code that is none of the secret's about now."""
    right = {code_at(secret_code, time.time() + 30 * steps) for steps in range(-3, 4)}
    return Secret(next(code for number in range(8) if (code := f"{number:06}") not in right))


@asynccontextmanager
async def client_of(
    url: str, config: SignInConfig, region: str = REGION, clock: EndpointClock | None = None
) -> AsyncIterator[CognitoClient]:
    async with Aws(AwsTarget(region)) as aws:
        signed = SignedCalls(aws, region=region, user_pool_id=config.user_pool_id)
        clock = clock or EndpointClock(SystemClock())
        async with cognito(region, endpoint_url=url, clock=clock, sign_in=config, signed=signed) as client:
            yield client


# --- the fake Cognito -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def fake(flow: str, secret: str | None = None, **more: Any) -> AsyncIterator[tuple[FakeCognito, CognitoClient]]:
    settings = FakeCognitoConfig(latency=0.0, quota=None, client_secret=secret, **{"password": PASSWORD, **more})
    async with serve_fake_cognito(settings) as service:
        named = SignInConfig(flow, settings.client_id, Secret(secret) if secret else None, settings.user_pool_id, 180.0)
        async with client_of(service.url, named, settings.region) as client:
            yield service, client


def with_ticket(service: FakeCognito, username: str = "ana", of: str | None = None, seconds: float = 3600) -> Request:
    ticket = make_ticket(
        base64.urlsafe_b64decode(KEY + "="),
        user_pool_id=service.config.user_pool_id,
        client_id=service.config.client_id,
        username=of or username,
        not_after=int(time.time() + seconds),
    )
    assert read_not_after(ticket) is not None
    return Request(username, CredentialKind.TICKET, Secret(ticket), id="1", expires_at=2e9)


@pytest.mark.usefixtures("aws_credentials")
@pytest.mark.parametrize("secret", [None, "s3cret"])
async def test_a_ticket_becomes_an_active_factor(secret: str | None) -> None:
    async with fake("custom_auth", secret, ticket_key=KEY) as (service, client):
        ticket = with_ticket(service, "zoë")
        challenge = await client.begin(ticket)
        assert isinstance(challenge, CustomChallenge)
        request = signed_in(ticket, await client.answer(ticket, challenge))
        assert request.kind is CredentialKind.ACCESS_TOKEN
        assert await client.look(request) == NotEnrolled()
        issued = await client.associate(request)
        assert isinstance(issued, Issued)
        assert isinstance(await client.prefer(request), Refused), "not before it is verified"
        assert isinstance(await client.verify(request, wrong_code(issued.secret_code.reveal())), WrongCode)
        code = Secret(code_at(issued.secret_code.reveal(), time.time()))
        assert await client.verify(request, code) == Verified()
        assert await client.prefer(request) == Preferred()
        assert await client.look(request) == AlreadyEnrolled()
        assert (await service.truth())["zoë"].preference


@pytest.mark.usefixtures("aws_credentials")
@pytest.mark.parametrize("flow", ["user_password", "admin_user_password"])
@pytest.mark.parametrize("secret", [None, "s3cret"])
async def test_a_password_becomes_an_active_factor_by_its_session(flow: str, secret: str | None) -> None:
    async with fake(flow, secret, mfa="required") as (service, client):
        request = signed_in(with_password(), await client.begin(with_password()))
        assert request.kind is CredentialKind.SESSION
        issued = await client.associate(request)
        assert isinstance(issued, Issued)
        assert issued.session is not None
        request = request.signed_in(CredentialKind.SESSION, issued.session, 2e9)
        assert isinstance(await client.prefer(request), Refused), "not before it is verified"
        code = Secret(code_at(issued.secret_code.reveal(), time.time()))
        assert await client.verify(request, code) == Verified()
        assert await client.prefer(request) == Preferred()
        assert await client.begin(with_password()) == AlreadyEnrolled()
        signed = (await service.stats()).signed
    assert signed.get("AdminSetUserMFAPreference") == 2
    assert set(signed) <= {"AdminSetUserMFAPreference", "AdminInitiateAuth"}, "nothing else is signed"


@pytest.mark.usefixtures("aws_credentials")
@pytest.mark.parametrize("how", ["another user's", "expired", "cut", "another key's"])
async def test_a_wrong_ticket_is_refused_and_nothing_else(how: str) -> None:
    async with fake("custom_auth", ticket_key=new_key().strip() if how == "another key's" else KEY) as (
        service,
        client,
    ):
        ticket = with_ticket(
            service, of="eve" if how == "another user's" else None, seconds=-60 if how == "expired" else 3600
        )
        if how == "cut":
            ticket = ticket.signed_in(CredentialKind.TICKET, Secret(ticket.credential.reveal()[:-4]), 2e9)
        challenge = await client.begin(ticket)
        assert isinstance(challenge, CustomChallenge)
        reply = await client.answer(ticket, challenge)
        assert isinstance(reply, Refused)
        assert reply.reason is Reason.SIGN_IN_REFUSED
        again = await client.answer(ticket, challenge)
        assert isinstance(again, Refused)
        assert again.reason is Reason.SESSION_SPENT, "the challenge's Session is spent, whatever the ticket is"


STATUSES: Mapping[str, tuple[Mapping[str, Any], Any]] = {
    "disabled": ({"status": "DISABLED"}, Reason.DISABLED),
    "unconfirmed": ({"status": "UNCONFIRMED"}, Reason.UNCONFIRMED),
    "reset": ({"status": "RESET_REQUIRED"}, Reason.PASSWORD_RESET_REQUIRED),
    "gone": ({"status": "DELETED"}, Reason.USER_NOT_FOUND),
    "temporary": ({"status": "FORCE_CHANGE_PASSWORD"}, (Reason.CHALLENGE_UNANSWERABLE, "NEW_PASSWORD_REQUIRED")),
    "wrong": ({"password": "another"}, Reason.SIGN_IN_REFUSED),
    "texts": ({"factors": ["SMS_MFA"]}, (Reason.CHALLENGE_UNANSWERABLE, "SMS_MFA")),
    "mails": ({"factors": ["EMAIL_OTP"]}, (Reason.CHALLENGE_UNANSWERABLE, "EMAIL_OTP")),
    "totp": ({"factors": ["SOFTWARE_TOKEN_MFA"]}, AlreadyEnrolled()),
    "choice": ({"factors": ["SMS_MFA", "SOFTWARE_TOKEN_MFA"]}, AlreadyEnrolled()),
    "other choice": ({"factors": ["SMS_MFA", "EMAIL_OTP"]}, (Reason.CHALLENGE_UNANSWERABLE, "SELECT_MFA_TYPE")),
}


@pytest.mark.usefixtures("aws_credentials")
@pytest.mark.parametrize("flow", ["user_password", "admin_user_password"])
async def test_every_status_of_a_user_has_its_outcome(flow: str) -> None:
    async with fake(flow) as (service, client):
        for name, (user, expected) in STATUSES.items():
            await service.add_users([name], **user)
            reply = await client.begin(with_password(name))
            if isinstance(reply, Refused):
                found = (reply.reason, reply.detail) if isinstance(expected, tuple) else reply.reason
                assert found == expected, name
            else:
                assert reply == expected, name
        for _ in range(5):
            locked = await client.begin(with_password("wrong"))
        assert locked == TryAgain(Trouble.LOCKED, "NotAuthorizedException")


@pytest.mark.usefixtures("aws_credentials")
@pytest.mark.parametrize(
    ("flow", "given", "service_has", "cure"),
    [
        ("user_password", None, {"client_secret": "s3cret"}, "sign_in.client_secret"),
        ("user_password", "wrong", {"client_secret": "s3cret"}, "sign_in.client_secret"),
        ("user_password", "needless", {"client_secret": None}, "sign_in.client_secret"),
        ("user_password", None, {"flows": ["ALLOW_CUSTOM_AUTH"]}, "ExplicitAuthFlows"),
        ("admin_user_password", None, {"flows": ["ALLOW_CUSTOM_AUTH"]}, "ExplicitAuthFlows"),
        ("custom_auth", None, {"flows": ["ALLOW_USER_PASSWORD_AUTH"]}, "ExplicitAuthFlows"),
        ("custom_auth", None, {}, "config/sign-in"),
    ],
)
async def test_settings_that_do_not_fit_the_pool_are_everybodys_fault(
    flow: str, given: str | None, service_has: dict[str, Any], cure: str
) -> None:
    async with fake(flow, given) as (service, client):
        await service.configure(**service_has)
        request = with_ticket(service) if flow == "custom_auth" else with_password()
        reply = await client.begin(request)
        assert isinstance(reply, PoolFault), reply
        assert cure in reply.cure


# --- emulators --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def emulated(emulator: Emulator, flow: str, **user: Any) -> AsyncIterator[tuple[Any, CognitoClient]]:
    """The emulator's client of the SDK, and ours, of a pool in which Ana is."""
    async with emulator.aws() as aws:
        sdk = await aws.client("cognito-idp")
        pool = (await sdk.create_user_pool(PoolName=fresh("pool"), MfaConfiguration="OPTIONAL"))["UserPool"]["Id"]
        await sdk.set_user_pool_mfa_config(
            UserPoolId=pool, SoftwareTokenMfaConfiguration={"Enabled": True}, MfaConfiguration="OPTIONAL"
        )
        made = await sdk.create_user_pool_client(
            UserPoolId=pool,
            ClientName="app",
            ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH", "ALLOW_ADMIN_USER_PASSWORD_AUTH"],
        )
        await sdk.admin_create_user(UserPoolId=pool, Username="ana", MessageAction="SUPPRESS")
        await sdk.admin_set_user_password(UserPoolId=pool, Username="ana", Password=PASSWORD, Permanent=True)
        named = SignInConfig(flow, made["UserPoolClient"]["ClientId"], None, pool, 180.0)
        async with client_of(emulator.url, named) as client:
            yield sdk, client


@pytest.mark.parametrize("flow", ["user_password", "admin_user_password"])
async def test_an_emulator_takes_the_whole_way_of_a_token(emulator: Emulator, flow: str) -> None:
    async with emulated(emulator, flow) as (_, client):
        wrong = await client.begin(with_password(password="Another-Horse-9"))
        assert isinstance(wrong, Refused)
        assert wrong.reason is Reason.SIGN_IN_REFUSED
        request = signed_in(with_password(), await client.begin(with_password()))
        assert request.kind is CredentialKind.ACCESS_TOKEN
        assert await client.look(request) == NotEnrolled()
        secret, issued = MOTOS_SECRET, await client.associate(request)
        if emulator.name == "moto":
            assert issued == TryAgain(Trouble.NO_ANSWER, "NoSecretCode")
        else:
            assert isinstance(issued, Issued)
            secret = issued.secret_code.reveal()
        code = code_at(secret, time.time())
        judged = await client.verify(request, wrong_code(secret))
        assert isinstance(judged, WrongCode | Verified), "some versions take any code"
        assert await client.verify(request, Secret(code)) == Verified()
        assert await client.prefer(request) == Preferred()
        assert await client.look(request) == AlreadyEnrolled()
        assert await client.begin(with_password()) == AlreadyEnrolled()
        by_session = request.signed_in(CredentialKind.SESSION, Secret("s" * 40), 2e9)
        assert await client.prefer(by_session) == Preferred()


async def test_an_emulator_does_not_know_a_client_or_user(emulator: Emulator) -> None:
    async with emulated(emulator, "user_password") as (_, client):
        nobody = await client.begin(with_password("nobody"))
        assert isinstance(nobody, Refused)
        assert nobody.reason is Reason.USER_NOT_FOUND
        named = SignInConfig("user_password", "0noclient", None, "eu-central-1_none", 180.0)
        async with client_of(emulator.url, named) as other:
            fault = await other.begin(with_password())
        assert isinstance(fault, PoolFault)
        assert "sign_in.client_id" in fault.cure
