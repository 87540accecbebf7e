"""One item that cannot be handled is that user's own affair: everybody else is enrolled, and the run ends."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.aws_rollout import AwsRollout, aws_rollout_in
from tests.support.emulators import Emulator
from tests.support.rollout import Rollout
from worker.adapters.aws.naming import secret_segment
from worker.sealing.age import keygen

LARGE = {"note": "\x01" * 9_000}
"""Attributes that a request may have, and whose record Secrets Manager cannot hold."""


async def test_a_record_that_no_secret_can_hold_is_known_before_the_call(
    tmp_path: Path, ministack: Emulator, aws_credentials: None
) -> None:
    async with aws_rollout_in(tmp_path, ministack, "secretsmanager") as rollout:
        requests = await rollout.sign_in("ana", "ben", "eve")
        requests[2]["attributes"] = LARGE
        await rollout.push(requests)
        ended = await rollout.run()
        assert ended.code == 1, ended.err
        assert await rollout.users("failed") == {"eve": "record_too_large"}
        assert await rollout.states() == {"delivered": 2, "failed": 1}
        assert "eve" not in await rollout.fake_cognito.truth(), "and nothing was issued for nothing"

        await rollout.push(await rollout.sign_in("eve"))
        assert (await rollout.run()).code == 0
        assert not (await rollout.audit()).stale


async def test_a_secret_that_is_scheduled_for_deletion_is_one_users_own_affair(
    tmp_path: Path, ministack: Emulator, aws_credentials: None
) -> None:
    async with aws_rollout_in(tmp_path, ministack, "secretsmanager") as rollout:
        await rollout.push(await rollout.sign_in("ana", "eve"))
        assert (await rollout.run()).code == 0
        await _eves_secret(rollout, "delete_secret")

        again = [request | {"replace": True} for request in await rollout.sign_in("ana", "eve")]
        await rollout.push([*again, *await rollout.sign_in("ben")])
        assert (await rollout.run()).code == 1
        assert await rollout.users("failed") == {"eve": "delivery_refused"}
        assert set(await rollout.users("delivered")) == {"ana", "ben"}
        exported = await rollout.command("export", "--state", "failed")
        assert json.loads(exported.out)["detail"] == "InvalidRequestException"

        await _eves_secret(rollout, "restore_secret")
        await rollout.push(await rollout.sign_in("eve"))
        assert (await rollout.run()).code == 0
        assert not (await rollout.audit()).stale


async def _eves_secret(rollout: AwsRollout, operation: str) -> None:
    name = f"{rollout.name}/secrets/{secret_segment('eve', 'username')}"
    async with rollout.emulator.aws() as aws:
        await getattr(await aws.secretsmanager(), operation)(SecretId=name)


@pytest.mark.parametrize("column", ["reason", "settled"])
async def test_a_row_of_a_later_version_or_a_damaged_one_stops_nobody_else(rollout: Rollout, column: str) -> None:
    await rollout.fake_cognito.set_faults("token_revoked@eve=1x")
    assert (await rollout.run("--input", rollout.file(await rollout.sign_in("eve")))).code == 1
    with closing(sqlite3.connect(rollout.ledger)) as connection, connection:
        connection.execute(f"UPDATE users SET {column} = 'grown_too_old'")
    connection.close()

    await rollout.push(await rollout.sign_in("eve", "ana", "ben"))
    ended = await rollout.run()
    assert ended.code == 3, ended.err
    assert "the row of 'eve' in the ledger cannot be read" in ended.err
    assert set(await rollout.users("delivered")) == {"ana", "ben"}

    with closing(sqlite3.connect(rollout.ledger)) as connection, connection:
        connection.execute(f"UPDATE users SET {column} = ?", ("token_revoked" if column == "reason" else "[]",))
        connection.execute("UPDATE messages SET visible_at = 0")  # it rests for a minute
    connection.close()
    assert (await rollout.run()).code == 0, "and the request had stayed on the queue"


async def test_an_unfinished_row_of_a_later_version_ends_the_run_once_everybody_else_is_done(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("eve"))
    assert (await rollout.run()).code == 0
    with closing(sqlite3.connect(rollout.ledger)) as connection, connection:
        connection.execute("UPDATE users SET state = 'in_progress', reason = 'grown_too_old'")
    connection.close()

    await rollout.push(await rollout.sign_in("ana", "ben"))
    ended = await rollout.run()
    assert ended.code == 3, ended.err
    assert "the row of 'eve' in the ledger cannot be read" in ended.err
    assert set(await rollout.users("delivered")) == {"ana", "ben"}
    dismissed = await rollout.command("dismiss", rollout.file(["eve"]), "--why", "test")
    assert dismissed.code == 1
    assert "left: 'eve'" in dismissed.err


async def test_recipients_too_many_for_the_channel_are_refused_at_start(
    tmp_path: Path, ministack: Emulator, aws_credentials: None
) -> None:
    async with aws_rollout_in(tmp_path, ministack, "secretsmanager") as rollout:
        rollout.configure(seal={"recipients": [keygen("today")[1] for _ in range(700)]})
        await rollout.push(await rollout.sign_in("ana"))
        ended = await rollout.run()
        assert ended.code == 2, ended.err
        assert "seal.recipients" in ended.err
        assert await rollout.states() == {}
