"""What is asked often of the embedded queue takes no longer with many messages, and what reads them all stays right."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from tests.adapters.queues.rigs import SqliteQueues
from worker.adapters.queues.sqlite import choice

MANY = """
WITH RECURSIVE numbers (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :rows)
INSERT INTO messages (username, request_id, deadline, body)
SELECT 'user ' || n, 'r' || n, :deadline, zeroblob(1000) FROM numbers
"""


async def steps(path: Path, rows: int) -> tuple[int, int]:
    """How many hundred steps of SQLite's machine it takes to see that the queue is not empty, and to count it."""
    queues, taken = SqliteQueues(path), 0

    def stepped() -> int:
        nonlocal taken
        taken += 1
        return 0

    async with queues.open() as queue:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(MANY, {"rows": rows, "deadline": time.time() + 1000})
        reading = queue._database._reading
        assert reading is not None
        reading.set_progress_handler(stepped, 100)
        assert not await queue.is_empty()
        looked, taken = taken, 0
        assert (await queue.backlog()).waiting == rows
        reading.set_progress_handler(None, 0)
        return looked, taken


async def test_seeing_that_something_waits_counts_nothing(tmp_path: Path) -> None:
    looked, counted = await steps(tmp_path / "q.db", 20_000)
    assert looked <= 5
    assert counted <= 5, "SQLite counts the entries of an index by its pages"


async def test_deadlines_are_counted_along_the_index_in_spans_of_seconds(tmp_path: Path) -> None:
    """Nothing is sorted, for a million messages would be sorted in memory."""
    path, now = tmp_path / "q.db", 1_000.0
    alive = [1_000.5, 1_002.0, 1_007.0, 1_007.5, now + 3_599.0, now + 3_600.5, now + 90_000.0, 253_402_300_799.0]
    async with SqliteQueues(path).open():
        with closing(sqlite3.connect(path)) as connection, connection:
            for number, deadline in enumerate([-5.0, now, *alive]):
                connection.execute(
                    "INSERT INTO messages (username, request_id, deadline, body) VALUES (?, ?, ?, x'')",
                    (f"user {number}", "r", deadline),
                )
            assert list(choice.deadlines(connection, now)) == [
                (1_002.0, 2),
                (1_007.5, 2),
                (now + 3_599.0, 1),
                (253_402_300_799.0, 3),
            ]
            for query, values in ((choice._FIRST_DEADLINE, (now,)), (choice._DEADLINES, (now, now))):
                (step,) = connection.execute(f"EXPLAIN QUERY PLAN {query}", values).fetchall()
                assert "USING COVERING INDEX by_deadline (deadline>" in step[3]


async def test_sessions_are_counted_by_their_key_wherever_else_the_word_stands(tmp_path: Path) -> None:
    bodies: list[dict[str, object]] = [
        {"username": "a", "session": "s" * 20},
        {"username": "b", "access_token": "x", "attributes": {"session": "evening"}},
        {"username": "c", "access_token": "x", "attributes": {"says": '"session"'}},
        {"username": "session", "access_token": "x"},
        {"username": "e", "session": "t" * 20, "attributes": {"é": '\\"session"'}},
    ]
    queues = SqliteQueues(tmp_path / "q.db")
    async with queues.open() as queue:
        with closing(sqlite3.connect(tmp_path / "q.db")) as connection, connection:
            for number, message in enumerate(bodies):
                connection.execute(
                    "INSERT INTO messages (username, request_id, deadline, body) VALUES (?, ?, 0, ?)",
                    (message["username"], str(number), json.dumps(message).encode()),
                )
        assert await queue.sessions() == 2
