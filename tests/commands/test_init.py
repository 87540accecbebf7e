"""``init`` makes what is missing, only that, and as safe as ``check`` wants it; the template makes the same."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.checking import POOL, aws_settings, initialized
from tests.support.emulators import Emulator, fresh
from worker.adapters.aws.queue import attributes_of
from worker.adapters.channels.s3.checks import judge_bucket
from worker.adapters.channels.s3.settings import S3Settings
from worker.adapters.channels.sqs.settings import SqsSettings
from worker.adapters.checks.findings import Finding, Level
from worker.app.stores import open_stores
from worker.core.errors import QueueUnavailable, UsageError
from worker.settings import Settings, load
from worker.setup.checks import dynamodb, sqs
from worker.setup.init import cloudformation_template, create_missing, wanted_resources

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = [
    f"cognito.user_pool_id={POOL}",
    "queue.kind=sqs",
    "queue.url=https://sqs.eu-central-1.amazonaws.com/123456789012/mfa-worker",
    "ledger.kind=dynamodb",
    "ledger.table=mfa-worker",
    "channel.kind=s3",
    "channel.bucket=mfa-worker-123456789012",
]
"""Of these settings ``config/cloudformation.json`` is the template."""


def bucket_of(settings: Settings) -> str | None:
    assert isinstance(settings.channel, S3Settings)
    return settings.channel.bucket


async def everything(settings: Settings, emulator: Emulator) -> dict[str, Any]:
    """All that these services say of what there is."""
    wanted = wanted_resources(settings)
    async with emulator.aws() as aws:
        queues, tables, buckets = await aws.sqs(), await aws.dynamodb(), await aws.s3()
        assert None not in (wanted.queue, wanted.dead_letters, wanted.table, bucket_of(settings))
        urls = [
            (await queues.get_queue_url(QueueName=name))["QueueUrl"]
            for name in (str(wanted.queue), str(wanted.dead_letters))
        ]
        return {
            "queues": [await attributes_of(queues, url) for url in urls],
            "table": (await tables.describe_table(TableName=str(wanted.table)))["Table"],
            "backups": await dynamodb.look_at_backups(tables, str(wanted.table)),
            "bucket": await judge_bucket(buckets, str(bucket_of(settings))),
        }


def judged(there: dict[str, Any], table: str | None) -> list[Finding]:
    assert table is not None
    return [
        *sqs.judged("queue", "https://sqs.example/1/requests", there["queues"][0], holds_credentials=True),
        *sqs.judged("dead letters", "https://sqs.example/1/dead", there["queues"][1], holds_credentials=False),
        *dynamodb.judged(table, there["table"]),
        *there["backups"],
        *there["bucket"],
    ]


async def test_what_is_missing_is_made_safely_and_again_is_harmless(emulator: Emulator) -> None:
    settings = aws_settings(emulator)

    first = await initialized(settings, emulator)
    there = await everything(settings, emulator)
    again = await initialized(settings, emulator)

    assert [line.split()[0] for line in first[:4]] == ["created"] * 4
    assert f'  queue.url = "{settings.queue.url}"' in first
    assert f'  queue.dead_letter_url = "{settings.queue.dead_letter_url}"' in first
    assert [finding for finding in judged(there, settings.ledger.table) if finding.level is not Level.OK] == []
    assert int(json.loads(there["queues"][0]["RedrivePolicy"])["maxReceiveCount"]) == 1_000
    assert [line.split()[0] for line in again[:4]] == ["found"] * 4
    assert not [line for line in again if "left as it is" in line]
    assert await everything(settings, emulator) == there
    async with open_stores(settings) as stores:
        assert (await stores.counts()).accepted == 0
        assert (await stores.queue.backlog()).waiting == 0


async def test_what_is_less_safe_is_told_and_left_alone(ministack: Emulator, aws_credentials: None) -> None:
    settings = aws_settings(ministack)
    wanted = wanted_resources(settings)
    async with ministack.aws() as aws:
        queue = await (await aws.sqs()).create_queue(
            QueueName=str(wanted.queue), Attributes={"SqsManagedSseEnabled": "false"}
        )
        await (await aws.s3()).create_bucket(
            Bucket=str(bucket_of(settings)), CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        before = dict(await attributes_of(await aws.sqs(), queue["QueueUrl"]))

        said = "\n".join(await initialized(settings, ministack))

        assert dict(await attributes_of(await aws.sqs(), queue["QueueUrl"])) == before
    for part in ("not encrypted at rest", "no dead-letter queue", "96 h", "does not block public access", "plain HTTP"):
        assert part in said
    assert said.count("→") == said.count("left as it is")


async def test_the_queue_of_a_channel_is_made_too(ministack: Emulator, aws_credentials: None) -> None:
    name = fresh("delivered")
    settings = aws_settings(
        ministack, "channel.kind=sqs", f"channel.url={ministack.url}/123456789012/{name}", "channel.bucket="
    )

    lines = await initialized(settings, ministack)

    assert isinstance(settings.channel, SqsSettings)
    assert f"created  channel: {settings.channel.url}" in lines
    assert f'  channel.url = "{settings.channel.url}"' in lines


async def test_without_anything_on_aws_there_is_nothing_to_make(ministack: Emulator, aws_credentials: None) -> None:
    settings = load(None, [f"cognito.user_pool_id={POOL}"], {})

    with pytest.raises(UsageError, match="nothing of this rollout is on AWS"):
        await initialized(settings, ministack)
    with pytest.raises(UsageError, match="nothing of this rollout is on AWS"):
        cloudformation_template(settings)


async def test_a_service_that_cannot_be_reached_is_said_so(aws_credentials: None) -> None:
    settings = load(None, [*SHIPPED, "aws.sqs_endpoint_url=http://127.0.0.1:1"], {})

    with pytest.raises(QueueUnavailable, match="cannot be used"):
        await create_missing(settings, io.StringIO())


def test_dead_letters_have_a_name_that_sqs_takes() -> None:
    long = "q" * 80
    settings = load(
        None, [f"cognito.user_pool_id={POOL}", "queue.kind=sqs", f"queue.url=https://sqs.example/1/{long}"], {}
    )

    found = wanted_resources(settings).dead_letters

    assert found is not None
    assert found.endswith("-dead-letters")
    assert len(found) <= 80
