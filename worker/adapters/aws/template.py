"""Parts of a CloudFormation template, which ``setup.cloudformation`` puts together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.adapters.aws.policy import document, plain_http_denied


@dataclass(frozen=True, slots=True)
class TemplatePart:
    """What one part of a rollout adds to the template, each by its name there."""

    parameters: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Its default, which is what the settings say, and what it is."""
    resources: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    """The setting that it is the value of, and the value."""


def kept(kind: str, properties: dict[str, Any]) -> dict[str, Any]:
    """A resource that stays where a stack is deleted: no ledger and no secret goes with it."""
    return {"Type": kind, "DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain", "Properties": properties}


def queue_and_policy(name: str, parameter: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """An SQS queue, called as the parameter says, and its policy."""
    statement = plain_http_denied([{"Fn::GetAtt": [name, "Arn"]}], "sqs")
    policy = {"Queues": [{"Ref": name}], "PolicyDocument": document(statement)}
    return {
        name: kept("AWS::SQS::Queue", {"QueueName": {"Ref": parameter}, **properties}),
        f"{name}Policy": {"Type": "AWS::SQS::QueuePolicy", "Properties": policy},
    }
