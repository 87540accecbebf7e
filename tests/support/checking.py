"""What tests of ``init`` and ``check`` share: settings whose services are an emulator's, and how to read findings."""

from __future__ import annotations

import io
from dataclasses import replace

from tests.support.emulators import Emulator, fresh
from worker.adapters.aws.session import AwsTarget
from worker.adapters.checks.findings import Finding, Level
from worker.settings import Settings, load
from worker.setup.init import create_missing

POOL = "eu-central-1_AbCdEfGhI"


def aws_target(emulator: Emulator) -> AwsTarget:
    """Where its services are, but for the one that neither emulator has."""
    endpoints = {name: url for name, url in emulator.target.endpoints.items() if name != "service-quotas"}
    return replace(emulator.target, endpoints=endpoints)


def aws_settings(emulator: Emulator, *more: str) -> Settings:
    """Queue, ledger and channel on the emulator, under names that nobody else uses."""
    name = fresh("mfa")
    services = ("sqs", "dynamodb", "s3", "secretsmanager", "kms")
    return load(
        None,
        [
            f"cognito.user_pool_id={POOL}",
            f"cognito.endpoint_url={emulator.url}",
            "queue.kind=sqs",
            f"queue.url={emulator.url}/123456789012/{name}",
            f"queue.dead_letter_url={emulator.url}/123456789012/{name}-dead-letters",
            "ledger.kind=dynamodb",
            f"ledger.table={name}",
            "channel.kind=s3",
            f"channel.bucket={name}",
            *(f"aws.{service}_endpoint_url={emulator.url_of(service)}" for service in services),
            *more,
        ],
        {},
    )


async def initialized(settings: Settings, emulator: Emulator) -> list[str]:
    """What ``init`` says."""
    out = io.StringIO()
    await create_missing(settings, out, target=emulator.target)
    return out.getvalue().splitlines()


def about(findings: list[Finding], name: str, level: Level) -> str:
    """What was said of it, at that level, and what to do."""
    return "; ".join(f"{each.said} → {each.cure}" for each in findings if (each.about, each.level) == (name, level))
