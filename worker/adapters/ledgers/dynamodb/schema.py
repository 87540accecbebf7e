"""The schema of the one DynamoDB table: the ledger uses it, and ``init`` creates it."""

from __future__ import annotations

from typing import Any

KEY = "key"
"""Partition key (S): ``user#<username>`` for a user's row, other prefixes for what the workers share."""
SHARD = "shard"
"""Attribute (S) of unfinished rows only: the partition key of the sparse index, spread over several partitions."""
ROLLOUT = "rollout"
"""The key of the item that records which rollout the ledger belongs to."""
COUNTS_KEY = "counts"
"""The key of the item with the counts of all workers."""
UNFINISHED = "unfinished"
"""The sparse index: ``SHARD`` and ``KEY`` of every row in progress or sealed."""


def definition(name: str) -> dict[str, Any]:
    """The arguments of CreateTable (CloudFormation's properties have the same names): on demand, encrypted, no TTL."""
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
