"""A damaged row that was not seen before the first call is found while the run works, and ends it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.adapters.ledgers.rigs import opened
from tests.support.rows import row, sealed
from worker.app.damage import looking_at_all_rows, refuse_damaged
from worker.app.stores import Stores
from worker.core.errors import ExitCode, RowDamaged
from worker.core.model import State
from worker.engine.shutdown import Shutdown


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    async with opened(tmp_path / "rollout.db") as ledger:
        for name in ("ana", "bob"):
            await ledger.put(row(name, State.DELIVERED, sealed=sealed(2, blob=b"")), None)
    return tmp_path / "rollout.db"


@pytest.fixture
async def stores(path: Path) -> AsyncIterator[Stores]:
    async with opened(path) as ledger:
        yield cast("Stores", SimpleNamespace(ledger=ledger, files=[]))


def damage_bob(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER row_has_another_checksum")
        connection.execute("UPDATE users SET generation = generation + 4 WHERE username = 'bob'")


async def test_a_damaged_row_ends_the_run_while_it_works(stores: Stores, path: Path) -> None:
    damage_bob(path)
    shutdown = Shutdown()
    async with looking_at_all_rows(stores, shutdown):
        async with asyncio.timeout(20):
            await shutdown.wake.wait()
    assert isinstance(shutdown.reason, RowDamaged)
    assert shutdown.reason.username == "bob"
    assert shutdown.reason.exit_code is ExitCode.PERSON_MUST_ACT


async def test_what_is_sound_ends_no_run_and_the_look_ends_with_it(stores: Stores) -> None:
    shutdown = Shutdown()
    async with looking_at_all_rows(stores, shutdown):
        pass
    assert shutdown.reason is None
    assert await refuse_damaged(stores)


async def test_a_look_whose_time_is_up_says_that_not_all_was_looked_at(stores: Stores) -> None:
    assert not await refuse_damaged(stores, 1e-9)
