"""The IAM policies: what each role may do and nothing else, for ``config/iam`` and the CloudFormation template.

This file has the statements for what every rollout on AWS may use: queue, ledger and pool. Each channel's are in its
folder. Placeholders such as ``${Queue}`` stand for names. A statement says which part of a rollout it is for, so that
it can be left out where there is no such part. A test compares every action with the calls that the code really makes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from worker.adapters import channels
from worker.adapters.aws.policy import Allowed, Role
from worker.adapters.aws.policy import document as policy_document
from worker.adapters.ledgers.dynamodb.schema import COUNTS_KEY, ROLLOUT
from worker.settings import Settings

__all__ = ["Allowed", "Role", "document", "statements"]

# The resources of the statements, as ARNs ("Actions, resources, and condition keys for AWS services").

QUEUE = "arn:${Partition}:sqs:${Region}:${Account}:${Queue}"
"""The queue of requests."""
DEAD_LETTERS = "arn:${Partition}:sqs:${Region}:${Account}:${DeadLetters}"
"""The dead-letter queue."""
TABLE = "arn:${Partition}:dynamodb:${Region}:${Account}:table/${Table}"
"""The ledger's table."""
INDEX = f"{TABLE}/index/unfinished"
"""The table's index of unfinished rows."""
POOL = "arn:${Partition}:cognito-idp:${Region}:${Account}:userpool/${UserPool}"
"""The user pool."""
STACKS = "arn:${Partition}:cloudformation:${Region}:${Account}:stack/*"
"""Every stack of the account: it is asked which one made a queue, a table or an app client."""

_STATEMENTS: Mapping[Role, tuple[Allowed, ...]] = {
    Role.PUSHER: (
        Allowed("queue", "Push", ("sqs:GetQueueAttributes", "sqs:SendMessage"), (QUEUE,), rank=0),
        Allowed("queue", "PutAside", ("sqs:SendMessage",), (DEAD_LETTERS,), rank=0),
        Allowed("table", "LookUp", ("dynamodb:BatchGetItem", "dynamodb:GetItem"), (TABLE,), rank=10),
        Allowed("table", "Count", ("dynamodb:UpdateItem",), (TABLE,), rank=10, keys=(COUNTS_KEY, ROLLOUT)),
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
            rank=0,
        ),
        Allowed(
            "queue",
            "PutAsideAndCountDeadLetters",
            ("sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes", "sqs:ReceiveMessage", "sqs:SendMessage"),
            (DEAD_LETTERS,),
            rank=0,
        ),
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
            rank=10,
        ),
        Allowed("sign_in", "SignIn", ("cognito-idp:AdminInitiateAuth",), (POOL,), rank=80),
        Allowed("preference", "Prefer", ("cognito-idp:AdminSetUserMFAPreference",), (POOL,), rank=80),
    ),
    Role.OPENER: (
        Allowed(
            "table",
            "Compare",
            ("dynamodb:BatchGetItem", "dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:Scan"),
            (TABLE,),
            rank=10,
        ),
    ),
    Role.OPERATOR: (
        Allowed(
            "queue",
            "MakeQueues",
            ("sqs:CreateQueue", "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:SetQueueAttributes"),
            (QUEUE, DEAD_LETTERS),
            rank=0,
        ),
        Allowed("queue", "BringBack", ("sqs:ListDeadLetterSourceQueues", "sqs:SendMessage"), (QUEUE,), rank=0),
        Allowed(
            "queue",
            "TakeDeadLetters",
            ("sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"),
            (DEAD_LETTERS,),
            rank=0,
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
            rank=10,
        ),
        Allowed(
            "pool",
            "AskAboutThePool",
            (
                "cognito-idp:DescribeUserPool",
                "cognito-idp:DescribeUserPoolClient",
                "cognito-idp:GetUserPoolMfaConfig",
                "cognito-idp:ListUserPoolClients",
            ),
            (POOL,),
            rank=90,
        ),
        Allowed("pool", "AskAboutTheQuota", ("servicequotas:ListServiceQuotas",), ("*",), rank=90),
    ),
    Role.DECOMMISSIONER: (
        Allowed(
            "queue",
            "EmptyAndDeleteQueues",
            ("sqs:DeleteQueue", "sqs:GetQueueAttributes", "sqs:PurgeQueue"),
            (QUEUE, DEAD_LETTERS),
            rank=0,
        ),
        Allowed("queue", "SeeWhoseDeadLetters", ("sqs:ListDeadLetterSourceQueues",), (DEAD_LETTERS,), rank=0),
        Allowed(
            "table",
            "EraseRowsAndDeleteTable",
            (
                "dynamodb:BatchGetItem",
                "dynamodb:DeleteTable",
                "dynamodb:DescribeContinuousBackups",
                "dynamodb:DescribeTable",
                "dynamodb:GetItem",
                "dynamodb:PutItem",
                "dynamodb:Query",
                "dynamodb:Scan",
                "dynamodb:UpdateItem",
                "dynamodb:UpdateTable",
            ),
            (TABLE, INDEX),
            rank=10,
        ),
        Allowed("stack", "SeeWhoseStack", ("cloudformation:DescribeStackResources",), (STACKS,), rank=85),
        Allowed(
            "pool",
            "ShutTheWaysIn",
            (
                "cognito-idp:DeleteUserPoolClient",
                "cognito-idp:DescribeUserPool",
                "cognito-idp:DescribeUserPoolClient",
                "cognito-idp:UpdateUserPool",
            ),
            (POOL,),
            rank=90,
        ),
    ),
}
"""What each role may do. ``sts:GetCallerIdentity`` is not here because it needs no permission. Of the calls that enrol
a user only two are signed: the sign-in with ``admin_user_password``, and the preference of a user with a Session."""


def parts_of_the_pool(settings: Settings) -> set[str]:
    """Return the parts of a policy for the signed calls that a worker with these settings makes."""
    parts = {"sign_in"} if settings.sign_in.flow == "admin_user_password" else set[str]()
    return parts | ({"preference"} if settings.activation.mode == "prefer" else set())


def statements(role: Role) -> list[Allowed]:
    """Return everything that a role may do, with the statements of all channels."""
    resources = [found for kind in channels.kinds().values() if (found := kind.resources())]
    of_channels = (each for found in resources for each in found.statements(role))
    distinct = dict.fromkeys([*_STATEMENTS.get(role, ()), *of_channels])  # some channels have a statement in common
    return sorted(distinct, key=lambda each: each.rank)


def document(role: Role, parts: Collection[str] | None = None) -> dict[str, Any]:
    """Return the role's policy, with placeholders, for a rollout with these parts (see ``Allowed``); ``None``: all."""
    return policy_document(
        *(
            {
                "Sid": each.sid,
                "Effect": "Allow",
                "Action": list(each.actions),
                "Resource": list(each.resources) if len(each.resources) > 1 else each.resources[0],
                **each.condition,
            }
            for each in statements(role)
            if parts is None or each.part in parts
        )
    )
