"""The same job on AWS: requests from SQS, the ledger in DynamoDB, secrets to each of the channels."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.aws_rollout import (
    AwsRollout,
    aws_rollout_in,
    rollout_of_each_kind,  # noqa: F401 - the fixture ``rollout``
)
from tests.support.emulators import Emulator
from tests.support.totp import code_at


@pytest.fixture
async def one_rollout(tmp_path: Path, ministack: Emulator, aws_credentials: None) -> AsyncIterator[AwsRollout]:
    async with aws_rollout_in(tmp_path, ministack, "secretsmanager") as rollout:
        yield rollout


async def test_from_push_to_open(rollout: AwsRollout) -> None:
    requests = await rollout.sign_in("ana", "ben", "josé/../x")
    requests[0]["attributes"] = {"email": "ana@example.org"}

    pushed = await rollout.push_by_command([*requests, requests[1], "{}"])
    assert (pushed.code, pushed.out) == (1, "accepted 4, duplicate 0, malformed 1\n")

    ended = await rollout.run()
    assert ended.code == 0, ended.err
    status = await rollout.status()
    assert (status["accepted"], status["duplicates"], status["malformed"]) == (3, 1, 1)
    assert await rollout.states() == {"delivered": 3}

    records = await rollout.open()
    truth = await rollout.fake_cognito.truth()
    assert {name: record["secret_code"] for name, record in records.items()} == {
        name: user.secrets[-1].secret_code for name, user in truth.items()
    }
    assert records["ana"]["attributes"] == {"email": "ana@example.org"}
    assert (await rollout.fake_cognito.stats()).wire_requests == 3


async def test_what_was_put_aside_is_listed(one_rollout: AwsRollout) -> None:
    wrapped = json.dumps({"Type": "Notification", "Message": "{}", "TopicArn": "arn:aws:sns:eu-central-1:1:t"})
    await one_rollout.push_by_command([wrapped, '{"username": "ana", "colour": 1}', '{"username": "ana", "colour": 1}'])

    for _ in range(2):  # looking takes nothing away
        listed = await one_rollout.command("status", "--malformed")
        assert listed.code == 0, listed.err
        assert "raw message delivery" in listed.out
        [line] = [line for line in listed.out.splitlines() if 'unknown key "colour"' in line]
        assert line.split()[1] == "2"


async def test_whoever_is_delivered_already_is_a_duplicate_and_a_replacement_is_newer(one_rollout: AwsRollout) -> None:
    rollout = one_rollout
    [first] = await rollout.sign_in("ana")
    await rollout.push([first])
    assert (await rollout.run()).code == 0
    old = (await rollout.delivered())[0]

    again, replacing = *await rollout.sign_in("ana"), *await rollout.sign_in("ana")
    await rollout.push([again])
    assert (await rollout.run()).code == 0
    await rollout.push([replacing | {"replace": True}])
    assert (await rollout.run()).code == 0

    records = await rollout.delivered()
    newest = max(records, key=lambda record: record["generation"])
    assert newest["generation"] > old["generation"]
    assert newest["secret_code"] == (await rollout.fake_cognito.truth())["ana"].secrets[-1].secret_code
    assert not (await rollout.audit()).stale
    assert code_at(newest["secret_code"], 0)


async def test_who_needs_a_session_is_exported_signed_in_again_and_delivered(one_rollout: AwsRollout) -> None:
    rollout = one_rollout
    dead, alive = await rollout.sign_in("ana", validity=0.01), await rollout.sign_in("ben")
    await rollout.push([*dead, *alive])

    assert (await rollout.run()).code == 1
    lost = await rollout.users("needs_session")
    assert lost == {"ana": "token_expired"}

    await rollout.push(await rollout.sign_in(*lost))
    assert (await rollout.run()).code == 0
    assert await rollout.states() == {"delivered": 2}
