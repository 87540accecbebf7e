"""The CloudFormation template makes what ``init`` makes, and every name in it is one that AWS knows."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.session import Session

from tests.commands.test_init import SHIPPED, everything, judged
from tests.support.checking import aws_settings
from tests.support.emulators import Emulator
from worker.settings import load
from worker.setup.init import cloudformation_template
from worker.setup.policies import Role, document

ROOT = Path(__file__).resolve().parents[2]


def test_the_shipped_template_is_the_one_that_init_prints() -> None:
    printed = cloudformation_template(load(None, SHIPPED, {}))

    assert (ROOT / "config" / "cloudformation.json").read_text("utf-8") == printed


async def test_a_stack_of_the_template_is_as_safe_as_what_init_makes(emulator: Emulator) -> None:
    settings = aws_settings(emulator)
    async with emulator.aws() as aws:
        stacks = await aws.client("cloudformation")
        stack = settings.ledger.table
        await stacks.create_stack(
            StackName=stack, TemplateBody=cloudformation_template(settings), Capabilities=["CAPABILITY_IAM"]
        )
        deadline = time.monotonic() + 20
        while (
            status := (await stacks.describe_stacks(StackName=stack))["Stacks"][0]["StackStatus"]
        ) != "CREATE_COMPLETE":
            assert "IN_PROGRESS" in status, (await stacks.describe_stack_events(StackName=stack))["StackEvents"]
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)

    there = await everything(settings, emulator)

    failing = [f.said for f in judged(there, settings.ledger.table) if f.fails]
    if emulator.name == "ministack":  # it forgets this property of a template
        failing = [said for said in failing if "not encrypted at rest" not in said]
    assert failing == []
    assert there["queues"][0]["MessageRetentionPeriod"] == "86400"


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for each in tree.values():
            yield from nodes(each)
    elif isinstance(tree, list):
        for each in tree:
            yield from nodes(each)


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["channel.kms_key_id=11111111-2222-3333-4444-555555555555"],
        ["channel.kind=sqs", "channel.url=https://sqs.eu-central-1.amazonaws.com/1/sealed"],
        ["channel.kind=secretsmanager"],
        ["channel.kind=file", "ledger.kind=sqlite"],
        ["queue.kind=sqlite"],
        ["activation.mode=prefer", "activation.identity=own.key"],
        ["sign_in.flow=admin_user_password", "sign_in.client_id=abc"],
    ],
)
def test_every_name_that_a_template_uses_is_defined_in_it(more: list[str]) -> None:
    template = json.loads(cloudformation_template(load(None, [*SHIPPED, *more], {})))
    resources, parameters = set(template["Resources"]), set(template["Parameters"])

    used = set[str]()
    for node in nodes(template):
        used |= {node["Ref"]} if "Ref" in node else set()
        used |= {node["Fn::GetAtt"][0]} if "Fn::GetAtt" in node else set()
        if text := node.get("Fn::Sub"):
            used |= {part.split("}")[0].split(".")[0] for part in text.split("${")[1:]}

    assert {name for name in used if not name.startswith("AWS::")} <= resources | parameters
    assert parameters <= used


def test_the_policies_of_a_template_are_the_roles_own() -> None:
    template = json.loads(cloudformation_template(load(None, SHIPPED, {})))

    for role in (Role.PUSHER, Role.WORKER, Role.OPENER):
        policy = template["Resources"][f"{role.capitalize()}Policy"]["Properties"]["PolicyDocument"]
        of_role = {s["Sid"]: s["Action"] for s in document(role, {"queue", "table", "bucket"})["Statement"]}
        assert {s["Sid"]: s["Action"] for s in policy["Statement"]} == of_role


def test_every_property_of_a_template_is_one_that_its_service_knows() -> None:
    resources = json.loads(cloudformation_template(load(None, SHIPPED, {})))["Resources"].values()
    by_type: dict[str, list[dict[str, Any]]] = {}
    for each in resources:
        by_type.setdefault(each["Type"], []).append(each["Properties"])
    session = Session()

    attribute: Any = session.get_service_model("sqs").shape_for("QueueAttributeName")
    names = {*attribute.enum, "QueueName"}
    for properties in by_type["AWS::SQS::Queue"]:
        assert properties.keys() <= names

    table = by_type["AWS::DynamoDB::Table"][0]
    creating = session.get_service_model("dynamodb").operation_model("CreateTable").input_shape
    of_table = {key: value for key, value in table.items() if key != "PointInTimeRecoverySpecification"}
    of_table["SSESpecification"] = {"Enabled": table["SSESpecification"]["SSEEnabled"]}
    assert unknown(of_table, creating) == []

    bucket, model = by_type["AWS::S3::Bucket"][0], session.get_service_model("s3")
    assert unknown(bucket["PublicAccessBlockConfiguration"], model.shape_for("PublicAccessBlockConfiguration")) == []
    assert unknown(bucket["VersioningConfiguration"], model.shape_for("VersioningConfiguration")) == []
    assert bucket.keys() == {
        "BucketName",
        "BucketEncryption",
        "PublicAccessBlockConfiguration",
        "VersioningConfiguration",
        "LifecycleConfiguration",
    }


def unknown(value: Any, shape: Any) -> list[str]:
    """The keys that a shape of the API has not."""
    if "Ref" in value or not hasattr(shape, "members"):
        return []
    found = [key for key in value if key not in shape.members]
    for key, inner in value.items():
        member = shape.members.get(key)
        for each in inner if isinstance(inner, list) else [inner]:
            if isinstance(each, dict) and member is not None:
                found += unknown(each, member.member if member.type_name == "list" else member)
    return found
