"""``purge``: what is secret and needed no more is gone from every file and queue, and the states stay."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from tests.support.processes import Ended
from tests.support.rollout import Rollout
from worker.app.stores import Purpose, open_stores
from worker.core.model import Enrolment


async def rows(rollout: Rollout) -> dict[str, Enrolment]:
    async with (
        open_stores(rollout.settings(), Purpose.EXISTING) as stores,
        aclosing(stores.ledger.every_row()) as found,  # type: ignore[type-var]
    ):
        return {row.username: row async for row in found}


def traces(rollout: Rollout, *secrets: str | bytes) -> set[str]:
    """The files of ledger, queue and mark that hold a part of one of these; SQLite may store it in two parts."""
    whole = [each.encode() if isinstance(each, str) else each for each in secrets]
    parts = [each[start : start + 24] for each in whole for start in range(0, len(each) - 23, 24)]
    files = [each for each in rollout.folder.iterdir() if each.name.startswith((rollout.ledger.name, "enrolments"))]
    found = {each.name for each in files if each.is_file() and any(part in each.read_bytes() for part in parts)}
    return found - {rollout.channel.name}


async def finished(rollout: Rollout, *usernames: str) -> None:
    """Everybody is delivered, and one is left to a person; the sealed records are kept."""
    rollout.configure(ledger={"keep_sealed": True})
    await rollout.fake_cognito.set_faults("invalid_parameter@eve=1x")
    await rollout.push([*(await rollout.sign_in(*usernames, "eve")), '{"username": "bad"}'])
    assert (await rollout.run()).code == 1


async def still_works(rollout: Rollout) -> None:
    """Every command that looks, and a run."""
    for command in (("status",), ("show", "ana"), ("export", "--state", "failed"), ("report", "--html", "page.html")):
        ended = await rollout.command(*command)
        assert ended.code == 0, (command, ended.err)
    assert (await rollout.run()).code == 1, "somebody failed, as before"


async def purged(rollout: Rollout) -> Ended:
    """The plan changes nothing, doing it erases, doing it again finds nothing; the counts stay the same."""
    before, kept = await rollout.status(), await rows(rollout)
    blobs = [row.sealed.blob for row in kept.values() if row.sealed and row.sealed.blob]
    assert blobs
    plan = await rollout.command("purge")
    assert plan.code == 0, plan.err
    assert f"{len(blobs)} sealed records of users who are done" in plan.out
    assert "to do this: mfa-worker purge --yes" in plan.out
    assert await rows(rollout) == kept

    done = await rollout.command("purge", "--yes")
    assert done.code == 0, done.err
    assert done.out.startswith("What is erased:"), "the plan comes first"
    after = await rows(rollout)
    assert not [row for row in after.values() if row.sealed and row.sealed.blob]
    assert {name: (row.state, row.reason, row.since, row.generation) for name, row in after.items()} == {
        name: (row.state, row.reason, row.since, row.generation) for name, row in kept.items()
    }
    assert after["ana"].events[-1].what == "purged"
    assert await rollout.status() == before
    again = await rollout.command("purge", "--yes")
    assert again.code == 0
    assert " 0 sealed records" in again.out
    assert await rows(rollout) == after, "nobody is written twice"
    return done


async def test_what_was_kept_is_gone_from_every_file_and_the_states_stay(rollout: Rollout) -> None:
    await finished(rollout, "ana", "ben")
    blobs = [row.sealed.blob for row in (await rows(rollout)).values() if row.sealed]
    assert traces(rollout, *blobs)

    await purged(rollout)

    assert not traces(rollout, *blobs)
    assert not traces(rollout, *rollout.credentials)
    await still_works(rollout)
    assert "no sealed record is kept" in (await rollout.command("redeliver", rollout.file(["ana"]))).err
    assert not (await rollout.audit()).stale


async def test_a_kill_anywhere_leaves_what_the_next_one_finishes(rollout: Rollout) -> None:
    await finished(rollout, *(f"user-{number}" for number in range(30)), "ana")
    for delay in (0.15, 0.25, 0.3, 0.35, 0.4):
        killed = rollout.start("purge", "--yes")
        await asyncio.sleep(delay)
        await killed.kill()
    assert (await rollout.command("purge", "--yes")).code == 0
    assert not [row for row in (await rows(rollout)).values() if row.sealed and row.sealed.blob]
    await still_works(rollout)


async def test_without_a_ledger_nothing_is_made(rollout: Rollout) -> None:
    refused = await rollout.command("purge", "--yes")

    assert refused.code == 2
    assert "there is no ledger" in refused.err
    assert not rollout.ledger.exists()
