"""What the SQLite queue promises beyond the port: it keeps an order and refuses duplicates at the door, knows the dead,
mistrusts the clock, and erases what it deletes.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime

import pytest

from tests.adapters.queues.rigs import SqliteQueues
from tests.adapters.queues.test_every_queue import ids, lease
from tests.support.messages import PARSER, POOL, body, push_raw, pushed
from worker.adapters.queues.sqlite.choice import WINDOW
from worker.adapters.queues.sqlite.queue import SqliteQueue, _push
from worker.adapters.sqlite.database import Database
from worker.core.errors import QueueUnavailable
from worker.core.outlook import Outlook
from worker.core.ports import Backlog, Pushed
from worker.requests.lines import digest
from worker.requests.message import Parser


class ShiftedTime:
    """The clock of the host, set by so many seconds."""

    def __init__(self) -> None:
        self.shift = 0.0

    def time(self) -> float:
        return time.time() + self.shift


@pytest.fixture
def host_clock(monkeypatch: pytest.MonkeyPatch) -> ShiftedTime:
    clock = ShiftedTime()
    monkeypatch.setattr("worker.adapters.queues.sqlite.queue.time", clock)
    return clock


@pytest.fixture
async def sqlite_queue(sqlite_queues: SqliteQueues) -> AsyncIterator[SqliteQueue]:
    async with sqlite_queues.open() as opened:
        yield opened


async def test_the_earliest_deadline_comes_first(sqlite_queue: SqliteQueue) -> None:
    await sqlite_queue.push(pushed(*(body(id=str(seconds), expires_in=seconds) for seconds in (50, 20, 40, -10, 30))))
    assert ids(list(await sqlite_queue.lease(3))) == ["-10", "20", "30"]
    assert ids(list(await sqlite_queue.lease(3))) == ["40", "50"]


async def test_a_sample_comes_from_anywhere_but_from_the_dead(sqlite_queue: SqliteQueue) -> None:
    await sqlite_queue.push(pushed(*(body(id=f"{number}", expires_in=number - 100) for number in range(400))))
    found = {int(each) for _ in range(20) for each in ids(list(await sqlite_queue.lease_elsewhere(3)))}
    assert len(found) > 40
    assert min(found) > 99, "those of 0 to 99 are dead"
    assert max(found) - min(found) > 150


async def test_a_sample_takes_from_those_leased_ahead_where_no_others_are_left(sqlite_queues: SqliteQueues) -> None:
    async with sqlite_queues.open() as queue:
        queue._look_ahead = 5
        await queue.push(pushed(*(body(id=f"{number}", expires_in=100 + number) for number in range(5))))
        assert ids(list(await queue.lease(1))) == ["0"]
        assert ids(list(await queue.lease_elsewhere(2))) == ["4", "3"]
        assert ids(list(await queue.lease(9))) == ["1", "2"]


async def test_a_sample_of_a_wave_holds_nobody_else(sqlite_queue: SqliteQueue) -> None:
    await sqlite_queue.push(pushed(*(body(f"user-{number}") for number in range(50))))
    await sqlite_queue.only({"user-7", "user-8", "user-9"})
    assert len(await sqlite_queue.lease(1)) == 1
    assert {each.request.username for each in await sqlite_queue.lease_elsewhere(5)} < {"user-7", "user-8", "user-9"}


async def test_one_message_of_a_user_is_leased_at_a_time(sqlite_queues: SqliteQueues) -> None:
    async with sqlite_queues.open("one") as one, sqlite_queues.open("two") as two:
        await one.push(
            pushed(*(body("ana", str(number), expires_in=number / 10) for number in range(200)), body("ben"))
        )
        [first] = await one.lease(64)
        assert (first.request.id, first.has_others) == ("0", True)
        assert ids(list(await one.lease(64))) == ["ben"], "which stands behind all of them"
        assert list(await two.lease(64)) == []
        await one.give_back(first, 5)
        assert ids(list(await two.lease(64))) == ["1"]
        assert "0" in ids(list(await two.lease_others("ana", 300))), "delayed ones too"


async def test_who_has_no_other_messages_is_known_by_the_lease(sqlite_queue: SqliteQueue) -> None:
    await sqlite_queue.push(pushed(body("ana", "1"), body("ana", "2"), body("ben")))
    assert {found.request.username: found.has_others for found in await sqlite_queue.lease(9)} == {
        "ana": True,
        "ben": False,
    }


async def test_a_dead_worker_does_not_keep_a_users_other_messages(sqlite_queues: SqliteQueues) -> None:
    async with sqlite_queues.open("one") as one, sqlite_queues.open("two") as two:
        await one.push(pushed(body("ana", "1"), body("ana", "2")))
        await lease(one, 1)
        sqlite_queues.dead.add("one")
        assert ids(list(await two.lease(9))) == ["1"]


async def test_leasing_looks_into_the_indexes_alone(sqlite_queues: SqliteQueues) -> None:
    """Neither who else is at work, nor whether a user has more, is looked for among all messages."""
    async with sqlite_queues.open("one") as one:
        await one.push(pushed(body("ana", "1"), body("ana", "2"), body("ben")))
        statements: list[str] = []
        writing = one._database._writing
        assert writing is not None
        writing.set_trace_callback(statements.append)
        await one.lease(9)
        await one.lease_others("ana", 9)
        writing.set_trace_callback(None)
    selects = [statement for statement in statements if statement.startswith("SELECT") and "body" in statement]
    with closing(sqlite3.connect(sqlite_queues.path)) as connection:
        plans = [row[3] for each in selects for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")]
    assert [plan for plan in plans if "messages" in plan and "INDEX" not in plan] == []
    used = [plan.partition("USING ")[2] for plan in plans if "USING" in plan]
    assert used == [
        "INDEX by_deadline (deadline>? AND deadline<?)",
        "INDEX held (holder>?)",
        "COVERING INDEX by_user (username=?)",
        "INDEX by_user (username=?)",
    ], plans


async def test_no_message_is_lost_when_the_dead_are_leased_during_a_lease_ahead(sqlite_queues: SqliteQueues) -> None:
    async with sqlite_queues.open() as queue:
        queue._look_ahead = 5
        await queue.push(pushed(*(body(id=str(seconds), expires_in=seconds) for seconds in (-10, 20, 30, 40, 50, 60))))
        outlook = Outlook(now=time.time())
        found = [*await queue.lease(0, outlook)]
        for leases in await asyncio.gather(queue.lease(1, outlook), queue.lease_expired(1, outlook.now)):
            found += leases
        while leases := await queue.lease(5, outlook):
            found += leases
        assert sorted(ids(found)) == ["-10", "20", "30", "40", "50", "60"]


def session_of(username: str, age: float) -> bytes:
    """A Session that was issued so many seconds ago; how long it lives is the worker's to know."""
    issued = datetime.fromtimestamp(time.time() - age, UTC).isoformat()
    return json.dumps({"username": username, "session": f"{username} {'s' * 40}", "issued_at": issued}).encode()


