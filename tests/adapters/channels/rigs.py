"""The channels under test: whoever adds one adds a way to open it here, and the suite does the rest."""
# ruff: noqa: ASYNC240 - a test may look at a file

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, web
from yarl import URL

from tests.support.emulators import REGION, SERVICES, Emulator, fresh
from tests.support.rows import sealed
from worker.adapters.aws.naming import username_of
from worker.adapters.aws.session import Aws, AwsTarget
from worker.adapters.channels.file.channel import FileChannel
from worker.adapters.channels.s3.channel import S3Channel
from worker.adapters.channels.secretsmanager.channel import SecretsManagerChannel
from worker.adapters.channels.sqs.channel import SqsChannel
from worker.core.model import Sealed
from worker.core.ports import Channel

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_secretsmanager import SecretsManagerClient
    from types_aiobotocore_sqs import SQSClient

Arrival = tuple[str, int, str, bytes]
"""Username, generation, attempt id and the sealed bytes."""
PREFIX = "rollout/one"
KEY = "alias/rollout"
"""A KMS key; one of the emulators has no default one."""


@dataclass
class ChannelUnderTest:
    """A channel, and what has arrived on the other side."""

    channel: Channel
    arrived: Callable[[], Awaitable[list[Arrival]]]
    many: int = 600
    """How many records are many for it."""


def record(generation: int = 1, **fields: Any) -> Sealed:
    """A sealed secret as a worker makes it: its attempt has a UUID."""
    return sealed(generation, attempt_id=str(uuid.UUID(int=generation)))._replace(**fields)


def arrival(username: str, record: Sealed) -> Arrival:
    return (username, record.generation, record.attempt_id, record.blob)


CHANNELS = [
    "file",
    *(f"{kind} on {name}" for kind in ("s3", "sqs", "secretsmanager") for name in ("moto", "ministack")),
]
"""Each by its kind, those on AWS on both emulators."""


@pytest.fixture(params=CHANNELS)
async def channel(
    request: pytest.FixtureRequest, tmp_path: Path, aws_credentials: None
) -> AsyncIterator[ChannelUnderTest]:
    kind, _, name = request.param.partition(" on ")
    if kind == "file":
        async with _file(tmp_path / "secrets.jsonl") as opened:
            yield opened
        return
    emulator: Emulator = request.getfixturevalue(name)
    async with emulator.aws() as aws, {"s3": _s3, "sqs": _sqs, "secretsmanager": _secrets}[kind](aws) as opened:
        yield opened


# --- faults in front of a service -------------------------------------------------------------------------------------


@dataclass
class Reply:
    """An answer that the service never gave."""

    status: int
    body: str


CUT = "cut"
"""The service gets the request and acts, and its answer never arrives."""


