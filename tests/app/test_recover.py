"""A recovery comes to its end: whoever is named outside the ledger has a row afterwards that is not behind the name."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.ended_rollout import here, kept, put
from tests.support.rows import row, sealed
from worker.app import older
from worker.app.repair.recover import recover
from worker.app.stores import Purpose, open_stores
from worker.core.model import Enrolment, Reason, State
from worker.settings import Settings

IN_DOUBT = row("ana", State.NEEDS_SESSION, reason=Reason.REPLY_LOST, generation=4, sealed=sealed(3, blob=b""))
DELIVERED = row("ana", State.DELIVERED, generation=4, sealed=sealed(4, blob=b""))
LATER = row("ana", State.NEEDS_SESSION, reason=Reason.REPLY_LOST, generation=9, sealed=sealed(3, blob=b""))


async def refusal(settings: Settings) -> str | None:
    async with open_stores(settings, Purpose.EXISTING) as stores:
        found = await older.refusal(settings, stores)
        return str(found) if found else None


@pytest.mark.parametrize(
    ("before", "is_listed"),
    [
        pytest.param(IN_DOUBT, False, id="in doubt"),
        pytest.param(DELIVERED, True, id="delivered, and in the file of those in doubt"),
        pytest.param(None, False, id="without a row"),
    ],
)
async def test_whoever_was_in_question_since_the_copy_keeps_no_recovery_from_its_end(
    tmp_path: Path, before: Enrolment | None, *, is_listed: bool
) -> None:
    settings, ledger, copy = here(tmp_path), tmp_path / "rollout.db", tmp_path / "copy"
    await put(settings, row("ben", State.FAILED), *([before] if before else []), delivers=False)
    shutil.copy2(ledger, copy)
    async with open_stores(settings, Purpose.EXISTING) as stores:
        await stores.ledger.put(LATER, before.version if before else None)
    copy.rename(ledger)
    assert "older copy" in (await refusal(settings) or "")
    (listed := tmp_path / "doubt").write_text("ana\n")

    await recover(settings, doubt=listed if is_listed else None, act=True)

    assert await refusal(settings) is None
    ana = (await kept(settings))["ana"]
    assert (ana.state, ana.reason) == (State.NEEDS_SESSION, Reason.REPLY_LOST)
    assert ana.generation > LATER.generation


async def test_the_damaged_row_of_somebody_who_is_in_question_is_replaced_once(tmp_path: Path) -> None:
    settings = here(tmp_path)
    await put(settings, IN_DOUBT, row("ben", State.FAILED), delivers=False)
    with closing(sqlite3.connect(tmp_path / "rollout.db", isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER row_has_another_checksum")
        connection.execute("UPDATE users SET generation = generation - 1 WHERE username = 'ana'")

    plan = await recover(settings, act=True)

    assert (plan.damaged, plan.in_doubt) == (["ana"], ["ana"])
    assert await refusal(settings) is None
    assert (await kept(settings))["ana"].generation > IN_DOUBT.generation
