"""A few users whom Cognito always refuses: the others get their secrets, and the few are told apart, run after run."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.rollout import Rollout, rollout_in
from worker.app import commands

BAD = [f"bad-{number}" for number in range(6)]
GOOD = [f"good-{number}" for number in range(60)]


@pytest.fixture
async def rollout(tmp_path: Path) -> AsyncIterator[Rollout]:
    async with rollout_in(tmp_path) as opened:
        yield opened


async def exported(rollout: Rollout, state: str) -> dict[str, tuple[str, str | None]]:
    text = io.StringIO()
    await commands.export(rollout.settings(), commands.state(state), text)
    rows = map(json.loads, text.getvalue().splitlines())
    return {row["username"]: (row["reason"], row.get("detail")) for row in rows}


async def test_those_at_the_front_of_the_queue_are_refused_alone_in_every_run(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("client_gone~bad-=1")
    report = rollout.folder / "report.json"
    for run in (1, 2):
        await rollout.push(await rollout.sign_in(*BAD, validity=600.0))
        await rollout.push(await rollout.sign_in(*(f"{name}-{run}" for name in GOOD)))

        ended = await rollout.run("--report", str(report))

        assert ended.code == 1
        assert "Sign the user in through an app client that exists" in ended.err
        said = json.loads(report.read_text())
        assert said["states"]["delivered"] == run * len(GOOD)
        assert said["reasons"] == {"refused": len(BAD)}
        assert said["codes"] == {"refused": {"ResourceNotFoundException": len(BAD)}}
        assert await exported(rollout, "failed") == dict.fromkeys(BAD, ("refused", "ResourceNotFoundException"))
    assert (await rollout.audit()).stale == set()


async def test_a_user_with_a_limit_of_their_own_is_throttled_alone(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("limit_exceeded@bad-0=1")

    ended = await rollout.run("--input", rollout.file(await rollout.sign_in("bad-0", *GOOD)))

    assert ended.code == 1
    assert await exported(rollout, "failed") == {"bad-0": ("throttled_alone", "LimitExceededException")}


async def test_a_wave_ends_although_one_of_it_is_refused(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("client_gone~bad-=1")
    await rollout.push(await rollout.sign_in("bad-0", *GOOD))
    wave = rollout.folder / "wave.txt"
    wave.write_text("bad-0\n" + "\n".join(GOOD[:20]) + "\n")

    ended = await rollout.run("--only", str(wave))

    assert ended.code == 5
    assert await rollout.states() == {"delivered": 20, "failed": 1}


async def test_max_users_counts_nobody_who_is_only_postponed(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("client_gone~bad-=1")
    await rollout.push(await rollout.sign_in("bad-0", "bad-1", validity=600.0))
    await rollout.push(await rollout.sign_in(*GOOD))

    ended = await rollout.run("--max-users", "30")

    assert ended.code == 5
    states = await rollout.states()
    assert states.get("delivered", 0) + states.get("failed", 0) == 30


async def test_where_only_refused_users_wait_it_is_the_pool_and_they_are_given_back(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_faults("client_gone~bad-=1")
    await rollout.push(await rollout.sign_in(*BAD))

    ended = await rollout.run()

    assert ended.code == 3
    status = await rollout.status()
    assert (status["backlog"], status["reasons"]) == (len(BAD), {})
