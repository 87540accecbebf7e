"""Who waits on an embedded queue: users and not messages, told apart by what the ledger has of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.adapters.ledgers.rigs import STAMP
from tests.support.messages import PARSER
from tests.support.rows import row
from worker.adapters.ledgers.sqlite.ledger import SqliteLedger
from worker.adapters.queues.sqlite.queue import SqliteQueue
from worker.adapters.sqlite.database import Database
from worker.adapters.sqlite.liveness import Liveness
from worker.core.model import CredentialKind, Reason, Request, Secret, State
from worker.core.ports import WaitingUsers


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[tuple[SqliteLedger, SqliteQueue]]:
    database, liveness = Database(tmp_path / "rollout.db"), Liveness(tmp_path / "rollout.db", "one")
    ledger = SqliteLedger(database, liveness)
    await ledger.open(STAMP)
    queue = SqliteQueue(database, PARSER, holder="one", is_dead=liveness.is_dead, visibility=60.0, look_ahead=1)
    await queue.open()
    yield ledger, queue
    await queue.close()
    await database.close()


async def push(queue: SqliteQueue, *names: str) -> None:
    for number, name in enumerate(names):
        request = Request(name, CredentialKind.ACCESS_TOKEN, Secret("x"), f"{name} {number}", 2e9)
        await queue.push([(request, b"{}")])


async def test_each_user_is_counted_once_by_where_they_stand(stores: tuple[SqliteLedger, SqliteQueue]) -> None:
    ledger, queue = stores
    for each in (
        row("under way"),
        row("sealed", state=State.SEALED),
        row("done", state=State.DELIVERED),
        row("skipped", state=State.SKIPPED, reason=Reason.DISABLED),
        row("again", state=State.NEEDS_SESSION, reason=Reason.REPLY_LOST),
        row("failed", state=State.FAILED, reason=Reason.REFUSED),
        row("pending", state=State.DELIVERED, reason=Reason.ACTIVATION_PENDING),
        row("not active", state=State.DELIVERED, reason=Reason.VERIFY_REFUSED),
        row("gone", state=State.DELIVERED),
    ):
        await ledger.put(each, None)
    await ledger.add_to_roster(["new", "done", "never"])
    everybody = ["under way", "sealed", "done", "skipped", "again", "failed", "pending", "not active", "new", "newer"]
    await push(queue, *everybody, "new", "new", "sealed", "done")
    counts, waiting = await ledger.counts_and_waiting(1_000)
    assert waiting == WaitingUsers(14, new=2, unfinished=3, again=3, done=2, on_roster=1)
    assert counts == await ledger.counts()


async def test_of_a_large_queue_only_those_under_way_are_looked_at(stores: tuple[SqliteLedger, SqliteQueue]) -> None:
    ledger, queue = stores
    await ledger.put(row("under way"), None)
    await ledger.put(row("pending", state=State.DELIVERED, reason=Reason.ACTIVATION_PENDING), None)
    await ledger.put(row("left", state=State.SEALED), None)
    await push(queue, "under way", "under way", "pending", "new", "new")
    _, waiting = await ledger.counts_and_waiting(4)
    assert waiting == WaitingUsers(5, new=2, unfinished=2, are_exact=False)