@pytest.mark.parametrize("is_wave", [False, True])
async def test_sessions_that_live_longer_than_was_believed_wait_for_their_turn(
    sqlite_queue: SqliteQueue, *, is_wave: bool
) -> None:
    """Pushed with a ``session_validity`` of three minutes; then the operator learns that it is fifteen."""
    names = [f"user {number:03}" for number in range(250)]
    await sqlite_queue.push(pushed(*(session_of(name, 450 - number) for number, name in enumerate(names))))
    sqlite_queue._parser = Parser(POOL, session_validity=900.0)
    if is_wave:
        await sqlite_queue.only(names)
    now = time.time()
    assert await sqlite_queue.lease_expired(100, now) == []
    leases = await sqlite_queue.lease(3, Outlook(now))
    assert [lease.request.username for lease in leases] == names[:3]
    assert await sqlite_queue.backlog() == Backlog(waiting=250, expired=0)


@pytest.mark.parametrize("is_wave", [False, True])
async def test_sessions_that_live_shorter_than_was_believed_are_settled_as_dead(
    sqlite_queue: SqliteQueue, *, is_wave: bool
) -> None:
    """They would be held, and neither called for nor settled, until the deadline that was believed first."""
    await sqlite_queue.push(pushed(*(session_of(f"user {number}", 100 + number) for number in range(5))))
    sqlite_queue._parser = Parser(POOL, session_validity=60.0)
    sqlite_queue._look_ahead = 10
    if is_wave:
        await sqlite_queue.only([f"user {number}" for number in range(5)])
    now = time.time()
    assert list(await sqlite_queue.lease(2, Outlook(now))) == []
    assert len(await sqlite_queue.lease_expired(100, now)) == 5


