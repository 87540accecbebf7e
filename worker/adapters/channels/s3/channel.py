"""How the S3 channel delivers: one object for each secret, the age file itself, with a key made by ``keys``.

Each key is written only once: S3 refuses to replace an object (``If-None-Match: *``). So a delivered object never
changes, and if the confirmation of a delivery was lost, the refusal of the second attempt confirms it.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults, is_of_one_item
from worker.adapters.aws.naming import Names
from worker.adapters.channels import sentinel
from worker.adapters.channels.put_once import put_once
from worker.adapters.channels.s3.keys import key_of
from worker.adapters.channels.sentinel import Answer
from worker.core.errors import ChannelUnavailable, RecordRefused
from worker.core.model import Sealed
from worker.core.resilience.backoff import Backoff, retry

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

ALREADY_THERE = "PreconditionFailed"
"""S3's code if there is an object with this key already (API reference, PutObject)."""
CONFLICT = "ConditionalRequestConflict"
"""S3's code if another upload with the same key is under way: it asks to try again (API reference, PutObject)."""
ATTEMPTS = 5
"""How often the upload of one record is tried during such conflicts: the other upload is as small, and soon over."""
BACKOFF = Backoff(first=0.1, longest=0.4)
"""Pauses between the attempts: about a second in all; after that the whole delivery is tried again later."""


class S3Channel:
    """``Channel`` into a bucket; every object is encrypted with KMS, with the key ``kms_key_id`` or AWS's own for S3.

    Needs ``s3:PutObject``, and ``kms:GenerateDataKey`` for a key of your own.
    """

    def __init__(self, s3: S3Client, bucket: str, prefix: str, *, kms_key_id: str | None, names: Names) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._prefix = prefix
        self._names = names
        self._encryption: dict[str, Any] = {"ServerSideEncryption": "aws:kms", "BucketKeyEnabled": True}
        if kms_key_id is not None:
            self._encryption["SSEKMSKeyId"] = kms_key_id

    async def open(self) -> None:
        """Do nothing: asking about the bucket would need more permissions than writing to it."""

    async def deliver(self, username: str, sealed: Sealed) -> None:
        """See ``ports.Channel``."""
        key = key_of(self._prefix, username, self._names, sealed.generation, sealed.attempt_id)
        with faults(ChannelUnavailable, f"the S3 bucket {self._bucket}"):
            try:
                await retry(lambda: self._put(key, sealed.blob), on=_is_conflict, backoff=BACKOFF, attempts=ATTEMPTS)
            except ClientError as error:
                if is_of_one_item(error):
                    raise RecordRefused(code(error)) from None
                if code(error) != ALREADY_THERE:
                    raise

    async def holds_records(self) -> None:
        """See ``OpenableChannel``: the worker may not list the bucket, so it puts a sentinel."""

    async def put_sentinel(self) -> Answer:
        """See ``TakesSentinel``: an object, which ``If-None-Match`` lets nobody put twice."""

        async def put() -> None:
            await self._s3.put_object(
                Bucket=self._bucket,
                Key=f"{self._prefix}/{sentinel.NAME}",
                Body=sentinel.SAYS.encode(),
                IfNoneMatch="*",
                ContentType="text/plain",
                **self._encryption,
            )

        return await put_once(
            lambda: retry(put, on=_is_conflict, backoff=BACKOFF, attempts=ATTEMPTS),
            there=(ALREADY_THERE,),
            what=f"the S3 bucket {self._bucket}",
        )

    async def close(self) -> None:
        """Do nothing: the S3 client belongs to the caller."""

    async def _put(self, key: str, blob: bytes) -> None:
        await self._s3.put_object(
            Bucket=self._bucket,
            Key=key,
            Body=blob,
            IfNoneMatch="*",
            ContentType="application/octet-stream",
            ChecksumSHA256=base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii"),
            **self._encryption,
        )


def _is_conflict(error: BaseException) -> bool:
    return code(error) == CONFLICT
