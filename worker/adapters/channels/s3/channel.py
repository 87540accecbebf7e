"""How the S3 channel delivers: an object a secret, the age file itself, at a key of ``keys``.

A key is written once: S3 refuses a second object there (``If-None-Match: *``), so what has arrived stays as it is, and
a delivery whose confirmation was lost is confirmed by the refusal.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.aws.naming import Names
from worker.adapters.channels.s3.keys import key_of
from worker.core.errors import ChannelUnavailable
from worker.core.model import Sealed
from worker.core.resilience.backoff import Backoff, retry

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

ALREADY_THERE = "PreconditionFailed"
CONFLICT = "ConditionalRequestConflict"
"""Another upload of the same key is under way: S3 asks to try again (PutObject, API reference)."""
ATTEMPTS = 5
"""Uploads of one record while such conflicts last: the other upload is of the same small record, and soon over."""
BACKOFF = Backoff(first=0.1, longest=0.4)
"""Pauses between them: about a second in all, after which the delivery itself is tried again later."""


class S3Channel:
    """``Channel`` into a bucket; every object is encrypted with KMS, by ``kms_key_id`` or the key of the service.

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
        """Nothing: to ask about the bucket would need more permissions than to write into it."""

    async def deliver(self, username: str, sealed: Sealed) -> None:
        """See ``ports.Channel``."""
        key = key_of(self._prefix, username, self._names, sealed.generation, sealed.attempt_id)
        with faults(ChannelUnavailable, f"the S3 bucket {self._bucket}"):
            try:
                await retry(lambda: self._put(key, sealed.blob), on=_is_conflict, backoff=BACKOFF, attempts=ATTEMPTS)
            except ClientError as error:
                if code(error) != ALREADY_THERE:
                    raise

    async def close(self) -> None:
        """Nothing: the client is its owner's to close."""

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
