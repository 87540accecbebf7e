"""The S3 channel's resources on AWS: its bucket, the same from ``init`` and from CloudFormation, and who may use it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from worker.adapters.aws import kms
from worker.adapters.aws.errors import code, faults
from worker.adapters.aws.init_report import InitReport
from worker.adapters.aws.policy import Allowed, Role, document, plain_http_denied
from worker.adapters.aws.template import TemplatePart, kept
from worker.adapters.channels.kind import ChannelResources
from worker.adapters.channels.s3.checks import judge_bucket
from worker.adapters.channels.s3.settings import S3Settings
from worker.core.errors import ChannelUnavailable

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

    from worker.adapters.aws.session import Aws

NONCURRENT_DAYS = 7
"""Days for which a deleted object can be restored: time to notice a mistake."""
PUBLIC_ACCESS_BLOCK = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
"""All settings that block public access, turned on (API reference, PublicAccessBlockConfiguration)."""

BUCKET = "arn:${Partition}:s3:::${Bucket}"
"""The bucket's ARN, with placeholders."""
OBJECTS = f"{BUCKET}/${{Prefix}}/*"
"""The ARN of the channel's objects, with placeholders."""
STATEMENTS: Mapping[Role, tuple[Allowed, ...]] = {
    Role.WORKER: (Allowed("bucket", "DeliverToBucket", ("s3:PutObject",), (OBJECTS,), rank=20),),
    Role.OPENER: (
        Allowed("bucket", "ListBucket", ("s3:ListBucket",), (BUCKET,), rank=20),
        Allowed("bucket", "ReadBucket", ("s3:GetObject",), (OBJECTS,), rank=20),
    ),
    Role.OPERATOR: (
        Allowed(
            "bucket",
            "MakeBucket",
            (
                "s3:CreateBucket",
                "s3:GetBucketPolicy",
                "s3:GetBucketPublicAccessBlock",
                "s3:GetBucketVersioning",
                "s3:GetEncryptionConfiguration",
                "s3:ListBucket",
                "s3:PutBucketPolicy",
                "s3:PutBucketPublicAccessBlock",
                "s3:PutBucketVersioning",
                "s3:PutEncryptionConfiguration",
                "s3:PutLifecycleConfiguration",
            ),
            (BUCKET,),
            rank=20,
        ),
    ),
    Role.DECOMMISSIONER: (
        Allowed("bucket", "ListVersions", ("s3:ListBucketVersions",), (BUCKET,), rank=20),
        Allowed(
            "bucket",
            "DeleteVersions",
            ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetObjectRetention"),
            (OBJECTS,),
            rank=20,
        ),
    ),
}
"""What each role may do with the bucket."""


