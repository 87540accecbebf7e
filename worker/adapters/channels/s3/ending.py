"""The S3 channel at the end of a rollout: every version of its objects, its delete markers and its sentinel.

Only keys that this channel makes are deleted: a bucket may hold other things, and another rollout's prefix may lie
below this one. The bucket itself is left, because it may be used for more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from worker.adapters.aws.account import own_account
from worker.adapters.aws.errors import fault, faults, is_missing
from worker.adapters.channels import sentinel
from worker.adapters.channels.kind import ChannelEnding, Content
from worker.adapters.channels.s3.keys import parsed
from worker.adapters.channels.s3.settings import S3Settings
from worker.core.errors import ChannelUnavailable
from worker.core.record import rfc3339
from worker.core.words import several

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

    from worker.adapters.aws.session import Aws

AT_ONCE = 1_000
"""Versions that one request deletes (API reference, DeleteObjects)."""
ASKED = 20
"""Versions that could not be deleted, of which it is asked until when they are locked."""


class S3Ending(ChannelEnding[S3Settings]):
    """See ``ChannelEnding``."""

    async def look(self, channel: S3Settings, aws: Aws) -> Content:
        """See ``ChannelEnding``."""
        ours = others = 0
        with faults(ChannelUnavailable, f"the S3 bucket {channel.bucket}"):
            try:
                async for page in _versions(await aws.s3(), channel, await own_account(aws)):
                    mine = sum(is_ours(channel.prefix, each["Key"]) for each in page)
                    ours, others = ours + mine, others + len(page) - mine
            except ClientError as error:
                if not is_missing(error):
                    raise
        where = f"s3://{channel.bucket}/{channel.prefix}/"
        note = f"{others:,} versions below it are no records of this rollout, and stay; " if others else ""
        note += f"the bucket stays: aws s3api delete-bucket --bucket {channel.bucket}, once it is empty"
        return Content(f"{several(ours, 'object version')} (delete markers too)" if ours else "", where, note)

    async def remove(self, channel: S3Settings, aws: Aws) -> Sequence[tuple[str, str]]:
        """See ``ChannelEnding``."""
        s3, owner = await aws.s3(), await own_account(aws)
        refused: list[Any] = []
        with faults(ChannelUnavailable, f"the S3 bucket {channel.bucket}"):
            async for page in _versions(s3, channel, owner):
                ours = [
                    {"Key": each["Key"], "VersionId": each["VersionId"]}
                    for each in page
                    if is_ours(channel.prefix, each["Key"])
                ]
                for start in range(0, len(ours), AT_ONCE):
                    some: Any = {"Objects": ours[start : start + AT_ONCE], "Quiet": True}
                    answer = await s3.delete_objects(Bucket=channel.bucket or "", Delete=some, **_owned_by(owner))
                    refused += answer.get("Errors", ())
        return await _explained(s3, channel.bucket or "", refused) if refused else ()


def is_ours(prefix: str, key: str) -> bool:
    """Whether this channel made that key: a record's, or the sentinel's."""
    rest = key.removeprefix(f"{prefix}/")
    return rest != key and (rest == sentinel.NAME or (rest.count("/") == 1 and parsed(rest) is not None))


def _owned_by(owner: str) -> dict[str, Any]:
    """Another account's bucket of the same name is refused; without an account nobody's is."""
    return {"ExpectedBucketOwner": owner} if owner else {}


async def _versions(s3: S3Client, channel: S3Settings, owner: str) -> AsyncIterator[list[Any]]:
    """Every version and delete marker below the prefix, in pages."""
    pages = s3.get_paginator("list_object_versions").paginate(
        Bucket=channel.bucket or "", Prefix=f"{channel.prefix}/", **_owned_by(owner)
    )
    async for page in pages:
        yield [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]


async def _explained(s3: S3Client, bucket: str, refused: Sequence[Any]) -> Sequence[tuple[str, str]]:
    """Until when those are locked that could not be deleted. Raises ``ChannelUnavailable`` for any other refusal."""
    until = [await _locked_until(s3, bucket, each) for each in refused[:ASKED]]
    dates = [each for each in until if each]
    if not dates:
        first = ClientError({"Error": {"Code": str(refused[0].get("Code"))}}, "DeleteObjects")
        raise fault(first, ChannelUnavailable, f"{several(len(refused), 'object')} of the S3 bucket {bucket}")
    said = f"{several(len(refused), 'object version')} of {bucket} cannot be deleted before {max(dates)} (object lock)"
    return [(said, f"after {max(dates)}: mfa-worker decommission --yes")]


async def _locked_until(s3: S3Client, bucket: str, refused: Any) -> str:
    """The date; empty where it is not locked, or nobody says."""
    which: Any = {"VersionId": refused["VersionId"]} if refused.get("VersionId") else {}
    try:
        answer = await s3.get_object_retention(Bucket=bucket, Key=refused["Key"], **which)
    except ClientError:
        return ""
    until: Any = answer.get("Retention", {}).get("RetainUntilDate")
    return rfc3339(until.timestamp())[:10] if until else ""
