"""Messages of a user who is worked on wait, cost nothing, and come out one by one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.messages import PARSER, body
from worker.core.model import Request
from worker.core.ports import Lease
from worker.engine.other_messages import MOST, PAGE, SHARE_OF_ONE, TRIES_AT_ONCE, OtherMessages

RATE = 20.0
"""Calls/s."""


def lease(username: str, id_: str, expires_in: float = 60.0) -> Lease:
    return Lease(PARSER.parse(body(username, id_, expires_in=expires_in), 0.0), id_)


class Time:
    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def utc(self) -> float:
        return self.now


class Others:
    """A queue of messages of one user, and what became of them."""

    def __init__(self) -> None:
        self.on_queue: list[Lease] = []
        self.acknowledged: list[object] = []

    async def lease_others(self, _username: str, most: int) -> Sequence[Lease]:
        found, self.on_queue = self.on_queue[:most], self.on_queue[most:]
        return found

    async def duplicates(self, requests: Sequence[Request]) -> Sequence[bool]:
        return [request.id.startswith("done") for request in requests]

    async def acknowledge(self, leases: Sequence[Lease]) -> None:
        self.acknowledged += [lease.receipt for lease in leases]


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def queue() -> Others:
    return Others()


@pytest.fixture
def others(queue: Others, time: Time) -> OtherMessages:
    return OtherMessages(queue, queue.duplicates, queue.acknowledge, time, RATE)  # type: ignore[arg-type]


def due(others: OtherMessages, most: int = 9, *busy: str) -> list[object]:
    return [lease.receipt for lease in others.due(most, busy)]


def test_nothing_comes_out_before_its_user_is_released(others: OtherMessages) -> None:
    others.add([lease("ana", "1")])
    assert "ana" in others
    assert due(others) == []
    others.released("ana")
    assert due(others) == ["1"]
    assert "ana" not in others


def test_of_each_user_the_earliest_deadline_comes_out_and_the_others_wait_for_its_outcome(
    others: OtherMessages,
) -> None:
    others.add([lease("ana", "late", 90), lease("ana", "early", 30), lease("ben", "only")])
    for username in ("ana", "ana", "ben"):
        others.released(username)
    assert due(others, 9, "ben") == ["early"]
    assert due(others) == []
    others.released("ana")
    assert due(others) == ["late"]


def test_no_more_come_out_than_were_asked_for(others: OtherMessages) -> None:
    for username in ("ana", "ben", "cia"):
        others.add([lease(username, username)])
        others.released(username)
    assert due(others, 2) == ["ana", "ben"]
    assert due(others, 2) == ["cia"]


def test_whoever_is_worked_on_again_waits_for_the_next_release(others: OtherMessages) -> None:
    others.add([lease("ana", "1")])
    others.released("ana")
    assert due(others, 9, "ana") == []
    others.released("ana")
    assert due(others) == ["1"]


def test_whoever_was_not_free_rests(others: OtherMessages, time: Time) -> None:
    others.released("ana", 2.0)
    assert others.rests("ana")
    others.add([lease("ana", "1")])
    assert due(others) == []
    time.now += 2.0
    assert not others.rests("ana")
    assert due(others) == ["1"]


def test_the_last_release_says_how_long_a_user_rests(others: OtherMessages, time: Time) -> None:
    others.add([lease("ana", "1")])
    others.released("ana", 2.0)
    others.released("ana", 5.0)
    time.now += 2.0
    assert due(others) == []
    time.now += 3.0
    assert due(others) == ["1"]


def test_all_of_a_user_can_be_taken_at_once(others: OtherMessages) -> None:
    others.add([lease("ana", "1"), lease("ben", "2"), lease("ana", "3")])
    assert sorted(str(each.receipt) for each in others.take("ana")) == ["1", "3"]
    assert others.take("ana") == []
    assert "ben" in others


def test_it_says_when_enough_wait(others: OtherMessages) -> None:
    others.add([lease("ana", "1")] * MOST)
    assert others.is_full
    others.released("ana")
    due(others)
    assert not others.is_full


def test_nothing_is_left_of_users_who_rested_and_have_no_messages(others: OtherMessages, time: Time) -> None:
    for number in range(100):
        others.released(f"user {number}", 1.0)
    time.now += 1.0
    assert due(others) == []
    assert not others._resting
    assert not others._released


async def test_duplicates_are_acknowledged_page_by_page_and_what_may_be_tried_stays(
    others: OtherMessages, queue: Others
) -> None:
    others.add([lease("ana", "done here"), lease("ben", "done, but not ana's")])
    queue.on_queue = [lease("ana", f"done {number}") for number in range(2 * PAGE)] + [lease("ana", "new")]
    await others.settle("ana", lambda: True)
    assert len(queue.acknowledged) == 2 * PAGE + 1
    assert queue.on_queue == []
    assert [each.receipt for each in others.take("ana")] == ["new"]
    assert "ben" in others


async def test_a_run_that_ends_leases_no_further_page(others: OtherMessages, queue: Others) -> None:
    queue.on_queue = [lease("ana", "done")]
    await others.settle("ana", lambda: False)
    assert len(queue.on_queue) == 1


def test_a_user_with_several_requests_rests_after_the_first_ones_while_others_wait(others: OtherMessages) -> None:
    others.add([lease("ana", "1")])
    rests = [others.rest_between_tries("ana", nobody_waits=False) for _ in range(TRIES_AT_ONCE)]
    assert rests == [0.0] * (TRIES_AT_ONCE - 1) + [1 / (SHARE_OF_ONE * RATE)]
    assert others.rest_between_tries("ana", nobody_waits=True) == 0.0
    others.take("ana")
    assert others.rest_between_tries("ana", nobody_waits=False) == 0.0
    others.add([lease("ana", "2")])
    assert others.rest_between_tries("ana", nobody_waits=False) == 0.0, "counted anew"
