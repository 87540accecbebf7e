"""Messages of a user who is worked on wait, cost nothing, and come out one by one."""

from __future__ import annotations

import pytest

from tests.support.messages import PARSER, body
from worker.core.ports import Lease
from worker.engine.siblings import MOST, Siblings


def lease(username: str, id_: str, expires_in: float = 60.0) -> Lease:
    return Lease(PARSER.parse(body(username, id_, expires_in=expires_in), 0.0), id_)


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def siblings(time: Time) -> Siblings:
    return Siblings(time)


def due(siblings: Siblings, most: int = 9, *busy: str) -> list[object]:
    return [lease.receipt for lease in siblings.due(most, busy)]


def test_nothing_comes_out_before_its_user_is_released(siblings: Siblings) -> None:
    siblings.add([lease("ana", "1")])
    assert "ana" in siblings
    assert due(siblings) == []
    siblings.released("ana")
    assert due(siblings) == ["1"]
    assert "ana" not in siblings


def test_of_each_user_the_earliest_deadline_comes_out_and_the_others_wait_for_its_outcome(siblings: Siblings) -> None:
    siblings.add([lease("ana", "late", 90), lease("ana", "early", 30), lease("ben", "only")])
    for username in ("ana", "ana", "ben"):
        siblings.released(username)
    assert due(siblings, 9, "ben") == ["early"]
    assert due(siblings) == []
    siblings.released("ana")
    assert due(siblings) == ["late"]


def test_no_more_come_out_than_were_asked_for(siblings: Siblings) -> None:
    for username in ("ana", "ben", "cia"):
        siblings.add([lease(username, username)])
        siblings.released(username)
    assert due(siblings, 2) == ["ana", "ben"]
    assert due(siblings, 2) == ["cia"]


def test_whoever_is_worked_on_again_waits_for_the_next_release(siblings: Siblings) -> None:
    siblings.add([lease("ana", "1")])
    siblings.released("ana")
    assert due(siblings, 9, "ana") == []
    siblings.released("ana")
    assert due(siblings) == ["1"]


def test_whoever_was_not_free_rests(siblings: Siblings, time: Time) -> None:
    siblings.released("ana", 2.0)
    assert siblings.rests("ana")
    siblings.add([lease("ana", "1")])
    assert due(siblings) == []
    time.now += 2.0
    assert not siblings.rests("ana")
    assert due(siblings) == ["1"]


def test_the_last_release_says_how_long_a_user_rests(siblings: Siblings, time: Time) -> None:
    siblings.add([lease("ana", "1")])
    siblings.released("ana", 2.0)
    siblings.released("ana", 5.0)
    time.now += 2.0
    assert due(siblings) == []
    time.now += 3.0
    assert due(siblings) == ["1"]


def test_all_of_a_user_can_be_taken_at_once(siblings: Siblings) -> None:
    siblings.add([lease("ana", "1"), lease("ben", "2"), lease("ana", "3")])
    assert sorted(str(each.receipt) for each in siblings.take("ana")) == ["1", "3"]
    assert siblings.take("ana") == []
    assert "ben" in siblings


def test_it_says_when_enough_wait(siblings: Siblings) -> None:
    siblings.add([lease("ana", "1")] * MOST)
    assert siblings.is_full
    siblings.released("ana")
    due(siblings)
    assert not siblings.is_full


def test_nothing_is_left_of_users_who_rested_and_have_no_messages(siblings: Siblings, time: Time) -> None:
    for number in range(100):
        siblings.released(f"user {number}", 1.0)
    time.now += 1.0
    assert due(siblings) == []
    assert not siblings._resting
    assert not siblings._released
