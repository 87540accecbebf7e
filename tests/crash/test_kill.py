"""Workers that die without a goodbye, at any moment: nobody is forgotten, and nobody holds a stale secret."""

from __future__ import annotations

import pytest

from tests.crash.long_kill import long_kill
from tests.support.processes import until
from tests.support.rollout import Rollout


async def test_six_kills_over_a_few_hundred_users_with_tokens_lose_nobody(rollout: Rollout) -> None:
    rollout.configure(queue={"path": str(rollout.folder / "queue.db")}, ledger={"path": str(rollout.ledger)})

    outcome = await long_kill(rollout, users=600, kills=6, seed=1, credential="token")

    assert outcome.holds, outcome
    assert outcome.lost == 0, "a token can be used again, so nothing needs to be reported"


@pytest.mark.timeout(300)
async def test_twenty_kills_over_two_thousand_users_with_sessions_report_what_was_lost(rollout: Rollout) -> None:
    outcome = await long_kill(rollout, users=2_000, kills=20, seed=2, credential="session")

    assert outcome.holds, outcome
    assert outcome.lost > 0, "no kill met a call in flight: this proved nothing"


async def test_a_queue_that_was_purged_after_a_crash_leaves_nobody_behind(rollout: Rollout) -> None:
    queue = rollout.folder / "queue.db"
    rollout.configure(queue={"path": str(queue)}, ledger={"path": str(rollout.ledger)}, run={"concurrency": 8})
    await rollout.fake_cognito.set_latency(0.3)
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(30)), credential="session"))
    dying = rollout.start("run")
    await rollout.until_delivered(4)
    await dying.kill()
    for file in rollout.folder.glob("queue.db*"):
        file.unlink()

    ended = await rollout.run()

    status = await rollout.status()
    lost = await rollout.users("needs_session")
    assert ended.code == (1 if lost else 0)
    assert status["states"]["in_progress"] == status["states"]["sealed"] == 0
    assert status["states"]["delivered"] + len(lost) == status["accepted"] >= 4
    assert not (await rollout.audit()).stale


async def test_a_push_that_was_killed_can_be_done_again(rollout: Rollout) -> None:
    requests = await rollout.sign_in(*(f"user-{number}" for number in range(3_000)))
    file = rollout.file(requests)

    killed = rollout.start("push", file)
    await until(rollout.ledger.exists)

    async def some_are_in() -> bool:
        return killed.is_over or (await rollout.status())["backlog"] > 0

    await until(some_are_in)
    await killed.kill()
    first = (await rollout.status())["backlog"]
    again = await rollout.command("push", file)

    assert again.out == f"accepted {3_000 - first}, duplicate {first}, malformed 0\n"
    assert (await rollout.status())["backlog"] == 3_000
