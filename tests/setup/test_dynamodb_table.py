"""What ``check`` and the opening of a ledger see of a DynamoDB table, as DescribeTable tells it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from worker.adapters.aws.queue import region_and_account
from worker.adapters.checks.findings import Level
from worker.adapters.ledgers.dynamodb.schema import definition, mistakes
from worker.setup.checks.dynamodb import judged


def right() -> dict[str, Any]:
    table = copy.deepcopy(definition("ledger"))
    return {
        **table,
        "TableStatus": "ACTIVE",
        "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
        "DeletionProtectionEnabled": True,
    }


def index(table: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = table["GlobalSecondaryIndexes"][0]
    return found


def provisioned(table: dict[str, Any], units: int, of_the_index: int) -> None:
    table["BillingModeSummary"] = {"BillingMode": "PROVISIONED"}
    table["ProvisionedThroughput"] = {"WriteCapacityUnits": units, "ReadCapacityUnits": units}
    index(table)["ProvisionedThroughput"] = {"WriteCapacityUnits": of_the_index, "ReadCapacityUnits": of_the_index}


def test_a_table_as_init_makes_it_is_right() -> None:
    assert not mistakes(right())
    assert {finding.level for finding in judged("ledger", right(), rate=20.0)} == {Level.OK}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t["AttributeDefinitions"][0].update(AttributeType="N"), "no strings: key is of type N"),
        (lambda t: t["AttributeDefinitions"][1].update(AttributeType="B"), "shard is of type B"),
        (lambda t: t["KeySchema"].append({"AttributeName": "at", "KeyType": "RANGE"}), "other keys"),
        (lambda t: t["KeySchema"][0].update(AttributeName="id"), "other keys"),
        (lambda t: t.pop("GlobalSecondaryIndexes"), "no index unfinished"),
        (lambda t: index(t).update(IndexName="other"), "no index unfinished"),
        (lambda t: index(t)["KeySchema"].pop(), "index unfinished of the table ledger has other keys"),
        (lambda t: index(t).update(IndexStatus="CREATING"), "is CREATING"),
        (lambda t: index(t).update(IndexStatus="ACTIVE", Backfilling=True), "index unfinished"),
        (lambda t: t.update(TableStatus="DELETING"), "is DELETING"),
        (lambda t: t.update(TableStatus="INACCESSIBLE_ENCRYPTION_CREDENTIALS"), "KMS key"),
    ],
)
def test_what_no_ledger_can_work_with_fails(change: Callable[[Any], object], said: str) -> None:
    table = right()
    change(table)
    (mistake, *_) = mistakes(table)
    assert said in mistake.said
    assert mistake.cure
    assert any(said in finding.said for finding in judged("ledger", table) if finding.level is Level.FAILS)


@pytest.mark.parametrize(
    ("change", "level", "said"),
    [
        (lambda t: provisioned(t, 1, 1000), Level.FAILS, "the table ledger takes 1 write units/s"),
        (lambda t: provisioned(t, 1000, 1), Level.FAILS, "its index unfinished takes 1 write units/s"),
        (lambda t: provisioned(t, 40, 1000), Level.ADVICE, "takes 40 write units/s"),
        (lambda t: t.update(OnDemandThroughput={"MaxWriteRequestUnits": 5}), Level.FAILS, "takes 5 write units/s"),
        (lambda t: t.update(StreamSpecification={"StreamEnabled": True}), Level.ADVICE, "has a stream"),
        (lambda t: t.update(Replicas=[{"RegionName": "eu-west-1"}]), Level.ADVICE, "replicated to eu-west-1"),
        (lambda t: index(t).update(Projection={"ProjectionType": "ALL"}), Level.ADVICE, "holds ALL"),
        (
            lambda t: t["GlobalSecondaryIndexes"].append({"IndexName": "mine", "KeySchema": []}),
            Level.ADVICE,
            "another index, mine",
        ),
        (lambda t: t.update(DeletionProtectionEnabled=False), Level.ADVICE, "deletion protection is off"),
    ],
)
def test_what_costs_or_slows_a_rollout_is_said(change: Callable[[Any], object], level: Level, said: str) -> None:
    table = right()
    change(table)
    found = [finding for finding in judged("ledger", table, rate=20.0) if finding.level is not Level.OK]
    assert [(finding.level, said in finding.said) for finding in found] == [(level, True)]
    assert found[0].cure


def test_enough_capacity_is_enough() -> None:
    table = right()
    provisioned(table, 80, 80)
    assert {finding.level for finding in judged("ledger", table, rate=20.0)} == {Level.OK}


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/q", ("eu-west-1", "123456789012")),
        ("https://sqs-fips.us-east-1.amazonaws.com/123456789012/q.fifo", ("us-east-1", "123456789012")),
        ("http://127.0.0.1:9324/000000000000/q", ("", "000000000000")),
        ("https://vpce-1.sqs.eu-west-1.vpce.amazonaws.com/123456789012/q", ("", "123456789012")),
        ("q", ("", "")),
        ("", ("", "")),
    ],
)
def test_a_queues_url_tells_region_and_account(url: str, found: tuple[str, str]) -> None:
    assert region_and_account(url) == found
