"""The words of IAM policies: roles, what each may do with a part of a rollout, and what everybody is denied.

Placeholders such as ``${Queue}`` stand for names. A statement says which part of a rollout it is for, so that whoever
has no such part leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """Who runs which commands."""

    PUSHER = "pusher"
    """``push`` and ``feed``: the migration script."""
    WORKER = "worker"
    """``run``, ``status``, ``export`` and ``check``."""
    OPENER = "opener"
    """``open``, where the identity is."""
    OPERATOR = "operator"
    """``init``, and the questions of ``check`` that a worker need not be permitted to ask."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """One statement: these actions of one service, on these resources."""

    part: str
    """What a rollout needs to have on AWS for this: ``queue``, ``table``, ``bucket``, ``key`` (a KMS key of its own)"""
    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    rank: int
    """Where it stands in its role's policy, the lowest first: only for people who read it and compare it."""


def document(*statements: Mapping[str, Any]) -> dict[str, Any]:
    """A policy document."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def plain_http_denied(arns: Sequence[Any], service: str) -> dict[str, Any]:
    """A statement of a resource's own policy: nobody talks to ``service`` (``s3``, ``sqs``) unencrypted."""
    return {
        "Sid": "NoPlainHttp",
        "Effect": "Deny",
        "Principal": "*",
        "Action": f"{service}:*",
        "Resource": list(arns) if len(arns) > 1 else arns[0],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
