"""The schema of the one DynamoDB table: what the ledger writes by, and what ``init`` creates."""

from __future__ import annotations

from typing import Any

KEY = "key"
"""Partition key (S): ``user#<username>`` for a user's row, other prefixes for what the workers share."""
SHARD = "shard"
"""Only on rows that are unfinished (S): spreads the sparse index over partitions."""
ROLLOUT = "rollout"
"""The key of the item that is stamped with what the ledger belongs to."""
UNFINISHED = "unfinished"
"""The sparse index: ``SHARD`` and ``KEY`` of every row in progress or sealed."""


def definition(name: str) -> dict[str, Any]:
    """What CreateTable takes (CloudFormation's properties have the same names). On demand, encrypted, no TTL."""
    return {
        "TableName": name,
        "AttributeDefinitions": [
            {"AttributeName": KEY, "AttributeType": "S"},
            {"AttributeName": SHARD, "AttributeType": "S"},
        ],
        "KeySchema": [{"AttributeName": KEY, "KeyType": "HASH"}],
        "GlobalSecondaryIndexes": [
            {
                "IndexName": UNFINISHED,
                "KeySchema": [
                    {"AttributeName": SHARD, "KeyType": "HASH"},
                    {"AttributeName": KEY, "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
        "BillingMode": "PAY_PER_REQUEST",
        "SSESpecification": {"Enabled": True},
    }
