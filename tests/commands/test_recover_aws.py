"""A table that was restored is another table: it is noticed, and brought up to what each channel on AWS shows."""

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
from worker.adapters.ledgers.dynamodb.identity import IDENTITY
from worker.adapters.ledgers.dynamodb.schema import KEY, definition


@pytest.fixture
async def one_rollout(tmp_path: Path, ministack: Emulator, aws_credentials: None) -> AsyncIterator[AwsRollout]:
    async with aws_rollout_in(tmp_path, ministack, "s3") as rollout:
        yield rollout


async def copied(rollout: AwsRollout) -> str:
    """A new table with everything that is in the ledger's table: what a restore makes. Its name."""
    name = f"{rollout.name}-restored"
    async with rollout.emulator.aws() as aws:
        dynamodb = await aws.dynamodb()
        await dynamodb.create_table(**definition(name))
        for item in (await dynamodb.scan(TableName=rollout.name))["Items"]:
            await dynamodb.put_item(TableName=name, Item=item)
    return name


async def enrolled(rollout: AwsRollout, *usernames: str, replace: bool = False) -> None:
    requests = await rollout.sign_in(*usernames)
    await rollout.push([request | ({"replace": True} if replace else {}) for request in requests])


async def test_a_restored_table_is_refused_and_recovered(rollout: AwsRollout) -> None:
    await enrolled(rollout, "ana", "ben", "cem")
    assert (await rollout.run()).code == 0
    copy = await copied(rollout)
    await rollout.fake_cognito.set_faults("internal_error_acted@ben=20x")
    await enrolled(rollout, "ana", "ben", replace=True)
    await enrolled(rollout, "dan")
    assert (await rollout.run()).code == 1

    rollout.configure(ledger={"table": copy})

    refused = await rollout.run()
    assert refused.code == 3
    assert "is a copy of another one" in refused.err
    assert "mfa-worker recover" in refused.err
    assert (await rollout.command("status")).logged("ledger_is_older")
    more: list[str] = []
    if rollout.kind == "sqs":
        unread = await rollout.command("recover")
        assert unread.code == 2
        assert "--into FILE" in unread.err
        await rollout.open()
        more = ["--from", str(rollout.folder / "drained.jsonl")]
    doubted = rollout.folder / "doubted"
    doubted.write_text("ben\n")
    (rollout.folder / "misspelt").write_text("ben\nBen\n")
    misspelt = await rollout.command("recover", "--doubt", str(rollout.folder / "misspelt"), *more)
    assert "knows 1 users of --doubt; are they spelt right? 'Ben'" in misspelt.out
    (rollout.folder / "misspelt").write_text("ben\n", "utf-16")
    unread = await rollout.command("recover", "--doubt", str(rollout.folder / "misspelt"), *more)
    assert (unread.code, "not UTF-8" in unread.err) == (2, True)
    shown = await rollout.command("recover", *more)
    assert shown.code == 0, shown.err
    assert "--doubt FILE" in shown.out
    assert (await rollout.run()).code == 3, "a plan changes nothing"
    done = await rollout.command("recover", "--yes", "--json", "--doubt", str(doubted), *more)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["delivered"], told["added"], told["in_doubt"]) == (1, 1, ["ben"])
    await rollout.fake_cognito.set_faults()
    assert (await rollout.run()).code == 1
    assert set(await rollout.users("delivered")) == {"ana", "cem", "dan"}
    assert await rollout.users("needs_session") == {"ben": "reply_lost"}
    await enrolled(rollout, "ben")
    assert (await rollout.run()).code == 0
    if rollout.kind != "sqs":
        assert not (await rollout.audit()).stale


async def test_a_table_of_the_earlier_version_gets_its_id_without_an_alarm(one_rollout: AwsRollout) -> None:
    rollout = one_rollout
    await enrolled(rollout, "ana")
    assert (await rollout.run()).code == 0
    async with rollout.emulator.aws() as aws:
        await (await aws.dynamodb()).delete_item(TableName=rollout.name, Key={KEY: {"S": IDENTITY}})

    assert (await rollout.run()).code == 0

    rollout.configure(ledger={"table": await copied(rollout)})
    assert (await rollout.run()).code == 3