class S3Resources(ChannelResources[S3Settings]):
    """See ``ChannelResources``."""

    def parts(self, channel: S3Settings) -> Collection[str]:
        """See ``ChannelResources``."""
        return {"bucket", "key"} if channel.kms_key_id else {"bucket"}

    def statements(self, role: Role) -> Sequence[Allowed]:
        """See ``ChannelResources``; those for the KMS key are included."""
        return [*STATEMENTS.get(role, ()), *kms.STATEMENTS.get(role, ())]

    def template(self, channel: S3Settings) -> TemplatePart:
        """See ``ChannelResources``: the bucket and its policy, the same as ``make_missing`` creates."""
        parameters = {
            "Bucket": (channel.bucket or "", "The bucket of sealed secrets (channel.bucket)"),
            "Prefix": (channel.prefix, "What the names of objects and secrets begin with (channel.prefix)"),
        }
        rule = _encryption(channel.kms_key_id)
        rule["ServerSideEncryptionByDefault"] = rule.pop("ApplyServerSideEncryptionByDefault")
        if channel.kms_key_id:
            parameters["Key"] = kms.parameter(channel.kms_key_id)
            rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"] = {"Ref": "Key"}
        expiry = {
            "Id": "forget",
            "Status": "Enabled",
            "NoncurrentVersionExpiration": {"NoncurrentDays": NONCURRENT_DAYS},
        }
        bucket = {
            "BucketName": {"Ref": "Bucket"},
            "BucketEncryption": {"ServerSideEncryptionConfiguration": [rule]},
            "PublicAccessBlockConfiguration": PUBLIC_ACCESS_BLOCK,
            "VersioningConfiguration": {"Status": "Enabled"},
            "LifecycleConfiguration": {"Rules": [expiry]},
        }
        arn = {"Fn::GetAtt": ["SecretsBucket", "Arn"]}
        objects = {"Fn::Sub": "${SecretsBucket.Arn}/*"}
        statements = document(plain_http_denied([arn, objects], "s3"), _overwriting_denied(objects))
        policy = {"Bucket": {"Ref": "SecretsBucket"}, "PolicyDocument": statements}
        return TemplatePart(
            parameters,
            {
                "SecretsBucket": kept("AWS::S3::Bucket", bucket),
                "SecretsBucketPolicy": {"Type": "AWS::S3::BucketPolicy", "Properties": policy},
            },
            {"BucketName": ("channel.bucket", {"Ref": "SecretsBucket"})},
        )

    async def make_missing(self, channel: S3Settings, aws: Aws, region: str, report: InitReport) -> Sequence[str]:
        """See ``ChannelResources``: the bucket."""
        s3 = await aws.s3()
        name = channel.bucket or ""
        made = await _make_bucket(s3, name, channel.kms_key_id, region)
        report.made("bucket", name, made)
        if not made:
            try:
                report.judged(await judge_bucket(s3, name))
            except ClientError as error:
                report.not_looked_at("its protection", error)
        return ['channel.kind = "s3"', f'channel.bucket = "{name}"']


def _encryption(kms_key_id: str | None) -> dict[str, Any]:
    """The bucket's default encryption: KMS with a bucket key, so that not every object costs a call to KMS."""
    default = {"SSEAlgorithm": "aws:kms", **({"KMSMasterKeyID": kms_key_id} if kms_key_id else {})}
    return {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": True}


def _overwriting_denied(objects_arn: Any) -> dict[str, Any]:
    """A bucket policy's statement that forbids replacing objects (S3 user guide, "Enforce conditional writes")."""
    return {
        "Sid": "OnlyAdded",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": objects_arn,
        "Condition": {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}},
    }


async def _make_bucket(s3: S3Client, name: str, kms_key_id: str | None, region: str) -> bool:
    """Create the bucket if it does not exist, and protect it while it is empty; return whether it was created.

    Raises ``ChannelUnavailable``.
    """
    with faults(ChannelUnavailable, f"the bucket {name}"):
        try:
            await s3.list_objects_v2(Bucket=name, MaxKeys=1)  # HeadBucket would not say why not
        except ClientError as error:
            if code(error) not in ("404", "NoSuchBucket"):
                raise
        else:
            return False
        where: Any = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            await s3.create_bucket(Bucket=name, **where)
        except ClientError as error:
            if code(error) == "BucketAlreadyOwnedByYou":
                return False
            raise
        await _protect(s3, name, _encryption(kms_key_id), _partition(region))
        return True


async def _protect(s3: S3Client, name: str, encryption: Any, partition: str) -> None:
    arn = f"arn:{partition}:s3:::{name}"
    policy = document(plain_http_denied([arn, f"{arn}/*"], "s3"), _overwriting_denied(f"{arn}/*"))
    await s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=PUBLIC_ACCESS_BLOCK)  # type: ignore[arg-type]
    await s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [encryption]})
    await s3.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
    await s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    expiry: Any = {
        "ID": "forget",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": NONCURRENT_DAYS},
    }
    await s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [expiry]})


def _partition(region: str) -> str:
    for prefix, partition in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if region.startswith(prefix):
            return partition
    return "aws"
