"""``init``: makes what the settings name and AWS does not have, says what it made or found, and changes nothing else.

What is there already and less safe than it would be made is reported with what to do about it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TextIO

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.aws.session import Aws, AwsTarget
from worker.app.stores import place as place_of
from worker.core.errors import DependencyUnavailable, UsageError
from worker.settings import Settings
from worker.setup import resources
from worker.setup.checks import dynamodb, s3, sqs
from worker.setup.checks.findings import Finding, Level
from worker.setup.checks.probes import refused
from worker.setup.cloudformation import template
from worker.setup.resources import Wanted, name_in


def wanted_resources(settings: Settings) -> Wanted:
    """What these settings want of AWS. Raises ``UsageError`` where it is nothing."""
    queue, channel = settings.queue, settings.channel
    requests = name_in(queue.url) if queue.kind == "sqs" and queue.url else None
    dead_letters = name_in(queue.dead_letter_url) if queue.dead_letter_url else f"{(requests or '')[:67]}-dead-letters"
    found = Wanted(
        queue=requests,
        dead_letters=dead_letters if requests else None,
        table=settings.ledger.table if settings.ledger.kind == "dynamodb" else None,
        bucket=channel.bucket if channel.kind == "s3" else None,
        channel_queue=name_in(channel.url) if channel.kind == "sqs" and channel.url else None,
        secrets=channel.kind == "secretsmanager",
        prefix=channel.prefix,
        kms_key_id=channel.kms_key_id if channel.kind in ("s3", "secretsmanager") else None,
        user_pool_id=settings.cognito.user_pool_id,
        visibility=max(1, min(43_200, round(queue.visibility))),
    )
    if not found:
        raise UsageError(
            "nothing of this rollout is on AWS: queue and ledger are files, which run creates",
            "set queue.kind, ledger.kind or channel.kind",
        )
    return found


def cloudformation_template(settings: Settings) -> str:
    """The CloudFormation template of what ``init`` would make, as JSON. Raises ``UsageError``."""
    return json.dumps(template(wanted_resources(settings)), indent=2) + "\n"


async def create_missing(settings: Settings, out: TextIO, *, place: AwsTarget | None = None) -> None:
    """Make what is missing, and write to ``out`` what was made or found. To run it again is harmless.

    ``place`` is where AWS's services are, if not where the settings say. Raises ``UsageError``,
    ``DependencyUnavailable``, ``PersonMustAct``.
    """
    plan = wanted_resources(settings)
    async with Aws(place or place_of(settings)) as aws:
        making = _Making(aws, plan, settings.aws.region, out)
        with faults(DependencyUnavailable, "AWS"):
            lines = [*await making.queues(), *await making.table(), *await making.channel()]
    out.write("\nSettings to use:\n")
    out.writelines(f"  {line}\n" for line in lines)


class _Making:
    def __init__(self, aws: Aws, plan: Wanted, region: str, out: TextIO) -> None:
        self._aws = aws
        self._plan = plan
        self._region = region
        self._out = out

    async def queues(self) -> list[str]:
        plan = self._plan
        if plan.queue is None or plan.dead_letters is None:
            return []
        client = await self._aws.sqs()
        dead_letters = await self._queue("dead letters", plan.dead_letters, resources.dead_letters_properties())
        arn = await resources.queue_arn(client, dead_letters)
        requests = await self._queue("queue", plan.queue, resources.queue_properties(plan, arn), holds_credentials=True)
        return ['queue.kind = "sqs"', f'queue.url = "{requests}"', f'queue.dead_letter_url = "{dead_letters}"']

    async def table(self) -> list[str]:
        name = self._plan.table
        if name is None:
            return []
        client = await self._aws.dynamodb()
        made = await resources.table(client, name)
        self._say("table", name, made)
        if not made:
            self._report(dynamodb.judged(name, (await client.describe_table(TableName=name))["Table"]))
            try:
                self._report(await dynamodb.look_at_backups(client, name))
            except ClientError as error:
                self._not_looked_at("backups", error)
        return ['ledger.kind = "dynamodb"', f'ledger.table = "{name}"']

    async def channel(self) -> list[str]:
        plan = self._plan
        if plan.secrets:
            self._out.write(f"found    secrets: nothing has to be made below {plan.prefix}/\n")
            return ['channel.kind = "secretsmanager"']
        if plan.channel_queue is not None:
            url = await self._queue("channel", plan.channel_queue, resources.channel_queue_properties())
            return ['channel.kind = "sqs"', f'channel.url = "{url}"']
        if plan.bucket is None:
            return []
        client = await self._aws.s3()
        made = await resources.bucket(client, plan, self._region)
        self._say("bucket", plan.bucket, made)
        if not made:
            try:
                self._report(await s3.judge_bucket(client, plan.bucket))
            except ClientError as error:
                self._not_looked_at("its protection", error)
        return ['channel.kind = "s3"', f'channel.bucket = "{plan.bucket}"']

    async def _queue(
        self, about: str, name: str, properties: dict[str, object], *, holds_credentials: bool = False
    ) -> str:
        client = await self._aws.sqs()
        url, made = await resources.queue(client, name, properties)
        self._say(about, url, made)
        if not made:
            attributes = await sqs.attributes_of(client, url)
            self._report(sqs.judged(about, attributes, holds_credentials=holds_credentials))
        return url

    def _say(self, about: str, name: str, made: bool) -> None:
        self._out.write(f"{'created' if made else 'found':8} {about}: {name}\n")

    def _report(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            if finding.level is not Level.OK:
                self._out.write(f"         left as it is: {finding.said}\n         → {finding.cure}\n")

    def _not_looked_at(self, what: str, error: ClientError) -> None:
        why = "not permitted" if refused(error) else code(error)
        self._out.write(f"         {what} not looked at: {why}\n")
