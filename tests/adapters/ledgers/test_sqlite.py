"""What the embedded ledger promises beyond the port: which writes wait for each other, and which never do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.adapters.ledgers.rigs import STAMP
from tests.support.rows import row, sealed
from worker.adapters.ledgers.sqlite.ledger import SqliteLedger
from worker.adapters.sqlite.database import Database
from worker.adapters.sqlite.liveness import Liveness
from worker.core.model import Enrolment, State, Written

AN_HOUR = 3600.0


@asynccontextmanager
async def opened(path: Path, *, gather: float) -> AsyncIterator[SqliteLedger]:
    database = Database(path)
    ledger = SqliteLedger(database, Liveness(path, "one"), gather=gather)
    try:
        await ledger.open(STAMP)
        yield ledger
    finally:
        await database.close()


async def test_a_recorded_secret_never_waits_for_other_writes(tmp_path: Path) -> None:
    async with opened(tmp_path / "rollout.db", gather=AN_HOUR) as ledger:
        recorded = row("ana", State.SEALED, sealed=sealed())
        assert await asyncio.wait_for(ledger.put(recorded, None), 10) == Written(recorded)


@pytest.mark.parametrize("waits", [row("ana", State.IN_PROGRESS), row("ana", State.FAILED)])
async def test_a_claim_and_an_outcome_wait_for_others_and_go_with_the_next_that_does_not(
    tmp_path: Path, waits: Enrolment
) -> None:
    async with opened(tmp_path / "rollout.db", gather=AN_HOUR) as ledger:
        waiting = asyncio.ensure_future(ledger.put(waits, None))
        await asyncio.sleep(0.05)
        assert await ledger.read("ana") is None
        await asyncio.wait_for(ledger.put(row("bob", State.SEALED, sealed=sealed()), None), 10)
        assert await asyncio.wait_for(waiting, 10) == Written(waits)
        assert await ledger.read("ana") == waits


async def test_writes_that_wait_are_made_when_their_time_is_over(tmp_path: Path) -> None:
    async with opened(tmp_path / "rollout.db", gather=0.02) as ledger:
        claims = [row(name) for name in ("ana", "bob")]
        written = await asyncio.wait_for(asyncio.gather(*(ledger.put(claim, None) for claim in claims)), 10)
        assert written == [Written(claim) for claim in claims]


async def test_closing_makes_the_writes_that_wait(tmp_path: Path) -> None:
    async with opened(tmp_path / "rollout.db", gather=AN_HOUR) as ledger:
        waiting = asyncio.ensure_future(ledger.put(row("ana"), None))
        await asyncio.sleep(0)
    assert isinstance(await waiting, Written)
