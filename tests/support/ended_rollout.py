"""A rollout that is over, without ever having run: its rows, its queues and its channel hold what a run leaves there.

Everything is done in this process, against an emulator of AWS or in a folder.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

from tests.support import rows
from tests.support.emulators import CREDENTIALS, SERVICES, Emulator, fresh
from worker.adapters.aws.session import Aws
from worker.app import commands
from worker.app.stores import Purpose, aws_target, open_channel, open_ledger, open_stores
from worker.core.model import CredentialKind, Enrolment, Reason, State
from worker.sealing import age
from worker.settings import Settings, load
from worker.setup.init import create_missing

POOL = "eu-central-1_Example"
SECRET = "age-never-to-be-found-again"
CREDENTIAL = "session-never-to-be-found-again"

Kind = Literal["s3", "sqs", "secretsmanager"]


def here(folder: Path, *more: str) -> Settings:
    """The settings of a rollout with everything in this folder."""
    return load(None, [*_common(), *_paths(folder), f"channel.path={folder / 'enrolments.jsonl'}", *more], {})


async def on_aws(folder: Path, emulator: Emulator, kind: Kind = "s3", *more: str) -> Settings:
    """The settings of a rollout with everything on AWS, which ``init`` made."""
    settings = load(None, [*_common(), *_on_aws(emulator, kind, fresh("rollout")), *more], {})
    await create_missing(settings, io.StringIO())
    if kind == "s3":  # the bucket's policy refuses plain http, and emulators have nothing else
        async with emulator.aws() as aws:
            await (await aws.s3()).delete_bucket_policy(Bucket=getattr(settings.channel, "bucket", ""))
    return settings


def _common() -> list[str]:
    _, recipient = age.keygen("today")
    return [f"cognito.user_pool_id={POOL}", f'seal.recipients=["{recipient}"]', "otp.issuer=Example"]


def _paths(folder: Path) -> list[str]:
    return [f"{section}.path={folder / 'rollout.db'}" for section in ("queue", "ledger")]


def _on_aws(emulator: Emulator, kind: Kind, name: str) -> list[str]:
    def url(queue: str) -> str:
        return f"{emulator.url_of('sqs')}/{CREDENTIALS['AWS_ACCESS_KEY_ID']}/{queue}"

    channel = {
        "s3": [f"channel.bucket={name}", "channel.kms_key_id=alias/aws/s3"],
        "sqs": [f"channel.url={url(f'{name}-secrets')}"],
    }
    endpoints = [
        f"aws.{service.removesuffix('-idp').replace('-', '')}_endpoint_url={emulator.url_of(service)}"
        for service in SERVICES
        if service != "lambda"
    ]
    return [
        *("queue.kind=sqs", f"queue.url={url(name)}", f"queue.dead_letter_url={url(f'{name}-dead-letters')}"),
        *("ledger.kind=dynamodb", f"ledger.table={name}"),
        *(f"channel.kind={kind}", *channel.get(kind, []), f"channel.prefix={name}/secrets"),
        *(f"aws.region={CREDENTIALS['AWS_REGION']}", *endpoints),
    ]


def everybody() -> list[Enrolment]:
    """The users of a rollout that is over: with kept records, and one whose activation was left to a person."""
    blob = SECRET.encode()
    nothing = rows.sealed(blob=b"")
    pending = rows.activation(f"{SECRET}-activation".encode(), kind=CredentialKind.ACCESS_TOKEN)
    return [
        rows.row("ana", State.DELIVERED, sealed=rows.sealed(blob=blob)),
        rows.row("ben", State.ACTIVE, sealed=rows.sealed(blob=blob)),
        rows.row("eve", State.FAILED, reason=Reason.INVALID_PARAMETER),
        rows.row("ned", State.DELIVERED, reason=Reason.VERIFY_REFUSED, sealed=nothing, activation=pending),
    ]


def unfinished() -> Enrolment:
    """A user whose only secret waits in the ledger."""
    return rows.row("zoe", State.SEALED, sealed=rows.sealed(blob=b"age-the-only-copy"))


async def put(settings: Settings, *users: Enrolment, delivers: bool = True) -> None:
    """Write these rows, and deliver the records of those who are delivered."""
    async with open_stores(settings, Purpose.PUSH) as stores:
        for row in users:
            await stores.ledger.put(row, None)
    if delivers:
        async with open_channel(settings) as channel:
            for row in users:
                if row.state is State.DELIVERED:
                    record = rows.sealed(blob=SECRET.encode(), attempt_id=str(uuid.uuid4()))
                    await channel.deliver(row.username, record)


async def put_foreign_secret(settings: Settings) -> Callable[[], Awaitable[bool]]:
    """Another application's secret beside those of the channel, where it is in Secrets Manager; whether it is there."""
    kind = settings.channel.kind
    name = f"{getattr(settings.channel, 'prefix', '')}/database"
    if kind == "secretsmanager":
        async with Aws(aws_target(settings)) as aws:
            await (await aws.secretsmanager()).create_secret(Name=name, SecretString="theirs")

    async def is_there() -> bool:
        if kind != "secretsmanager":
            return True
        async with Aws(aws_target(settings)) as aws:
            return not (await (await aws.secretsmanager()).describe_secret(SecretId=name)).get("DeletedDate")

    return is_there


async def push(settings: Settings, *usernames: str) -> None:
    """Put a request on the queue for each, and one message that is none."""
    lines = [json.dumps({"username": name, "session": f"{CREDENTIAL}-{name}"}) for name in usernames]
    await commands.push(settings, io.BytesIO("\n".join([*lines, '{"username": "bad"}']).encode()))


async def kept(settings: Settings) -> dict[str, Enrolment]:
    """The rows that are in the ledger."""
    async with open_ledger(settings) as ledger:
        return {row.username: row async for row in ledger.every_row()}


async def messages(emulator: Emulator, url: str | None) -> int:
    """How many messages wait on that queue."""
    async with emulator.aws() as aws:
        found: Any = await (await aws.sqs()).get_queue_attributes(QueueUrl=url or "", AttributeNames=["All"])
    return int(found["Attributes"]["ApproximateNumberOfMessages"])


def traces(folder: Path, *texts: str) -> set[str]:
    """The files below the folder that hold one of these texts."""
    return {
        each.name
        for each in folder.rglob("*")
        if each.is_file() and any(text.encode() in each.read_bytes() for text in texts or (SECRET, CREDENTIAL))
    }


def names(folder: Path) -> set[str]:
    """What is in the folder."""
    return {each.name for each in folder.iterdir()}
