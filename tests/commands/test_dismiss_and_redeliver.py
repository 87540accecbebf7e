"""What a person says of users by hand: that they are not to be enrolled, and that a record is to be delivered again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.support.aws_rollout import aws_rollout_in
from tests.support.emulators import Emulator
from tests.support.rollout import Rollout

WHY = "left the company"


async def unfinished_business(rollout: Rollout) -> None:
    """``ana`` is delivered, ``eve`` failed and ``ned`` needs a session."""
    await rollout.fake_cognito.set_faults("invalid_parameter@eve=1x", "token_revoked@ned=1x")
    await rollout.push(await rollout.sign_in("ana", "eve", "ned"))
    assert (await rollout.run()).code == 1


async def dismissal(rollout: Rollout) -> None:
    await unfinished_business(rollout)
    file = rollout.file(["eve", "", "  ned  ", '{"username": "never-seen", "state": "unrequested"}'])
    ended = await rollout.command("dismiss", file, "--why", WHY)
    assert ended.code == 0, ended.err
    assert ended.out == "dismissed 3, already skipped 0, left 0, malformed 0\n"
    assert "the ledger did not know 1 of them; are they spelt right? 'never-seen'" in ended.err

    assert await rollout.states() == {"delivered": 1, "skipped": 3}
    assert (await rollout.run()).code == 0, "and they hold up nobody any more"
    exported = await rollout.command("export", "--state", "skipped")
    rows = [json.loads(line) for line in exported.out.splitlines()]
    assert {(row["reason"], row["detail"]) for row in rows} == {("dismissed", WHY)}

    again = await rollout.command("dismiss", file, "--why", WHY)
    assert (again.code, again.out) == (0, "dismissed 0, already skipped 3, left 0, malformed 0\n")

    await rollout.push(await rollout.sign_in("eve"))
    assert (await rollout.run()).code == 0
    assert set(await rollout.users("delivered")) == {"ana", "eve"}, "a new request enrols after all"
    assert not (await rollout.audit()).stale


async def test_whoever_is_dismissed_holds_up_nobody_any_more(rollout: Rollout) -> None:
    await dismissal(rollout)


async def test_the_same_on_aws(tmp_path: Path, ministack: Emulator, aws_credentials: None) -> None:
    async with aws_rollout_in(tmp_path, ministack, "s3") as rollout:
        await dismissal(rollout)


async def test_whoever_has_a_secret_or_is_under_way_is_left_and_named(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("hang_acted@ned=1x")
    await rollout.push(await rollout.sign_in("ana", "ned"))
    running = rollout.start("run", env={"MFA_WORKER_COGNITO__CALL_TIMEOUT": "0.9"})
    await rollout.until_in("in_progress", 1)
    await rollout.until_in("delivered", 1)
    ended = await rollout.command("dismiss", rollout.file(["ana", "ned", "x" * 200]), "--why", WHY)
    assert ended.code == 1
    assert ended.out == "dismissed 0, already skipped 0, left 2, malformed 1\n"
    assert "left: 'ana' is delivered" in ended.err
    assert "left: 'ned' is in_progress: let a run finish them first (mfa-worker run)" in ended.err
    assert (await running.ended()).code in (0, 1)
    assert not (await rollout.audit()).stale


@pytest.mark.parametrize("why", ["", "   ", "x" * 101, "two\nlines", "\x1b[31mred"])
async def test_a_reason_that_cannot_be_shown_is_refused(rollout: Rollout, why: str) -> None:
    await unfinished_business(rollout)
    ended = await rollout.command("dismiss", rollout.file(["eve"]), "--why", why)
    assert ended.code == 2
    assert "one line of 1 to 100 characters" in ended.err
    assert await rollout.users("failed") == {"eve": "invalid_parameter"}


async def test_nothing_is_dismissed_where_there_is_no_ledger_or_no_file(rollout: Rollout) -> None:
    for command in (("dismiss", rollout.file(["eve"]), "--why", WHY), ("redeliver", rollout.file(["eve"]))):
        ended = await rollout.command(*command)
        assert ended.code == 2, ended.err
        assert "there is no ledger at" in ended.err
    assert not rollout.has_ledger()
    assert (await rollout.command("dismiss", "nowhere.txt", "--why", WHY)).code == 2
    assert (await rollout.command("dismiss", rollout.file(["eve"]))).code == 2


async def redelivery(rollout: Rollout) -> None:
    rollout.configure(ledger={"keep_sealed": True})
    await rollout.push(await rollout.sign_in("ana", "ben", "eve"))
    assert (await rollout.run()).code == 0
    first = await rollout.attempts()

    replacing = [request | {"replace": True} for request in await rollout.sign_in("ben")]
    await rollout.push(replacing)
    assert (await rollout.run()).code == 0
    calls = (await rollout.fake_cognito.stats()).wire_requests

    ended = await rollout.command("redeliver", rollout.file(["ana", "ben", "nobody"]))
    assert ended.code == 1
    assert ended.out == "delivered again 2, left 1, malformed 0\n"
    assert "left: 'nobody' is not in the ledger" in ended.err
    assert (await rollout.fake_cognito.stats()).wire_requests == calls, "without a call"
    assert (await rollout.attempts())["ana"] == first["ana"], "the same record, byte for byte"
    assert not (await rollout.audit()).stale
    assert await rollout.states() == {"delivered": 3}


async def test_a_kept_record_is_delivered_again(rollout: Rollout) -> None:
    await redelivery(rollout)
    times = Counter(json.loads(line)["username"] for line in rollout.channel.read_text().splitlines())
    assert times == {"ana": 2, "ben": 3, "eve": 1}
    lines = [line for line in rollout.channel.read_text().splitlines() if json.loads(line)["username"] == "ana"]
    assert len(set(lines)) == 1


async def test_a_kept_record_is_delivered_again_on_aws(
    tmp_path: Path, ministack: Emulator, aws_credentials: None
) -> None:
    async with aws_rollout_in(tmp_path, ministack, "s3") as rollout:
        await redelivery(rollout)


async def test_a_record_that_was_not_kept_is_named_with_the_cure(rollout: Rollout) -> None:
    await unfinished_business(rollout)
    ended = await rollout.command("redeliver", rollout.file(["ana", "eve"]))
    assert (ended.code, ended.out) == (1, "delivered again 0, left 2, malformed 0\n")
    assert 'no sealed record is kept (ledger.keep_sealed is false): push a request with "replace": true' in ended.err
    assert "left: 'eve' is failed: has no secret that could be delivered; push a new request" in ended.err
