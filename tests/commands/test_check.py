"""``check`` against AWS on loopback: what is missing, unsafe or forbidden is found, and nothing is touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.checking import about, aws_settings, aws_target, initialized
from tests.support.emulators import CREDENTIALS, REGION, Emulator
from tests.support.rows import row
from worker.adapters.channels.s3.settings import S3Settings
from worker.adapters.checks.findings import Level
from worker.app.stores import open_stores
from worker.sealing import age
from worker.settings import load
from worker.setup import checks
from worker.setup.init import wanted_resources

SERVICES = ("sqs", "dynamodb", "s3", "secretsmanager", "kms", "cognito", "servicequotas")
SENT = "a-secret-that-was-sent"


@pytest.fixture
def recipients() -> str:
    pair = [age.keygen("today")[1] for _ in range(2)]
    return f"seal.recipients={json.dumps(pair)}"


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A table of mounts on which everything is a local disk."""
    (tmp_path / "mounts").write_text("/dev/vda / ext4 rw 0 0\n", "utf-8")
    return tmp_path / "mounts"


async def pool_at(emulator: Emulator, *, totp: bool, minutes: int = 3) -> str:
    """A pool, with an app client whose sessions live for so many minutes."""
    async with emulator.aws() as aws:
        cognito = await aws.client("cognito-idp")
        pool: str = (await cognito.create_user_pool(PoolName="pool"))["UserPool"]["Id"]
        await cognito.create_user_pool_client(UserPoolId=pool, ClientName="web", AuthSessionValidity=minutes)
        if totp:
            await cognito.set_user_pool_mfa_config(
                UserPoolId=pool, SoftwareTokenMfaConfiguration={"Enabled": True}, MfaConfiguration="OPTIONAL"
            )
    return pool


def of_pool(emulator: Emulator, pool: str) -> list[str]:
    return [
        f"cognito.user_pool_id={pool}",
        f"cognito.region={REGION}",
        f"cognito.endpoint_url={emulator.url}",
        f"aws.cognito_endpoint_url={emulator.url}",
    ]


# --- all is well ------------------------------------------------------------------------------------------------------


async def test_what_init_made_passes_and_is_not_touched(emulator: Emulator, recipients: str, local: Path) -> None:
    settings = aws_settings(
        emulator,
        "channel.kind=file",
        "otp.issuer=Example",
        recipients,
        *of_pool(emulator, await pool_at(emulator, totp=True)),
    )
    await initialized(settings, emulator)

    findings = await checks.check(settings, target=aws_target(emulator), mounts=local)

    assert [finding for finding in findings if finding.fails] == []
    assert "sqs:DeleteMessage, sqs:ChangeMessageVisibility, sqs:SendMessage" in about(findings, "queue", Level.OK)
    assert "not tried: sqs:ReceiveMessage" in about(findings, "queue", Level.NOT_CHECKED)
    assert "dynamodb:PutItem, dynamodb:UpdateItem, dynamodb:Query" in about(findings, "ledger", Level.OK)
    assert "point-in-time recovery is on" in about(findings, "ledger", Level.OK)
    assert "MFA is optional, and authenticator apps are enabled" in about(findings, "pool", Level.OK)
    assert CREDENTIALS["AWS_ACCESS_KEY_ID"] in about(findings, "aws", Level.OK)
    assert emulator.url in about(findings, "cognito", Level.OK)
    async with emulator.aws() as aws:
        assert (await (await aws.dynamodb()).scan(TableName=str(settings.ledger.table)))["Items"] == []
        for url in (settings.queue.url, settings.queue.dead_letter_url):
            answer = await (await aws.sqs()).get_queue_attributes(QueueUrl=str(url), AttributeNames=["All"])
            counts = [text for name, text in answer["Attributes"].items() if name.startswith("ApproximateNumber")]
            assert set(counts) == {"0"}


