"""What ``check`` asks DynamoDB: does the table exist, does it have the right keys, and may the role do what a run does.

Writes are tried on a key that no user has, with a condition that is never true, so that they change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from worker.adapters.aws.errors import faults
from worker.adapters.checks.findings import Finding, advice, fails, ok
from worker.adapters.checks.probes import Probe, permissions
from worker.adapters.ledgers.dynamodb.schema import KEY, SHARD, UNFINISHED, definition
from worker.core.errors import LedgerUnavailable

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

_PROBE = "check#probe"
"""A key that no user has: a user's begins with ``user#``."""

_NEVER = "attribute_exists(#key) AND attribute_not_exists(#key)"
"""A condition that is never true."""

_REFUSALS = frozenset({"ConditionalCheckFailedException", "TransactionCanceledException"})
"""The errors that mean that a write was permitted and its condition was false, as it should be for a probe."""


async def look_at_table(dynamodb: DynamoDBClient, name: str) -> list[Finding]:
    """Check the ledger's table and the permissions on it. Raises ``LedgerUnavailable``, also if there is no table."""
    with faults(LedgerUnavailable, f"the table {name}"):
        table = (await dynamodb.describe_table(TableName=name))["Table"]
    return [*judged(name, table), *await permissions("ledger", _probes(dynamodb, name))]


async def look_at_backups(dynamodb: DynamoDBClient, name: str) -> list[Finding]:
    """Check that the table can be restored to any moment. Raises what the SDK raises."""
    found = await dynamodb.describe_continuous_backups(TableName=name)
    recovery: Any = found["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    if recovery.get("PointInTimeRecoveryStatus") == "ENABLED":
        return [ok("ledger", "point-in-time recovery is on")]
    cure = (
        f"aws dynamodb update-continuous-backups --table-name {name} "
        "--point-in-time-recovery-specification PointInTimeRecoveryEnabled=true"
    )
    return [advice("ledger", "point-in-time recovery is off: a lost table is a lost rollout", cure)]


async def look_at_expiry(dynamodb: DynamoDBClient, name: str) -> list[Finding]:
    """Check that DynamoDB does not delete rows by itself. Raises what the SDK raises."""
    found = (await dynamodb.describe_time_to_live(TableName=name))["TimeToLiveDescription"]
    if found.get("TimeToLiveStatus") in ("ENABLED", "ENABLING"):
        return [advice("ledger", "TTL is on, and a user's row must never go", "turn TTL off for this table")]
    return []


def judged(name: str, table: Mapping[str, Any]) -> list[Finding]:
    """Check that a table (as DescribeTable returns it) is what the ledger needs, and as safe as ``init`` makes one."""
    wanted = definition(name)
    found = []
    status = table.get("TableStatus", "ACTIVE")
    if status not in ("ACTIVE", "UPDATING"):
        found.append(fails("ledger", f"the table {name} is {status}", "wait until it is ACTIVE"))
    indexes = {each["IndexName"]: each for each in table.get("GlobalSecondaryIndexes", ())}
    index = indexes.get(UNFINISHED)
    shapes = [(f"the table {name}", table.get("KeySchema"), wanted["KeySchema"])]
    if index is None:
        found.append(
            fails("ledger", f"the table {name} has no index {UNFINISHED}", "mfa-worker init makes a right one")
        )
    else:
        shapes.append((f"its index {UNFINISHED}", index["KeySchema"], wanted["GlobalSecondaryIndexes"][0]["KeySchema"]))
    found += [
        fails("ledger", f"{what} has other keys than the ledger", f"name another table; the keys are {KEY} and {SHARD}")
        for what, has, wants in shapes
        if has != wants
    ]
    if not any(finding.fails for finding in found):
        found.append(ok("ledger", f"the table {name} is there, encrypted with {_key(table)}"))
    if not table.get("DeletionProtectionEnabled"):
        cure = f"aws dynamodb update-table --table-name {name} --deletion-protection-enabled"
        found.append(advice("ledger", "deletion protection is off", cure))
    return found


def _key(table: Mapping[str, Any]) -> str:
    """Return whose key encrypts the table; DynamoDB encrypts every one ("Encryption at rest", developer guide)."""
    sse = table.get("SSEDescription") or {}
    return "a KMS key of this account" if sse.get("SSEType") == "KMS" else "a key of DynamoDB"


def _probes(dynamodb: DynamoDBClient, name: str) -> list[Probe]:
    key = {KEY: {"S": _PROBE}}
    never: dict[str, Any] = {"ConditionExpression": _NEVER, "ExpressionAttributeNames": {"#key": KEY}}
    update: dict[str, Any] = {
        "UpdateExpression": "SET #probe = :probe",
        "ConditionExpression": _NEVER,
        "ExpressionAttributeNames": {"#key": KEY, "#probe": "probe"},
        "ExpressionAttributeValues": {":probe": {"S": ""}},
    }
    query: dict[str, Any] = {
        "IndexName": UNFINISHED,
        "KeyConditionExpression": "#shard = :shard",
        "ExpressionAttributeNames": {"#shard": SHARD},
        "ExpressionAttributeValues": {":shard": {"S": _PROBE}},
    }
    return [
        Probe("dynamodb:BatchGetItem", dynamodb.batch_get_item(RequestItems={name: {"Keys": [key]}})),
        Probe("dynamodb:GetItem", dynamodb.get_item(TableName=name, Key=key)),
        Probe("dynamodb:PutItem", dynamodb.put_item(TableName=name, Item=key, **never), _REFUSALS),
        Probe("dynamodb:UpdateItem", dynamodb.update_item(TableName=name, Key=key, **update), _REFUSALS),
        Probe("dynamodb:Query", dynamodb.query(TableName=name, Limit=1, **query)),
        Probe("dynamodb:Scan", dynamodb.scan(TableName=name, Limit=1)),
    ]
