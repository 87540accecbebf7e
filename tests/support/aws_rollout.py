"""One rollout on AWS: SQS, DynamoDB and one of the channels, all on an emulator, driven from outside like the others.

async with aws_rollout_in(tmp_path, emulator, "s3") as rollout:
    await rollout.push_by_command(await rollout.sign_in("ana", "ben"))
    assert (await rollout.run()).code == 0
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support.emulators import CREDENTIALS, Emulator, fresh
from tests.support.processes import Ended, until
from tests.support.rollout import Record, Request, Rollout, ended_well, fake_cognito_for_rollouts
from worker.rehearsal.fake_cognito.client import FakeCognito

Kind = Literal["s3", "sqs", "secretsmanager"]
KINDS: tuple[Kind, ...] = ("s3", "sqs", "secretsmanager")
SERVED = ("sqs", "dynamodb", "s3", "secretsmanager", "kms", "sts", "service-quotas", "cloudformation", "cognito-idp")


class AwsRollout(Rollout):
    """A rollout whose queue, ledger and channel are on an emulator; ``init`` made them."""

    def __init__(self, folder: Path, fake_cognito: FakeCognito, emulator: Emulator, kind: Kind) -> None:
        super().__init__(folder, fake_cognito)
        self.emulator, self.kind = emulator, kind
        self.variables = dict(CREDENTIALS)
        self.name = fresh("rollout")
        self.configure(
            queue={
                "kind": "sqs",
                "path": None,
                "url": self._queue_url(self.name),
                "dead_letter_url": self._queue_url(f"{self.name}-dead-letters"),
                "visibility": 3.0,
                "empty_after": 1.0,
            },
            ledger={"kind": "dynamodb", "table": self.name},
            channel={"kind": kind, "path": None, "bucket": None, "url": None, "prefix": f"{self.name}/secrets"},
            aws={
                "region": CREDENTIALS["AWS_REGION"],
                **{f"{_setting(service)}_endpoint_url": emulator.url_of(service) for service in SERVED},
            },
        )
        if kind == "s3":
            self.configure(channel={"bucket": self.name, "kms_key_id": "alias/aws/s3"})  # ministack wants one
        if kind == "sqs":
            self.configure(channel={"url": self._queue_url(f"{self.name}-secrets")})
        self._channel_lines: list[dict[str, Any]] = []

    def _queue_url(self, name: str) -> str:
        return f"{self.emulator.url_of('sqs')}/{CREDENTIALS['AWS_ACCESS_KEY_ID']}/{name}"

    @property
    def source(self) -> str:
        """What ``open`` is given to read the channel."""
        return {
            "s3": f"s3://{self.name}/{self.name}/secrets",
            "sqs": f"sqs:{self._queue_url(f'{self.name}-secrets')}",
            "secretsmanager": f"secretsmanager:{self.name}/secrets",
        }[self.kind]

    async def initialise(self) -> None:
        """``mfa-worker init``."""
        made = await self.command("init")
        assert made.code == 0, made.err
        if self.kind == "s3":
            async with self.emulator.aws() as aws:  # its policy refuses plain HTTP, and emulators have nothing else
                await (await aws.s3()).delete_bucket_policy(Bucket=self.name)

    def has_ledger(self) -> bool:
        return True

    async def push_by_command(self, requests: Iterable[Request | str]) -> Ended:
        """``mfa-worker push``."""
        return await self.command("push", self.file(requests))

    async def open(self) -> dict[str, Record]:
        """``mfa-worker open``: the newest record of each user."""
        into = ["--into", str(self.folder / "drained.jsonl")] if self.kind == "sqs" else []
        ended = await self.command("open", self.source, *into, "-i", str(self.identity))
        assert ended.code == 0, ended.err
        records = [json.loads(line) for line in ended.out.splitlines()]
        self.secrets |= {record["secret_code"] for record in records}
        return {record["username"]: record for record in records}

    async def delivered(self, *files: Path) -> list[Record]:
        assert not files
        async with self.emulator.aws() as aws:
            match self.kind:
                case "s3":
                    return self.open_blobs(await _objects(await aws.s3(), self.name))
                case "sqs":
                    queue = await aws.sqs()
                    url = self._queue_url(f"{self.name}-secrets")
                    while found := (await queue.receive_message(QueueUrl=url, MaxNumberOfMessages=10)).get("Messages"):
                        for message in found:
                            self._channel_lines.append(json.loads(message["Body"]))
                            await queue.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                case "secretsmanager":
                    self._channel_lines = await _secrets(await aws.secretsmanager(), self.name)
        return self.open_blobs(base64.b64decode(line["sealed"]) for line in self._channel_lines)

    async def attempts(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for record in await self.delivered():
            found.setdefault(record["username"], set()).add(record["attempt_id"])
        return found

    async def until_in(self, state: str, users: int) -> None:
        async def reached() -> bool:
            return (await self.states()).get(state, 0) >= users

        await until(reached)


def _setting(service: str) -> str:
    return service.removesuffix("-idp").replace("-", "")


async def _objects(s3: Any, bucket: str) -> list[bytes]:
    bodies = []
    async for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for each in page.get("Contents", ()):
            if each["Key"].endswith(".age"):
                found = await s3.get_object(Bucket=bucket, Key=each["Key"])
                async with found["Body"] as stream:
                    bodies.append(await stream.read())
    return bodies


async def _secrets(secretsmanager: Any, prefix: str) -> list[dict[str, Any]]:
    lines = []
    async for page in secretsmanager.get_paginator("list_secrets").paginate():
        for each in page["SecretList"]:
            if each["Name"].startswith(prefix):
                for version in each.get("SecretVersionsToStages", {}):
                    found = await secretsmanager.get_secret_value(SecretId=each["Name"], VersionId=version)
                    if "SecretString" in found:  # a secret begins empty
                        lines.append(json.loads(found["SecretString"]))
    return lines


@asynccontextmanager
async def aws_rollout_in(
    folder: Path, emulator: Emulator, kind: Kind, **fake_cognito: Any
) -> AsyncIterator[AwsRollout]:
    """A rollout on AWS against a fake Cognito without a quota, after ``init``; ``fake_cognito``: its settings."""
    async with fake_cognito_for_rollouts(**fake_cognito) as served:
        rollout = AwsRollout(folder, served, emulator, kind)
        async with ended_well(rollout):
            await rollout.initialise()
            yield rollout


@pytest.fixture(name="rollout", params=[*((kind, "ministack") for kind in KINDS), ("s3", "moto")], ids=" on ".join)
async def rollout_of_each_kind(
    request: pytest.FixtureRequest, tmp_path: Path, aws_credentials: None
) -> AsyncIterator[AwsRollout]:
    """A rollout with each of the channels, and one on the other emulator."""
    kind, emulator = request.param
    async with aws_rollout_in(tmp_path, request.getfixturevalue(emulator), kind) as rollout:
        yield rollout