@pytest.mark.parametrize("emulator", ["ministack"], indirect=True)  # moto keeps to the bucket's rule against plain HTTP
async def test_a_bucket_that_takes_objects_is_left_without_one(
    emulator: Emulator, recipients: str, local: Path
) -> None:
    async with emulator.aws() as aws:
        key = (await (await aws.client("kms")).create_key())["KeyMetadata"]["KeyId"]
    settings = aws_settings(emulator, recipients, f"channel.kms_key_id={key}")
    await initialized(settings, emulator)

    findings = await checks.check(settings, target=aws_target(emulator), mounts=local)

    assert about(findings, "channel", Level.FAILS) == ""
    assert "s3:PutObject is permitted below mfa-worker/" in about(findings, "channel", Level.OK)
    assert f"the KMS key {key} can be used" in about(findings, "channel", Level.OK)
    assert "refuses plain HTTP and overwriting" in about(findings, "channel", Level.OK)
    assert isinstance(settings.channel, S3Settings)
    async with emulator.aws() as aws:
        assert (await (await aws.s3()).list_objects_v2(Bucket=str(settings.channel.bucket)))["KeyCount"] == 0


async def test_a_ledger_in_use_is_known_with_its_users_and_another_rollouts_is_refused(
    ministack: Emulator, aws_credentials: None, recipients: str
) -> None:
    settings = aws_settings(ministack, "channel.kind=file", recipients)
    await initialized(settings, ministack)
    async with open_stores(settings) as stores:
        await stores.ledger.put(row(), None)
    other = aws_settings(
        ministack,
        "cognito.user_pool_id=eu-central-1_Another",
        f"ledger.table={settings.ledger.table}",
        f"queue.url={settings.queue.url}",
    )

    ours, theirs = await checks.check(settings), await checks.check(other)

    assert "1 users of this rollout are in it" in about(ours, "ledger", Level.OK)
    assert "belongs to another rollout" in about(theirs, "ledger", Level.FAILS)


async def test_secrets_are_tried_without_making_one(
    ministack: Emulator, aws_credentials: None, recipients: str
) -> None:
    settings = aws_settings(ministack, "channel.kind=secretsmanager", recipients)

    findings = await checks.check(settings, target=aws_target(ministack))

    assert "permitted: secretsmanager:DescribeSecret, secretsmanager:PutSecretValue" in about(
        findings, "channel", Level.OK
    )
    assert "not tried: secretsmanager:CreateSecret" in about(findings, "channel", Level.NOT_CHECKED)
    assert "nobody counted the users" in about(findings, "price", Level.NOT_CHECKED)
    async with ministack.aws() as aws:
        listed = await (await aws.secretsmanager()).list_secrets(Filters=[{"Key": "name", "Values": ["mfa-worker/"]}])
        assert listed["SecretList"] == []


# --- what is missing or unsafe ----------------------------------------------------------------------------------------


async def test_what_is_missing_is_said_all_at_once(ministack: Emulator, aws_credentials: None, recipients: str) -> None:
    settings = aws_settings(ministack, recipients)

    findings = await checks.check(settings, target=aws_target(ministack))

    for name in ("queue", "dead letters", "ledger", "channel"):
        assert "mfa-worker init" in about(findings, name, Level.FAILS)


