"""``check`` of a rollout that signs users in and activates them: the pool, its app client, rights, price and pace."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands.test_check_refusals import all_at, answering, denied, served
from tests.setup.test_checks import settings_in
from tests.support.checking import about
from tests.support.emulators import REGION, Emulator
from tests.support.triggers import TEMPLATE
from worker.adapters.checks.findings import Finding, Level
from worker.adapters.checks.seen import Seen
from worker.adapters.ledgers.found import RECIPIENT
from worker.core.ports import Found
from worker.sealing.age import keygen
from worker.settings import load
from worker.setup import checks
from worker.setup.checks import activation, rollout

CLIENT = {"ClientId": "abc", "ClientName": "rollout", "ExplicitAuthFlows": ["ALLOW_CUSTOM_AUTH"]}
FUNCTION = "arn:aws:lambda:eu-central-1:123456789012:function:f"
THREE = dict.fromkeys(["DefineAuthChallenge", "CreateAuthChallenge", "VerifyAuthChallengeResponse"], FUNCTION)
OPTIONAL = {"MfaConfiguration": "OPTIONAL", "SoftwareTokenMfaConfiguration": {"Enabled": True}}
TICKETS = ("sign_in.flow=custom_auth", "sign_in.client_id=abc")


async def found(
    *more: str, client: Any = CLIENT, pool: Any = None, mfa: Any = None, permitted: Any = None
) -> list[Finding]:
    """What ``check`` finds where Cognito answers so."""
    answers = {
        "DescribeUserPoolClient": {"UserPoolClient": client},
        "DescribeUserPool": {"UserPool": {"LambdaConfig": THREE} if pool is None else pool},
        "GetUserPoolMfaConfig": mfa or OPTIONAL,
        **(permitted or {}),
    }
    async with served(answering(answers)) as url:
        findings = await checks.check(all_at(url, *more))
    out = io.StringIO()
    checks.show(findings, out, as_json=True)
    assert "the-client-secret" not in out.getvalue()
    return findings


async def test_what_fits_is_said_in_four_lines(aws_credentials: None) -> None:
    findings = await found(*TICKETS)

    assert about(findings, "sign-in", Level.FAILS) == about(findings, "sign-in", Level.ADVICE) == ""
    said = about(findings, "sign-in", Level.OK)
    assert "the app client rollout allows custom_auth" in said
    assert "functions for the three triggers" in said
    assert "its sessions live 3 min, its access tokens 60 min" in said
    assert "60 sign-in requests/s, of which a user costs 2: 30 users/s, and the calls allow 20" in said


@pytest.mark.parametrize(
    ("flow", "allowed", "level"),
    [
        ("custom_auth", ["ALLOW_CUSTOM_AUTH"], Level.OK),
        ("custom_auth", ["CUSTOM_AUTH_FLOW_ONLY"], Level.OK),
        ("custom_auth", None, Level.OK),
        ("custom_auth", ["ALLOW_USER_PASSWORD_AUTH"], Level.FAILS),
        ("user_password", ["ALLOW_USER_PASSWORD_AUTH"], Level.OK),
        ("user_password", None, Level.FAILS),
        ("user_password", ["ALLOW_ADMIN_USER_PASSWORD_AUTH"], Level.FAILS),
        ("admin_user_password", ["ADMIN_NO_SRP_AUTH"], Level.OK),
        ("admin_user_password", ["ALLOW_USER_PASSWORD_AUTH"], Level.FAILS),
    ],
)
async def test_the_app_client_must_allow_the_flow(aws_credentials: None, flow: str, allowed: Any, level: Level) -> None:
    client = {**CLIENT, "ExplicitAuthFlows": allowed} if allowed else {"ClientId": "abc", "ClientName": "rollout"}

    findings = await found(f"sign_in.flow={flow}", "sign_in.client_id=abc", client=client)

    said = about(findings, "sign-in", level)
    assert f"allow {flow}" in said or f"allows {flow}" in said


@pytest.mark.parametrize(
    ("has", "given", "level", "said"),
    [
        ("the-client-secret", "the-client-secret", Level.OK, "is the app client's"),
        ("the-client-secret", "another", Level.FAILS, "is not the secret of this app client"),
        ("the-client-secret", None, Level.FAILS, "has a secret, and sign_in.client_secret is not set"),
        (None, "the-client-secret", Level.FAILS, "has no secret"),
    ],
)
async def test_the_clients_secret_is_compared_and_never_shown(
    aws_credentials: None, has: str | None, given: str | None, level: Level, said: str
) -> None:
    client = {**CLIENT, "ClientSecret": has} if has else CLIENT
    more = [f"sign_in.client_secret={given}"] if given else []

    assert said in about(await found(*TICKETS, *more, client=client), "sign-in", level)


async def test_triggers_that_are_missing_fail_and_others_that_run_too_are_named(aws_credentials: None) -> None:
    attached = {"DefineAuthChallenge": FUNCTION, "PreAuthentication": FUNCTION}
    findings = await found(*TICKETS, pool={"LambdaConfig": attached})

    missing = about(findings, "sign-in", Level.FAILS)
    assert "no function for CreateAuthChallenge, VerifyAuthChallengeResponse" in missing
    assert "config/sign-in/README.md" in missing
    assert "PreAuthentication, which run with every sign-in" in about(findings, "sign-in", Level.ADVICE)


async def test_what_makes_trouble_later_is_advised_of(aws_credentials: None) -> None:
    client = {
        **CLIENT,
        "ExplicitAuthFlows": ["ALLOW_CUSTOM_AUTH", "ALLOW_USER_SRP_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"],
        "AuthSessionValidity": 3,
        "AccessTokenValidity": 5,
        "TokenValidityUnits": {"AccessToken": "minutes"},
    }
    pool = {
        "LambdaConfig": THREE,
        "UserPoolAddOns": {"AdvancedSecurityMode": "ENFORCED"},
        "Policies": {"SignInPolicy": {"AllowedFirstAuthFactors": ["PASSWORD", "WEB_AUTHN"]}},
    }
    identity = "activation.identity=/nowhere/own.key"
    more = (*TICKETS, "cognito.session_validity=15m", "activation.mode=verify", identity)
    findings = await found(*more, client=client, pool=pool)

    said = about(findings, "sign-in", Level.ADVICE)
    assert "serves others too (ALLOW_USER_SRP_AUTH)" in said
    assert "sessions of the app client rollout live 180 s" in said
    assert "its access tokens 5 min, which a crash may outlast" in said
    assert "threat protection is enforced" in said
    assert "locks out whoever signs in only that way" in about(findings, "activation", Level.ADVICE)


async def test_passwordless_first_factors_are_no_matter_without_activation(aws_credentials: None) -> None:
    pool = {"LambdaConfig": THREE, "Policies": {"SignInPolicy": {"AllowedFirstAuthFactors": ["PASSWORD", "EMAIL_OTP"]}}}

    assert about(await found(*TICKETS, pool=pool), "activation", Level.ADVICE) == ""


@pytest.mark.parametrize(
    ("more", "level", "said"),
    [
        (TICKETS, Level.ADVICE, "does not support a second factor after custom authentication"),
        (("activation.mode=verify", "activation.identity=/nowhere/own.key"), Level.OK, "users get a Session"),
        ((), Level.ADVICE, "until they have set one up"),
    ],
)
async def test_required_mfa_means_something_else_for_each_way(
    aws_credentials: None, more: tuple[str, ...], level: Level, said: str
) -> None:
    assert said in about(await found(*more, mfa={**OPTIONAL, "MfaConfiguration": "ON"}), "pool", level)


ADMIN = ("sign_in.flow=admin_user_password", "sign_in.client_id=abc", "activation.mode=prefer")
OWN = "activation.identity=/nowhere/own.key"


async def test_the_signed_calls_are_tried_for_nobody(aws_credentials: None) -> None:
    client = {**CLIENT, "ExplicitAuthFlows": ["ALLOW_ADMIN_USER_PASSWORD_AUTH"]}
    sent: list[str] = []
    table = {"DescribeUserPoolClient": {"UserPoolClient": client}, "DescribeUserPool": {"UserPool": {}}}

    def answer(request: Any) -> Any:
        name = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if name.startswith("Admin"):
            sent.append(name)
            error = "UserNotFoundException" if name.startswith("AdminSet") else "InvalidParameterException"
            body = {"__type": error, "message": "no"}
            return _error(body)
        return answering(table)(request)

    async with served(answer) as url:
        findings = await checks.check(all_at(url, *ADMIN, OWN))

    permitted = "permitted: cognito-idp:AdminInitiateAuth, cognito-idp:AdminSetUserMFAPreference"
    assert permitted in about(findings, "sign-in", Level.OK)
    assert sorted(sent) == ["AdminInitiateAuth", "AdminSetUserMFAPreference"]

    async with served(denied) as url:
        findings = await checks.check(all_at(url, *ADMIN, OWN))
    assert "AdminInitiateAuth is not permitted" in about(findings, "sign-in", Level.FAILS)
    assert "AdminSetUserMFAPreference is not permitted" in about(findings, "sign-in", Level.ADVICE)
    assert "the app client: not looked at" in about(findings, "sign-in", Level.NOT_CHECKED)


def _error(body: Any) -> Any:
    from aiohttp import web

    return web.json_response(body, status=400, content_type="application/x-amz-json-1.1")


async def test_a_client_that_is_not_there_is_named(ministack: Emulator, aws_credentials: None, tmp_path: Path) -> None:
    async with ministack.aws() as aws:
        cognito = await aws.client("cognito-idp")
        pool = (await cognito.create_user_pool(PoolName="pool", LambdaConfig=THREE))["UserPool"]["Id"]
        shape = json.loads(TEMPLATE.read_text("utf-8"))["Resources"]["AppClient"]["Properties"]
        flows = shape["ExplicitAuthFlows"]
        made = await cognito.create_user_pool_client(UserPoolId=pool, ClientName="web", ExplicitAuthFlows=flows)
    at = [f"cognito.user_pool_id={pool}", f"cognito.region={REGION}", f"aws.cognito_endpoint_url={ministack.url}"]
    at += [f"cognito.endpoint_url={ministack.url}", f"queue.path={tmp_path / 'q.db'}", "sign_in.flow=custom_auth"]

    there = await checks.check(load(None, [*at, f"sign_in.client_id={made['UserPoolClient']['ClientId']}"], {}))
    gone = await checks.check(load(None, [*at, "sign_in.client_id=nobody"], {}))

    assert "the app client web allows custom_auth" in about(there, "sign-in", Level.OK)
    assert "three triggers" in about(there, "sign-in", Level.OK)
    assert "has no app client nobody" in about(gone, "sign-in", Level.FAILS)


# --- pace and price ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waiting", "tier", "level", "said"),
    [
        (400_000, "ESSENTIALS", Level.ADVICE, "at most $5,850 (Essentials)"),
        (400_000, "LITE", Level.ADVICE, "at most $2,145 (Lite)"),
        (400_000, None, Level.ADVICE, "$2,145 (Lite) or $5,850 (Essentials)"),
        (10_000, "LITE", Level.OK, "the 10,000 monthly active users that are free"),
        (400_000, "PLUS", Level.NOT_CHECKED, "whoever signs in becomes a monthly active user"),
        (None, None, Level.NOT_CHECKED, "$0.0055 with Lite or $0.015 with Essentials"),
    ],
)
def test_the_price_of_dormant_users_is_said_before_they_sign_in(
    tmp_path: Path, waiting: int | None, tier: str | None, level: Level, said: str
) -> None:
    settings = settings_in(tmp_path, *TICKETS)

    assert said in about(rollout.look_at(settings, Seen(waiting=waiting, tier=tier)), "price", level)
    assert about(rollout.look_at(settings_in(tmp_path), Seen(waiting=waiting, tier=tier)), "price", level) == ""


def test_the_time_follows_from_the_calls_a_user_costs(tmp_path: Path) -> None:
    more = (*TICKETS, "rate.requests_per_second=25", "activation.mode=verify")
    findings = rollout.look_at(settings_in(tmp_path, *more), Seen(waiting=400_000, sessions=0))

    said = about(findings, "queue", Level.OK)
    assert "400,000 wait: 8.9 h at 25/s, 2 calls a user" in said
    assert "12.5 users/s" in said
    assert "signed in with tickets when it is their turn, and activated at once" in about(findings, "way", Level.OK)


def test_sign_ins_that_are_slower_than_the_calls_or_above_their_quota_are_named(tmp_path: Path) -> None:
    slow = rollout.look(settings_in(tmp_path, *TICKETS, "sign_in.requests_per_second=20"))
    fast = rollout.look(settings_in(tmp_path, *TICKETS, "sign_in.requests_per_second=200"))

    assert "raise sign_in.requests_per_second to 40" in about(slow, "sign-in", Level.ADVICE)
    assert "Cognito takes 120/s" in about(fast, "sign-in", Level.ADVICE)


# --- the worker's own identity ----------------------------------------------------------------------------------------


def test_an_identity_that_will_be_made_is_announced_and_not_made(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, "activation.mode=verify")

    assert "will be made" in about(activation.look(settings, Found()), "activation", Level.OK)
    assert not list(tmp_path.glob("*identity*"))
    assert activation.look(settings_in(tmp_path), Found()) == []


def test_the_identity_must_be_there_closed_and_the_ledgers(tmp_path: Path) -> None:
    file = tmp_path / "own.key"
    settings = settings_in(tmp_path, "activation.mode=verify", f"activation.identity={file}")
    text, recipient = keygen("2026-11-26")

    def said(level: Level, of: str = "") -> str:
        found = Found(exists=True, has_users=bool(of), stamp={RECIPIENT: of} if of else {})
        return about(activation.look(settings, found), "activation", level)

    assert "which does not exist" in said(Level.FAILS)
    assert "is gone" in said(Level.FAILS, of=recipient)
    file.write_text(text, "ascii")
    file.chmod(0o644)
    assert said(Level.FAILS)
    file.chmod(0o600)
    assert "will be bound to it" in said(Level.OK)
    assert "and the ledger's" in said(Level.OK, of=recipient)
    assert "another activation identity" in said(Level.FAILS, of=keygen("2026-11-26")[1])


async def test_only_verified_is_not_asked_for_codes_where_mfa_is_optional(aws_credentials: None) -> None:
    identity = "activation.identity=/nowhere/own.key"
    said = about(await found(*TICKETS, "activation.mode=verify", identity), "pool", Level.ADVICE)
    assert "asked for codes only once TOTP is preferred" in said
    assert "asked for codes" not in about(
        await found(*TICKETS, "activation.mode=prefer", identity), "pool", Level.ADVICE
    )
    required = {**OPTIONAL, "MfaConfiguration": "ON"}
    mode = ("sign_in.flow=user_password", "sign_in.client_id=abc", "activation.mode=verify", identity)
    assert "asked for codes" not in about(await found(*mode, mfa=required), "pool", Level.ADVICE)
