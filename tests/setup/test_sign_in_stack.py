"""What installs the triggers: a valid, tight template with the tested code; attaching them changes nothing else."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.emulators import Emulator, fresh
from tests.support.triggers import FOLDER, PATH, TEMPLATE, load_module, template_with_code

FOUND: dict[str, Any] = json.loads(TEMPLATE.read_text("utf-8"))
MADE: dict[str, Any] = FOUND["Resources"]
ATTACH = FOLDER / "attach.py"
README = (FOLDER / "README.md").read_text("utf-8")


def properties(name: str) -> dict[str, Any]:
    return dict(MADE[name]["Properties"])


# --- the template -----------------------------------------------------------------------------------------------------


def test_cloudformation_takes_the_template() -> None:
    from cfnlint.api import lint_file  # here, since it takes a second to import, in each process that collects tests

    assert [str(match) for match in lint_file(TEMPLATE)] == []


def test_the_template_runs_the_code_that_is_tested() -> None:
    joined = properties("Triggers")["Code"]["ZipFile"]["Fn::Join"]

    assert joined[0].join(joined[1]) == PATH.read_text("utf-8"), "python -m tests.support.triggers puts it there"
    assert TEMPLATE.read_text("utf-8") == template_with_code(FOUND)
    assert properties("Triggers")["Handler"] == "index.handler"  # CloudFormation names the file index


def test_every_variable_that_the_code_reads_is_set_and_no_other() -> None:
    read = set(re.findall(r'_setting\("(\w+)"\)', PATH.read_text("utf-8")))

    assert set(properties("Triggers")["Environment"]["Variables"]) == read


def test_the_function_may_read_the_one_key_write_its_log_and_nothing_else() -> None:
    (policy,) = properties("Role")["Policies"]
    allowed = {(str(s["Action"]), json.dumps(s["Resource"])) for s in policy["PolicyDocument"]["Statement"]}

    assert allowed == {
        ("secretsmanager:GetSecretValue", '{"Ref": "TicketKey"}'),
        ("['logs:CreateLogStream', 'logs:PutLogEvents']", '{"Fn::GetAtt": ["Log", "Arn"]}'),
    }
    assert "ManagedPolicyArns" not in properties("Role")


def test_only_this_pool_may_call_the_function() -> None:
    permission = properties("CallFromThePool")

    assert permission["Principal"] == "cognito-idp.amazonaws.com"
    assert permission["SourceAccount"] == {"Ref": "AWS::AccountId"}
    assert permission["SourceArn"]["Fn::Sub"].endswith(":userpool/${UserPoolId}")


def test_the_app_client_is_for_tickets_alone_and_tells_nobody_who_has_an_account() -> None:
    client = properties("AppClient")

    assert client["ExplicitAuthFlows"] == ["ALLOW_CUSTOM_AUTH"]
    assert client["PreventUserExistenceErrors"] == "ENABLED"
    assert (client["GenerateSecret"], client["AllowedOAuthFlowsUserPoolClient"]) == (False, False)
    assert client["EnableTokenRevocation"] is True
    assert set(client["TokenValidityUnits"].values()) == {"minutes"}
    assert FOUND["Parameters"]["TokenMinutes"]["Default"] == 60


def test_no_parameter_and_no_output_is_a_secret_and_the_keys_secret_begins_empty() -> None:
    assert not {"SecretString", "GenerateSecretString"} & properties("TicketKey").keys()
    assert not [name for name in FOUND["Parameters"] if "key" in name.lower()]
    assert "keygen --ticket" in README
    assert "put-secret-value" in README


def test_the_end_of_the_rollout_must_be_given_and_must_be_a_moment() -> None:
    ends = FOUND["Parameters"]["RolloutEnds"]

    assert "Default" not in ends
    assert re.fullmatch(ends["AllowedPattern"], "2027-01-31T18:00:00Z")
    assert re.fullmatch(ends["AllowedPattern"], "2027-01-31T18:00:00+01:00")
    assert not re.fullmatch(ends["AllowedPattern"], "2027-01-31T18:00:00")


def test_the_instructions_name_what_is_there() -> None:
    for output in FOUND["Outputs"]:
        assert output in README
    for line in re.findall(r"--parameter-overrides (.*)", README):
        assert set(re.findall(r"(\w+)=", line)) <= FOUND["Parameters"].keys()


async def test_a_stack_of_it_has_the_app_client_and_an_empty_secret(ministack: Emulator, aws_credentials: None) -> None:
    stack = fresh("tickets")
    async with ministack.aws() as aws:
        cognito, stacks = await aws.client("cognito-idp"), await aws.client("cloudformation")
        pool = (await cognito.create_user_pool(PoolName=stack))["UserPool"]["Id"]
        await stacks.create_stack(
            StackName=stack,
            TemplateBody=TEMPLATE.read_text("utf-8"),
            Parameters=[
                {"ParameterKey": "UserPoolId", "ParameterValue": pool},
                {"ParameterKey": "RolloutEnds", "ParameterValue": "2099-01-01T00:00:00Z"},
            ],
            Capabilities=["CAPABILITY_IAM"],
        )
        deadline = time.monotonic() + 20
        while (found := (await stacks.describe_stacks(StackName=stack))["Stacks"][0])["StackStatus"] != (
            "CREATE_COMPLETE"
        ):
            assert "IN_PROGRESS" in found["StackStatus"], found
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        outputs = {each["OutputKey"]: each["OutputValue"] for each in found["Outputs"]}
        client = (await cognito.describe_user_pool_client(UserPoolId=pool, ClientId=outputs["ClientId"]))[
            "UserPoolClient"
        ]

    assert client["ExplicitAuthFlows"] == ["ALLOW_CUSTOM_AUTH"]
    assert "ClientSecret" not in client
    assert ":function:" in outputs["TriggersArn"]
    assert stack in outputs["TicketKeySecret"]


# --- attaching --------------------------------------------------------------------------------------------------------

FUNCTION = "arn:aws:lambda:eu-central-1:123456789012:function:mfa-worker-tickets"
OTHER = "arn:aws:lambda:eu-central-1:123456789012:function:other"
THREE = {"DefineAuthChallenge", "CreateAuthChallenge", "VerifyAuthChallengeResponse"}


class Attach:
    """``attach.py``, called against an emulator in a folder of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        monkeypatch.chdir(folder)

    def __call__(self, emulator: Emulator, *arguments: str, code: int = 0) -> str:
        self._monkeypatch.setenv("AWS_ENDPOINT_URL", emulator.url)
        module = load_module(ATTACH)
        try:
            ended = module.main([*arguments, *(["--ignore", "Schema"] if emulator.name == "ministack" else [])])
        except SystemExit as error:
            ended = error.code
        said = self._capsys.readouterr()
        assert ended == code, said
        return f"{said.out}{said.err}"

    def written(self) -> list[Path]:
        return list(self.folder.iterdir())


