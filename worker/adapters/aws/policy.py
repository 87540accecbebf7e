"""Building blocks of IAM policies: the roles, what each may do with a part of a rollout, and what everybody is denied.

Placeholders such as ``${Queue}`` stand for names. Each statement names the part of a rollout that it is for, and is
left out of the policies of a rollout without that part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """A role, by the commands that are run with it."""

    PUSHER = "pusher"
    """``push`` and ``feed``: the migration script."""
    WORKER = "worker"
    """``run``, ``status``, ``export`` and ``check``."""
    OPENER = "opener"
    """``open``, on the machine with the age identity."""
    OPERATOR = "operator"
    """``init``, and the optional questions of ``check``."""
    DECOMMISSIONER = "decommissioner"
    """``purge`` and ``decommission``, at the end of a rollout."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """One statement: these actions of one service, on these resources."""

    part: str
    """The part of a rollout that it is for: ``queue``, ``table``, ``bucket``, ``key`` (a KMS key of its own), …"""
    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    rank: int
    """Its position in the role's policy, the lowest first; a fixed order helps people to read and compare policies."""
    keys: tuple[str, ...] = ()
    """For a table: only the items with these partition keys; empty: all items."""

    @property
    def condition(self) -> Mapping[str, Any]:
        """The statement's ``Condition``, if it has one ("IAM policy conditions", DynamoDB developer guide)."""
        if not self.keys:
            return {}
        return {"Condition": {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": list(self.keys)}}}


def document(*statements: Mapping[str, Any]) -> dict[str, Any]:
    """A policy document with these statements."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def plain_http_denied(arns: Sequence[Any], service: str) -> dict[str, Any]:
    """A statement for a resource's own policy that denies access to ``service`` (``s3``, ``sqs``) over plain HTTP."""
    return {
        "Sid": "NoPlainHttp",
        "Effect": "Deny",
        "Principal": "*",
        "Action": f"{service}:*",
        "Resource": list(arns) if len(arns) > 1 else arns[0],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
