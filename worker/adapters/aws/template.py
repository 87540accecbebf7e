"""Parts of a CloudFormation template; ``setup.cloudformation`` puts them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.adapters.aws.policy import document, plain_http_denied


@dataclass(frozen=True, slots=True)
class TemplatePart:
    """What one part of a rollout adds to the template."""

    parameters: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Name → the default, which is the value of the setting, and a description."""
    resources: Mapping[str, Any] = field(default_factory=dict)
    """Name → the resource."""
    outputs: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    """Name → the setting that gets this value, and the value."""


def kept(kind: str, properties: dict[str, Any]) -> dict[str, Any]:
    """A resource that stays when its stack is deleted, so that no ledger and no secret is deleted with it."""
    return {"Type": kind, "DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain", "Properties": properties}


def queue_and_policy(name: str, parameter: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """An SQS queue, whose name is the value of ``parameter``, and its policy."""
    statement = plain_http_denied([{"Fn::GetAtt": [name, "Arn"]}], "sqs")
    policy = {"Queues": [{"Ref": name}], "PolicyDocument": document(statement)}
    return {
        name: kept("AWS::SQS::Queue", {"QueueName": {"Ref": parameter}, **properties}),
        f"{name}Policy": {"Type": "AWS::SQS::QueuePolicy", "Properties": policy},
    }