@pytest.fixture
def attach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, aws_credentials: None
) -> Attach:
    return Attach(tmp_path, capsys, monkeypatch)


async def test_attaching_and_detaching_leaves_the_rest_of_the_pool_alone(emulator: Emulator, attach: Attach) -> None:
    async with emulator.aws() as aws:
        cognito = await aws.client("cognito-idp")
        made = await cognito.create_user_pool(
            PoolName=fresh("pool"),
            Policies={"PasswordPolicy": {"MinimumLength": 14, "RequireSymbols": True}},
            AutoVerifiedAttributes=["email"],
            AdminCreateUserConfig={"AllowAdminCreateUserOnly": True},
            LambdaConfig={"PreSignUp": OTHER},
        )
        pool = made["UserPool"]["Id"]

        async def now() -> dict[str, Any]:
            found = dict((await cognito.describe_user_pool(UserPoolId=pool))["UserPool"])
            return {key: value for key, value in found.items() if key != "LastModifiedDate"}

        before = await now()
        given = ("--user-pool-id", pool, "--function", FUNCTION)
        shown = attach(emulator, *given)
        assert await now() == before
        assert f"DefineAuthChallenge: none -> {FUNCTION}" in shown
        assert "add --yes" in shown
        assert attach.written() == []

        done = attach(emulator, *given, "--yes")
        assert "and nothing else of the pool" in done
        after = await now()
        assert after.pop("LambdaConfig") == {"PreSignUp": OTHER, **dict.fromkeys(THREE, FUNCTION)}
        assert after == {key: value for key, value in before.items() if key != "LambdaConfig"}
        (copy,) = attach.written()
        assert json.loads(copy.read_text("utf-8"))["UserPool"]["LambdaConfig"] == {"PreSignUp": OTHER}
        assert "nothing to change" in attach(emulator, *given, "--yes")

        assert "and nothing else" in attach(emulator, *given, "--detach", "--yes")
        assert await now() == before
        assert "nothing to change" in attach(emulator, *given, "--detach")