class Proxy:
    """Stands before an emulator: remembers the requests of one operation, and spoils the answers to the first ones."""

    def __init__(self, emulator: Emulator, operation: str, spoil: Sequence[Reply | str]) -> None:
        self._emulator = emulator
        self._operation = operation
        self._spoil = list(spoil)
        self.requests: list[tuple[Mapping[str, str], bytes]] = []
        """Headers and body of each request of that operation."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        spoilt: Reply | str | None = None
        if self._operation in (request.method, request.headers.get("x-amz-target", "").rpartition(".")[2]):
            self.requests.append((request.headers.copy(), body))
            spoilt = self._spoil.pop(0) if self._spoil else None
        if isinstance(spoilt, Reply):
            return web.Response(status=spoilt.status, text=spoilt.body, content_type="application/x-amz-json-1.0")
        url = URL(self._emulator.url + request.raw_path, encoded=True)
        headers = {name: text for name, text in request.headers.items() if name.lower() != "expect"}
        async with (
            ClientSession(auto_decompress=False) as session,
            session.request(request.method, url, headers=headers, data=body) as reply,
        ):
            answer = web.Response(status=reply.status, body=await reply.read())
            answer.headers.update({k: v for k, v in reply.headers.items() if k.lower() not in HOP_BY_HOP})
        if spoilt == CUT:
            assert request.transport is not None
            request.transport.abort()
        return answer


HOP_BY_HOP = {"transfer-encoding", "connection", "content-length", "date", "server"}


@asynccontextmanager
async def before(emulator: Emulator, operation: str, *spoil: Reply | str) -> AsyncIterator[tuple[Aws, Proxy]]:
    """AWS behind a proxy; ``operation`` is an operation's name, or for S3 the HTTP method."""
    proxy = Proxy(emulator, operation, spoil)
    application = web.Application(client_max_size=1 << 24)
    application.router.add_route("*", "/{path:.*}", proxy.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with Aws(AwsTarget(REGION, endpoints=dict.fromkeys(SERVICES, f"http://127.0.0.1:{port}"))) as aws:
            yield aws, proxy
    finally:
        await runner.cleanup()


def refused(code: str, status: int = 400) -> Reply:
    """How the JSON services refuse; the message says what must not be told."""
    return Reply(status, json.dumps({"__type": code, "message": "told: SECRET"}))


def refused_by_s3(code: str, status: int) -> Reply:
    return Reply(status, f"<Error><Code>{code}</Code><Message>told: SECRET</Message></Error>")


# --- a file -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _file(path: Path) -> AsyncIterator[ChannelUnderTest]:
    file = FileChannel(path)
    await file.open()

    async def arrived() -> list[Arrival]:
        return delivered_lines(path) if path.exists() else []

    yield ChannelUnderTest(file, arrived)
    await file.close()


def delivered_lines(path: Path) -> list[Arrival]:
    """The whole lines of a file that a file channel wrote."""
    return [_arrival_of(line) for line in path.read_bytes().splitlines() if line]


def _arrival_of(line: str | bytes) -> Arrival:
    found = json.loads(line)
    return (found["username"], found["generation"], found["attempt_id"], base64.b64decode(found["sealed"]))


# --- S3 ---------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _s3(aws: Aws) -> AsyncIterator[ChannelUnderTest]:
    s3 = await aws.s3()
    bucket = await new_bucket(s3)
    channel = S3Channel(s3, bucket, PREFIX, kms_key_id=KEY, names="username")
    await channel.open()
    yield ChannelUnderTest(channel, lambda: delivered_objects(s3, bucket), many=40)
    await channel.close()


async def new_bucket(s3: S3Client) -> str:
    bucket = fresh("bucket")
    await s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return bucket


async def delivered_objects(s3: S3Client, bucket: str) -> list[Arrival]:
    """The objects of a bucket that an S3 channel wrote under ``PREFIX``."""
    keys = [
        entry["Key"]
        async for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for entry in page.get("Contents", [])
    ]

    async def delivered(key: str) -> Arrival:
        user, _, name = key.removeprefix(PREFIX + "/").partition("/")
        generation, _, attempt_id = name.removesuffix(".age").partition("-")
        reply = await s3.get_object(Bucket=bucket, Key=key)
        return (username_of(user) or user, int(generation), attempt_id, await reply["Body"].read())

    return list(await asyncio.gather(*map(delivered, keys)))


# --- SQS --------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _sqs(aws: Aws) -> AsyncIterator[ChannelUnderTest]:
    sqs = await aws.sqs()
    url = await new_queue(sqs)
    channel = SqsChannel(sqs, url)
    await channel.open()
    taken: list[Arrival] = []

    async def arrived() -> list[Arrival]:
        taken.extend(_arrival_of(body) for body in await take_messages(sqs, url))
        return taken

    yield ChannelUnderTest(channel, arrived, many=45)
    await channel.close()


async def new_queue(sqs: SQSClient, **attributes: str) -> str:
    made = await sqs.create_queue(
        QueueName=fresh("queue"),
        Attributes={"SqsManagedSseEnabled": "true", **attributes},  # type: ignore[dict-item]
    )
    return made["QueueUrl"]


async def take_messages(sqs: SQSClient, url: str) -> list[str]:
    """What is on the queue; it is empty afterwards."""
    taken = []
    while messages := (await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)).get("Messages"):
        taken += [message["Body"] for message in messages]
        for message in messages:
            await sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return taken


# --- Secrets Manager --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _secrets(aws: Aws) -> AsyncIterator[ChannelUnderTest]:
    client = await aws.secretsmanager()
    prefix = fresh(PREFIX)
    channel = SecretsManagerChannel(client, prefix, kms_key_id=None, names="username")
    await channel.open()
    yield ChannelUnderTest(channel, lambda: delivered_secrets(client, prefix), many=30)
    await channel.close()


async def delivered_secrets(client: SecretsManagerClient, prefix: str) -> list[Arrival]:
    """Every version of the secrets under the prefix."""
    pages = client.get_paginator("list_secrets").paginate(Filters=[{"Key": "name", "Values": [prefix + "/"]}])
    names = [entry["Name"] async for page in pages for entry in page["SecretList"]]

    async def delivered(name: str) -> list[Arrival]:
        found = []
        versions = (await client.list_secret_version_ids(SecretId=name, IncludeDeprecated=True))["Versions"]
        for version in versions:
            value = await client.get_secret_value(SecretId=name, VersionId=version["VersionId"])
            if "SecretString" in value:
                found.append(_arrival_of(value["SecretString"]))
        return found

    return [each for found in await asyncio.gather(*map(delivered, names)) for each in found]
