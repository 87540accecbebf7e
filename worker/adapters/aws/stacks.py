"""Which CloudFormation stack made something: that stack takes it away, and nobody else under its feet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.core.errors import DependencyUnavailable

NOT_IN_A_STACK = "ValidationError"
"""The code of DescribeStackResources for what belongs to no stack (API reference, CloudFormation)."""
GONE = ("DELETE_COMPLETE", "DELETE_SKIPPED")
"""What a stack says of a resource that it deleted, or left when it was deleted itself (``DeletionPolicy: Retain``)."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack, and what is in it."""

    name: str
    resources: frozenset[str]
    """The physical ids: names of functions and tables, URLs of queues, ids of app clients."""

    @property
    def cure(self) -> str:
        """The command that takes it away."""
        return f"aws cloudformation delete-stack --stack-name {self.name}"


async def stack_of(cloudformation: Any, physical_id: str) -> Stack | None:
    """The stack to which the resource with that id belongs; ``None``: none does. Raises ``DependencyUnavailable``."""
    with faults(DependencyUnavailable, "CloudFormation"):
        try:
            answer = await cloudformation.describe_stack_resources(PhysicalResourceId=physical_id)
        except ClientError as error:
            if code(error) == NOT_IN_A_STACK:
                return None
            raise
        found = [each for each in answer["StackResources"] if each.get("ResourceStatus") not in GONE]
    ids = frozenset(str(each.get("PhysicalResourceId")) for each in found)
    name = next((str(each["StackName"]) for each in found if each.get("PhysicalResourceId") == physical_id), "")
    return Stack(name, ids) if name else None
