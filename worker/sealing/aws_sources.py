"""Sealed records on AWS, fetched for ``opening``: from S3, from Secrets Manager, and out of an SQS queue.

What is fetched goes, sealed as it is, into a temporary file of lines and is opened from there: memory holds no more
than what is on its way. What cannot be a record becomes a line that nobody can open, so that it is counted.

The opener uses its own permissions, not the worker's: ``s3:ListBucket`` and ``s3:GetObject``;
``secretsmanager:ListSecrets`` and ``GetSecretValue``; ``sqs:ReceiveMessage`` and ``sqs:DeleteMessage``; and
``kms:Decrypt`` where the key is one of your own.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.aws.naming import digest_of, hashed, secret_segment, username_of
from worker.adapters.aws.session import Aws, AwsTarget
from worker.core.errors import ChannelUnavailable, DependencyUnavailable, UsageError
from worker.core.record import is_line
from worker.sealing.sqs_source import drain

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_secretsmanager import SecretsManagerClient

MOST_AT_ONCE = 32
"""Objects or secrets that are on their way at the same time."""
LARGEST = 1 << 20
"""Bytes of an object that can be a record."""
LOST = b"{}"
"""The line of what cannot be opened."""

_KEY = re.compile(r"(?:.*/)?([^/]+)/([0-9]{1,19})-[^/]+\.age", re.DOTALL)
Item = TypeVar("Item")


class Object(NamedTuple):
    """An S3 object that is a record, by its key; ``user`` as a line says it."""

    key: str
    user: tuple[str, str]
    generation: int
    size: int


async def fetch(
    sources: Sequence[str], stack: ExitStack, place: AwsTarget | None, into: Path | None
) -> dict[str, BinaryIO]:
    """A file of lines for each source but queues, whose messages go to the end of ``into``; ``stack`` closes them.

    Raises ``UsageError`` for a source without a record, ``DependencyUnavailable``, ``PersonMustAct``.
    """
    found: dict[str, BinaryIO] = {}
    async with Aws(_somewhere(place)) as aws:
        for source in sources:
            kind, _, rest = source.partition(":")
            if kind == "sqs":
                assert into is not None
                if others := await drain(await aws.sqs(), rest, into):
                    sys.stderr.write(f"{others} messages of the queue are no sealed records, and stay there\n")
                continue
            file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - sealed records only
            if kind == "s3":
                bucket, _, prefix = rest.removeprefix("//").partition("/")
                number = await fetch_objects(await aws.s3(), bucket, prefix, file)
            else:
                number = await fetch_secrets(await aws.secretsmanager(), rest, file)
            if not number:
                raise UsageError(f"there is no sealed record in {source}", "name what the worker delivered to")
            file.seek(0)
            found[source] = file
    return found


def _somewhere(place: AwsTarget | None) -> AwsTarget:
    """The place, with a Region: the settings', or the environment's."""
    if place is not None and place.region:
        return place
    try:
        region = (
            os.environ.get("AWS_REGION")
            or os.environ.get("AWS_DEFAULT_REGION")
            or botocore.session.Session(profile=place.profile if place else None).get_config_variable("region")
        )
    except BotoCoreError:
        region = None
    if not region:
        raise UsageError("no AWS Region is given", "set aws.region, or AWS_REGION in the environment")
    return AwsTarget(region) if place is None else AwsTarget(region, place.profile, place.fips, place.endpoints)


# --- S3 ---------------------------------------------------------------------------------------------------------------


async def fetch_objects(s3: S3Client, bucket: str, prefix: str, file: BinaryIO) -> int:
    """The newest object of each user under the prefix, as lines, in the order of their keys. Gives their number."""

    async def line(found: Object | None) -> bytes:
        if found is None or found.size > LARGEST:
            return LOST
        try:
            reply = await s3.get_object(Bucket=bucket, Key=found.key)
            async with reply["Body"] as body:
                blob = await body.read()
        except ClientError as error:
            if code(error) == "NoSuchKey":  # deleted since it was listed
                return LOST
            raise
        sealed = base64.b64encode(blob).decode("ascii")
        return json.dumps(dict([found.user]) | {"generation": found.generation, "sealed": sealed}).encode("ascii")

    with faults(ChannelUnavailable, f"the S3 bucket {bucket}"):
        return await _write(_newest(_objects(s3, bucket, prefix)), line, file)


async def _objects(s3: S3Client, bucket: str, prefix: str) -> AsyncIterator[Object | None]:
    """Every object that is a record by its name; ``None`` for one that pretends to be."""
    whole = prefix if not prefix or prefix.endswith(("/", ".age")) else prefix + "/"
    async for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=whole):
        for entry in page.get("Contents", []):
            if entry["Key"].endswith(".age"):
                yield _object(entry["Key"], entry["Size"])


def _object(key: str, size: int) -> Object | None:
    parts = _KEY.fullmatch(key)
    if parts is None:
        return None
    try:
        username, digest = username_of(parts[1]), digest_of(parts[1])
    except ValueError:
        return None
    user = ("username", username) if username is not None else ("username_sha256", digest or "")
    return Object(key, user, int(parts[2]), size)


async def _newest(objects: AsyncIterator[Object | None]) -> AsyncIterator[Object | None]:
    """S3 lists by key, so a user's objects stand together; where they do not, ``opening`` chooses again."""
    best: Object | None = None
    async for found in objects:
        if found is None:
            yield None
        elif best is None or best.user != found.user:
            if best is not None:
                yield best
            best = found
        elif best.generation < found.generation:
            best = found
    if best is not None:
        yield best


