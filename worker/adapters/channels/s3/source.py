"""Reading records back from S3: the newest object of each user, by its key, is copied as a line.

This needs permissions that the worker does not have: ``s3:ListBucket`` and ``s3:GetObject``, and ``kms:Decrypt`` for a
KMS key of your own.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.channels.copying import lost, write_lines
from worker.adapters.channels.s3.keys import ENDING, parsed
from worker.core.age_format import as_binary
from worker.core.errors import ChannelUnavailable
from worker.core.record import rfc3339

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

MOST_OF_A_USER = 5
"""The most objects of one user that are tried, the newest ones. Nearly everybody has one."""
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


async def copy_objects(s3: S3Client, bucket: str, prefix: str, file: BinaryIO, *, every: bool = False) -> int:
    """Copy the newest object of each user under the prefix as a line, in the order of the keys; return their number.

    Where it is no age file at all, the next older one is copied too. ``every``: every object, as it is.
    """

    async def fetched(found: Object) -> bytes | None:
        if found.generation < 0 or found.size > LARGEST:
            return None
        try:
            reply = await s3.get_object(Bucket=bucket, Key=found.key)
            async with reply["Body"] as body:
                blob = await body.read()
        except ClientError as error:
            if code(error) == "NoSuchKey":  # deleted since it was listed
                return None
            raise
        binary = as_binary(blob)
        return blob if every and binary is not None else binary

    async def lines(newest: Sequence[Object]) -> bytes:
        copied = []
        for found in newest:
            if (blob := await fetched(found)) is None:
                copied.append(lost(found.key))
                continue
            sealed = base64.b64encode(blob).decode("ascii")
            told = {"object": found.key, "generation": found.generation, "sealed": sealed}
            copied.append(json.dumps(dict([found.user]) | told).encode("ascii"))
            break
        return b"\n".join(copied)

    with faults(ChannelUnavailable, f"the S3 bucket {bucket}"):
        objects = _objects(s3, bucket, prefix)
        return await write_lines(_alone(objects) if every else _newest(objects, MOST_OF_A_USER), lines, file)


async def list_objects(s3: S3Client, bucket: str, prefix: str, file: BinaryIO) -> int:
    """Write what the key of each user's newest object says as a line, without reading the object; see above."""

    async def line(newest: Sequence[Object]) -> bytes:
        (found,) = newest
        if found.generation < 0:
            return lost(found.key)
        told = {"generation": found.generation, "attempt_id": found.attempt_id}
        return json.dumps(dict([found.user]) | told | {"associated_at": rfc3339(found.modified)}).encode("ascii")

    with faults(ChannelUnavailable, f"the S3 bucket {bucket}"):
        return await write_lines(_newest(_objects(s3, bucket, prefix), 1), line, file)


async def _objects(s3: S3Client, bucket: str, prefix: str) -> AsyncIterator[Object]:
    """Every object with the ending of a record; one whose key is malformed is nobody's, of a generation below 0."""
    whole = prefix if not prefix or prefix.endswith(("/", ENDING)) else prefix + "/"
    async for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=whole):
        for entry in page.get("Contents", []):
            if entry["Key"].endswith(ENDING):
                yield _object(entry["Key"], entry["Size"], entry["LastModified"].timestamp())


def _object(key: str, size: int, modified: float) -> Object:
    found = parsed(key)
    if found is None:
        return Object(key, ("", ""), -1, "", size, modified)
    return Object(key, found.user, found.generation, found.attempt_id, size, modified)


async def _alone(objects: AsyncIterator[Object]) -> AsyncIterator[Sequence[Object]]:
    async for found in objects:
        yield [found]


async def _newest(objects: AsyncIterator[Object], most: int) -> AsyncIterator[Sequence[Object]]:
    """The newest ``most`` of each user's objects, which follow each other in S3's list, as it is ordered by key.

    The newest comes first. What is nobody's comes alone. If a user's objects are not all together, there are several
    such groups, and ``open`` chooses the newest.
    """
    group: list[Object] = []
    async for found in objects:
        if group and (found.user != group[0].user or found.generation < 0):
            yield group
            group = []
        group = sorted([*group, found], key=lambda each: -each.generation)[:most]
    if group:
        yield group
