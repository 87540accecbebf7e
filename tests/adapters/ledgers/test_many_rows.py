"""What grows with the rows of a ledger: nothing that is asked often, and nothing faster than their number."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.adapters.ledgers.rigs import forget_the_tally, opened
from tests.support.dynamodb_wire import rollout_behind_a_wire
from tests.support.emulators import Emulator
from tests.support.rows import row
from worker.adapters.ledgers.sqlite.tally import EARLIER_ROWS, count
from worker.core.clock import SystemClock
from worker.core.model import UNFINISHED, Enrolment, Reason, State
from worker.core.ports import Ledger
from worker.engine.takeover import Takeover

# --- the embedded ledger ----------------------------------------------------------------------------------------------

MANY = """
WITH RECURSIVE numbers (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < 20000)
INSERT INTO users (username, version, state, reason, since, generation, lease_until, doubt, crashes, settled)
SELECT 'user ' || n, 'earlier:' || n, iif(n % 4, 'delivered', 'needs_session'),
    iif(n % 4, iif(n % 3, NULL, 'verify_unknown'), 'token_expired'),
    0, 1, 0, 0, 0, '[]' FROM numbers
"""
"""20,000 users."""


async def steps_of_everything_asked_often(path: Path) -> int:
    """How many thousand steps of SQLite's machine the frequent questions take."""
    steps = 0

    def stepped() -> int:
        nonlocal steps
        steps += 1
        return 0

    async with opened(path) as ledger:
        reading = ledger._database._reading
        assert reading is not None
        reading.set_progress_handler(stepped, 100)
        await ledger.counts()
        await ledger.recount()
        await ledger.roster_count()
        assert [each async for each in ledger.unfinished()] == []
        assert await ledger.read("user 100") is not None
        reading.set_progress_handler(None, 0)
    return steps


async def test_what_is_asked_often_takes_no_longer_with_many_users(tmp_path: Path) -> None:
    async with opened(tmp_path / "few.db") as few:
        await few.put(row("user 100", State.DELIVERED), None)
    async with opened(tmp_path / "many.db"):
        with closing(sqlite3.connect(tmp_path / "many.db")) as connection, connection:
            connection.execute(MANY)
    few_steps = await steps_of_everything_asked_often(tmp_path / "few.db")
    many_steps = await steps_of_everything_asked_often(tmp_path / "many.db")
    assert many_steps <= few_steps + 5, "in hundreds of steps"


async def test_a_ledger_of_an_earlier_version_is_counted_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "earlier.db"
    async with opened(path) as ledger:
        await ledger.add_to_roster(["user 7", "nobody"])
    with closing(sqlite3.connect(path)) as connection, connection:
        forget_the_tally(connection)
        connection.execute(MANY)
    async with opened(path) as ledger:
        counts = await ledger.counts()
        assert counts.states == {State.DELIVERED: 15_000, State.NEEDS_SESSION: 5_000}
        assert counts.reasons == {Reason.TOKEN_EXPIRED: 5_000, Reason.VERIFY_UNKNOWN: 5_000}
        assert await ledger.roster_count() == 1


def _somebody(draw: random.Random) -> Enrolment:
    state = draw.choice(list(State))
    fields = {"reason": draw.choice([None, Reason.REFUSED, Reason.REPLY_LOST]), "detail": draw.choice([None, "Code"])}
    return row(f"user {draw.randrange(12)}", state, **(fields if state not in UNFINISHED else {}))


async def test_after_any_writes_the_counts_are_what_counting_every_row_gives(tmp_path: Path) -> None:
    """Together and alone, first rows and later ones, with writes among them that come too late."""
    draw = random.Random(7)
    path = tmp_path / "rollout.db"
    async with opened(path) as ledger:
        await ledger.add_to_roster([f"user {number}" for number in range(0, 24, 2)])
        for _ in range(60):
            rows = [_somebody(draw) for _ in range(draw.randrange(1, 5))]
            stands = [await ledger.read(each.username) for each in rows]
            await asyncio.gather(
                *(
                    ledger.put(each, draw.choice([old.version if old else None, None, "late"]))
                    for each, old in zip(rows, stands, strict=True)
                )
            )
            with closing(sqlite3.connect(path)) as connection:
                true = connection.execute("SELECT state, reason, detail, count(*) FROM users GROUP BY 1, 2, 3")
                expected = sorted((state, why or "", what or "", number) for state, why, what, number in true)
                counted = [(state, why or "", what or "", number) for state, why, what, number in count(connection)]
                unrequested = "SELECT count(*) FROM roster WHERE username NOT IN (SELECT username FROM users)"
                (absent,) = connection.execute(unrequested).fetchone()
            assert sorted(counted) == expected
            assert await ledger.roster_count() == absent


