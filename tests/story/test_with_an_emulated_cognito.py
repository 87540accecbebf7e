"""The whole story with somebody else's Cognito: sign in, enrol, deliver, verify, prefer, and sign in with the code.

How far each goes: ministack goes the whole way from a password, or from a ticket that the triggers of
``config/sign-in`` check in its Lambda, to a preferred factor, with fresh secrets; it takes any code and ignores what
Sessions are for. moto signs in and knows users by status, challenge and factor, and so decides outcomes of sign-ins;
its one secret is too short for one of Cognito's, so the worker takes every answer with it for a lost one. Sessions that
are spent and expire, checked codes and quotas: only the project's own fake Cognito has these
(``tests/crash/test_activated``).
"""

from __future__ import annotations

import base64
import io
import time
import zipfile
from pathlib import Path
from typing import Any

from tests.support.aws_rollout import AwsRollout, aws_rollout_in
from tests.support.emulators import CREDENTIALS, Emulator, fresh
from tests.support.pool_triggers import KEY, TRIGGERS
from tests.support.totp import code_at
from worker.adapters.aws.session import Aws
from worker.requests.ticket import make_ticket
from worker.sealing import age

PASSWORD = "Correct-Horse-9"


async def test_a_user_signs_in_with_the_code_that_was_delivered(
    tmp_path: Path, ministack: Emulator, aws_credentials: None
) -> None:
    async with ministack.aws() as aws, aws_rollout_in(tmp_path, ministack, "s3") as rollout:
        cognito = await aws.client("cognito-idp")
        pool, client = await _pool(cognito, "ana", "ben")
        rollout.configure(cognito={"user_pool_id": pool, "endpoint_url": ministack.url})
        tokens = {name: await _sign_in(cognito, client, name) for name in ("ana", "ben")}
        rollout.credentials |= set(tokens.values())

        await rollout.push_by_command({"username": name, "access_token": token} for name, token in tokens.items())
        assert (await rollout.run()).code == 0
        records = await rollout.open()

        for name, token in tokens.items():
            code = code_at(records[name]["secret_code"], time.time())
            verified = await cognito.verify_software_token(AccessToken=token, UserCode=code)
            assert verified["Status"] == "SUCCESS"
            await cognito.set_user_mfa_preference(
                AccessToken=token, SoftwareTokenMfaSettings={"Enabled": True, "PreferredMfa": True}
            )
        challenged = await _initiate(cognito, client, "ana")
        assert challenged["ChallengeName"] == "SOFTWARE_TOKEN_MFA"
        answered = await _answer(cognito, client, challenged["Session"], records["ana"]["secret_code"])
        assert answered["AuthenticationResult"]["AccessToken"]


async def test_the_worker_takes_users_from_a_password_to_a_preferred_factor(
    tmp_path: Path, ministack: Emulator, aws_credentials: None
) -> None:
    async with ministack.aws() as aws, aws_rollout_in(tmp_path, ministack, "s3") as rollout:
        cognito = await aws.client("cognito-idp")
        pool, client = await _pool(cognito, "ana", "ben")
        _signs_in(rollout, ministack, pool, client)
        rollout.credentials.add(PASSWORD)

        await rollout.push_by_command({"username": name, "password": PASSWORD} for name in ("ana", "ben"))
        ended = await rollout.run()
        assert ended.code == 0, ended.err
        assert await rollout.states() == {"active": 2}

        records = await rollout.open()
        for name in ("ana", "ben"):
            challenged = await _initiate(cognito, client, name)
            assert challenged["ChallengeName"] == "SOFTWARE_TOKEN_MFA"
            answered = await _answer(cognito, client, challenged["Session"], records[name]["secret_code"], name)
            assert answered["AuthenticationResult"]["AccessToken"]


async def test_tickets_are_checked_by_the_real_triggers_in_somebody_elses_lambda(
    tmp_path: Path, ministack: Emulator, aws_credentials: None
) -> None:
    async with ministack.aws() as aws, aws_rollout_in(tmp_path, ministack, "s3") as rollout:
        cognito = await aws.client("cognito-idp")
        pool, client = await _pool(cognito, "ana", "ben")
        function = await _function(aws, ministack, client)
        names = ("DefineAuthChallenge", "CreateAuthChallenge", "VerifyAuthChallengeResponse")
        await cognito.update_user_pool(
            UserPoolId=pool, MfaConfiguration="OPTIONAL", LambdaConfig=dict.fromkeys(names, function)
        )
        await cognito.set_user_pool_mfa_config(
            UserPoolId=pool, SoftwareTokenMfaConfiguration={"Enabled": True}, MfaConfiguration="OPTIONAL"
        )
        _signs_in(rollout, ministack, pool, client)
        rollout.configure(sign_in={"flow": "custom_auth"})
        about: Any = {"user_pool_id": pool, "client_id": client, "not_after": time.time() + 3600}
        key = base64.urlsafe_b64decode(f"{KEY}=")
        tickets = {name: make_ticket(key, username=name, **about) for name in ("ana", "ben")}
        rollout.credentials |= set(tickets.values())
        stolen = {"ana": tickets["ana"], "ben": tickets["ana"]}

        await rollout.push_by_command({"username": name, "ticket": ticket} for name, ticket in stolen.items())
        ended = await rollout.run()
        assert ended.code == 1, ended.err
        assert await rollout.users("active") == {"ana": None}
        assert await rollout.users("needs_session") == {"ben": "sign_in_refused"}

        await rollout.push_by_command([{"username": "ben", "ticket": tickets["ben"]}])
        ended = await rollout.run()
        assert ended.code == 0, ended.err
        assert await rollout.states() == {"active": 2}


