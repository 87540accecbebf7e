"""Machines whose clock is wrong, seen from outside: nobody loses a credential to it, and whoever must is told.

The fake Cognito's clock is the one that is moved (``clock_skew``); for a command that is the same as its own being off.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

import worker
from tests.support.rollout import Rollout, rollout_in
from tests.support.wire import unused_port
from worker.app import stores
from worker.core.errors import PersonMustAct
from worker.rehearsal.fake_cognito.config import CredentialKind

USERS = [f"user-{number}" for number in range(40)]
CREDENTIALS: list[CredentialKind] = ["token", "session"]


@pytest.fixture
async def rollout(tmp_path: Path) -> AsyncIterator[Rollout]:
    async with rollout_in(tmp_path) as rollout:
        yield rollout


@pytest.mark.parametrize("credential", CREDENTIALS)
@pytest.mark.parametrize("ahead", [-7200.0, -90.0, 90.0, 7200.0])
async def test_with_a_clock_that_is_more_than_a_minute_off_nobody_is_called_or_given_up(
    rollout: Rollout, ahead: float, credential: CredentialKind
) -> None:
    requests = await rollout.sign_in(*USERS, credential=credential)
    await rollout.push(requests)
    await rollout.fake_cognito.configure(clock_skew=-ahead)

    ended = await rollout.run()

    assert ended.code == 3
    (stopped,) = ended.logged("stopped")
    assert any(f" {abs(ahead) + more:,.0f} s " in stopped["cause"] for more in (-1, 0, 1)), stopped["cause"]
    assert ("ahead of" if ahead > 0 else "behind") in stopped["cause"]
    assert "NTP" in stopped["cure"]
    assert (await rollout.fake_cognito.stats()).wire_requests == 0
    status = await rollout.status()
    assert status["accepted"] == 0
    assert status["backlog"] == len(USERS)


@pytest.mark.parametrize("ahead", [-40.0, 40.0])
async def test_with_a_clock_that_is_less_off_everybody_whose_session_lives_is_enrolled(
    rollout: Rollout, ahead: float
) -> None:
    """Sessions live 30 s here: by the machine's own clock all of them would be dead, or never die."""
    rollout.configure(cognito={"session_validity": 30.0}, channel={"min_validity": 10.0})
    await rollout.fake_cognito.configure(clock_skew=-ahead, session_validity=30.0)
    requests = await rollout.sign_in(*USERS, credential="session")
    for request in requests:
        del request["expires_at"]  # so that push dates them
    await rollout.push(requests)

    ended = await rollout.run()

    assert ended.code == 0
    assert await rollout.states() == {"delivered": len(USERS)}


async def test_sessions_that_died_by_cognitos_clock_are_not_called_by_a_clock_that_is_behind(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in(*USERS, credential="token", validity=20.0))
    await rollout.fake_cognito.configure(clock_skew=40.0)

    ended = await rollout.run()

    assert ended.code == 1
    assert await rollout.states() == {"needs_session": len(USERS)}
    assert (await rollout.fake_cognito.stats()).wire_requests == 0


async def test_clocks_that_come_apart_during_a_run_end_it_and_nobody_is_given_up(rollout: Rollout) -> None:
    rollout.configure(run={"watchdog": 1.0}, rate={"requests_per_second": 5})
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(100))))
    running = rollout.start("run")
    await rollout.until_called(3)
    await rollout.fake_cognito.configure(clock_skew=300.0)

    ended = await running.ended()

    assert ended.code == 3
    assert "clock" in ended.logged("stopped")[0]["cause"]
    assert "needs_session" not in await rollout.states()


async def test_an_endpoint_that_does_not_answer_costs_nobody_and_ends_with_75(rollout: Rollout) -> None:
    with unused_port() as url:
        rollout.configure(cognito={"endpoint_url": url, "patience": 0.5})
        await rollout.push(await rollout.sign_in(*USERS, validity=-5.0))

        ended = await rollout.run()

    assert ended.code == 75
    assert "Connection refused" in ended.logged("stopped")[0]["cause"]
    assert await rollout.states() == {}


async def test_an_empty_queue_needs_no_endpoint(rollout: Rollout) -> None:
    with unused_port() as url:
        rollout.configure(cognito={"endpoint_url": url})
        ended = await rollout.run()
    assert ended.code == 0


@pytest.mark.parametrize("ahead", [-7200.0, 90.0])
async def test_push_puts_nothing_on_the_queue_with_a_clock_that_is_more_than_a_minute_off(
    rollout: Rollout, ahead: float
) -> None:
    requests = rollout.file(await rollout.sign_in(*USERS, credential="session"))
    await rollout.fake_cognito.configure(clock_skew=-ahead)

    ended = await rollout.command("push", requests)

    assert ended.code == 3
    assert "clock" in ended.err
    await rollout.fake_cognito.configure(clock_skew=0.0)
    assert not rollout.has_ledger() or (await rollout.status())["backlog"] == 0


@pytest.mark.parametrize("ahead", [-7200.0, 90.0])
async def test_no_feed_opens_with_a_clock_that_is_more_than_a_minute_off(rollout: Rollout, ahead: float) -> None:
    await rollout.fake_cognito.configure(clock_skew=-ahead)
    with pytest.raises(PersonMustAct, match="clock"):
        async with worker.feed(rollout.settings()):
            pass


@pytest.mark.parametrize("ahead", [-40.0, 40.0])
async def test_the_feed_dates_a_session_by_cognitos_clock(rollout: Rollout, ahead: float) -> None:
    await rollout.fake_cognito.configure(clock_skew=-ahead)
    async with worker.feed(rollout.settings()) as feed:
        await feed.push({"username": "ana", "session": "s" * 40}, wait=False)
    [page] = [page async for page in stores.waiting(rollout.settings())]
    issued = datetime.fromisoformat(json.loads(page[0])["issued_at"]).timestamp()
    assert abs(issued - (time.time() - ahead)) < 5.0


async def test_a_push_while_cognito_is_away_says_so_once_and_goes_on(rollout: Rollout) -> None:
    requests = rollout.file(await rollout.sign_in(*USERS, credential="session"))
    with unused_port() as url:
        rollout.configure(cognito={"endpoint_url": url})
        ended = await rollout.command("push", requests)
    assert ended.code == 0
    (said,) = ended.logged("endpoint_unanswered")
    assert "Connection refused" in said["cause"]
    assert "cognito.endpoint_url" in said["cure"]
