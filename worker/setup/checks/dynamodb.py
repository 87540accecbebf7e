"""What ``check`` asks DynamoDB: does the table exist, does it have the right keys, and may the role do what a run does.

Writes are tried on a key that no user has, with a condition that is never true, so that they change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from worker.adapters.aws.errors import faults
from worker.adapters.checks.findings import Finding, advice, fails, ok
from worker.adapters.checks.probes import Probe, permissions
from worker.adapters.ledgers.dynamodb.schema import KEY, ROLLOUT, SHARD, UNFINISHED, mistakes
from worker.core.errors import LedgerUnavailable, UsageError

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

WRITE_UNITS = 4.0
"""Write units of DynamoDB that a user takes of the table: three writes (``docs/aws.md``, "What it costs"), of which the
sealed record takes two units. The index takes fewer; it is judged by the same number, as it throttles the table."""

_PROBE = "check#probe"
"""A key that no user has: a user's begins with ``user#``."""

_NEVER = "attribute_exists(#key) AND attribute_not_exists(#key)"
"""A condition that is never true."""

_REFUSALS = frozenset({"ConditionalCheckFailedException", "TransactionCanceledException"})
"""The errors that mean that a write was permitted and its condition was false, as it should be for a probe."""


async def look_at_table(dynamodb: DynamoDBClient, name: str, rate: float) -> list[Finding]:
    """Check the ledger's table and the permissions on it; ``rate``: users/s that it must take.

    Raises ``LedgerUnavailable``; ``UsageError`` if there is no table.
    """
    missing = UsageError(
        f"there is no table {name} here",
        "create it: mfa-worker init; but where a rollout has begun, restore it, or correct ledger.table and aws.region",
    )
    with faults(LedgerUnavailable, f"the table {name}", missing):
        table = (await dynamodb.describe_table(TableName=name))["Table"]
    return [*judged(name, table, rate), *await permissions("ledger", _probes(dynamodb, name))]


async def has_begun(dynamodb: DynamoDBClient, name: str) -> bool:
    """Whether a rollout has used this table. Raises ``LedgerUnavailable``."""
    with faults(LedgerUnavailable, f"the table {name}"):
        found = await dynamodb.get_item(TableName=name, Key={KEY: {"S": ROLLOUT}}, ConsistentRead=True)
        return bool(found.get("Item"))


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


def judged(name: str, table: Mapping[str, Any], rate: float = 0.0) -> list[Finding]:
    """Check that a table (as DescribeTable returns it) is what the ledger needs, and as safe as ``init`` makes one.

    ``rate``: users/s that the table must take; 0: its capacity is not judged.
    """
    found = [fails("ledger", each.said, each.cure) for each in mistakes({"TableName": name, **table})]
    if not found:
        found.append(ok("ledger", f"the table {name} is there, encrypted with {_key(table)}"))
    found += _capacity(name, table, rate)
    found += _others(name, table)
    if not table.get("DeletionProtectionEnabled"):
        cure = f"aws dynamodb update-table --table-name {name} --deletion-protection-enabled"
        found.append(advice("ledger", "deletion protection is off", cure))
    return found


def _capacity(name: str, table: Mapping[str, Any], rate: float) -> Iterator[Finding]:
    """Whether the table and its index take so many users/s."""
    on_demand = (table.get("BillingModeSummary") or {}).get("BillingMode") == "PAY_PER_REQUEST"
    cure = f"aws dynamodb update-table --table-name {name} --billing-mode PAY_PER_REQUEST"
    if on_demand:
        cure = f"aws dynamodb update-table --table-name {name} --on-demand-throughput MaxWriteRequestUnits=-1"
    indexes = [each for each in table.get("GlobalSecondaryIndexes") or () if each["IndexName"] == UNFINISHED]
    for what, described in ((f"the table {name}", table), *((f"its index {UNFINISHED}", each) for each in indexes)):
        units = _write_units(described, on_demand=on_demand)
        if units is None or units >= WRITE_UNITS * rate:
            continue
        said = f"{what} takes {units} write units/s, and {rate:g} users/s need about {WRITE_UNITS * rate:.0f}"
        yield (fails if units < rate else advice)("ledger", said, cure)


def _write_units(described: Mapping[str, Any], *, on_demand: bool) -> int | None:
    """The write units/s of a table or an index; ``None`` if they are not limited, or not told."""
    if on_demand:
        most = (described.get("OnDemandThroughput") or {}).get("MaxWriteRequestUnits", -1)
        return int(most) if most >= 0 else None
    units = (described.get("ProvisionedThroughput") or {}).get("WriteCapacityUnits")
    return int(units) if units else None


def _others(name: str, table: Mapping[str, Any]) -> Iterator[Finding]:
    """What else the table has, that a ledger does not need."""
    for each in table.get("GlobalSecondaryIndexes") or ():
        if each["IndexName"] != UNFINISHED:
            said = (
                f"the table {name} has another index, {each['IndexName']}: each write of a user is paid for there too"
            )
            yield advice("ledger", said, "remove it, unless somebody needs it")
        elif (kind := (each.get("Projection") or {}).get("ProjectionType", "KEYS_ONLY")) != "KEYS_ONLY":
            said = f"its index {UNFINISHED} holds {kind}, not KEYS_ONLY: sealed secrets are copied there"
            yield advice("ledger", said, "make the index again with KEYS_ONLY: it costs less")
    if (table.get("StreamSpecification") or {}).get("StreamEnabled"):
        said = f"the table {name} has a stream: whoever reads it sees usernames, states and sealed secrets for a day"
        yield advice("ledger", said, "turn it off, unless somebody needs it")
    if regions := sorted(each.get("RegionName", "?") for each in table.get("Replicas") or ()):
        said = f"the table {name} is replicated to {', '.join(regions)}: a claim in one Region is not seen in another"
        yield advice("ledger", said, "let all workers use one Region (aws.region), or two may call for one user")


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
