"""A wave's queue and ledger: as if nobody but the named users existed; and the roster of who is to come."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from tests.adapters.queues.rigs import SqliteQueues
from tests.support.messages import PARSER, body, pushed
from tests.support.rows import NASTY_NAMES, row
from worker.adapters.ledgers.sqlite.ledger import SqliteLedger
from worker.adapters.queues.sqlite.queue import SqliteQueue
from worker.adapters.sqlite.database import Database
from worker.adapters.sqlite.liveness import Liveness
from worker.core.model import CredentialKind, Enrolment, Reason, Request, Secret, State
from worker.core.outlook import UNJUDGED, Outlook
from worker.core.ports import Backlog, Deadlines, Lease
from worker.engine.waves import (
    HIDDEN_FOR,
    MAX_HIDDEN,
    WaveLedger,
    WaveQueue,
    select,
)

# --- the embedded queue -----------------------------------------------------------------------------------------------


def opened(path: Path, worker: str = "one") -> AbstractAsyncContextManager[SqliteQueue]:
    return SqliteQueues(path).open(worker)


def found(leases: Sequence[Lease]) -> list[str]:
    return [lease.request.username for lease in leases]


async def test_only_the_named_are_leased_the_earliest_deadline_first(tmp_path: Path) -> None:
    async with opened(tmp_path / "q.db") as queue:
        await queue.push(pushed(*(body(f"user-{n}", expires_in=1000 - n) for n in range(100))))
        assert await select(queue, frozenset({"user-3", "user-77", "user-50", "nobody"}), quiet=0.0) is queue

        first = await queue.lease(2)
        assert found(first) == ["user-77", "user-50"]
        assert found(await queue.lease(5)) == ["user-3"]
        assert await queue.lease(5) == []
        assert not await queue.is_empty()


async def test_a_wave_is_empty_when_its_last_message_is_gone_whoever_had_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "q.db") as queue, opened(tmp_path / "q.db", "two") as other:
        await queue.push(pushed(body("ana"), body("ben"), body("cleo")))
        await queue.only({"ana", "ben"})
        (mine,) = await queue.lease(1)
        theirs = [lease for lease in await other.lease(5) if lease.request.username == "ben"]
        await queue.acknowledge(mine)
        assert not await queue.is_empty()

        await other.acknowledge(theirs[0])

        assert await queue.is_empty()
        assert (await queue.backlog()).waiting == 1


async def test_what_is_pushed_during_a_wave_is_found_and_so_is_what_was_given_back(tmp_path: Path) -> None:
    async with opened(tmp_path / "q.db") as queue, opened(tmp_path / "q.db", "two") as other:
        await queue.only({"ana", "ben"})
        assert await queue.is_empty()
        await other.push(pushed(body("eve"), body("ana"), body("dan")))
        assert not await queue.is_empty()

        (lease,) = await queue.lease(5)
        assert lease.request.username == "ana"
        await queue.give_back(lease, 0.0)
        (lease,) = await queue.lease(5)
        await queue.acknowledge(lease)
        await other.push(pushed(body("ben"), body("ana", "again")))

        assert sorted(found(await queue.lease(5))) == ["ana", "ben"]


async def test_names_are_data(tmp_path: Path) -> None:
    async with opened(tmp_path / "q.db") as queue:
        await queue.push(pushed(*(body(name) for name in (*NASTY_NAMES, "ana"))))
        await queue.only(set(NASTY_NAMES))

        assert set(found(await queue.lease(50))) == set(NASTY_NAMES)


async def test_a_lease_costs_the_same_among_very_many_others(tmp_path: Path) -> None:
    async with opened(tmp_path / "q.db") as queue:
        steps = []
        for others in (1_000, 20_000):
            await queue.push(_many(others))
            await queue.only({f"{others}-{n}" for n in range(0, others, 100)})
            connection = queue._database._writing
            assert connection is not None
            count = Counter[str]()
            connection.set_progress_handler(lambda count=count: count.update(["step"]), 100)  # type: ignore[misc]
            assert len(await queue.lease(5)) == 5
            connection.set_progress_handler(None, 0)
            steps.append(count["step"])

    assert steps[1] <= 2 * steps[0] + 5


def _many(others: int) -> list[tuple[Request, bytes]]:
    request = Request("", CredentialKind.SESSION, Secret("s" * 40), "", 1e10)
    return [(replace(request, username=f"{others}-{n}", id=str(n)), body(f"{others}-{n}")) for n in range(others)]


# --- the ledger -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def ledger_at(path: Path) -> AsyncIterator[SqliteLedger]:
    database = Database(path)
    ledger = SqliteLedger(database, Liveness(path, "one"))
    try:
        await ledger.open({"user pool": "p"})
        yield ledger
    finally:
        await database.close()


async def test_of_the_unfinished_a_wave_sees_its_own_alone(tmp_path: Path) -> None:
    async with ledger_at(tmp_path / "l.db") as ledger:
        for name in ("ana", "ben", "cleo"):
            await ledger.put(row(name, State.SEALED if name == "ben" else State.IN_PROGRESS), None)
        await ledger.put(row("dora", State.DELIVERED), None)

        named = WaveLedger(ledger, {"ben", "dora", "nobody"})

        assert [each.username async for each in named.unfinished()] == ["ben"]
        assert (await named.recount()).unfinished == 1
        assert (await named.counts()).unfinished == 3
        assert await named.read("ana") is not None


async def test_whoever_of_them_is_still_activated_keeps_a_wave_going() -> None:
    class Ledger:
        put = read = is_dead = counts = listed = count = None

        async def unfinished(self) -> AsyncGenerator[Enrolment]:
            for name in ("ana", "bob"):
                yield Enrolment(name, State.DELIVERED, 0.0, 1, reason=Reason.ACTIVATION_PENDING)

    assert (await WaveLedger(Ledger(), {"ana"}).recount()).unfinished == 1  # type: ignore[arg-type]


async def test_the_roster_remembers_users_once_and_tells_who_has_no_row(tmp_path: Path) -> None:
    async with ledger_at(tmp_path / "l.db") as ledger:
        assert await ledger.roster_count() == 0
        many = [f"user-{number}" for number in range(12_000)]
        assert await ledger.add_to_roster(iter(many)) == 12_000
        assert await ledger.add_to_roster([*NASTY_NAMES, "user-5", "user-5"]) == len(NASTY_NAMES)
        await ledger.put(row("user-7"), None)
        await ledger.put(row("somebody else"), None)

        missing = [username async for username in ledger.unrequested()]

        assert sorted(missing) == sorted({*many, *NASTY_NAMES} - {"user-7"})
        assert await ledger.roster_count() == len(missing)
        assert (await ledger.counts()).accepted == 2


# --- a queue that cannot find anybody ---------------------------------------------------------------------------------


class Blind:
    """A queue without an order that gives whatever is visible, as SQS does."""

    def __init__(self, *names: str) -> None:
        self.now = 0.0
        self.visible = [Lease(PARSER.parse(body(name), 0.0), name) for name in names]
        self.hidden: list[tuple[float, Lease]] = []
        self.receives: Counter[str] = Counter()
        self.acknowledged: list[str] = []
        self.empty = False

    async def lease(self, most: int, outlook: Outlook = UNJUDGED) -> Sequence[Lease]:
        self.visible += [lease for until, lease in self.hidden if until <= self.now]
        self.hidden = [each for each in self.hidden if each[0] > self.now]
        taken, self.visible = self.visible[:most], self.visible[most:]
        self.receives.update(found(taken))
        return taken

    async def lease_expired(self, most: int, now: float) -> Sequence[Lease]:
        return ()

    async def deadlines(self, now: float) -> Deadlines:
        return Deadlines()

    async def lease_elsewhere(self, most: int) -> Sequence[Lease]:
        return await self.lease(most)

    async def lease_others(self, username: str, most: int) -> Sequence[Lease]:
        return [lease for lease in await self.lease(most) if lease.request.username == username]

    async def acknowledge(self, lease: Lease) -> None:
        self.acknowledged.append(lease.request.username)

    async def give_back(self, lease: Lease, delay: float) -> None:
        self.hidden.append((self.now + delay, lease))

    async def backlog(self) -> Backlog:
        return Backlog(len(self.visible) + len(self.hidden))

    async def is_empty(self) -> bool:
        return self.empty

    async def close(self) -> None:
        self.visible = []


def only(queue: Blind, *names: str, quiet: float = 100.0) -> WaveQueue:
    return WaveQueue(queue, frozenset(names), quiet=quiet, now=lambda: queue.now)


async def test_others_go_back_and_do_not_come_again_at_once() -> None:
    queue = Blind("eve", "ana", "dan", "ben")
    wave = only(queue, "ana", "ben")

    assert found(await wave.lease(3)) == ["ana"]
    assert found(await wave.lease(3)) == ["ben"]
    assert await wave.lease(3) == []
    assert queue.receives == {"eve": 1, "dan": 1, "ana": 1, "ben": 1}
    queue.now = HIDDEN_FOR
    assert await wave.lease(3) == []
    assert queue.receives["eve"] == 2
    assert (await wave.backlog()).waiting == 2


async def test_it_is_over_when_all_the_named_have_an_outcome() -> None:
    queue = Blind("ana", "eve", "ben")
    wave = only(queue, "ana", "ben")
    for lease in await wave.lease(5):
        assert not await wave.is_empty()
        await wave.acknowledge(lease)

    assert await wave.is_empty()
    assert queue.acknowledged == ["ana", "ben"]


async def test_it_is_over_when_nothing_of_theirs_comes_for_a_while() -> None:
    queue = Blind("eve", "ana")
    wave = only(queue, "ana", "nobody", quiet=100.0)
    (lease,) = await wave.lease(5)
    queue.now = 150.0
    assert not await wave.is_empty(), "one is under way"
    await wave.give_back(lease, 10.0)
    assert not await wave.is_empty()
    queue.now = 170.0
    (lease,) = await wave.lease(5)
    await wave.acknowledge(lease)

    queue.now = 269.0
    assert not await wave.is_empty()
    queue.now = 271.0
    assert await wave.is_empty()


async def test_no_more_are_hidden_than_the_queue_bears() -> None:
    queue = Blind(*(f"user-{number}" for number in range(MAX_HIDDEN // 100 + 10)))
    wave = only(queue, "ana")
    wave._hidden_now = MAX_HIDDEN - 5  # as if as many were hidden already
    wave._hidden.append((50.0, MAX_HIDDEN - 5))

    await wave.lease(5)
    assert not await wave.lease(5)
    assert queue.receives.total() == 5
    queue.now = 51.0
    await wave.lease(5)
    assert queue.receives.total() == MAX_HIDDEN // 100 + 10, "all that were visible were looked through at once"


async def test_a_queue_that_cannot_find_anybody_is_sifted(tmp_path: Path) -> None:
    queue = Blind("ana", "eve")

    assert found(await (await select(queue, frozenset({"eve"}), quiet=1.0)).lease(5)) == ["eve"]
