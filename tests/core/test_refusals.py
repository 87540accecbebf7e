"""Who is refused alone while others get through: how it is found out, what it costs the others, and how it ends."""

from __future__ import annotations

import pytest

from tests.support.virtual_time import VirtualTime
from worker.core.errors import PersonMustAct, WorkerError
from worker.core.model import PoolFault, Reason
from worker.core.resilience.refusals import (
    ASK_OTHERS_FOR,
    DOUBTED_USERS,
    LAST_TRIES,
    LATELY,
    LONGEST_PAUSE,
    LONGEST_POSTPONED,
    PAUSES,
    QUIET,
    REMEMBERED,
    SAMPLE,
    SHARE_BESIDE_OTHERS,
    SHARE_OF_TRIES,
    UNDECIDED_PAUSE,
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
        virtual.now = 1_000.0
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

    def ask_elsewhere(self, *names: str, refuses: bool) -> None:
        """These users from elsewhere in the queue are called, and refused or served."""
        for name in names:
            self.refusals.comes_from_elsewhere(name)
            number = self.refusals.sent(name)
            if refuses:
                self.refusals.refused(name, number, GONE)
            else:
                self.refusals.served(name, number)
            self.refusals.ended(name)

    def allowed(self, *names: str) -> int:
        """How many of these users may be tried now."""
        return [self.step(name) for name in names].count(None)

    def served_lately(self) -> int:
        """How many got through lately: so many may be refused before the pool is blamed where nobody else is left."""
        for refused in range(1_000):
            self.refuse(f"last-{refused}")
            if not self.refusals.concern_users(GONE):
                return refused
        raise AssertionError("never")

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


def test_a_success_says_nothing_of_those_who_were_called_after_it(bench: Bench) -> None:
    before, after = ({f"{when}-{number}" for number in range(10)} for when in ("before", "after"))
    bench.refuse(*before)
    good = bench.refusals.sent("good")
    bench.refuse(*after)
    bench.refusals.served("good", good)
    assert bench.refusals.streak.users == after


def test_an_answer_that_comes_after_that_of_a_later_call_counts_the_same(bench: Bench) -> None:
    refused, later = bench.refusals.sent("bad"), bench.refusals.sent("ben")
    bench.refusals.served("ben", later)
    bench.refusals.refused("bad", refused, GONE)
    assert bench.refusals.streak.users == set()
    bench.after(LONGEST_POSTPONED)
    assert bench.step("bad") == REFUSED


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


def test_whose_refusal_is_undecided_is_tried_again_after_a_second(bench: Bench) -> None:
    bench.refuse("bad")
    bench.after(0.25)
    assert bench.step("bad") == Later(UNDECIDED_PAUSE - 0.25)
    bench.after(UNDECIDED_PAUSE - 0.25)
    assert bench.step("bad") is None


def test_others_are_asked_for_a_moment_after_somebody_was_refused_for_the_first_time(bench: Bench) -> None:
    judged = [bench.refusals.are_judged]
    for seconds in (0.0, ASK_OTHERS_FOR):
        bench.after(seconds)
        bench.refuse("bad")
        judged.append(bench.refusals.are_judged)
    assert judged == [False, True, False]


def test_a_user_who_got_an_outcome_speaks_no_longer_against_the_pool(bench: Bench) -> None:
    bench.serve()
    bench.refuse(*(f"user-{number}" for number in range(DOUBTED_USERS - 1)))
    bench.refusals.forget("user-0")
    bench.refuse("another")
    assert not bench.refusals.is_doubtful
    bench.refuse("one more")
    assert bench.refusals.is_doubtful


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


@pytest.mark.parametrize(("are_left_alone", "share"), [(False, SHARE_BESIDE_OTHERS), (True, SHARE_OF_TRIES)])
def test_the_share_of_further_tries_depends_on_whether_anybody_else_is_left(
    bench: Bench, are_left_alone: bool, share: float
) -> None:
    """Who may not be tried waits for their turn without looking all the time, or gets an outcome where all wait."""
    names = [f"bad-{number}" for number in range(30)]
    bench.refuse(*names)
    bench.serve(400 - 30)
    assert bench.step("slow") is None
    bench.after(PAUSES[0] - QUIET)
    assert bench.step(names[0]) == Later(LONGEST_PAUSE)
    if are_left_alone:
        bench.refusals.ended("slow")
    bench.after(QUIET - 0.5)
    assert bench.step(names[0]) == Later(0.5)
    bench.after(0.5)
    steps = [bench.step(name) for name in names]
    allowed = int(share * 400)
    assert steps == [None] * allowed + [REFUSED if are_left_alone else Later(LONGEST_PAUSE)] * (30 - allowed)
    if not are_left_alone:
        bench.serve(99)
        assert bench.allowed(*names) == 0
        bench.serve()
        assert bench.allowed(*names) == 1
    assert bench.stopped == []


@pytest.mark.parametrize("counted", ["called again before anything was known", "throttled alone"])
def test_every_call_for_a_user_who_was_refused_before_takes_of_the_share(bench: Bench, counted: str) -> None:
    names = [f"bad-{number}" for number in range(9)]
    refusals = bench.refusals
    bench.serve()
    if counted == "throttled alone":
        for name in names[:3]:
            refusals.throttled_alone(name, refusals.sent(name), "LimitExceededException")
    else:
        bench.refuse(*names[:3], *names[:3])
    bench.refuse(*names)
    bench.serve()
    assert bench.step("slow") is None
    bench.serve(700 - refusals.sent("slow"))
    bench.after(PAUSES[0])
    spent = 3 if counted == "throttled alone" else 6
    assert bench.allowed(*names) == int(SHARE_BESIDE_OTHERS * 700) - spent


def test_a_refused_user_is_tried_again_with_growing_pauses_and_then_concluded(bench: Bench) -> None:
    bench.serve(1000)
    bench.refuse("bad")
    bench.serve()
    at, began = [], bench.virtual.now
    while not isinstance(step := bench.step("bad"), Concluded):
        if step is None:
            at.append(bench.virtual.now - began)
            bench.refuse("bad")
        bench.after(0.25)
        bench.serve()
    assert step == REFUSED
    assert bench.virtual.now - began == sum(PAUSES) + 0.25, "at the first look after the last try"
    assert at == [sum(PAUSES[:1]), sum(PAUSES[:2]), sum(PAUSES[:3]), sum(PAUSES[:4])]


@pytest.mark.parametrize("number", [1, 12])
def test_once_nobody_else_is_left_everybody_is_concluded_within_the_promised_time(bench: Bench, number: int) -> None:
    bench.serve(300)
    bench.refuse(*(f"bad-{each}" for each in range(number)))
    bench.serve()
    began = bench.virtual.now
    for each in range(number):
        _, took = bench.try_on(f"bad-{each}")
        assert bench.virtual.now - began <= LAST_TRIES + QUIET < 20.0, took


def test_once_nobody_else_is_left_the_tries_follow_each_other_without_growing_pauses(bench: Bench) -> None:
    bench.serve(1000)
    bench.refuse("bad")
    bench.serve()
    assert bench.try_on("bad") == (int(LAST_TRIES / PAUSES[0]), LAST_TRIES)


def test_where_the_share_does_not_suffice_a_user_is_concluded_after_a_minute(bench: Bench) -> None:
    names = [f"bad-{number}" for number in range(9)]
    bench.refuse(*names)
    bench.serve(50)
    assert bench.step("slow") is None
    bench.after(LONGEST_POSTPONED - 0.5)
    assert bench.allowed(*names) == 2
    assert isinstance(bench.step(names[-1]), Later)
    bench.after(0.5)
    assert bench.step(names[-1]) == REFUSED


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
    assert bench.step("bad", seconds_left=PAUSES[0]) == REFUSED


def test_whoever_is_due_is_tried_however_soon_the_credential_dies(bench: Bench) -> None:
    bench.refuse("bad")
    bench.serve()
    bench.after(PAUSES[0])
    assert bench.step("bad", seconds_left=0.5) is None


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
    assert stopped.hint == GONE.cure


@pytest.mark.parametrize(("refused", "served", "stops"), [(3, 1, True), (3, 2, True), (3, 3, False), (9, 8, True)])
def test_most_users_are_refused_where_more_are_than_got_through_lately(
    bench: Bench, refused: int, served: int, stops: bool
) -> None:
    bench.refuse(*(f"bad-{number}" for number in range(refused)))
    bench.serve(served)
    assert bench.step("bad-0", seconds_left=1.0) == (Later(UNDECIDED_PAUSE) if stops else REFUSED)
    assert bool(bench.stopped) is stops


def test_users_with_a_limit_of_their_own_are_not_refused_by_the_pool(bench: Bench) -> None:
    for number in range(9):
        bench.refusals.throttled_alone(f"bad-{number}", bench.refusals.sent(f"bad-{number}"), "LimitExceededException")
    bench.serve()
    assert isinstance(bench.step("bad-0", seconds_left=1.0), Concluded)
    assert bench.stopped == []


@pytest.mark.parametrize(
    ("answers", "stops"),
    [
        ([(1, True), (1, False)], True),
        ([(1, True), (2, False)], False),
        ([(10, True), (19, False)], False),
        ([(SAMPLE, True), (26, False), (24, True)], False),
        ([(SAMPLE, False), (26, True), (24, False)], True),
    ],
)
def test_the_latest_users_from_elsewhere_tell_whether_most_are_refused(
    bench: Bench, answers: list[tuple[int, bool]], stops: bool
) -> None:
    """Those with the earliest deadlines may have a fault in common."""
    bench.refuse(*(f"bad-{number}" for number in range(2 * SAMPLE)))
    bench.serve()
    for step, (users, refuses) in enumerate(answers):
        bench.ask_elsewhere(*(f"elsewhere-{step}-{number}" for number in range(users)), refuses=refuses)
    bench.step("bad-0", seconds_left=1.0)
    assert bool(bench.stopped) is stops


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


def test_so_is_the_memory_of_those_who_got_an_outcome(bench: Bench) -> None:
    for number in range(REMEMBERED + 1):
        bench.refuse(f"bad-{number}")
        bench.serve()
        assert bench.step(f"bad-{number}", seconds_left=1.0) == REFUSED
        bench.refusals.forget(f"bad-{number}")
    bench.after(ASK_OTHERS_FOR)
    bench.refuse("bad-1", f"bad-{REMEMBERED}")
    assert not bench.refusals.are_judged
    bench.refuse("bad-0")
    assert bench.refusals.are_judged, "forgotten, so refused as if for the first time"


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


@pytest.mark.parametrize(("served", "row"), [(1, 15), (3, 11), (6, 8), (98, 6)])
def test_a_row_of_refusals_is_as_long_as_chance_hardly_makes_it(bench: Bench, served: int, row: int) -> None:
    """One user in ``served`` + 2 was refused alone: p ** row < 1e-7, and never less than six."""
    bench.refuse("bad")
    bench.serve(served)
    for number in range(row):
        assert not bench.refusals.enough_agree(nobody_elsewhere=False)
        bench.ask_elsewhere(f"user-{number}", refuses=True)
    assert bench.refusals.enough_agree(nobody_elsewhere=False)


def test_a_refusal_that_cannot_be_a_users_own_blames_the_pool_where_nobody_is_left(bench: Bench) -> None:
    bench.serve(10)
    bench.refuse("ana", "ben", "cem", fault=TOTP_OFF)
    assert bench.refusals.enough_agree(nobody_elsewhere=True)
    assert not bench.refusals.concern_users(TOTP_OFF)
    assert bench.refusals.concern_users(GONE)
    bench.after(LONGEST_POSTPONED)
    assert bench.step("ana") == Concluded(Reason.REFUSED, TOTP_OFF.code), "refused alone, like any other"


def test_success_of_more_than_a_minute_ago_does_not_speak_for_the_pool(bench: Bench) -> None:
    bench.serve(10)
    bench.after(61.0)
    bench.refuse("ana", "ben", "cem")
    assert not bench.refusals.concern_users(GONE)


@pytest.mark.parametrize("served", [0, 1, 2, 7])
def test_so_many_may_be_refused_at_the_end_as_got_through_lately(bench: Bench, served: int) -> None:
    bench.serve(served)
    assert bench.served_lately() == served


@pytest.mark.parametrize("seconds", [45.0, 90.25, 151.25, 400.0])
def test_who_got_through_lately_are_those_of_the_last_minute(bench: Bench, seconds: float) -> None:
    """To the second, however many there were before."""
    for _ in range(int(4 * seconds)):
        bench.serve()
        bench.after(0.25)
    assert 4 * min(59, seconds) <= bench.served_lately() <= 4 * min(60, seconds)


def test_one_who_got_through_a_moment_ago_speaks_for_the_pool_where_nobody_else_is_left(bench: Bench) -> None:
    assert not bench.refusals.is_left_alone("bad")
    bench.serve()
    assert bench.refusals.is_left_alone("bad")
    assert bench.step("other") is None
    assert not bench.refusals.is_left_alone("bad")
    bench.refusals.ended("other")
    bench.after(LATELY + 1.0)
    assert not bench.refusals.is_left_alone("bad")
