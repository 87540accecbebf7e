"""``decommission`` and the user pool: only what surely is this rollout's is shut, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.hooks import HierarchicalEmitter

from tests.support import ended_rollout as over
from tests.support.emulators import Emulator
from worker.adapters.aws import pool_ending
from worker.adapters.aws.stacks import Stack, stack_of
from worker.app.ending import pool as module
from worker.app.ending.decommission import Options, decommission
from worker.app.ending.plan import Plan
from worker.core.errors import DependencyUnavailable, ExitCode, PersonMustAct, UsageError
from worker.settings import Settings

FUNCTION = "arn:aws:lambda:eu-central-1:123456789012:function:mfa-worker-tickets"
OTHERS = "arn:aws:lambda:eu-central-1:123456789012:function:somebody-elses"
TRIGGERS = ("DefineAuthChallenge", "CreateAuthChallenge", "VerifyAuthChallengeResponse")


async def a_pool(emulator: Emulator, function: str) -> tuple[str, str]:
    """The ids of a new pool with these triggers, and of an app client."""
    async with emulator.aws() as aws:
        cognito = await aws.client("cognito-idp")
        triggers = {"PreSignUp": OTHERS, **dict.fromkeys(TRIGGERS, function)}
        policy = {"PasswordPolicy": {"MinimumLength": 14, "RequireSymbols": True}}
        made = await cognito.create_user_pool(PoolName="people", LambdaConfig=triggers, Policies=policy)
        pool = str(made["UserPool"]["Id"])
        client = await cognito.create_user_pool_client(UserPoolId=pool, ClientName="rollout")
        return pool, str(client["UserPoolClient"]["ClientId"])


async def described(emulator: Emulator, pool: str) -> dict[str, Any]:
    async with emulator.aws() as aws:
        found = await (await aws.client("cognito-idp")).describe_user_pool(UserPoolId=pool)
    return dict(found["UserPool"])


async def clients(emulator: Emulator, pool: str) -> list[str]:
    async with emulator.aws() as aws:
        found = await (await aws.client("cognito-idp")).list_user_pool_clients(UserPoolId=pool)
    return [each["ClientId"] for each in found["UserPoolClients"]]


def settings_of(folder: Path, emulator: Emulator, pool: str, client: str) -> Settings:
    return over.here(
        folder,
        f"cognito.user_pool_id={pool}",
        "sign_in.flow=custom_auth",
        f"sign_in.client_id={client}",
        f"aws.cognito_endpoint_url={emulator.url}",
        f"aws.cloudformation_endpoint_url={emulator.url}",
    )


async def ended(settings: Settings, **options: Any) -> Plan:
    return await decommission(settings, Options(act=True, **options), show=lambda _: None, tell=lambda _: None)


async def test_the_stacks_triggers_are_detached_and_nothing_else_of_the_pool_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto: Emulator, aws_credentials: None
) -> None:
    monkeypatch.chdir(tmp_path)
    pool, client = await a_pool(moto, FUNCTION)
    settings = settings_of(tmp_path, moto, pool, client)
    await over.put(settings, *over.everybody())
    before = await described(moto, pool)

    async def made_both(_: Any, physical_id: str) -> Stack:
        return Stack("tickets", frozenset({physical_id, "mfa-worker-tickets"}))

    monkeypatch.setattr(module, "stack_of", made_both)
    plan = await ended(settings, app_client=client)

    assert not plan.troubles
    after = await described(moto, pool)
    assert after["LambdaConfig"] == {"PreSignUp": OTHERS}
    assert after["Policies"] == before["Policies"]
    copy = json.loads((tmp_path / f"{pool}-before.json").read_text("utf-8"))
    assert copy["UserPool"]["LambdaConfig"] == before["LambdaConfig"]
    assert any("aws cloudformation delete-stack --stack-name tickets" in item.note for item in plan.stays)
    assert client in await clients(moto, pool), "its stack takes it away"


async def test_triggers_that_may_be_somebody_elses_stay_and_the_app_client_goes_only_where_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto: Emulator, aws_credentials: None
) -> None:
    monkeypatch.chdir(tmp_path)
    pool, client = await a_pool(moto, OTHERS)
    settings = settings_of(tmp_path, moto, pool, client)
    await over.put(settings, *over.everybody())
    with pytest.raises(UsageError, match="is not this rollout's"):
        await ended(settings, app_client="another")
    plan = await decommission(settings, Options(), show=lambda _: None, tell=lambda _: None)
    assert any(f"--app-client {client}" in item.note for item in plan.stays)
    assert any("attach.py" in item.note and OTHERS in item.note for item in plan.stays)

    await ended(settings, app_client=client)

    assert client not in await clients(moto, pool)
    assert set(TRIGGERS) <= set((await described(moto, pool))["LambdaConfig"])


async def test_a_pool_with_a_setting_that_this_sdk_does_not_know_is_left_as_it_is(
    ministack: Emulator, aws_credentials: None
) -> None:
    """This stand-in describes a pool with a setting ``Schema``, which Cognito does not have."""
    pool, _ = await a_pool(ministack, FUNCTION)

    async with ministack.aws() as aws:
        with pytest.raises(PersonMustAct, match="does not know Schema of the pool") as refused:
            await pool_ending.read(await aws.client("cognito-idp"), pool)

    assert "attach.py" in refused.value.hint


class DescribesAPool:
    """Cognito, as far as it is asked: the answer as it is sent, and as an SDK that knows less of it reads it."""

    def __init__(self, sent: Any, read: Any) -> None:
        self.meta = SimpleNamespace(events=HierarchicalEmitter())
        self._sent, self._read = sent, read

    async def describe_user_pool(self, **_: Any) -> Any:
        body = json.dumps({"UserPool": self._sent}).encode()
        self.meta.events.emit("before-parse.cognito-idp.DescribeUserPool", response_dict={"body": body})
        return {"UserPool": self._read}


async def test_a_setting_within_a_list_that_this_sdk_does_not_know_is_not_sent_back_without_it() -> None:
    sent = {"AccountRecoverySetting": {"RecoveryMechanisms": [{"Name": "email", "Later": 1}]}}
    read = {"AccountRecoverySetting": {"RecoveryMechanisms": [{"Name": "email"}]}}

    with pytest.raises(PersonMustAct, match="Later of the pool"):
        await pool_ending.read(DescribesAPool(sent, read), "eu-central-1_Pool")
    assert await pool_ending.read(DescribesAPool(read, read), "eu-central-1_Pool") == read


class CloudFormation:
    """CloudFormation, as far as it is asked."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def describe_stack_resources(self, **_: Any) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return {"StackResources": self._answer}


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "x"}}, "DescribeStackResources")


async def test_a_stack_is_named_unless_it_let_go() -> None:
    mine = {"StackName": "s", "PhysicalResourceId": "table", "ResourceStatus": "CREATE_COMPLETE"}
    found = await stack_of(CloudFormation([mine, {**mine, "PhysicalResourceId": "queue"}]), "table")
    assert found == Stack("s", frozenset({"table", "queue"}))
    assert await stack_of(CloudFormation([{**mine, "ResourceStatus": "DELETE_SKIPPED"}]), "table") is None
    assert await stack_of(CloudFormation(refused("ValidationError")), "table") is None
    with pytest.raises(DependencyUnavailable, match="AccessDenied") as denied:
        await stack_of(CloudFormation(refused("AccessDenied")), "table")
    assert denied.value.exit_code is ExitCode.PERSON_MUST_ACT
    assert "DescribeStackResources" in denied.value.hint
