"""Dead letters in a whole rollout: no run is done while there are some, and redrive brings everybody back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws_rollout import AwsRollout, aws_rollout_in
from tests.support.emulators import Emulator
from tests.support.sqs_proxy import Proxy


@pytest.fixture
async def rollout(tmp_path: Path, ministack: Emulator, aws_credentials: None) -> AsyncIterator[AwsRollout]:
    async with aws_rollout_in(tmp_path, ministack, "secretsmanager") as rollout:
        yield rollout


async def put(rollout: AwsRollout, url: str, *messages: Any) -> None:
    async with rollout.emulator.aws() as aws:
        for message in messages:
            await (await aws.sqs()).send_message(QueueUrl=url, MessageBody=json.dumps(message))


async def test_dead_letters_keep_a_run_from_being_done_until_they_are_brought_back(rollout: AwsRollout) -> None:
    settings = rollout.settings()
    ana, *others = await rollout.sign_in("ana", "ben", "cem")
    await rollout.push([ana])
    await put(rollout, str(settings.queue.dead_letter_url), *others)
    report = rollout.folder / "report.json"

    ended = await rollout.run("--report", str(report))
    assert ended.code == 1
    assert "mfa-worker redrive" in ended.err
    assert json.loads(report.read_text())["dead_letters"] == 2
    assert json.loads((await rollout.command("status", "--json")).out)["dead_letters"] == 2

    back = await rollout.command("redrive")
    assert (back.code, back.out) == (0, "brought back 2, malformed 0, refused 0\n")
    assert (await rollout.run()).code == 0
    assert await rollout.states() == {"delivered": 3}
    assert (await rollout.status())["dead_letters"] == 0


async def test_a_queue_that_makes_dead_letters_is_refused_before_anything_is_touched(rollout: AwsRollout) -> None:
    settings = rollout.settings()
    await rollout.push(await rollout.sign_in("ana"))
    async with rollout.emulator.aws() as aws:
        sqs = await aws.sqs()
        found = await sqs.get_queue_attributes(QueueUrl=str(settings.queue.url), AttributeNames=["All"])
        policy = json.loads(found["Attributes"]["RedrivePolicy"]) | {"maxReceiveCount": 1}
        await sqs.set_queue_attributes(
            QueueUrl=str(settings.queue.url), Attributes={"RedrivePolicy": json.dumps(policy)}
        )

    for command in ("run", "redrive"):
        refused = await rollout.command(command)
        assert refused.code == 2
        assert "maxReceiveCount is 1" in refused.err
        assert "aws sqs set-queue-attributes" in refused.err
    assert (await rollout.command("status")).code == 0
    assert (await rollout.fake_cognito.stats()).wire_requests == 0


async def test_a_worker_that_may_not_hide_messages_stops_and_says_which_permission_it_misses(
    rollout: AwsRollout,
) -> None:
    async with Proxy(rollout.emulator.url).running() as proxy:
        proxy.errors["ChangeMessageVisibilityBatch"] = "AccessDenied"
        rollout.configure(aws={"sqs_endpoint_url": proxy.url}, rate={"requests_per_second": 1})
        await rollout.push(await rollout.sign_in(*(f"user {number}" for number in range(20))))

        ended = await rollout.run()

        assert ended.code == 3
        assert "ChangeMessageVisibility" in ended.err
        proxy.errors.clear()
        rollout.configure(rate={"requests_per_second": 200})
        assert (await rollout.run()).code == 0
        assert await rollout.states() == {"delivered": 20}
