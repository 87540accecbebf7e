"""What each role may do, and nothing else: the IAM policies in ``config/iam`` and in the CloudFormation template.

Placeholders such as ``${Queue}`` stand for names; a statement says which part of a rollout it is for, so that whoever
has no such part leaves it out. A test compares every action with the calls that the code really makes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """Who runs which commands."""

    PUSHER = "pusher"
    """``push`` and ``feed``: the migration script."""
    WORKER = "worker"
    """``run``, ``status``, ``export`` and ``check``."""
    OPENER = "opener"
    """``open``, where the identity is."""
    OPERATOR = "operator"
    """``init``, and the questions of ``check`` that a worker need not be permitted to ask."""


PARTS = frozenset({"queue", "table", "bucket", "channel_queue", "secrets", "key", "pool"})
"""What a rollout may have on AWS; ``key`` is a KMS key of its own, ``pool`` the user pool."""

QUEUE = "arn:${Partition}:sqs:${Region}:${Account}:${Queue}"
DEAD_LETTERS = "arn:${Partition}:sqs:${Region}:${Account}:${DeadLetters}"
TABLE = "arn:${Partition}:dynamodb:${Region}:${Account}:table/${Table}"
INDEX = f"{TABLE}/index/unfinished"
BUCKET = "arn:${Partition}:s3:::${Bucket}"
OBJECTS = f"{BUCKET}/${{Prefix}}/*"
CHANNEL_QUEUE = "arn:${Partition}:sqs:${Region}:${Account}:${ChannelQueue}"
SECRETS = "arn:${Partition}:secretsmanager:${Region}:${Account}:secret:${Prefix}/*"
KEY = "arn:${Partition}:kms:${Region}:${Account}:key/${Key}"
POOL = "arn:${Partition}:cognito-idp:${Region}:${Account}:userpool/${UserPool}"
"""The resources that statements are about, as ARNs ("Actions, resources, and condition keys for AWS services")."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """One statement: these actions of one service, on these resources."""

    part: str
    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]


STATEMENTS: Mapping[Role, tuple[Allowed, ...]] = {
    Role.PUSHER: (
        Allowed("queue", "Push", ("sqs:GetQueueAttributes", "sqs:SendMessage"), (QUEUE,)),
        Allowed("queue", "PutAside", ("sqs:SendMessage",), (DEAD_LETTERS,)),
        Allowed("table", "Count", ("dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:UpdateItem"), (TABLE,)),
    ),
    Role.WORKER: (
        Allowed(
            "queue",
            "Work",
            (
                "sqs:ChangeMessageVisibility",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "sqs:ReceiveMessage",
                "sqs:SendMessage",
            ),
            (QUEUE,),
        ),
        Allowed("queue", "PutAside", ("sqs:GetQueueAttributes", "sqs:SendMessage"), (DEAD_LETTERS,)),
        Allowed(
            "table",
            "Remember",
            (
                "dynamodb:BatchGetItem",
                "dynamodb:DescribeTable",
                "dynamodb:GetItem",
                "dynamodb:PutItem",
                "dynamodb:Query",
                "dynamodb:Scan",
                "dynamodb:UpdateItem",
            ),
            (TABLE, INDEX),
        ),
        Allowed("bucket", "DeliverToBucket", ("s3:PutObject",), (OBJECTS,)),
        Allowed("channel_queue", "DeliverToQueue", ("sqs:GetQueueAttributes", "sqs:SendMessage"), (CHANNEL_QUEUE,)),
        Allowed(
            "secrets",
            "DeliverToSecrets",
            (
                "secretsmanager:CreateSecret",
                "secretsmanager:DescribeSecret",
                "secretsmanager:PutSecretValue",
                "secretsmanager:UpdateSecretVersionStage",
            ),
            (SECRETS,),
        ),
        Allowed("key", "Encrypt", ("kms:Decrypt", "kms:GenerateDataKey"), (KEY,)),
    ),
    Role.OPENER: (
        Allowed("bucket", "ListBucket", ("s3:ListBucket",), (BUCKET,)),
        Allowed("bucket", "ReadBucket", ("s3:GetObject",), (OBJECTS,)),
        Allowed("secrets", "ListSecrets", ("secretsmanager:ListSecrets",), ("*",)),
        Allowed("secrets", "ReadSecrets", ("secretsmanager:GetSecretValue",), (SECRETS,)),
        Allowed("channel_queue", "ReadQueue", ("sqs:DeleteMessage", "sqs:ReceiveMessage"), (CHANNEL_QUEUE,)),
        Allowed("key", "Decrypt", ("kms:Decrypt",), (KEY,)),
    ),
    Role.OPERATOR: (
        Allowed(
            "queue",
            "MakeQueues",
            ("sqs:CreateQueue", "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:SetQueueAttributes"),
            (QUEUE, DEAD_LETTERS),
        ),
        Allowed(
            "channel_queue",
            "MakeChannelQueue",
            ("sqs:CreateQueue", "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:SetQueueAttributes"),
            (CHANNEL_QUEUE,),
        ),
        Allowed(
            "table",
            "MakeTable",
            (
                "dynamodb:CreateTable",
                "dynamodb:DescribeContinuousBackups",
                "dynamodb:DescribeTable",
                "dynamodb:DescribeTimeToLive",
                "dynamodb:UpdateContinuousBackups",
            ),
            (TABLE,),
        ),
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
        ),
        Allowed(
            "pool",
            "AskAboutThePool",
            (
                "cognito-idp:DescribeUserPoolClient",
                "cognito-idp:GetUserPoolMfaConfig",
                "cognito-idp:ListUserPoolClients",
            ),
            (POOL,),
        ),
        Allowed("pool", "AskAboutTheQuota", ("servicequotas:ListServiceQuotas",), ("*",)),
    ),
}
"""What each role may do. ``sts:GetCallerIdentity`` is not here because it needs no permission, and
AssociateSoftwareToken is not, because it is not signed."""


def document(role: Role, parts: Collection[str] = PARTS) -> dict[str, Any]:
    """The role's policy, with placeholders, for a rollout that has these parts."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": each.sid,
                "Effect": "Allow",
                "Action": list(each.actions),
                "Resource": list(each.resources) if len(each.resources) > 1 else each.resources[0],
            }
            for each in STATEMENTS[role]
            if each.part in parts
        ],
    }