@pytest.mark.parametrize(
    ("attributes", "level", "said"),
    [
        ({"SqsManagedSseEnabled": "false"}, Level.FAILS, "not encrypted at rest"),
        ({"MessageRetentionPeriod": "345600"}, Level.ADVICE, "kept for 96 h, and an access token lives 24 h at most"),
        ({"MessageRetentionPeriod": "600"}, Level.FAILS, "requests vanish before they are worked on"),
        ({"DelaySeconds": "60"}, Level.ADVICE, "delayed by 60 s"),
        ({"RedrivePolicy": 99}, Level.FAILS, "maxReceiveCount is 99"),
        ({"RedrivePolicy": 100}, Level.OK, "after 100 receives"),
        ({}, Level.ADVICE, "no dead-letter queue"),
    ],
)
async def test_a_queue_that_would_lose_or_show_requests_is_found(
    ministack: Emulator, aws_credentials: None, attributes: dict[str, Any], level: Level, said: str
) -> None:
    settings = aws_settings(ministack, "ledger.kind=sqlite", "channel.kind=file")
    wanted = wanted_resources(settings)
    async with ministack.aws() as aws:
        client = await aws.sqs()
        if "RedrivePolicy" in attributes:
            dead = (await client.create_queue(QueueName=str(wanted.dead_letters)))["QueueUrl"]
            arn = (await client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"]))["Attributes"][
                "QueueArn"
            ]
            redrive = {"deadLetterTargetArn": arn, "maxReceiveCount": attributes["RedrivePolicy"]}
            attributes = {"RedrivePolicy": json.dumps(redrive)}
        await client.create_queue(QueueName=str(wanted.queue), Attributes=attributes)  # type: ignore[arg-type]

    findings = await checks.check(settings, target=aws_target(ministack))

    assert said in about(findings, "queue", level)


async def test_where_dead_letters_go_is_looked_at_though_no_setting_names_it(
    moto: Emulator, aws_credentials: None
) -> None:
    settings = aws_settings(moto, "ledger.kind=sqlite", "channel.kind=file", "queue.dead_letter_url=")
    wanted = wanted_resources(settings)
    async with moto.aws() as aws:
        client = await aws.sqs()
        dead = (await client.create_queue(QueueName="third", Attributes={"MessageRetentionPeriod": "60"}))["QueueUrl"]
        arn = (await client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"]))["Attributes"]["QueueArn"]
        redrive = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1000})}
        made = (await client.create_queue(QueueName=str(wanted.queue), Attributes=redrive))["QueueUrl"]  # type: ignore[arg-type]
        await client.send_message(QueueUrl=dead, MessageBody="x")
        requests = (await client.get_queue_attributes(QueueUrl=made, AttributeNames=["QueueArn"]))["Attributes"][
            "QueueArn"
        ]
        more = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": requests, "maxReceiveCount": 9})}
        await client.create_queue(QueueName="others", Attributes=more)  # type: ignore[arg-type]

    findings = await checks.check(settings, target=aws_target(moto))

    assert "third keeps messages for 60 s" in about(findings, "dead letters", Level.ADVICE)
    assert "1 messages are in third" in about(findings, "dead letters", Level.ADVICE)
    assert "it is the dead-letter queue of others" in about(findings, "queue", Level.ADVICE)


async def test_a_table_of_another_shape_is_refused(ministack: Emulator, aws_credentials: None) -> None:
    settings = aws_settings(ministack, "queue.kind=sqlite", "channel.kind=file", "queue.dead_letter_url=")
    async with ministack.aws() as aws:
        await (await aws.dynamodb()).create_table(
            TableName=str(settings.ledger.table),
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )

    findings = await checks.check(settings, target=aws_target(ministack))

    assert "has no index unfinished" in about(findings, "ledger", Level.FAILS)
    assert "has other keys" in about(findings, "ledger", Level.FAILS)
    assert "deletion protection is off" in about(findings, "ledger", Level.ADVICE)


async def test_a_pool_without_totp_and_sessions_that_die_sooner_are_found(
    ministack: Emulator, aws_credentials: None
) -> None:
    pool = await pool_at(ministack, totp=False, minutes=3)
    settings = load(None, [*of_pool(ministack, pool), "cognito.session_validity=5m"], {})

    findings = await checks.check(settings, target=aws_target(ministack))

    assert "TOTP is off" in about(findings, "pool", Level.FAILS)
    assert "sessions of web (3 min) die sooner" in about(findings, "pool", Level.ADVICE)


async def test_a_pool_that_is_not_there_is_found(ministack: Emulator, aws_credentials: None) -> None:
    settings = load(None, of_pool(ministack, "eu-central-1_Nowhere"), {})

    findings = await checks.check(settings, target=aws_target(ministack))

    assert "there is no pool eu-central-1_Nowhere" in about(findings, "pool", Level.FAILS)