async def test_a_function_that_the_pool_has_already_is_not_pushed_out(ministack: Emulator, attach: Attach) -> None:
    async with ministack.aws() as aws:
        cognito = await aws.client("cognito-idp")
        made = await cognito.create_user_pool(PoolName=fresh("pool"), LambdaConfig={"CreateAuthChallenge": OTHER})
        given = ("--user-pool-id", made["UserPool"]["Id"], "--function", FUNCTION, "--yes")

        said = attach(ministack, *given, code=2)

        assert f"CreateAuthChallenge ({OTHER})" in said
        assert "nothing was changed" in said
        assert "nothing to change" in attach(ministack, *given, "--detach")
        found = await cognito.describe_user_pool(UserPoolId=made["UserPool"]["Id"])
        assert found["UserPool"]["LambdaConfig"] == {"CreateAuthChallenge": OTHER}


def test_what_is_mistyped_is_said_without_a_traceback(ministack: Emulator, attach: Attach) -> None:
    no_pool = attach(ministack, "--user-pool-id", "eu-central-1_No", "--function", FUNCTION, code=2)
    no_arn = attach(ministack, "--user-pool-id", "eu-central-1_No", "--function", "tickets", code=2)

    assert "ResourceNotFoundException" in no_pool
    assert "TriggersArn" in no_arn
    assert "Traceback" not in no_pool + no_arn


class Recorded:
    """A pool that answers what it is told to, for what no emulator has."""

    def __init__(self, pool: dict[str, Any], raw: dict[str, Any] | None = None) -> None:
        from botocore.session import Session

        self.pool = pool
        self.raw = json.dumps({"UserPool": raw or pool}).encode()
        self.sent: dict[str, Any] = {}
        model = Session().get_service_model("cognito-idp")
        self.meta = type("Meta", (), {"service_model": model, "events": self})
        self.hook: Any = None

    def register(self, _: str, hook: Any) -> None:
        self.hook = hook

    def describe_user_pool(self, **_: Any) -> dict[str, Any]:
        self.hook(response_dict={"body": self.raw})
        return {"UserPool": self.pool}

    def get_user_pool_mfa_config(self, **_: Any) -> dict[str, Any]:
        return {"MfaConfiguration": "OPTIONAL", "ResponseMetadata": {}}

    def update_user_pool(self, **request: Any) -> None:
        self.sent = request


def test_everything_that_can_be_sent_back_is_and_the_old_name_of_a_setting_is_not() -> None:
    module = load_module(ATTACH)
    described = {
        "Id": "p",
        "Name": "n",
        "Arn": "a",
        "Status": "Enabled",
        "MfaConfiguration": "OPTIONAL",
        "UserPoolTier": "PLUS",
        "DeletionProtection": "ACTIVE",
        "Policies": {"PasswordPolicy": {"TemporaryPasswordValidityDays": 7}},
        "AdminCreateUserConfig": {"AllowAdminCreateUserOnly": True, "UnusedAccountValidityDays": 7},
        "LambdaConfig": {"PreSignUp": OTHER},
    }
    client = Recorded(described)
    pool = module.Pool(client, "p")
    found, mfa = pool.read()

    pool.change(found, {"PreSignUp": OTHER})

    assert mfa == {"MfaConfiguration": "OPTIONAL"}
    assert client.sent == {
        "UserPoolId": "p",
        "PoolName": "n",
        "MfaConfiguration": "OPTIONAL",
        "UserPoolTier": "PLUS",
        "DeletionProtection": "ACTIVE",
        "Policies": {"PasswordPolicy": {"TemporaryPasswordValidityDays": 7}},
        "AdminCreateUserConfig": {"AllowAdminCreateUserOnly": True},
        "LambdaConfig": {"PreSignUp": OTHER},
    }


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ({"Id": "p", "NewSetting": {"On": True}}, "NewSetting"),
        ({"Id": "p", "Policies": {"PasswordPolicy": {}, "NewPolicy": 1}}, "Policies.NewPolicy"),
    ],
)
def test_a_setting_that_this_sdk_does_not_know_is_not_set_back_to_its_default(raw: dict[str, Any], named: str) -> None:
    module = load_module(ATTACH)
    pool = module.Pool(Recorded({"Id": "p", "Policies": {"PasswordPolicy": {}}}, raw), "p")

    with pytest.raises(module.RefusedError, match=named):
        pool.read()
