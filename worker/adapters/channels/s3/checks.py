"""What ``check`` asks for the S3 channel: may the worker add objects, is the bucket safe, can its KMS key be used.

Nothing is written to the bucket: the test upload has a wrong digest, which S3 refuses after it has checked the
permission.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.aws.kms import look_at_key
from worker.adapters.channels.kind import ChannelChecks
from worker.adapters.channels.s3.settings import S3Settings
from worker.adapters.checks.findings import Finding, advice, fails, ok
from worker.adapters.checks.probes import Question
from worker.core.errors import ChannelUnavailable

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_WRONG_DIGEST = "AAAAAAAAAAAAAAAAAAAAAA=="
"""An MD5 digest of zeros in base64, which is not the one of the test upload."""
_REFUSALS = frozenset({"BadDigest", "InvalidDigest", "PreconditionFailed", "412"})
"""Codes with which S3 refuses the test upload if it is permitted."""
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
"""The four settings that block public access (API reference, PublicAccessBlockConfiguration)."""


class S3Checks(ChannelChecks[S3Settings]):
    """See ``ChannelChecks``."""

    def questions(self, channel: S3Settings) -> Sequence[Question]:
        """See ``ChannelChecks``."""
        bucket, prefix, key = channel.bucket or "", channel.prefix, channel.kms_key_id
        found = [
            Question("channel", "the bucket", "s3", lambda s3: look_at_bucket(s3, bucket, prefix, key)),
            *(  # each for itself: a role may be permitted to see some of them
                Question("channel", what, "s3", partial(judge, bucket=bucket), optional=True)
                for what, judge in _PROTECTION.items()
            ),
        ]
        if key is not None:
            context = {"aws:s3:arn": f"arn:aws:s3:::{bucket}"}
            found.append(Question("channel", "its KMS key", "kms", lambda kms: look_at_key(kms, key, context)))
        return found


async def look_at_bucket(s3: S3Client, bucket: str, prefix: str, kms_key_id: str | None) -> list[Finding]:
    """Check whether the bucket exists and the worker may add objects, with an upload like those of the channel."""
    key: Any = {"SSEKMSKeyId": kms_key_id} if kms_key_id else {}
    offered = s3.put_object(
        Bucket=bucket,
        Key=f"{prefix}/.probe",
        Body=b"probe",
        ContentMD5=_WRONG_DIGEST,
        IfNoneMatch="*",
        ServerSideEncryption="aws:kms",
        BucketKeyEnabled=True,
        **key,
    )
    try:
        with faults(ChannelUnavailable, f"the bucket {bucket}"):
            try:
                await offered
            except ClientError as error:
                if code(error) not in _REFUSALS:
                    raise
    except ChannelUnavailable as unavailable:
        return [fails("channel", str(unavailable), unavailable.hint)]
    return [ok("channel", f"the bucket {bucket} takes objects: s3:PutObject is permitted below {prefix}/")]


async def _encryption(s3: S3Client, bucket: str) -> list[Finding]:
    try:
        found = await s3.get_bucket_encryption(Bucket=bucket)
    except ClientError as error:
        if code(error) != "ServerSideEncryptionConfigurationNotFoundError":
            raise
        return [advice("channel", f"{bucket} has no default encryption", "set it to aws:kms, with a bucket key")]
    rule = found["ServerSideEncryptionConfiguration"]["Rules"][0]
    kind = rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm", "nothing")
    if kind == "AES256":
        return [ok("channel", f"{bucket} is encrypted with keys of S3 (and every secret is sealed)")]
    if kind.startswith("aws:kms") and not rule.get("BucketKeyEnabled"):
        cure = "turn the bucket key on: it cuts calls to KMS, and their price, by up to 99 %"
        return [advice("channel", f"{bucket} is encrypted with KMS, a call for every object", cure)]
    return [ok("channel", f"{bucket} is encrypted with {kind}")]


async def _public_access(s3: S3Client, bucket: str) -> list[Finding]:
    found: Any = {}
    try:
        found = (await s3.get_public_access_block(Bucket=bucket))["PublicAccessBlockConfiguration"]
    except ClientError as error:
        if code(error) != "NoSuchPublicAccessBlockConfiguration":
            raise
    if absent := [name for name in _BLOCKS if not found.get(name)]:
        cure = f"aws s3api put-public-access-block --bucket {bucket}, with all four"
        return [advice("channel", f"{bucket} does not block public access: {', '.join(absent)}", cure)]
    return [ok("channel", f"{bucket} blocks public access")]


async def _policy(s3: S3Client, bucket: str) -> list[Finding]:
    statements: list[Any] = []
    try:
        statements = json.loads((await s3.get_bucket_policy(Bucket=bucket))["Policy"]).get("Statement", [])
    except ClientError as error:
        if code(error) != "NoSuchBucketPolicy":
            raise
    text = json.dumps([each for each in statements if each.get("Effect") == "Deny"])
    if "aws:SecureTransport" not in text:
        cure = "deny s3:* where aws:SecureTransport is false, as mfa-worker init --cloudformation prints it"
        return [advice("channel", f"{bucket} takes requests over plain HTTP", cure)]
    return [ok("channel", f"{bucket} refuses plain HTTP" + (" and overwriting" if "s3:if-none-match" in text else ""))]


async def _versions(s3: S3Client, bucket: str) -> list[Finding]:
    if (await s3.get_bucket_versioning(Bucket=bucket)).get("Status") == "Enabled":
        return [ok("channel", f"{bucket} keeps versions")]
    cure = f"aws s3api put-bucket-versioning --bucket {bucket} --versioning-configuration Status=Enabled"
    return [advice("channel", f"{bucket} keeps no versions: what is deleted by mistake is lost", cure)]


_PROTECTION = {
    "its encryption": _encryption,
    "who can see it": _public_access,
    "its policy": _policy,
    "its versions": _versions,
}
"""What makes a bucket as safe as one that ``init`` creates, and who looks at it. They raise what the SDK raises."""


async def judge_bucket(s3: S3Client, bucket: str) -> list[Finding]:
    """Check whether a bucket is as safe as one that ``init`` creates. Raises what the SDK raises."""
    return [finding for judge in _PROTECTION.values() for finding in await judge(s3, bucket)]
