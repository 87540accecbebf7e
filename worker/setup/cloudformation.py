"""The CloudFormation template of what ``init`` would make, with the roles' policies, to be reviewed first.

Queue and table have the same properties as in ``resources``. Their names are parameters of the template, with the names
in the settings as defaults. The channel's part comes from its folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from worker.adapters import channels
from worker.adapters.aws.policy import Role
from worker.adapters.aws.template import TemplatePart, kept, queue_and_policy
from worker.setup import resources
from worker.setup.policies import document
from worker.setup.resources import Wanted


def template(wanted: Wanted) -> dict[str, Any]:
    """Return the whole template, ready for ``json.dumps``."""
    parts = list(_parts(wanted))
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "mfa-worker: queue, ledger and channel of one rollout, and what its roles may do",
        "Parameters": {
            name: {"Type": "String", "Default": default, "Description": said}
            for part in parts
            for name, (default, said) in part.parameters.items()
        },
        "Resources": dict([*(item for part in parts for item in part.resources.items()), *_policies(wanted)]),
        "Outputs": {
            name: {"Description": setting, "Value": value}
            for part in parts
            for name, (setting, value) in part.outputs.items()
        },
    }


def _parts(wanted: Wanted) -> Iterator[TemplatePart]:
    if wanted.queue:
        yield _queues(wanted, wanted.queue)
    if wanted.table:
        yield _table(wanted.table)
    if wanted.pool:
        yield TemplatePart({"UserPool": (wanted.pool, "The user pool (cognito.user_pool_id)")}, {}, {})
    if wanted.channel and (of_channel := channels.kind_of(wanted.channel).resources()):
        yield of_channel.template(wanted.channel)


def _queues(wanted: Wanted, name: str) -> TemplatePart:
    arn = {"Fn::GetAtt": ["DeadLettersQueue", "Arn"]}
    return TemplatePart(
        {
            "Queue": (name, "The queue of requests (queue.url)"),
            "DeadLetters": (wanted.dead_letters or "", "The queue of dead letters (queue.dead_letter_url)"),
        },
        {
            **queue_and_policy("DeadLettersQueue", "DeadLetters", resources.dead_letters_properties()),
            **queue_and_policy("RequestsQueue", "Queue", resources.queue_properties(wanted, arn)),
        },
        {
            "QueueUrl": ("queue.url", {"Ref": "RequestsQueue"}),
            "DeadLetterUrl": ("queue.dead_letter_url", {"Ref": "DeadLettersQueue"}),
        },
    )


def _table(name: str) -> TemplatePart:
    properties = resources.table_properties(name)
    properties["TableName"] = {"Ref": "Table"}
    properties["SSESpecification"] = {"SSEEnabled": properties["SSESpecification"]["Enabled"]}
    properties["PointInTimeRecoverySpecification"] = {"PointInTimeRecoveryEnabled": True}
    return TemplatePart(
        {"Table": (name, "The ledger (ledger.table)")},
        {"LedgerTable": kept("AWS::DynamoDB::Table", properties)},
        {"LedgerTableName": ("ledger.table", {"Ref": "LedgerTable"})},
    )


def _policies(wanted: Wanted) -> Iterator[tuple[str, Any]]:
    parts = {part for part, there in {"queue": wanted.queue, "table": wanted.table}.items() if there}
    if wanted.channel and (of_channel := channels.kind_of(wanted.channel).resources()):
        parts |= {*of_channel.parts(wanted.channel)}
    parts |= wanted.pool_parts
    for role in (Role.PUSHER, Role.WORKER, Role.OPENER):  # not the operator, who creates the stack
        policy = document(role, parts)
        if not policy["Statement"]:
            continue
        for statement in policy["Statement"]:
            statement["Resource"] = [_substituted(arn) for arn in _listed(statement["Resource"])]
        said = f"What the {role} of mfa-worker may do"
        properties = {"Description": said, "PolicyDocument": policy}
        yield f"{role.capitalize()}Policy", {"Type": "AWS::IAM::ManagedPolicy", "Properties": properties}


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _substituted(arn: str) -> Any:
    if "${" not in arn:
        return arn
    for name, pseudo in (("Partition", "Partition"), ("Region", "Region"), ("Account", "AccountId")):
        arn = arn.replace(f"${{{name}}}", f"${{AWS::{pseudo}}}")
    return {"Fn::Sub": arn}
