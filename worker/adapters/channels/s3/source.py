"""How records are read back from S3: the newest object of each user, by its key, copied as a line.

Whoever opens needs permissions of their own, not the worker's: ``s3:ListBucket`` and ``s3:GetObject``, and
``kms:Decrypt`` where the key is one of your own.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.channels.copying import LOST, write_lines
from worker.adapters.channels.s3.keys import ENDING, parsed
from worker.core.errors import ChannelUnavailable

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

LARGEST = 1 << 20
"""Bytes of an object that can be a record; a larger one is not fetched, and counts as not opened."""


class Object(NamedTuple):
    """An S3 object that is a record, by its key; ``user`` as a line says it."""

    key: str
    user: tuple[str, str]
    generation: int
    size: int
    """Bytes."""


async def copy_objects(s3: S3Client, bucket: str, prefix: str, file: BinaryIO) -> int:
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
        return await write_lines(_newest(_objects(s3, bucket, prefix)), line, file)


async def _objects(s3: S3Client, bucket: str, prefix: str) -> AsyncIterator[Object | None]:
    """Every object that is a record by its name; ``None`` for one that pretends to be."""
    whole = prefix if not prefix or prefix.endswith(("/", ENDING)) else prefix + "/"
    async for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=whole):
        for entry in page.get("Contents", []):
            if entry["Key"].endswith(ENDING):
                yield _object(entry["Key"], entry["Size"])


def _object(key: str, size: int) -> Object | None:
    found = parsed(key)
    return Object(key, found.user, found.generation, size) if found is not None else None


async def _newest(objects: AsyncIterator[Object | None]) -> AsyncIterator[Object | None]:
    """S3 lists by key, so a user's objects stand together; where they do not, ``open`` chooses again."""
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
