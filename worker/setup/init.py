"""``init``: makes what the settings name and AWS does not have, says what it made or found, and changes nothing else.

Where something exists already but is less safe than ``init`` would make it, it says what to do about that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TextIO

from botocore.exceptions import ClientError

from worker.adapters import channels
from worker.adapters.aws import queue
from worker.adapters.aws.account import own_account
from worker.adapters.aws.errors import faults
from worker.adapters.aws.init_report import InitReport
from worker.adapters.aws.session import Aws, AwsTarget
from worker.app.stores import aws_target
from worker.core.errors import DependencyUnavailable, UsageError
from worker.settings import Settings
from worker.settings.queue_urls import named
from worker.setup import resources
from worker.setup.checks import dynamodb, sqs
from worker.setup.cloudformation import template
from worker.setup.policies import parts_of_the_pool
from worker.setup.resources import Wanted


def wanted_resources(settings: Settings) -> Wanted:
    """Return what these settings need on AWS. Raises ``UsageError`` if that is nothing."""
    source, channel = settings.queue, settings.channel
    requests = named(source.url).name if source.kind == "sqs" and source.url else None
    dead_letters = (
        named(source.dead_letter_url).name if source.dead_letter_url else f"{(requests or '')[:67]}-dead-letters"
    )
    pool_parts = frozenset(parts_of_the_pool(settings))
    found = Wanted(
        queue=requests,
        dead_letters=dead_letters if requests else None,
        table=settings.ledger.table if settings.ledger.kind == "dynamodb" else None,
        channel=channel if channels.kind_of(channel).resources() else None,
        visibility=max(1, min(43_200, round(source.visibility))),
        pool=settings.cognito.user_pool_id if pool_parts else None,
        pool_parts=pool_parts,
    )
    if not found:
        raise UsageError(
            "nothing of this rollout is on AWS: queue and ledger are files, which run creates",
            "next: mfa-worker check. On AWS, set queue.kind, ledger.kind or channel.kind; for another rollout on "
            "this host: mfa-worker init --folder DIR",
        )
    return found


def cloudformation_template(settings: Settings) -> str:
    """Return the CloudFormation template of what ``init`` would make, as JSON. Raises ``UsageError``."""
    return json.dumps(template(wanted_resources(settings)), indent=2) + "\n"


async def create_missing(settings: Settings, out: TextIO, *, target: AwsTarget | None = None) -> None:
    """Make what is missing, and write to ``out`` what was made or found. It may be run again without harm.

    ``target`` is where AWS's services are, if not where the settings say. Raises ``UsageError``,
    ``DependencyUnavailable``, ``PersonMustAct``.
    """
    plan = wanted_resources(settings)
    async with Aws(target or aws_target(settings)) as aws:
        await _refuse_queues_elsewhere(settings, aws)
        making = _Making(aws, plan, settings.aws.region, InitReport(out))
        with faults(DependencyUnavailable, "AWS"):
            lines = [*await making.queues(), *await making.table(), *await making.channel()]
    out.write("\nSettings to use:\n")
    out.writelines(f"  {line}\n" for line in lines)


async def _refuse_queues_elsewhere(settings: Settings, aws: Aws) -> None:
    """Raise ``UsageError`` if a queue's URL is of another Region or account: ``init`` could only make another queue."""
    urls = {
        "queue.url": settings.queue.url if settings.queue.kind == "sqs" else None,
        "queue.dead_letter_url": settings.queue.dead_letter_url if settings.queue.kind == "sqs" else None,
        "channel.url": getattr(settings.channel, "url", None),
    }
    for key, url in urls.items():
        region, account = queue.region_and_account(url or "")
        if region and region != settings.aws.region:
            raise UsageError(
                f"{key} is in the Region {region}, and aws.region is {settings.aws.region}",
                f"set aws.region to {region}, or correct {key}",
            )
        if account and account != (own := await own_account(aws)) and own:
            raise UsageError(
                f"{key} is of the account {account}, and these AWS credentials are of {own}: init makes nothing there",
                f"use credentials of {account} (aws.profile), or correct {key}",
            )


class _Making:
    """Makes the queues and the table; the channel makes its own."""

    def __init__(self, aws: Aws, plan: Wanted, region: str, report: InitReport) -> None:
        self._aws = aws
        self._plan = plan
        self._region = region
        self._report = report

    async def queues(self) -> Sequence[str]:
        plan = self._plan
        if plan.queue is None or plan.dead_letters is None:
            return []
        client = await self._aws.sqs()
        dead_letters = await self._queue("dead letters", plan.dead_letters, resources.dead_letters_properties())
        arn = await queue.arn_of(client, dead_letters)
        requests = await self._queue("queue", plan.queue, resources.queue_properties(plan, arn), holds_credentials=True)
        return ['queue.kind = "sqs"', f'queue.url = "{requests}"', f'queue.dead_letter_url = "{dead_letters}"']

    async def table(self) -> Sequence[str]:
        name = self._plan.table
        if name is None:
            return []
        client = await self._aws.dynamodb()
        made = await resources.table(client, name)
        self._report.made("table", name, made)
        if not made:
            self._report.judged(dynamodb.judged(name, (await client.describe_table(TableName=name))["Table"]))
            try:
                self._report.judged(await dynamodb.look_at_backups(client, name))
            except ClientError as error:
                self._report.not_looked_at("backups", error)
        return ['ledger.kind = "dynamodb"', f'ledger.table = "{name}"']

    async def channel(self) -> Sequence[str]:
        channel = self._plan.channel
        if channel is None or (own := channels.kind_of(channel).resources()) is None:
            return []
        return await own.make_missing(channel, self._aws, self._region, self._report)

    async def _queue(
        self, about: str, name: str, properties: dict[str, object], *, holds_credentials: bool = False
    ) -> str:
        client = await self._aws.sqs()
        url, made = await queue.make(client, name, properties)
        self._report.made(about, url, made)
        if not made:
            attributes = await queue.attributes_of(client, url)
            self._report.judged(sqs.judged(about, url, attributes, holds_credentials=holds_credentials))
        return url