async def test_a_request_is_known_at_the_door_by_username_and_id(sqlite_queue: SqliteQueue) -> None:
    first = pushed(body("ana", "1"), body("ben", "1"), body("ana", "2"), body("ana", "1"))
    assert await sqlite_queue.push(first) == Pushed(accepted=3, duplicates=1)
    assert await sqlite_queue.push(first) == Pushed(accepted=0, duplicates=4)
    assert (await sqlite_queue.backlog()).waiting == 3


async def test_a_request_that_is_leased_already_is_no_new_one(sqlite_queue: SqliteQueue) -> None:
    await sqlite_queue.push(pushed(body(id="1")))
    await lease(sqlite_queue, 1)
    assert await sqlite_queue.push(pushed(body(id="1"))) == Pushed(accepted=0, duplicates=1)
    assert list(await sqlite_queue.lease(9)) == []


async def test_messages_whose_deadline_is_over_are_counted_as_expired_and_still_come(sqlite_queue: SqliteQueue) -> None:
    await sqlite_queue.push(pushed(*(body(id=str(seconds), expires_in=seconds) for seconds in (-20, -10, 100))))
    assert await sqlite_queue.backlog() == Backlog(waiting=3, expired=2)
    await lease(sqlite_queue, 2)
    assert await sqlite_queue.backlog() == Backlog(waiting=3, expired=2)


async def test_two_workers_never_hold_the_same_message(sqlite_queues: SqliteQueues) -> None:
    async with sqlite_queues.open("one") as one, sqlite_queues.open("two") as two:
        await one.push(pushed(*(body(f"user {number}") for number in range(200))))
        got: Counter[str] = Counter()

        async def work(queue: SqliteQueue) -> None:
            while leases := list(await queue.lease(7)):
                got.update(ids(leases))

        await asyncio.gather(work(one), work(two), work(one), work(two))
        assert (len(got), got.total()) == (200, 200)


async def test_an_outcome_is_acknowledged_whoever_holds_the_message_now(sqlite_queues: SqliteQueues) -> None:
    async with sqlite_queues.open("one") as one, sqlite_queues.open("two") as two:
        await one.push(pushed(body(id="1")))
        [late] = await lease(one, 1)
        await sqlite_queues.vanish(one)
        await lease(two, 1)
        await one.acknowledge(late)
        assert (await two.backlog()).waiting == 0


async def test_what_a_dead_worker_held_comes_again_at_once(sqlite_queues: SqliteQueues) -> None:
    async with sqlite_queues.open("one") as one, sqlite_queues.open("two") as two:
        await one.push(pushed(body(id="1"), body(id="2", expires_in=90)))
        await lease(one, 1)
        sqlite_queues.dead.add("one")
        assert ids(list(await two.lease(9))) == ["1", "2"]


