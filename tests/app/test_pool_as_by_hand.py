"""``decommission`` takes the triggers away as ``config/sign-in/attach.py --detach`` does.

Each has code of its own for that, since ``config/sign-in`` runs without the worker. Both are given the same pools here,
whose answers botocore itself reads.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.hooks import HierarchicalEmitter
from botocore.parsers import create_parser
from botocore.session import Session
from botocore.validate import validate_parameters

from tests.support.triggers import FOLDER, load_module
from worker.adapters.aws import pool_ending
from worker.core.errors import PersonMustAct

POOL = "eu-central-1_Pool"
FUNCTION = "arn:aws:lambda:eu-central-1:123456789012:function:mfa-worker-tickets"
OTHER = "arn:aws:lambda:eu-central-1:123456789012:function:somebody-elses"
OURS = dict.fromkeys(pool_ending.TRIGGERS, FUNCTION)
KEY = "arn:aws:kms:eu-central-1:123456789012:key/1"
SENDER = {"CustomEmailSender": {"LambdaVersion": "V1_0", "LambdaArn": OTHER}, "KMSKeyID": KEY}


@functools.cache
def model() -> Any:
    return Session().get_service_model("cognito-idp")


class Cognito:
    """A service with one pool, and a client of it. ``slips``: what else an update sets."""

    def __init__(self, pool: dict[str, Any], slips: dict[str, Any]) -> None:
        self.meta = SimpleNamespace(service_model=model(), events=HierarchicalEmitter())
        self.sent: list[dict[str, Any]] = []
        self._pool, self._slips = {"Id": POOL, "Name": "people", "LambdaConfig": OURS, **pool}, slips

    def describe_user_pool(self, **_: Any) -> Any:
        answer = {"body": json.dumps({"UserPool": self._pool}).encode(), "headers": {}, "status_code": 200}
        self.meta.events.emit("before-parse.cognito-idp.DescribeUserPool", response_dict=answer)
        return create_parser("json").parse(answer, model().operation_model("DescribeUserPool").output_shape)

    def update_user_pool(self, **request: Any) -> None:
        validate_parameters(request, model().operation_model("UpdateUserPool").input_shape)
        self.sent.append(request)
        self._pool = {**self._pool, "LambdaConfig": request["LambdaConfig"], **self._slips}

    def get_user_pool_mfa_config(self, **_: Any) -> Any:
        return {"MfaConfiguration": "OFF"}


class Awaited:
    """The same, for who awaits the answers."""

    def __init__(self, cognito: Cognito) -> None:
        self.meta, self._cognito = cognito.meta, cognito

    async def describe_user_pool(self, **given: Any) -> Any:
        return self._cognito.describe_user_pool(**given)

    async def update_user_pool(self, **given: Any) -> None:
        self._cognito.update_user_pool(**given)


def complaint(said: str) -> str:
    """The settings that are unknown, or changed too, as they were named."""
    found = re.search(
        r"(?:does not know|changed (?:too|with its triggers):) ((?:[\w.]+, )*[\w.]+)", said, re.IGNORECASE
    )
    return found[1] if found else ""


def by_hand(cognito: Cognito, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    attach = load_module(FOLDER / "attach.py")
    monkeypatch.setattr(attach.boto3, "Session", lambda: SimpleNamespace(client=lambda *_, **__: cognito))
    attach.main(["--user-pool-id", POOL, "--function", FUNCTION, "--detach", "--yes"])
    return complaint(capsys.readouterr().err)


async def by_the_worker(cognito: Any) -> str:
    try:
        pool = await pool_ending.read(cognito, POOL)
        assert pool
        await pool_ending.detach(cognito, POOL, pool, OURS)
    except PersonMustAct as refused:
        return complaint(str(refused))
    return ""


KEPT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    (
        {
            "Arn": "a",
            "Status": "Enabled",
            "LastModifiedDate": 1.5,
            "EstimatedNumberOfUsers": 7,
            "MfaConfiguration": "OPTIONAL",
            "DeletionProtection": "ACTIVE",
            "UserPoolTier": "PLUS",
            "UserPoolTags": {"team": "people"},
            "SchemaAttributes": [{"Name": "email", "Required": True}],
            "AccountRecoverySetting": {"RecoveryMechanisms": [{"Name": "verified_email", "Priority": 1}]},
        },
        {"LastModifiedDate": 2.5, "EstimatedNumberOfUsers": 8},
    ),
    ({"EmailVerificationMessage": "", "AutoVerifiedAttributes": [], "UserPoolTags": {}, "Later": None}, {}),
    ({"AdminCreateUserConfig": {"AllowAdminCreateUserOnly": False, "UnusedAccountValidityDays": 7}}, {}),
    (
        {
            "Policies": {"PasswordPolicy": {"MinimumLength": 14, "TemporaryPasswordValidityDays": 7}},
            "AdminCreateUserConfig": {"AllowAdminCreateUserOnly": True, "UnusedAccountValidityDays": 7},
        },
        {},
    ),
    ({"Policies": {"PasswordPolicy": {"TemporaryPasswordValidityDays": 0}}}, {}),
    ({"LambdaConfig": {**OURS, "PreSignUp": OTHER, **SENDER}}, {}),
    ({"LambdaConfig": {**OURS, "DefineAuthChallenge": OTHER, "PostConfirmation": FUNCTION}}, {}),
]
"""Pools, and what an update may set besides what it is told to."""

UNKNOWN: list[tuple[dict[str, Any], str]] = [
    ({"Later": 0, "Sooner": {"On": False}}, "Later, Sooner"),
    (
        {"Policies": {"PasswordPolicy": {"MinimumLength": 14, "Later": 1}, "Later": ""}},
        "Policies.Later, Policies.PasswordPolicy.Later",
    ),
    (
        {"AccountRecoverySetting": {"RecoveryMechanisms": [{"Priority": 1}, {"Priority": 2, "Later": 1}]}},
        "AccountRecoverySetting.RecoveryMechanisms.Later",
    ),
    ({"LambdaConfig": {**OURS, "Later": OTHER}}, "LambdaConfig.Later"),
]
"""Pools with settings that the SDK's model does not have, and how they are named."""

SLIPS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"DeletionProtection": "ACTIVE"}, {"DeletionProtection": "INACTIVE"}, "DeletionProtection"),
    ({}, {"UserPoolTags": {"team": "people"}, "MfaConfiguration": "ON"}, "MfaConfiguration, UserPoolTags"),
    ({"UserPoolTags": {"team": "people"}}, {"UserPoolTags": {}}, "UserPoolTags"),
    ({}, {"LambdaConfig": OURS}, "LambdaConfig"),
    ({"LambdaConfig": {**OURS, "PreSignUp": OTHER}}, {"LambdaConfig": {}}, "LambdaConfig"),
]
"""Pools, what an update sets besides, and what has to be said of it."""


@pytest.mark.parametrize(
    ("pool", "slips", "named"),
    [
        *((pool, slips, "") for pool, slips in KEPT),
        *((pool, {}, named) for pool, named in UNKNOWN),
        *SLIPS,
    ],
)
async def test_a_pool_is_sent_back_and_looked_at_afterwards_as_it_is_by_hand(
    pool: dict[str, Any],
    slips: dict[str, Any],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    one, other = Cognito(pool, slips), Cognito(pool, slips)

    assert by_hand(one, monkeypatch, capsys) == await by_the_worker(Awaited(other)) == named
    assert one.sent == other.sent
    assert bool(one.sent) is ((pool, named) not in UNKNOWN)
