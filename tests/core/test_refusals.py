"""Who is refused alone while others get through: how it is found out, what it costs the others, and how it ends."""

from __future__ import annotations

import pytest

from tests.support.virtual_time import VirtualTime
from worker.core.errors import PersonMustAct, WorkerError
from worker.core.model import PoolFault, Reason
from worker.core.resilience.refusals import (
    LAST_TRIES,
    LATELY,
    LONGEST_POSTPONED,
    PAUSES,
    QUIET,
    REMEMBERED,
    SHARE_OF_TRIES,
    Concluded,
    Later,
    Refusals,
)

GONE = PoolFault("ResourceNotFoundException", "look at the client", may_be_own=True)
TOTP_OFF = PoolFault("SoftwareTokenMFANotFoundException", "switch TOTP on")
REFUSED = Concluded(Reason.REFUSED, GONE.code)
LONG = 10_000.0


class Bench:
    """The memory of one worker, in virtual time."""

    def __init__(self, virtual: VirtualTime) -> None:
        self.virtual = virtual
        self.stopped: list[WorkerError] = []
        self.refusals = Refusals(virtual, self.stopped.append)
        self._good = 0

    def serve(self, users: int = 1) -> None:
        """So many other users begin, get through and end."""
        for _ in range(users):
            self._good += 1
            name = f"good-{self._good}"
            assert self.refusals.next_step(name, LONG) is None
            self.refusals.served(name, self.refusals.sent(name))
            self.refusals.forget(name)
            self.refusals.ended(name)

    def refuse(self, *names: str, fault: PoolFault = GONE) -> None:
        """These users are called and refused."""
        for name in names:
            self.refusals.refused(name, self.refusals.sent(name), fault)
            self.refusals.ended(name)

    def step(self, name: str, seconds_left: float = LONG) -> Concluded | Later | None:
        return self.refusals.next_step(name, seconds_left)

    def after(self, seconds: float) -> None:
        self.virtual.now += seconds

    def try_on(self, name: str, seconds: float = 100.0) -> tuple[int, float]:
        """Look at the user again and again, refusing every try: how many there were, and when the outcome came."""
        tries, began = 0, self.virtual.now
        while self.virtual.now - began < seconds:
            match self.step(name):
                case Concluded():
                    return tries, self.virtual.now - began
                case None:
                    tries += 1
                    self.refuse(name)
                case Later():
                    self.after(0.5)
        raise AssertionError("no outcome")


@pytest.fixture
def bench(virtual: VirtualTime) -> Bench:
    return Bench(virtual)


# --- whom a refusal concerns ------------------------------------------------------------------------------------------


def test_only_a_call_that_was_sent_later_and_got_through_shows_that_a_user_is_refused_alone(bench: Bench) -> None:
    refusals = bench.refusals
    earlier, refused, later = refusals.sent("ana"), refusals.sent("bad"), refusals.sent("ben")
    refusals.refused("bad", refused, GONE)
    refusals.served("ana", earlier)
    assert refusals.streak.users == {"bad"}
    refusals.served("ben", later)
    assert refusals.streak.users == set()
    bench.after(LONGEST_POSTPONED)
    assert bench.step("bad") == REFUSED


def test_an_answer_that_comes_after_that_of_a_later_call_counts_the_same(bench: Bench) -> None:
    refused, later = bench.refusals.sent("bad"), bench.refusals.sent("ben")
    bench.refusals.served("ben", later)
    bench.refusals.refused("bad", refused, GONE)
    assert bench.refusals.streak.users == set()
    assert isinstance(bench.step("bad"), Later)


def test_refusals_of_everybody_that_ended_count_against_nobody(bench: Bench) -> None:
    bench.serve(100)
    bench.refuse(*(f"user-{number}" for number in range(10)))
    bench.refusals.streak.doubted = True  # as the circuit breaker says
    bench.refusals.comes_from_elsewhere("elsewhere")
    bench.refuse("elsewhere")
    bench.serve()
    for number in range(10):
        assert bench.step(f"user-{number}") is None, "called like everybody"


def test_nobody_is_concluded_while_the_pool_is_doubted(bench: Bench) -> None:
    bench.refuse("bad")
    bench.serve()
    bench.after(LONGEST_POSTPONED)
    bench.refusals.pool_is_doubted = True
    assert isinstance(bench.step("bad"), Later)
    bench.refusals.pool_is_doubted = False
    assert bench.step("bad") == REFUSED


def test_whoever_gets_through_after_all_is_a_user_like_all_others(bench: Bench) -> None:
    bench.refuse("bad")
    bench.serve()
    bench.refusals.served("bad", bench.refusals.sent("bad"))
    assert bench.step("bad") is None


# --- what it costs the others, and how it ends ------------------------------------------------------------------------


def test_further_tries_take_no_more_than_their_share_however_many_are_refused(bench: Bench) -> None:
    names = [f"bad-{number}" for number in range(30)]
    first, further = 0, 0
    for name in names:
        bench.refuse(name)
        first += 1
        bench.serve(3)
    for _ in range(600):
        bench.serve(2)
        bench.after(0.1)
        for name in names:
            if bench.step(name) is None:
                further += 1
                bench.refuse(name)
    calls = first + further + 30 * 3 + 1200
    assert 0 < further <= SHARE_OF_TRIES * calls