async def test_what_a_dead_worker_held_comes_first_although_others_wait(sqlite_queues: SqliteQueues) -> None:
    async with sqlite_queues.open("one") as one:
        await one.push(pushed(*(body(id=str(number), expires_in=number) for number in range(10, 90))))
        await lease(one, 3)
        sqlite_queues.dead.add("one")
        async with sqlite_queues.open("two") as two:
            assert ids(list(await two.lease(2))) == ["10", "11"]


async def test_a_clock_set_back_by_an_hour_hides_nothing_for_an_hour(
    sqlite_queues: SqliteQueues, host_clock: ShiftedTime
) -> None:
    async with sqlite_queues.open("one") as one, sqlite_queues.open("two") as two:
        await one.push(pushed(body(id="held"), body(id="later")))
        held, later = await lease(one, 2)
        await one.give_back(later, 2.0)
        await sqlite_queues.vanish(one)
        host_clock.shift = -3600
        assert ids(list(await two.lease(9))) == [held.request.id, "later"]


async def test_a_worker_that_slept_too_long_does_not_lease_again_what_it_still_holds(
    sqlite_queues: SqliteQueues, host_clock: ShiftedTime
) -> None:
    async with sqlite_queues.open() as queue:
        await queue.push(pushed(body(id="1")))
        await lease(queue, 1)
        for host_clock.shift in (3600, -3600):
            assert list(await queue.lease(9)) == []


async def test_a_malformed_message_is_counted_by_the_queue_until_somebody_looks(sqlite_queues: SqliteQueues) -> None:
    async with sqlite_queues.open() as queue:
        await push_raw(queue, [b"[]", b"[]", b"not json"])
        await queue.push(pushed(body(id="1")))
        assert await queue.sessions() == 1
        assert ids(list(await queue.lease(9))) == ["1"]
        await queue.push(pushed(body(id="1"), body(id="1")))
        assert await queue.counted() == (2, 3)


async def test_what_came_to_the_queue_is_put_aside_at_once_with_its_removal(sqlite_queues: SqliteQueues) -> None:
    """A crash between the two would count it twice, or lose it."""
    async with sqlite_queues.open() as queue:
        await push_raw(queue, [b"{}"])
        with closing(sqlite3.connect(sqlite_queues.path)) as connection:
            connection.execute("CREATE TRIGGER no BEFORE DELETE ON messages BEGIN SELECT RAISE(ABORT, 'crash'); END")
            with pytest.raises(Exception, match="crash"):
                await queue.lease(1)
            assert await sqlite_queues.put_aside() == []
            connection.execute("DROP TRIGGER no")
    async with sqlite_queues.open("two") as queue:
        assert list(await queue.lease(1)) == []
        assert await sqlite_queues.put_aside() == [("has no username", digest(b"{}"), 1)]


async def test_what_was_put_aside_is_listed_whole_and_the_same_lines_read_again_count_once(
    sqlite_queues: SqliteQueues,
) -> None:
    async with sqlite_queues.open() as queue:
        await asyncio.gather(*(queue.put_aside("is not JSON", f"{number:016}") for number in range(1_203)))
        await queue.put_aside("is CSV", "0" * 16)
        for _ in range(2):  # the same file, twice
            await queue.put_aside("is CSV", "0" * 16, number=59_999, before=1)
        listed = [each async for page in queue.put_aside_list() for each in page]
        assert len({(each.reason, each.digest) for each in listed}) == len(listed) == 1_204
        [csv] = [each for each in listed if each.reason == "is CSV"]
        assert csv.number == 60_000
        assert abs(csv.last_seen - time.time()) < 60
        assert await queue.counted() == (0, 61_203)


async def test_an_acknowledged_credential_is_nowhere_on_the_disk(sqlite_queues: SqliteQueues) -> None:
    credentials = [f"credential-{number}-" + "x" * 900 for number in range(50)]
    folder = sqlite_queues.path.parent

    def found() -> bool:
        return any(b"credential-" in file.read_bytes() for file in folder.iterdir())

    async with sqlite_queues.open() as queue:
        await queue.push(pushed(*(body(id=str(n), session=text) for n, text in enumerate(credentials))))
        assert found()
        leases = await lease(queue, 50)
        await asyncio.gather(*(queue.acknowledge(found) for found in leases))
    assert not found()