# --- Secrets Manager --------------------------------------------------------------------------------------------------


async def fetch_secrets(client: SecretsManagerClient, prefix: str, file: BinaryIO) -> int:
    """The current version of each secret under the prefix, as lines. Gives their number.

    The list of secrets may be five minutes behind (ListSecrets, API reference).
    """

    async def line(name: str) -> bytes:
        try:
            value = (await client.get_secret_value(SecretId=name, VersionStage="AWSCURRENT")).get("SecretString", "")
        except ClientError as error:
            if code(error) == "ResourceNotFoundException":  # deleted since, or created and not yet written
                return b""
            raise
        if not is_line(value):
            return LOST
        username = str(json.loads(value).get("username"))
        known = (hashed(username), secret_segment(username, "username"))
        return value.encode() if name.rpartition("/")[2] in known else LOST

    with faults(ChannelUnavailable, "Secrets Manager"):
        return await _write(_secrets(client, prefix), line, file)


async def _secrets(client: SecretsManagerClient, prefix: str) -> AsyncIterator[str]:
    start = prefix.rstrip("/") + "/"
    pages = client.get_paginator("list_secrets").paginate(Filters=[{"Key": "name", "Values": [start]}])
    async for page in pages:
        for entry in page.get("SecretList", []):
            name = entry.get("Name", "")
            if name.startswith(start) and "/" not in name.removeprefix(start):
                yield name


# --- both -------------------------------------------------------------------------------------------------------------


async def _write(items: AsyncIterator[Item], line: Callable[[Item], Awaitable[bytes]], file: BinaryIO) -> int:
    """Write the line of each item, in their order, a few being fetched at the same time. Gives the number of lines."""
    number = 0
    tasks: deque[asyncio.Task[bytes]] = deque()

    async def first() -> int:
        text = await tasks.popleft()
        try:
            file.write(text + b"\n")
        except OSError as error:
            raise DependencyUnavailable(
                f"a temporary file cannot be written: {error.strerror}", "free space, or set TMPDIR to another folder"
            ) from None
        return 1 if text else 0

    try:
        async for item in items:
            tasks.append(asyncio.ensure_future(line(item)))
            if len(tasks) >= MOST_AT_ONCE:
                number += await first()
        while tasks:
            number += await first()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return number