async def test_a_row_that_somebody_changes_with_sql_is_counted_too(tmp_path: Path) -> None:
    path = tmp_path / "rollout.db"
    async with opened(path) as ledger:
        await asyncio.gather(*(ledger.put(row(name, State.FAILED), None) for name in ("ana", "ben", "eve")))
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM users WHERE username = 'ana'")
            connection.execute("UPDATE users SET state = 'skipped' WHERE username = 'ben'")
        assert (await ledger.counts()).states == {State.FAILED: 1, State.SKIPPED: 1}


EARLIER_WRITE = """
WITH new (username, version, state, replaces) AS (VALUES {})
INSERT INTO users (username, version, state, since, generation, lease_until, doubt, crashes, settled, replaces)
SELECT username, version, state, 0, 1, 0, 0, 0, '[]', replaces FROM new
WHERE replaces IS NULL OR EXISTS (SELECT 1 FROM users WHERE users.username = new.username)
ON CONFLICT (username) DO UPDATE SET state = excluded.state, version = excluded.version
WHERE users.version = excluded.replaces
"""
"""How a worker of the version before this one writes several rows."""


@pytest.mark.parametrize("late", [1, 2, 40])
@pytest.mark.parametrize("outcomes", [1, 2, 40, EARLIER_ROWS - 40])
async def test_an_earlier_version_beside_us_never_takes_a_late_write_for_one_that_was_written(
    tmp_path: Path, outcomes: int, late: int
) -> None:
    """It compares the changes of its statement, triggers' included, with the rows that it wanted to write."""
    path = tmp_path / "rollout.db"
    names = [f"user {number}" for number in range(outcomes + late)]
    async with opened(path) as ledger:
        await ledger.add_to_roster(names)
        await asyncio.gather(*(ledger.put(row(name)._replace(version="ours"), None) for name in names))
        rows = [(name, "theirs", "delivered", "ours") for name in names[:outcomes]]
        rows += [(name, "theirs", "delivered", "another's") for name in names[outcomes:]]
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            statement = EARLIER_WRITE.format(", ".join(["(?, ?, ?, ?)"] * len(rows)))
            connection.execute(statement, [value for each in rows for value in each])
            assert connection.total_changes != len(rows)
        assert (await ledger.counts()).states == {State.DELIVERED: outcomes, State.IN_PROGRESS: late}


# --- what dead workers left, in DynamoDB ------------------------------------------------------------------------------


class Loop:
    """Records of everybody that a sign-in is needed, as the loop does without a sealed secret."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.tasks: list[asyncio.Task[None]] = []

    def free_in(self, row: Enrolment) -> float:
        return 0.0

    def is_free(self, row: Enrolment) -> bool:
        return True

    def finish(self, row: Enrolment) -> asyncio.Task[None]:
        self.tasks.append(asyncio.create_task(self._finished(row)))
        return self.tasks[-1]

    async def _finished(self, left: Enrolment) -> None:
        await self._ledger.put(row(left.username, State.NEEDS_SESSION), left.version)


async def requests_to_finish(emulator: Emulator, number: int) -> int:
    async with rollout_behind_a_wire(emulator) as rollout:
        async with rollout.opened(every=3600.0) as ledger:
            await asyncio.gather(*(ledger.put(row(f"user {each}"), None) for each in range(number)))
        async with rollout.opened(every=3600.0) as ledger:
            rollout.wire.asked.clear()
            loop, ended = Loop(ledger), asyncio.Event()
            takeover = Takeover(ledger, loop, SystemClock(), ended.set)
            takeover.begin(UNFINISHED)
            await ended.wait()
            assert not takeover.found_nobody()
            await asyncio.gather(*loop.tasks)
            asked = rollout.wire.asked.total()
            assert (await ledger.recount()).states == {State.NEEDS_SESSION: number}
        return asked


@pytest.mark.parametrize("number", [150])
async def test_twice_as_many_unfinished_rows_cost_at_most_twice_the_requests(emulator: Emulator, number: int) -> None:
    few = await requests_to_finish(emulator, number)
    many = await requests_to_finish(emulator, 2 * number)
    assert many <= 2 * few + 4