async def _function(aws: Aws, emulator: Emulator, client: str) -> str:
    """The triggers as a function there, and their key in its Secrets Manager."""
    secret = fresh("ticket-key")
    await (await aws.secretsmanager()).create_secret(Name=secret, SecretString=KEY)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(TRIGGERS, "triggers.py")
    variables = {"CLIENT_ID": client, "ROLLOUT_ENDS": "2100-01-01T00:00:00Z", "KEY_SECRET": secret}
    made = await (await aws.client("lambda")).create_function(
        FunctionName=fresh("tickets"),
        Runtime="python3.11",
        Role="arn:aws:iam::123456789012:role/tickets",
        Handler="triggers.handler",
        Code={"ZipFile": packed.getvalue()},
        Environment={"Variables": {**variables, "AWS_ENDPOINT_URL": emulator.url, **CREDENTIALS}},
        Timeout=5,
    )
    return str(made["FunctionArn"])


async def test_what_a_sign_in_shows_becomes_the_outcome(
    tmp_path: Path, moto: Emulator, ministack: Emulator, aws_credentials: None
) -> None:
    async with moto.aws() as aws, aws_rollout_in(tmp_path, ministack, "s3") as rollout:
        cognito = await aws.client("cognito-idp")
        pool, client = await _pool(cognito, "enrolled", "mistyped", "taken")
        await cognito.admin_create_user(
            UserPoolId=pool, Username="temporary", TemporaryPassword=PASSWORD, MessageAction="SUPPRESS"
        )
        token = await _sign_in(cognito, client, "enrolled")
        issued = await cognito.associate_software_token(AccessToken=token)
        code = code_at(issued["SecretCode"].upper(), time.time())  # moto's own is in small letters
        await cognito.verify_software_token(AccessToken=token, UserCode=code)
        await cognito.set_user_mfa_preference(
            AccessToken=token, SoftwareTokenMfaSettings={"Enabled": True, "PreferredMfa": True}
        )
        _signs_in(rollout, moto, pool, client)
        rollout.configure(retry={"attempts": 2, "base": 0.01})

        given = {"enrolled": PASSWORD, "mistyped": "Another-Horse-9", "temporary": PASSWORD, "unknown": PASSWORD}
        rollout.credentials |= set(given.values())
        await rollout.push_by_command(
            {"username": name, "password": password} for name, password in {**given, "taken": PASSWORD}.items()
        )
        ended = await rollout.run()

        assert ended.code == 1, ended.err
        assert await rollout.users("skipped") == {"enrolled": "already_enrolled"}
        assert await rollout.users("needs_session") == {
            "mistyped": "sign_in_refused",
            "temporary": "challenge_unanswerable",
        }
        failed = await rollout.users("failed")
        assert failed["unknown"] == "user_not_found"
        assert failed["taken"] == "retries_exhausted", "moto's secret is too short"


def _signs_in(rollout: AwsRollout, emulator: Emulator, pool: str, client: str) -> None:
    identity = rollout.folder / "own-identity.txt"
    age.write_identity(identity, age.keygen("rollout")[0])
    rollout.configure(
        cognito={"user_pool_id": pool, "endpoint_url": emulator.url, "session_handoff": None},
        sign_in={"flow": "user_password", "client_id": client},
        activation={"mode": "prefer", "identity": str(identity)},
    )


async def _pool(cognito: Any, *usernames: str) -> tuple[str, str]:
    pool = (await cognito.create_user_pool(PoolName=fresh("pool"), MfaConfiguration="OPTIONAL"))["UserPool"]["Id"]
    await cognito.set_user_pool_mfa_config(
        UserPoolId=pool, SoftwareTokenMfaConfiguration={"Enabled": True}, MfaConfiguration="OPTIONAL"
    )
    flows = ["ALLOW_USER_PASSWORD_AUTH", "ALLOW_CUSTOM_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
    made = await cognito.create_user_pool_client(UserPoolId=pool, ClientName="app", ExplicitAuthFlows=flows)
    for name in usernames:
        await cognito.admin_create_user(UserPoolId=pool, Username=name, MessageAction="SUPPRESS")
        await cognito.admin_set_user_password(UserPoolId=pool, Username=name, Password=PASSWORD, Permanent=True)
    return pool, made["UserPoolClient"]["ClientId"]


async def _initiate(cognito: Any, client: str, name: str) -> Any:
    return await cognito.initiate_auth(
        ClientId=client, AuthFlow="USER_PASSWORD_AUTH", AuthParameters={"USERNAME": name, "PASSWORD": PASSWORD}
    )


async def _sign_in(cognito: Any, client: str, name: str) -> str:
    token: str = (await _initiate(cognito, client, name))["AuthenticationResult"]["AccessToken"]
    return token


async def _answer(cognito: Any, client: str, session: str, secret_code: str, name: str = "ana") -> Any:
    return await cognito.respond_to_auth_challenge(
        ClientId=client,
        ChallengeName="SOFTWARE_TOKEN_MFA",
        Session=session,
        ChallengeResponses={"USERNAME": name, "SOFTWARE_TOKEN_MFA_CODE": code_at(secret_code, time.time())},
    )
