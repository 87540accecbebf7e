"""Several workers on one file: they share one rate, and take over what a dead, stopped or leaving one held."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing

from tests.support.processes import Process, until
from tests.support.rollout import Rollout

RATE = 60


async def test_two_workers_keep_to_one_rate_and_one_of_them_may_die(rollout: Rollout) -> None:
    rollout.configure(rate={"requests_per_second": RATE}, run={"concurrency": 16})
    await rollout.fake_cognito.set_latency(0.1)
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(400)), credential="session"))

    first, second = rollout.start("run"), rollout.start("run")
    await rollout.until_called(150)
    first.popen.kill()
    in_flight = (await rollout.fake_cognito.stats()).most_in_flight
    ended = await second.ended()

    stats = await rollout.fake_cognito.stats()
    assert stats.largest_window <= RATE * 1.4, "each at a rate of its own would have been twice as fast"
    assert stats.most_in_flight_one_user == 1
    assert ended.code in (0, 1)
    lost = await rollout.users("needs_session")
    assert set(lost.values()) <= {"reply_lost"}
    assert len(lost) <= in_flight
    assert await _secrets_a_user(rollout) == {1}
    assert (await rollout.states())["delivered"] == 400 - len(lost)
    assert not (await rollout.audit()).stale


async def test_two_workers_call_nobody_twice(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_latency(0.02)
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(300))))

    workers = rollout.start("run"), rollout.start("run")
    codes = [(await worker.ended()).code for worker in workers]

    assert codes == [0, 0]
    stats = await rollout.fake_cognito.stats()
    assert (stats.wire_requests, stats.issued, stats.most_in_flight_one_user) == (300, 300, 1)
    assert await rollout.states() == {"delivered": 300}


async def test_a_worker_that_was_stopped_for_longer_than_its_lease_spoils_nothing(rollout: Rollout) -> None:
    rollout.configure(rate={"requests_per_second": 40}, queue={"visibility": 2.0}, run={"concurrency": 8})
    await rollout.fake_cognito.set_latency(0.3)
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(60))))

    stopped = rollout.start("run")
    await rollout.until_called(10)
    await _stop_between_writes(rollout, stopped)
    other = rollout.start("run")
    ended = await other.ended()  # it waits for the leases of the stopped one, and takes them over
    stopped.signal(signal.SIGCONT)
    late = await stopped.ended()

    assert ended.code == 0
    assert late.code in (0, 1)
    reasons = set((await rollout.users("needs_session")).values())
    assert reasons <= {"reply_lost"}
    assert not (await rollout.audit()).stale
    assert (await rollout.status())["accepted"] == 60
    await _sign_in_again(rollout)
    assert await rollout.states() == {"delivered": 60}


async def test_who_leaves_gives_the_rest_to_the_others_at_once(rollout: Rollout) -> None:
    rollout.configure(rate={"requests_per_second": 30}, queue={"visibility": 60.0}, ledger={"lease": 60.0})
    await rollout.fake_cognito.set_latency(0.2)
    await rollout.push(await rollout.sign_in(*(f"user-{number}" for number in range(90)), credential="session"))

    leaving, staying = rollout.start("run"), rollout.start("run")
    await rollout.until_called(20)
    leaving.signal(signal.SIGTERM)
    left = await leaving.ended(within=5)
    ended = await staying.ended(within=15)

    assert (left.code, ended.code) == (4, 0)
    assert (await rollout.fake_cognito.stats()).issued == 90
    assert await rollout.states() == {"delivered": 90}


async def test_what_a_dead_worker_sealed_is_delivered_without_another_call(rollout: Rollout) -> None:
    rollout.configure(channel={"path": str(rollout.folder / "later" / "enrolments.jsonl"), "patience": 60.0})
    rollout.channel = rollout.folder / "later" / "enrolments.jsonl"
    await rollout.push(await rollout.sign_in("ana", "ben", credential="session"))
    dying = rollout.start("run")
    await rollout.until_in("sealed", 2)
    await dying.kill()

    rollout.channel.parent.mkdir()
    ended = await rollout.run()

    assert ended.code == 0
    assert (await rollout.fake_cognito.stats()).wire_requests == 2
    assert rollout.opened().keys() == {"ana", "ben"}


async def test_a_user_over_whom_three_workers_died_is_not_tried_a_fourth_time(rollout: Rollout) -> None:
    await rollout.fake_cognito.set_latency(30)
    await rollout.push(await rollout.sign_in("ana"))

    for number in (1, 2, 3):
        worker = rollout.start("run")
        await rollout.until_called(number)
        await worker.kill()
    ended = await rollout.run()

    assert ended.code == 1
    assert await rollout.users("failed") == {"ana": "worker_crashed"}
    assert (await rollout.fake_cognito.stats()).wire_requests == 3


async def _stop_between_writes(rollout: Rollout, worker: Process) -> None:
    """SIGSTOP; not within a write, because whoever holds the file's lock then holds up everybody."""

    def stopped() -> bool:
        worker.signal(signal.SIGSTOP)
        with closing(sqlite3.connect(rollout.ledger, timeout=0.0, isolation_level=None)) as ledger:
            try:
                ledger.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                worker.signal(signal.SIGCONT)
                return False
        return True

    await until(stopped)


async def _sign_in_again(rollout: Rollout) -> None:
    again = await rollout.users("needs_session")
    if again:
        await rollout.push(await rollout.sign_in(*again))
        assert (await rollout.run()).code == 0


async def _secrets_a_user(rollout: Rollout) -> set[int]:
    return {len(user.secrets) for user in (await rollout.fake_cognito.truth()).values()}
