"""What activation needs after a crash is in no file of an embedded ledger any more, soon after its outcome."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.adapters.ledgers.rigs import opened
from tests.support.processes import until
from tests.support.rows import activation, row, sealed
from worker.adapters.ledgers.sqlite.ledger import SqliteLedger
from worker.core.model import Enrolment, Reason, State

NEEDED = b"never-to-be-found-again"
IDLE = 5.0
"""Seconds within which an idle worker erases."""
OUTCOMES = {
    "active": row(state=State.ACTIVE, sealed=sealed(blob=b"")),
    "refused": row(state=State.DELIVERED, reason=Reason.VERIFY_REFUSED, sealed=sealed(blob=b"")),
    "dismissed": row(state=State.SKIPPED, reason=Reason.DISMISSED),
}
EARLIER = """
CREATE TABLE users (
    username TEXT PRIMARY KEY, version TEXT NOT NULL, state TEXT NOT NULL, reason TEXT, since REAL NOT NULL,
    generation INTEGER NOT NULL, worker TEXT, lease_until REAL NOT NULL, doubt INTEGER NOT NULL, crashes INTEGER NOT
    NULL, before TEXT, request_id TEXT, kind TEXT, settled TEXT NOT NULL,
    sealed_generation INTEGER, attempt_id TEXT, associated_at TEXT, session_expires_at REAL, blob BLOB, replaces TEXT
) WITHOUT ROWID;
CREATE TABLE stamp (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO users (username, version, state, since, generation, lease_until, doubt, crashes, before, kind, settled)
VALUES ('ana', 'earlier:1', 'in_progress', 0, 1, 0, 0, 0, 'delivered', 'session', '[]');
"""
"""A ledger as an early version made it, with one row."""


async def activate(ledger: SqliteLedger, outcome: Enrolment) -> None:
    """Go through the writes of one user: the need is as long as with a token, and is written anew twice."""
    steps = [
        row(state=State.SEALED, sealed=sealed(), activation=activation(NEEDED * 100)),
        row(state=State.DELIVERED, reason=Reason.ACTIVATION_PENDING, activation=activation(NEEDED * 700)),
        row(state=State.DELIVERED, reason=Reason.ACTIVATION_PENDING, activation=activation(NEEDED * 3, verified=True)),
        outcome,
    ]
    before = None
    for step in steps:
        await ledger.put(step, before)
        before = step.version


def traces(folder: Path) -> list[str]:
    """The files that hold what activation needed."""
    return [each.name for each in sorted(folder.iterdir()) if each.is_file() and NEEDED in each.read_bytes()]


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
async def test_an_idle_worker_leaves_nothing_in_its_files(tmp_path: Path, outcome: Enrolment) -> None:
    async with opened(tmp_path / "rollout.db") as ledger:
        await activate(ledger, outcome)
        await until(lambda: not traces(tmp_path), within=IDLE)
        assert await ledger.read("ana") == outcome


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.adapters.ledgers.test_activation_erased import OUTCOMES, activate, opened

async def main() -> None:
    async with opened(Path(sys.argv[1])) as ledger:
        await activate(ledger, OUTCOMES["active"])
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_after_a_kill_the_next_worker_erases_it(tmp_path: Path) -> None:
    path = tmp_path / "rollout.db"
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(path))
    assert await killed.wait() == -signal.SIGKILL
    assert traces(tmp_path) == ["rollout.db-wal"], "of what is written together, the log keeps the earlier"
    async with opened(path) as ledger:
        assert (found := await ledger.read("ana")) is not None
        assert found.state is State.ACTIVE
        await until(lambda: not traces(tmp_path), within=IDLE)


async def test_a_ledger_of_an_earlier_version_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "rollout.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(EARLIER)
    path.chmod(0o600)
    async with opened(path) as ledger:
        stands = await ledger.read("ana")
        assert stands is not None
        assert (stands.before, stands.before_reason, stands.activation) == (State.DELIVERED, None, None)
        assert [each async for each in ledger.unfinished()] == [stands]
        await ledger.put(new := row(state=State.SEALED, sealed=sealed(), activation=activation()), stands.version)
        assert await ledger.read("ana") == new
