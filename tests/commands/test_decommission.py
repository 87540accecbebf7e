"""``decommission`` as a command: what it prints, how it exits, and what is left in the folder."""

from __future__ import annotations

import json
import shutil

from tests.support.rollout import POOL, Rollout


async def finished(rollout: Rollout) -> None:
    await rollout.push(await rollout.sign_in("ana", "ben"))
    assert (await rollout.run()).code == 0


async def test_the_plan_then_all_of_it_and_once_more(rollout: Rollout) -> None:
    await finished(rollout)
    plan = await rollout.command("decommission")
    assert plan.code == 0, plan.err
    assert plan.out.startswith("What is taken away, in this order:")
    assert "2 users delivered and not known to be active: this is the only copy" in plan.out
    assert "to do this: mfa-worker decommission --yes" in plan.out
    assert rollout.ledger.exists()

    done = await rollout.command("decommission", "--yes")

    assert done.code == 0, done.err
    assert done.out.startswith("What is taken away"), "the plan comes first"
    told = json.loads((rollout.folder / f"decommissioned-{POOL}.json").read_text("utf-8"))
    assert [(each["username"], each["state"]) for each in told["users"]] == [
        ("ana", "delivered"),
        ("ben", "delivered"),
    ]
    left = {each.name for each in rollout.folder.iterdir()}
    assert not {name for name in left if name.startswith(("rollout.db", "enrolments", ".mfa-worker"))}
    assert rollout.identity.exists(), "never an identity that opens"
    again = await rollout.command("decommission", "--yes")
    assert (again.code, again.out.strip()) == (0, "nothing of this rollout is left where these settings say")


async def test_refusals_say_why_and_touch_nothing(rollout: Rollout) -> None:
    nothing = await rollout.command("decommission", "--yes")
    assert nothing.code == 0
    await rollout.push(await rollout.sign_in("ana"))
    waits = await rollout.command("decommission", "--yes")
    assert waits.code == 2
    assert "1 request waits" in waits.out
    assert (await rollout.run()).code == 0
    wrong = await rollout.command("decommission", "--yes", "--app-client", "abc")
    assert wrong.code == 2
    assert "sign_in.client_id is not set" in wrong.err
    mine = rollout.folder / "mine.json"
    mine.write_text("{}")
    kept = await rollout.command("decommission", "--yes", "--report", str(mine))
    assert kept.code == 2
    assert mine.read_text() == "{}"
    assert await rollout.states() == {"delivered": 1}
    assert (await rollout.command("decommission", "--yes", "--report", "no/folder.json")).code == 2


async def test_a_file_that_is_more_than_the_queue_is_not_deleted_and_no_earlier_reconciliation_replaced(
    rollout: Rollout,
) -> None:
    rollout.configure(ledger={"path": str(rollout.ledger)})
    await finished(rollout)
    another = rollout.folder / "another.db"
    shutil.copy(rollout.ledger, another)  # ledger and queue of another rollout in one file, as is the default
    rollout.configure(queue={"path": str(another)})

    for command in ("decommission", "purge"):
        refused = await rollout.command(command, "--yes")
        assert refused.code == 2
        assert "another.db holds more than a queue (tables: " in refused.out
        assert "correct queue.path" in refused.out
    rollout.configure(queue={"path": str(rollout.ledger)})
    assert await rollout.states() == {"delivered": 2}
    assert another.exists()

    earlier = rollout.folder / f"decommissioned-{POOL}.json"
    in_the_way = rollout.folder / f".mfa-worker-erasing-{rollout.channel.name}"
    in_the_way.mkdir()
    assert (await rollout.command("decommission", "--yes")).code == 1
    checked = await rollout.command("check")
    assert checked.code == 2
    assert "is being taken away" in checked.out
    in_the_way.rmdir()
    assert (await rollout.command("decommission", "--yes")).code == 0
    before = earlier.read_bytes()
    await finished(rollout)  # the same pool once more
    kept = await rollout.command("decommission", "--yes")
    assert kept.code == 2
    assert "no reconciliation of this rollout" in kept.err
    assert (await rollout.command("decommission", "--yes", "--report", "second.json")).code == 0
    assert earlier.read_bytes() == before
