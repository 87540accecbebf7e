"""The schema of the one DynamoDB table: the ledger uses it, and ``init`` creates it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

KEY = "key"
"""Partition key (S): ``user#<username>`` for a user's row, other prefixes for what the workers share."""
SHARD = "shard"
"""Attribute (S) of unfinished rows, which are spread over several partitions of the sparse index, and of the items with
the figures over time (``figures``), which have a partition of their own: its partition key."""
ROLLOUT = "rollout"
"""The key of the item that records which rollout the ledger belongs to."""
COUNTS_KEY = "counts"
"""The key of the item with the counts of all workers."""
UNFINISHED = "unfinished"
"""The sparse index: ``SHARD`` and ``KEY`` of every row in progress or sealed, or whose activation is under way; and of
the figures."""


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


class Mistake(NamedTuple):
    """What no ledger can work with; ``passes``: whether waiting mends it."""

    said: str
    cure: str
    passes: bool = False


def mistakes(table: Mapping[str, Any]) -> list[Mistake]:
    """What of a table, as DescribeTable returns it, no ledger can work with."""
    name = table.get("TableName", "")
    wanted = definition(name)
    wanted_index = wanted["GlobalSecondaryIndexes"][0]
    found = list[Mistake]()
    status = table.get("TableStatus", "ACTIVE")
    if status == "INACCESSIBLE_ENCRYPTION_CREDENTIALS":
        said = f"the KMS key of the table {name} cannot be used"
        found.append(Mistake(said, "enable it, and let its policy allow DynamoDB"))
    elif status not in ("ACTIVE", "UPDATING"):
        found.append(Mistake(f"the table {name} is {status}", "wait until it is ACTIVE", passes=True))
    right = f"name another table, or let mfa-worker init make one; the keys are {KEY} and {SHARD}, both strings"
    if _keys(table) != _keys(wanted):
        found.append(Mistake(f"the table {name} has other keys than the ledger", right))
    types = {each["AttributeName"]: each["AttributeType"] for each in table.get("AttributeDefinitions", ())}
    wrong = [f"{key} is of type {types[key]}" for key in (KEY, SHARD) if types.get(key, "S") != "S"]
    if wrong:
        found.append(Mistake(f"the keys of the table {name} are no strings: {', '.join(wrong)}", right))
    index = next((each for each in table.get("GlobalSecondaryIndexes") or () if each["IndexName"] == UNFINISHED), None)
    if index is None:
        cure = f"add it ({SHARD} and {KEY}, KEYS_ONLY); mfa-worker init makes a right table"
        found.append(Mistake(f"the table {name} has no index {UNFINISHED}", cure))
    elif _keys(index) != _keys(wanted_index):
        found.append(Mistake(f"the index {UNFINISHED} of the table {name} has other keys than the ledger", right))
    elif index.get("IndexStatus", "ACTIVE") not in ("ACTIVE", "UPDATING") or index.get("Backfilling"):
        said = f"the index {UNFINISHED} of the table {name} is {index.get('IndexStatus')}"
        cure = "wait until it is ACTIVE: before, users whom a dead worker left are not seen"
        found.append(Mistake(said, cure, passes=True))
    return found


def _keys(described: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(each["AttributeName"], each["KeyType"]) for each in described.get("KeySchema") or ()]