def test_a_refused_user_is_tried_again_with_growing_pauses_and_then_concluded(bench: Bench) -> None:
    bench.serve(1000)
    bench.refuse("bad")
    bench.serve()
    at = []
    while not isinstance(step := bench.step("bad"), Concluded):
        if step is None:
            at.append(bench.virtual.now)
            bench.refuse("bad")
        bench.after(0.25)
        bench.serve()
    assert step == REFUSED
    assert at == [sum(PAUSES[:1]), sum(PAUSES[:2]), sum(PAUSES[:3]), sum(PAUSES[:4])]


@pytest.mark.parametrize("number", [1, 12])
def test_once_nobody_else_is_left_everybody_is_concluded_within_the_promised_time(bench: Bench, number: int) -> None:
    bench.serve(300)
    bench.refuse(*(f"bad-{each}" for each in range(number)))
    bench.serve()
    for each in range(number):
        _, took = bench.try_on(f"bad-{each}")
        assert bench.virtual.now <= LAST_TRIES + QUIET < 20.0, took


def test_a_user_who_is_worked_on_for_long_is_not_nobody(bench: Bench) -> None:
    bench.serve(1000)
    bench.refuse("bad")
    bench.serve()
    assert bench.step("slow") is None
    bench.after(LAST_TRIES)
    assert bench.step("bad") is None, "one more try"
    bench.refuse("bad")
    assert isinstance(bench.step("bad"), Later)


def test_whoever_would_die_before_the_next_try_is_concluded_now(bench: Bench) -> None:
    bench.refuse("bad")
    bench.serve()
    assert isinstance(bench.step("bad", seconds_left=60.0), Later)
    assert bench.step("bad", seconds_left=PAUSES[0] - 0.5) == REFUSED


def test_a_worker_most_of_whose_users_are_refused_stops_and_concludes_nobody(bench: Bench) -> None:
    for number in range(30):
        bench.refuse(f"bad-{number}")
        if number % 2:
            bench.serve()
    bench.after(50.0)
    for number in range(30):
        assert not isinstance(bench.step(f"bad-{number}", seconds_left=1.0), Concluded)
    [stopped, *_] = bench.stopped
    assert isinstance(stopped, PersonMustAct)
    assert GONE.code in str(stopped)


def test_two_of_three_users_are_no_majority_to_stop_for(bench: Bench) -> None:
    bench.refuse("bad-1", "bad-2")
    bench.serve()
    bench.after(LONGEST_POSTPONED)
    assert bench.step("bad-1") == REFUSED
    assert bench.stopped == []


def test_each_further_request_of_a_refused_user_takes_one_call_and_no_pause(bench: Bench) -> None:
    bench.serve(1000)
    bench.refuse("bad")
    bench.serve()
    bench.try_on("bad")
    bench.refusals.forget("bad")
    for _ in range(8):
        assert bench.step("bad") is None, "its credential may be better"
        bench.refuse("bad")
        assert bench.step("bad") == REFUSED
        bench.refusals.forget("bad")
    assert bench.refusals.streak.users == set()
    bench.after(LATELY + 1.0)
    assert bench.step("bad") is None
    bench.refuse("bad")
    assert isinstance(bench.step("bad"), Later), "a user like all others again"


def test_a_user_whose_credential_died_between_the_tries_has_the_others_left_with_the_next_one(bench: Bench) -> None:
    bench.serve(1000)
    bench.refuse("bad")
    bench.serve()
    assert bench.step("bad", seconds_left=1.0) == REFUSED
    bench.refusals.forget("bad")
    assert bench.step("bad") is None
    bench.refuse("bad")
    assert isinstance(bench.step("bad"), Later)


def test_the_requests_of_a_refused_user_do_not_put_off_the_end_of_the_others(bench: Bench) -> None:
    bench.serve(1000)
    bench.refuse("bad", "many")
    bench.serve()
    bench.try_on("many")
    bench.refusals.forget("many")
    bench.after(LAST_TRIES)
    assert bench.step("many") is None
    assert bench.step("bad") == REFUSED


def test_the_memory_is_bounded(bench: Bench) -> None:
    for number in range(REMEMBERED + 10):
        bench.refuse(f"bad-{number}")
        bench.serve()
    assert bench.step("bad-9") is None, "forgotten, so called as if for the first time"
    assert isinstance(bench.step("bad-10"), Later)


# --- when the pool is to blame ----------------------------------------------------------------------------------------


def test_the_more_users_are_refused_anyway_the_more_refusals_in_a_row_blame_the_pool(bench: Bench) -> None:
    def needed(served_for_each_refused: int) -> int:
        trial = Bench(VirtualTime())
        for number in range(20):
            trial.refuse(f"bad-{number}")
            trial.serve(served_for_each_refused)
        names = [f"user-{number}" for number in range(60)]
        for number, name in enumerate(names):
            trial.refusals.comes_from_elsewhere(name)
            trial.refuse(name)
            if trial.refusals.enough_agree(nobody_elsewhere=False):
                return number + 1
        raise AssertionError("never")

    found = [needed(100), needed(5), needed(1)]
    assert found[0] == 6
    assert found == sorted(set(found))


def test_a_refusal_that_cannot_be_a_users_own_blames_the_pool_where_nobody_is_left(bench: Bench) -> None:
    bench.serve(10)
    bench.refuse("ana", "ben", "cem", fault=TOTP_OFF)
    assert bench.refusals.enough_agree(nobody_elsewhere=True)
    assert not bench.refusals.concern_users(TOTP_OFF)
    assert bench.refusals.concern_users(GONE)


def test_success_of_more_than_a_minute_ago_does_not_speak_for_the_pool(bench: Bench) -> None:
    bench.serve(10)
    bench.after(61.0)
    bench.refuse("ana", "ben", "cem")
    assert not bench.refusals.concern_users(GONE)
