"""A command that is interrupted says so, says what was done, and exits 4, however often it is told."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.processes import until
from tests.support.rollout import Rollout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_push_that_is_interrupted_says_what_became_of_it(rollout: Rollout, number: signal.Signals) -> None:
    reading, writing = os.pipe()
    pushing = rollout.start("push", "-", stdin=reading)
    os.close(reading)
    await until(rollout.ledger.exists)

    await until(lambda: _is_reading(pushing.popen.pid))
    pushing.signal(number)
    ended = await pushing.ended()
    os.close(writing)

    assert ended.code == 4, ended.err
    assert "mfa-worker: push was interrupted\n  → whatever was put on the queue stays there" in ended.err
    assert "Traceback" not in ended.err


async def test_a_run_that_is_told_to_end_before_it_began_says_so(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana"))
    reading, writing = os.pipe()  # nobody writes: the command is still reading whom to work on
    running = rollout.start("run", "--only", "/dev/stdin", stdin=reading)
    os.close(reading)
    await until(lambda: _is_reading(running.popen.pid))

    running.signal(signal.SIGTERM)
    running.signal(signal.SIGTERM)
    ended = await running.ended()
    os.close(writing)

    assert (ended.code, ended.err.lstrip()) == (
        4,
        "mfa-worker: run was interrupted\n  → nobody was begun; run the same command again\n",
    )
    assert await rollout.states() == {}


def _is_reading(pid: int) -> bool:
    """Whether the process waits in a pipe."""
    with open(f"/proc/{pid}/wchan", encoding="ascii") as file:  # noqa: PTH123
        return "pipe" in file.read()


async def test_to_stop_at_as_many_users_as_were_asked_for_is_no_error(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana", "ben"))

    ended = await rollout.run("--max-users", "1")

    assert ended.code == 5
    assert [line["level"] for line in ended.logged("stopped")] == ["info"]


async def test_a_share_that_is_none_is_refused_in_a_dry_run_too(rollout: Rollout) -> None:
    ended = await rollout.run("--dry-run", "--tolerate", "1/4x")

    assert (ended.code, ended.out) == (2, "")
    assert "--tolerate takes a share such as 0.5% or 0.005, not '1/4x'" in ended.err


async def test_a_rehearsal_says_why_users_are_left_and_nothing_of_a_real_run(rollout: Rollout) -> None:
    ended = await rollout.command(
        *("rehearse", "--users", "4", "--rate", "100", "--latency", "0.01", "--fault", "token_revoked@user-1=1"),
        config=False,
    )

    assert ended.code == 0, ended.err
    assert "1 token_revoked: Cognito refuses the access token" in ended.out
    for said in ("mfa-worker run", "mfa-worker export", "accepted"):
        assert said not in ended.out + ended.err
