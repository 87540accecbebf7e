"""One throttled user slows nobody; many do, as soon as it is known that they are many."""

from __future__ import annotations

import pytest

from tests.support.virtual_time import VirtualTime
from worker.core.model import Issued, Reason, Secret, Trouble, TryAgain
from worker.core.resilience.refusals import LONGEST_POSTPONED, Concluded, Refusals
from worker.core.resilience.throttling import RECOVERIES, REMEMBERED, WINDOW, Throttling

ISSUED = Issued(Secret("JBSWY3DP"), None, "request-1")
LIMIT = TryAgain(Trouble.THROTTLED, "LimitExceededException")


class Bench:
    """A pacer that remembers what it was told, and the calls of one worker, one every 40 ms."""

    def __init__(self) -> None:
        self.virtual = VirtualTime()
        self.cuts: list[float] = []
        self.refusals = Refusals(self.virtual, lambda _: None)
        self.throttling = Throttling(self, self.refusals)

    async def acquire(self) -> None:
        raise NotImplementedError

    def throttled(self, sent_at: float) -> None:
        self.cuts.append(sent_at)

    def call(self, username: str, reply: Issued | TryAgain) -> bool:
        """Whether the user is throttled alone."""
        self.virtual.now += 0.04
        number = self.refusals.sent(username)
        if isinstance(reply, Issued):
            self.refusals.served(username, number)
        return self.throttling.record_reply(username, reply, number, self.virtual.now)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_user_who_is_throttled_again_while_others_get_through_slows_nobody(bench: Bench) -> None:
    assert not bench.call("bad", LIMIT)
    bench.call("good", ISSUED)
    assert bench.call("bad", LIMIT)
    assert bench.call("bad", LIMIT)
    assert bench.cuts == []
    bench.virtual.now += LONGEST_POSTPONED
    assert bench.refusals.next_step("bad", 1e4) == Concluded(Reason.THROTTLED_ALONE, "LimitExceededException")


def test_so_do_several_of_them(bench: Bench) -> None:
    names = [f"bad-{number}" for number in range(5)]
    for name in names:
        bench.call(name, LIMIT)
    bench.call("good", ISSUED)
    assert [bench.call(name, LIMIT) for name in names] == [True] * 5
    assert bench.cuts == []


def test_a_user_who_gets_through_at_the_next_try_shows_that_the_quota_was_exceeded(bench: Bench) -> None:
    bench.call("ana", LIMIT)
    sent_at = bench.virtual.now
    bench.call("ben", ISSUED)
    assert not bench.call("ana", ISSUED)
    assert bench.cuts == [sent_at]


def test_where_nobody_gets_through_everybody_slows_down(bench: Bench) -> None:
    for _ in range(3):
        assert [bench.call(name, LIMIT) for name in ("ana", "ben")] == [False, False]
    assert len(bench.cuts) == 4, "one for each answer but the first of each user"


def test_while_many_are_throttled_nobody_is_taken_for_throttled_alone(bench: Bench) -> None:
    for number in range(20):
        name = f"user-{number}"
        bench.call(name, LIMIT)
        bench.call(f"other-{number}", ISSUED)
        bench.call(name, ISSUED)
    bench.call("ana", LIMIT)
    bench.call("ben", ISSUED)
    before = len(bench.cuts)
    assert not bench.call("ana", LIMIT)
    assert len(bench.cuts) == before + 1


@pytest.mark.parametrize(("recovered", "then_served", "is_alone"), [(1, 0, True), (2, 0, False), (2, WINDOW, True)])
def test_two_who_recovered_lately_show_that_the_quota_is_exceeded(
    bench: Bench, recovered: int, then_served: int, is_alone: bool
) -> None:
    assert RECOVERIES == 2
    for number in range(recovered):
        bench.call(f"user-{number}", LIMIT)
        bench.call(f"user-{number}", ISSUED)
    for number in range(then_served):
        bench.call(f"other-{number}", ISSUED)
    bench.call("bad", LIMIT)
    bench.call("good", ISSUED)
    assert bench.call("bad", LIMIT) is is_alone
    assert len(bench.cuts) == recovered + (not is_alone)


@pytest.mark.parametrize(
    ("before", "others", "between", "is_alone"),
    [
        (True, True, True, True),
        (True, True, False, False),
        (True, False, False, True),
        (False, True, True, True),
        (False, False, False, False),
    ],
)
def test_others_show_it_by_getting_through_meanwhile_or_before_where_none_is_left(
    bench: Bench, before: bool, others: bool, between: bool, is_alone: bool
) -> None:
    if before:
        bench.call("earlier", ISSUED)
    if others:
        bench.refusals.next_step("other", 1e4)
    bench.call("bad", LIMIT)
    if between:
        bench.call("other", ISSUED)
    assert bench.call("bad", LIMIT) is is_alone


def test_of_too_many_who_wait_for_their_next_try_the_oldest_is_forgotten(bench: Bench) -> None:
    for number in range(REMEMBERED + 1):
        bench.call(f"user-{number}", LIMIT)
    bench.call("good", ISSUED)
    asked = (f"user-{REMEMBERED}", "user-1", "user-0")
    assert [bench.call(name, LIMIT) for name in asked] == [True, True, False]