async def test_the_files_of_the_queue_are_the_owners_alone(sqlite_queues: SqliteQueues) -> None:
    async with sqlite_queues.open() as queue:
        await queue.push(pushed(body(id="1")))
        files = list(sqlite_queues.path.parent.iterdir())
        assert len(files) == 3
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


# --- overload ---------------------------------------------------------------------------------------------------------


async def test_who_is_leased_ahead_lives_until_their_turn(sqlite_queues: SqliteQueues) -> None:
    """A hundred die each second, and one is called for every tenth: the n-th leased ahead waits n tenths."""
    database = Database(sqlite_queues.path)
    queue = SqliteQueue(database, PARSER, holder="one", is_dead=lambda _: False, visibility=60.0, look_ahead=20)
    await queue.open()
    await queue.push(pushed(*(body(f"u{number}", expires_in=100 + number / 100) for number in range(1000))))
    start = time.time() + 98.0
    for turn in range(20):
        now = start + turn * 0.1
        [found] = await queue.lease(1, Outlook(now, lead=1.0, spacing=0.1))
        assert 0 < found.request.expires_at - Outlook(now, lead=1.0).passed_over_up_to < 0.2
    assert len(queue._passed_over) == 0
    await queue.close()
    await database.close()


async def test_thirty_thousand_dead_and_a_user_with_ten_thousand_cost_a_search_nothing(
    sqlite_queue: SqliteQueue,
) -> None:
    """Counted in steps of SQLite's virtual machine, which do not depend on the machine."""
    page = [(f"u{number}" if number % 4 else "ana", str(number), -1.0, b"{}") for number in range(40_000)]
    page.append(("ana", "alive", 1e12, body("ana", "alive", expires_in=9e8)))
    database = sqlite_queue._database
    assert await database.write(_push, page, QueueUnavailable) == len(page)
    writing, steps = database._writing, [0]
    assert writing is not None

    def step() -> None:
        steps[0] += 1

    writing.set_progress_handler(step, 100)
    assert ids(list(await sqlite_queue.lease(1, Outlook(time.time())))) == ["alive"]
    assert steps[0] < 50, "hundreds of steps"
    steps[0] = 0
    for _ in range(10):
        await sqlite_queue.lease_expired(0, time.time())
    writing.set_progress_handler(None, 0)
    assert steps[0] < 10 * WINDOW * 4, "not more than four hundred steps for each message that it looked at"


async def test_the_search_for_the_dead_goes_on_where_it_ended(
    sqlite_queue: SqliteQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many dead requests of somebody with another one that lives do not hide those behind them."""
    monkeypatch.setattr("worker.adapters.queues.sqlite.choice.WINDOW", 10)
    await sqlite_queue.push(pushed(*(body("ana", str(number), expires_in=-60) for number in range(35))))
    await sqlite_queue.push(pushed(body("ana", "alive", expires_in=600), body("ben", expires_in=-5)))
    found = [ids(list(await sqlite_queue.lease_expired(9, time.time()))) for _ in range(5)]
    assert found == [[], [], [], ["ben"], []]


async def test_the_deadlines_of_all_who_wait_are_told_in_buckets(sqlite_queue: SqliteQueue) -> None:
    lives = [-5, 1, 2, 301, 302, 7200, 9e8]
    await sqlite_queue.push(pushed(*(body(str(life), expires_in=life) for life in lives)))
    now = time.time()
    found = await sqlite_queue.deadlines(now)
    assert found.are_all
    assert [(round(deadline - now), number) for deadline, number in found.buckets] == [(2, 2), (302, 2), (900000000, 2)]
