"""Reading records back from S3: the newest object of each user, by its key, is copied as a line.

This needs permissions that the worker does not have: ``s3:ListBucket`` and ``s3:GetObject``, and ``kms:Decrypt`` for a
KMS key of your own.
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
from worker.core.record import rfc3339

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

LARGEST = 1 << 20
"""The most bytes of an object that can be a record (1 MiB, far above any record); a larger one counts as not opened."""


class Object(NamedTuple):
    """An S3 object whose key is the one of a record; ``user``: field and value as in a line."""

    key: str
    user: tuple[str, str]
    generation: int
    attempt_id: str
    size: int
    """Bytes."""
    modified: float
    """When it was written (UTC seconds)."""


async def copy_objects(s3: S3Client, bucket: str, prefix: str, file: BinaryIO) -> int:
    """Copy the newest object of each user under the prefix as a line, in the order of the keys; return their number."""

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


async def list_objects(s3: S3Client, bucket: str, prefix: str, file: BinaryIO) -> int:
    """Write what the key of each user's newest object says as a line, without reading the object; see above."""

    async def line(found: Object | None) -> bytes:
        if found is None:
            return LOST
        told = {"generation": found.generation, "attempt_id": found.attempt_id}
        return json.dumps(dict([found.user]) | told | {"associated_at": rfc3339(found.modified)}).encode("ascii")

    with faults(ChannelUnavailable, f"the S3 bucket {bucket}"):
        return await write_lines(_newest(_objects(s3, bucket, prefix)), line, file)


async def _objects(s3: S3Client, bucket: str, prefix: str) -> AsyncIterator[Object | None]:
    """Every object with the ending of a record; ``None`` for one whose key is malformed."""
    whole = prefix if not prefix or prefix.endswith(("/", ENDING)) else prefix + "/"
    async for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=whole):
        for entry in page.get("Contents", []):
            if entry["Key"].endswith(ENDING):
                yield _object(entry["Key"], entry["Size"], entry["LastModified"].timestamp())


def _object(key: str, size: int, modified: float) -> Object | None:
    found = parsed(key)
    if found is None:
        return None
    return Object(key, found.user, found.generation, found.attempt_id, size, modified)


async def _newest(objects: AsyncIterator[Object | None]) -> AsyncIterator[Object | None]:
    """The newest of each user's objects, which follow each other in S3's list, because it is ordered by key.

    If a user's objects are not all together, several are yielded, and ``open`` chooses the newest.
    """
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
