"""A worker's own identity that nobody has any more: whom that concerns, what becomes of them, and that runs go on."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest

from tests.app.test_own_identity import begin, own_file, refused, settings
from tests.support.rows import activation, row, sealed
from worker.app.repair.dismiss import dismiss
from worker.app.repair.lost_identity import give_up
from worker.app.repair.recover import recover
from worker.app.stores import Purpose, open_stores
from worker.core.errors import UsageError
from worker.core.model import Enrolment, Reason, State
from worker.core.record import record_line

ROWS = [
    row("ana", State.DELIVERED, reason=Reason.ACTIVATION_PENDING, worker="dead", activation=activation()),
    row("ben", State.DELIVERED, reason=Reason.VERIFY_TOKEN_EXPIRED, activation=activation()),
    row("cem", State.SEALED, sealed=sealed(), activation=activation()),
    row("dan", State.IN_PROGRESS, before=State.DELIVERED, activation=activation()),
    row("eve", State.ACTIVE),
    row("fay", State.DELIVERED),
]


async def begun(folder: Path) -> None:
    async with open_stores(settings(folder), Purpose.RUN) as stores:
        await asyncio.gather(*(stores.ledger.put(each, None) for each in ROWS))


async def all_rows(folder: Path) -> dict[str, Enrolment]:
    async with open_stores(settings(folder, mode="none"), Purpose.EXISTING) as stores:
        return {each.username: each async for each in stores.ledger.every_row()}


async def test_it_is_shown_whom_that_concerns_and_nothing_is_changed(tmp_path: Path) -> None:
    await begun(tmp_path)
    found = await give_up(settings(tmp_path))
    assert (found.recipient or "").startswith("age1")
    assert (found.delivered.total, found.others.total, found.done) == (2, 2, False)
    assert await all_rows(tmp_path) == {each.username: each for each in ROWS}


async def test_nothing_of_it_is_left_and_the_next_run_has_an_identity_of_its_own(tmp_path: Path) -> None:
    await begun(tmp_path)
    own_file(tmp_path).unlink()
    assert "--lost-identity" in (await refused(settings(tmp_path))).hint
    assert (await give_up(settings(tmp_path), act=True)).done
    rows = await all_rows(tmp_path)
    assert {name: (each.state, each.reason) for name, each in rows.items()} == {
        "ana": (State.DELIVERED, Reason.VERIFY_UNKNOWN),
        "ben": (State.DELIVERED, Reason.VERIFY_TOKEN_EXPIRED),
        "cem": (State.NEEDS_SESSION, Reason.REPLY_LOST),
        "dan": (State.IN_PROGRESS, None),
        "eve": (State.ACTIVE, None),
        "fay": (State.DELIVERED, None),
    }
    assert not any(each.activation for each in rows.values())
    assert rows["ana"].worker is None
    assert (await give_up(settings(tmp_path), act=True)).recipient is None, "it is done once"
    assert await begin(settings(tmp_path), username="gus")
    assert own_file(tmp_path).exists()


async def test_nothing_is_given_up_beside_a_worker_that_runs(tmp_path: Path) -> None:
    await begun(tmp_path)
    async with open_stores(settings(tmp_path), Purpose.RUN) as stores:
        with stores.alive, pytest.raises(UsageError, match="a worker is at work"):
            await give_up(settings(tmp_path), act=True)


async def test_whose_activation_is_under_way_is_not_dismissed_and_who_is_left_to_a_person_is(tmp_path: Path) -> None:
    await begun(tmp_path)
    told = await dismiss(settings(tmp_path), io.BytesIO(b"ana\nben\n"), "left the company")
    assert (told.done, told.left.total) == (1, 1)
    assert "activation_pending: let a run finish them first" in next(told.left.lines())
    rows = await all_rows(tmp_path)
    assert (rows["ben"].state, rows["ben"].activation) == (State.SKIPPED, None)
    assert rows["ana"] == ROWS[0]


@pytest.mark.parametrize("mode", ["verify", "none"])
async def test_who_was_delivered_since_a_copy_of_an_activating_ledger_may_be_activated_or_not(
    tmp_path: Path, mode: str
) -> None:
    async with open_stores(settings(tmp_path, mode=mode), Purpose.RUN) as stores:
        await stores.ledger.put(row("ana", State.NEEDS_SESSION, reason=Reason.REPLY_LOST), None)
    (later := tmp_path / "later.jsonl").write_bytes(
        record_line("ana", sealed(2, blob=b"age-encryption.org/v1\n")) + b"\n"
    )
    plan = await recover(settings(tmp_path, mode=mode), files=[later], act=True)
    assert plan.delivered == 1
    found = (await all_rows(tmp_path))["ana"]
    assert found.state is State.DELIVERED
    assert found.reason is (Reason.VERIFY_UNKNOWN if mode == "verify" else None)
