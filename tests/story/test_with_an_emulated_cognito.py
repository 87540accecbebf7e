"""The whole story with somebody else's Cognito: sign in, enrol, open, verify the code, sign in with it.

Its flow and its tokens are theirs; its secrets are fresh, but it takes any code: the one that checks codes is the
project's own fake Cognito.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.support.aws_rollout import aws_rollout_in
from tests.support.emulators import Emulator, fresh
from tests.support.totp import code_at

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


async def _pool(cognito: Any, *usernames: str) -> tuple[str, str]:
    pool = (await cognito.create_user_pool(PoolName=fresh("pool"), MfaConfiguration="OPTIONAL"))["UserPool"]["Id"]
    await cognito.set_user_pool_mfa_config(
        UserPoolId=pool, SoftwareTokenMfaConfiguration={"Enabled": True}, MfaConfiguration="OPTIONAL"
    )
    flows = ["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
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


async def _answer(cognito: Any, client: str, session: str, secret_code: str) -> Any:
    return await cognito.respond_to_auth_challenge(
        ClientId=client,
        ChallengeName="SOFTWARE_TOKEN_MFA",
        Session=session,
        ChallengeResponses={"USERNAME": "ana", "SOFTWARE_TOKEN_MFA_CODE": code_at(secret_code, time.time())},
    )
