"""The circuit breaker before every call: one probe at a time while open, and who has to agree to end a run."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.support.virtual_time import VirtualTime
from worker.core.errors import EndpointUnavailable, PersonMustAct, WorkerError
from worker.core.model import Issued, PoolFault, Reason, Refused, Reply, Secret, State, Trouble, TryAgain
from worker.core.resilience.breaker import JUDGED_FOR, LATENCY_HALF_LIFE, UNCONFIRMED_AFTER, CircuitBreaker
from worker.core.resilience.refusals import AGREEING_USERS, DOUBTED_USERS, LONGEST_POSTPONED, Concluded, Refusals

ISSUED = Issued(Secret("JBSWY3DP"), None, "request-1")
REFUSED = Refused(State.NEEDS_SESSION, Reason.SESSION_SPENT)
TOTP_OFF = PoolFault("SoftwareTokenMFANotFoundException", "switch TOTP on")
WAF = PoolFault("ForbiddenException", "look at the WAF", may_pass=True)
UNSENT, NO_ANSWER = TryAgain(Trouble.UNSENT, "ConnectError"), TryAgain(Trouble.NO_ANSWER, "ReadTimeout")
GONE = PoolFault("ResourceNotFoundException", "look at the client", may_be_own=True)
THROTTLED, CONFLICT = TryAgain(Trouble.THROTTLED), TryAgain(Trouble.CONFLICT)
SERVER_ERROR = TryAgain(Trouble.SERVER_ERROR)


class Bench:
    """A breaker in virtual time, and what ended the run."""

    def __init__(self, virtual: VirtualTime) -> None:
        self.virtual = virtual
        self.stopped: list[WorkerError] = []
        self.refusals = Refusals(virtual, self.stopped.append)
        self.breaker = CircuitBreaker(virtual, self.stopped.append, self.refusals, patience=60.0, refusal_patience=45.0)

    def hear(self, reply: Reply, *usernames: str) -> None:
        for username in usernames:
            self.breaker.record_reply(username, reply, self.refusals.sent(username))

    def hear_elsewhere(self, reply: Reply, *usernames: str) -> None:
        """The same of users from elsewhere in the queue."""
        for username in usernames:
            self.refusals.comes_from_elsewhere(username)
            self.hear(reply, username)
            self.refusals.ended(username)

    async def pass_through(self, answer: Reply | None = None, username: str = "ana", takes: float = 0.0) -> float:
        """When the attempt was let through."""
        async with self.breaker.permit(username):
            began = self.virtual.now
            number = self.refusals.sent(username)
            await asyncio.sleep(takes)
            if answer is not None:
                self.breaker.record_reply(username, answer, number)
        return began

    def run(self, main: Coroutine[Any, Any, float]) -> float:
        return self.virtual.run(main)


@pytest.fixture
def bench(virtual: VirtualTime) -> Bench:
    return Bench(virtual)


# --- open, and closed by a probe --------------------------------------------------------------------------------------


def test_a_closed_breaker_lets_everybody_through_at_once(bench: Bench) -> None:
    async def main() -> list[float]:
        return await asyncio.gather(*(bench.pass_through(ISSUED, takes=1.0) for _ in range(9)))

    assert bench.virtual.run(main()) == [0.0] * 9
    assert bench.breaker.waiting_for is None


@pytest.mark.parametrize("fault", [TOTP_OFF, WAF, UNSENT])
def test_after_the_first_fault_a_single_probe_goes_through_and_closes_the_breaker_for_all(
    bench: Bench, fault: Reply
) -> None:
    async def main() -> list[float]:
        bench.hear(fault, "ana")
        assert not bench.breaker.admits(probe=False)
        return await asyncio.gather(*(bench.pass_through(ISSUED, takes=0.25) for _ in range(9)))

    assert bench.virtual.run(main()) == [0.5] + [0.75] * 8
    assert bench.stopped == []


@pytest.mark.parametrize("takes", [0.0, 0.25])
def test_probes_come_at_growing_intervals_and_one_at_a_time(bench: Bench, takes: float) -> None:
    async def main() -> list[float]:
        bench.hear(UNSENT, "ana")
        return sorted(await asyncio.gather(*(bench.pass_through(UNSENT, takes=takes) for _ in range(8))))

    began = bench.virtual.run(main())
    pauses = [later - earlier - takes for earlier, later in itertools.pairwise(began)]
    assert began[0] == 0.5
    assert pauses == pytest.approx([1, 2, 4, 8, 10, 10, 10])


def test_answers_to_what_was_sent_before_do_not_put_the_probe_off(bench: Bench) -> None:
    async def main() -> float:
        bench.hear(WAF, "ana")
        await asyncio.sleep(0.3)
        bench.hear(WAF, "ana", "ana")
        return await bench.pass_through(ISSUED)

    assert bench.run(main()) == pytest.approx(0.5)


@pytest.mark.parametrize("answer", [ISSUED, REFUSED, CONFLICT, SERVER_ERROR])
def test_any_answer_about_one_user_closes_the_breaker(bench: Bench, answer: Reply) -> None:
    bench.hear(WAF, "ana")
    bench.hear(answer, "ben")
    assert bench.breaker.admits(probe=False)


def test_who_is_refused_alone_shows_that_the_endpoint_is_there_again(bench: Bench) -> None:
    bench.hear(WAF, "bad")
    bench.hear(ISSUED, "ben")
    bench.hear(UNSENT, "cleo")
    assert not bench.breaker.admits(probe=False)
    bench.hear(WAF, "bad")
    assert bench.breaker.admits(probe=False)


def test_being_throttled_shows_that_the_endpoint_is_there_but_not_that_it_serves(bench: Bench) -> None:
    bench.hear(UNSENT, "ana")
    bench.hear(THROTTLED, "ana")
    assert bench.breaker.admits(probe=False)
    bench.hear(WAF, "ana")
    bench.hear(THROTTLED, "ana")
    assert not bench.breaker.admits(probe=False)
    assert bench.breaker.waiting_for == "Cognito to stop refusing everybody (ForbiddenException)"


def test_a_success_that_was_sent_before_the_refusals_does_not_show_that_they_are_over(bench: Bench) -> None:
    earlier = bench.refusals.sent("ben")
    bench.hear(WAF, "ana")
    bench.breaker.record_reply("ben", ISSUED, earlier)
    assert not bench.breaker.admits(probe=False)


def test_a_sign_in_does_not_show_that_the_pool_serves(bench: Bench) -> None:
    bench.hear(WAF, "ana")
    bench.breaker.record_reply("ben", REFUSED, bench.refusals.sent("ben", signs_in=True), signs_in=True)
    assert not bench.breaker.admits(probe=False)


def test_whoever_was_held_up_is_remembered_by_the_moment_they_went_on(bench: Bench) -> None:
    async def main() -> list[float]:
        seen = []
        await bench.pass_through()
        seen.append(bench.breaker.held_up_until)
        bench.hear(UNSENT, "ana")
        await bench.pass_through(ISSUED)
        return [*seen, bench.breaker.held_up_until]

    before, after = bench.virtual.run(main())
    assert before < 0.0
    assert after == 0.5


def test_once_the_breaker_is_closed_whoever_is_refused_alone_gets_an_outcome(bench: Bench) -> None:
    bench.hear(GONE, "bad")
    bench.hear(ISSUED, "good")
    bench.virtual.now += LONGEST_POSTPONED
    assert bench.refusals.next_step("bad", 1e4) == Concluded(Reason.REFUSED, GONE.code)


def test_a_probe_that_is_given_up_makes_room_for_the_next(bench: Bench) -> None:
    async def main() -> float:
        bench.hear(UNSENT, "ana")
        probe = asyncio.ensure_future(bench.pass_through(takes=100.0))
        await asyncio.sleep(0.6)
        probe.cancel()
        return await bench.pass_through(ISSUED)

    assert bench.run(main()) == pytest.approx(0.6)


def test_who_stops_waiting_leaves_the_others_their_turn(bench: Bench) -> None:
    async def main() -> float:
        bench.hear(UNSENT, "ana")
        waiting = [asyncio.ensure_future(bench.pass_through(ISSUED)) for _ in range(3)]
        await asyncio.sleep(0.1)
        waiting[0].cancel()
        return max(await asyncio.gather(*waiting[1:]))

    assert bench.run(main()) == pytest.approx(0.5)


def test_whoever_passed_sees_that_the_breaker_opened_meanwhile(bench: Bench) -> None:
    async def main() -> list[bool]:
        seen = []
        async with bench.breaker.permit("ana") as permit:
            seen.append(not permit.has_lapsed())
            bench.hear(WAF, "ana")
            seen.append(not permit.has_lapsed())
        async with bench.breaker.permit("ana") as probe:
            seen.append(not probe.has_lapsed())
            bench.breaker.ledger_call_begins("key")
            bench.breaker.ledger_call_failed("key", "the ledger: away")
            seen.append(not probe.has_lapsed())
        return seen

    assert bench.virtual.run(main()) == [True, False, True, False]


# --- who has to agree -------------------------------------------------------------------------------------------------


def test_three_users_who_are_refused_end_the_run_where_nobody_else_is_left(bench: Bench) -> None:
    bench.hear(TOTP_OFF, "ana", "ben")
    bench.breaker.found_elsewhere(0)
    bench.virtual.now = 0.9
    bench.hear(TOTP_OFF, "cem")
    assert bench.stopped == [], "a moment is not enough"
    assert bench.breaker.waiting_for == "Cognito to stop refusing everybody (SoftwareTokenMFANotFoundException)"
    bench.virtual.now = 1.0
    bench.hear(TOTP_OFF, "cem")
    assert isinstance(bench.stopped[0], PersonMustAct)
    assert bench.stopped[0].hint == "switch TOTP on"


def test_one_user_alone_has_to_be_refused_six_times(bench: Bench) -> None:
    bench.hear(TOTP_OFF, *["ana"] * 4)
    bench.breaker.found_elsewhere(0)
    bench.virtual.now = 1.0
    bench.hear(TOTP_OFF, "ana")
    assert bench.stopped == []
    bench.hear(TOTP_OFF, "ana")
    assert isinstance(bench.stopped[0], PersonMustAct)


def test_users_from_elsewhere_must_be_refused_too_where_there_are_any(bench: Bench) -> None:
    bench.hear(TOTP_OFF, "ana", "ben", "cem", "dag", "eve", "fay")
    bench.breaker.found_elsewhere(3)
    for username in ("xan", "yul", "zoe"):
        bench.refusals.comes_from_elsewhere(username)
    bench.virtual.now = 5.0
    bench.hear(TOTP_OFF, "gus", "xan", "yul")
    assert bench.stopped == []
    bench.hear(TOTP_OFF, "zoe")
    assert isinstance(bench.stopped[0], PersonMustAct)


def test_users_from_elsewhere_are_probed_first_and_without_a_pause(bench: Bench) -> None:
    async def main() -> dict[str, float]:
        bench.hear(WAF, "ana")
        bench.refusals.comes_from_elsewhere("xan")
        ben = asyncio.ensure_future(bench.pass_through(WAF, "ben"))
        await asyncio.sleep(0)
        xan = asyncio.ensure_future(bench.pass_through(ISSUED, "xan", takes=0.25))
        return {"ben": await ben, "xan": await xan}

    assert bench.virtual.run(main()) == {"ben": 0.25, "xan": 0.0}


def test_once_three_users_from_elsewhere_were_refused_the_others_of_them_still_go_first(bench: Bench) -> None:
    """At the pace of all probes; and whoever comes from the front of the queue is the next when none of them waits."""

    async def main() -> dict[str, float]:
        bench.hear_elsewhere(WAF, "xan", "yul", "zoe")
        names = ("ben", "elsewhere", "gus")
        bench.refusals.comes_from_elsewhere("elsewhere")
        async with asyncio.timeout(60.0):
            began = await asyncio.gather(*(bench.pass_through(WAF, name, takes=0.25) for name in names))
        return dict(zip(names, began, strict=True))

    began = bench.virtual.run(main())
    assert began.pop("elsewhere") == 0.5
    assert sorted(began.values()) == [1.75, 4.0]


def test_three_users_from_elsewhere_are_wanted_as_probes_until_their_work_is_over(bench: Bench) -> None:
    wanted = [bench.breaker.probes_wanted]
    bench.hear(WAF, "ana")
    wanted.append(bench.breaker.probes_wanted)
    for number in range(AGREEING_USERS + 1):
        bench.refusals.comes_from_elsewhere(f"user-{number}")
        wanted.append(bench.breaker.probes_wanted)
    for number in range(AGREEING_USERS + 1):
        bench.refusals.ended(f"user-{number}")
    wanted.append(bench.breaker.probes_wanted)
    assert wanted == [0, 3, 2, 1, 0, 0, 3]


@pytest.mark.parametrize(
    ("fault", "users", "pauses"),
    [(TOTP_OFF, 4, [0.5, 0.5, 0.5]), (TOTP_OFF, 1, [1.0, 2.0, 4.0]), (WAF, 4, [1.0, 2.0, 4.0])],
    ids=["each another user", "one user", "what may pass by itself"],
)
def test_only_the_next_user_who_can_tell_something_new_is_asked_soon(
    bench: Bench, fault: PoolFault, users: int, pauses: list[float]
) -> None:
    async def main() -> list[float]:
        bench.hear(fault, "user-0")
        return [await bench.pass_through(fault, f"user-{number % users}") for number in range(1, 5)]

    began = bench.virtual.run(main())
    assert [later - earlier for earlier, later in itertools.pairwise(began)] == pauses


@pytest.mark.parametrize("between", [(), (REFUSED, UNSENT, ISSUED)], ids=["at once", "with the endpoint away between"])
def test_refusals_of_everybody_that_are_over_count_against_nobody(bench: Bench, between: tuple[Reply, ...]) -> None:
    bench.hear(ISSUED, "good")
    names = [f"user-{number}" for number in range(DOUBTED_USERS)]
    bench.hear(GONE, *names)
    bench.hear_elsewhere(GONE, "elsewhere")
    for reply in between[:-1]:
        bench.hear(reply, "another")
    bench.hear(ISSUED, "one more")
    bench.virtual.now += LONGEST_POSTPONED
    assert [bench.refusals.next_step(name, 1e4) for name in names] == [None] * DOUBTED_USERS


def test_refusals_of_a_moment_end_no_run(bench: Bench) -> None:
    bench.breaker.found_elsewhere(0)
    bench.virtual.now = 1_000.0
    bench.hear(TOTP_OFF, "ana", "ben", "cem")
    bench.virtual.now += JUDGED_FOR / 2
    bench.hear(TOTP_OFF, "ana")
    assert bench.stopped == []
    bench.virtual.now += JUDGED_FOR / 2
    bench.hear(TOTP_OFF, "ana")
    assert isinstance(bench.stopped[0], PersonMustAct)


def test_a_users_own_answer_does_not_say_that_there_are_others_elsewhere(bench: Bench) -> None:
    bench.breaker.found_elsewhere(0)
    bench.hear(REFUSED, "own")
    bench.virtual.now = 5.0
    bench.hear(TOTP_OFF, "ana", "ben", "cem")
    bench.virtual.now += JUDGED_FOR
    bench.hear(TOTP_OFF, "ana")
    assert isinstance(bench.stopped[0], PersonMustAct)


@pytest.mark.parametrize(("fault", "closes"), [(GONE, True), (TOTP_OFF, False)])
def test_once_nobody_is_found_elsewhere_those_left_are_judged_without_another_call(
    bench: Bench, fault: PoolFault, closes: bool
) -> None:
    bench.hear(ISSUED, *(f"good-{number}" for number in range(2 * DOUBTED_USERS)))
    bench.hear(fault, *(f"user-{number}" for number in range(DOUBTED_USERS)))
    admitted = []
    for moment in (0.0, 0.9, 1.0):
        bench.virtual.now = moment
        bench.breaker.found_elsewhere(0)
        admitted.append(bench.breaker.admits(probe=False))
    assert admitted == [False, False, closes]
    assert bench.stopped == []


def test_where_most_users_are_refused_it_is_known_within_seconds_whether_all_are(bench: Bench) -> None:
    """However many more are asked for, because so many are refused anyway: with growing pauses it took minutes."""
    for number in range(80):
        bench.hear(TOTP_OFF, f"bad-{number}")
        if number % 2:
            bench.hear(ISSUED, f"good-{number}")

    async def main() -> None:
        for number in range(40):
            bench.refusals.comes_from_elsewhere(f"other-{number}")
            await bench.pass_through(TOTP_OFF, f"other-{number}")
            if bench.stopped:
                return

    bench.virtual.run(main())
    assert bench.stopped
    assert bench.virtual.now < 15.0


def test_one_bad_user_among_good_ones_opens_nothing(bench: Bench) -> None:
    bench.hear(ISSUED, "ana")
    for number in range(20):
        bench.hear(TOTP_OFF, "bad")
        assert bench.breaker.admits(probe=False)
        bench.hear(ISSUED, f"good-{number}")
    assert bench.stopped == []


def test_refusals_and_time_outs_in_turn_put_the_end_of_the_run_off_no_longer(bench: Bench) -> None:
    bench.breaker.found_elsewhere(0)
    for number in range(6):
        bench.virtual.now = float(number)
        bench.hear(TOTP_OFF, "ana")
        bench.breaker.found_elsewhere(0)
        bench.hear(NO_ANSWER, "ben")
    assert isinstance(bench.stopped[0], PersonMustAct)


def test_a_group_at_the_end_of_the_queue_is_not_the_pool_where_others_got_through_a_moment_ago(bench: Bench) -> None:
    bench.hear(ISSUED, *(f"good-{number}" for number in range(9)))
    bench.hear(GONE, "ana", "ben", "cem")
    bench.breaker.found_elsewhere(0)
    bench.virtual.now = 1.5
    bench.hear(GONE, "ana")
    assert bench.stopped == []
    assert bench.breaker.admits(probe=False)

    bench.hear(TOTP_OFF, "dag", "eve", "fay")
    bench.breaker.found_elsewhere(0)
    bench.virtual.now = 3.0
    bench.hear(TOTP_OFF, "dag")
    assert isinstance(bench.stopped[0], PersonMustAct), "which nobody's own request can cause"


def test_somebody_who_is_served_in_between_ends_the_agreement(bench: Bench) -> None:
    for _ in range(5):
        bench.hear(TOTP_OFF, "ana", "ben")
        bench.hear(ISSUED, "dag")
    assert bench.stopped == []


def test_a_refusal_that_may_pass_is_given_time(bench: Bench) -> None:
    bench.hear(WAF, "ana", "ben", "cem", *["dag"] * 6)
    bench.breaker.found_elsewhere(0)
    bench.virtual.now = 44.0
    bench.hear(WAF, "eve")
    assert bench.stopped == []
    bench.virtual.now = 45.0
    bench.hear(WAF, "eve")
    assert isinstance(bench.stopped[0], PersonMustAct)


def test_a_refusal_that_passed_begins_anew(bench: Bench) -> None:
    bench.hear(WAF, "ana", "ben", "cem")
    bench.virtual.now = 40.0
    bench.hear(ISSUED, "ana")
    bench.hear(WAF, "ana", "ben", "cem")
    bench.virtual.now = 80.0
    bench.hear(WAF, "ana")
    assert bench.stopped == []


def test_an_endpoint_that_cannot_be_reached_ends_the_run_when_patience_is_over(bench: Bench) -> None:
    """Counted from the first failure since it was reached last."""
    for began in (1_000.0, 2_000.0):
        for seconds in (0.0, 59.0):
            bench.virtual.now = began + seconds
            bench.hear(UNSENT, "ana")
        bench.hear(ISSUED, "ana")
    assert bench.stopped == []
    for moment in (3_000.0, 3_060.0):
        bench.virtual.now = moment
        bench.hear(UNSENT, "ana")
    assert isinstance(bench.stopped[0], EndpointUnavailable)
    assert "60 s (ConnectError)" in str(bench.stopped[0])
    assert "cognito.endpoint_url" in bench.stopped[0].hint


def test_six_calls_in_a_row_without_an_answer_are_an_endpoint_that_is_away_whoever_they_are_for(bench: Bench) -> None:
    bench.hear(NO_ANSWER, *["ana"] * 5)
    bench.hear(ISSUED, "ana")
    bench.hear(NO_ANSWER, *["ana"] * 5)
    assert bench.breaker.admits(probe=False)
    bench.hear(NO_ANSWER, "ana")
    assert not bench.breaker.admits(probe=False)


def test_one_user_without_an_answer_is_no_endpoint_that_is_away(bench: Bench) -> None:
    bench.hear(NO_ANSWER, "ana", "ben")
    assert bench.breaker.admits(probe=False)
    bench.hear(NO_ANSWER, "cem")
    assert not bench.breaker.admits(probe=False)
    assert bench.breaker.waiting_for == "Cognito's endpoint to answer (ReadTimeout)"
    assert bench.stopped == []


def test_a_call_without_an_answer_lets_nobody_through_to_a_pool_that_refuses(bench: Bench) -> None:
    bench.hear(WAF, "ana")
    bench.hear(NO_ANSWER, "ben")
    assert not bench.breaker.admits(probe=False)


@pytest.mark.parametrize("answer", [THROTTLED, NO_ANSWER])
def test_probes_of_a_pool_that_refuses_come_at_growing_intervals_whatever_they_bring(
    bench: Bench, answer: Reply
) -> None:
    async def main() -> list[float]:
        bench.hear(WAF, "ana")
        return sorted(await asyncio.gather(*(bench.pass_through(answer, takes=0.25) for _ in range(4))))

    began = bench.virtual.run(main())
    assert [later - earlier - 0.25 for earlier, later in itertools.pairwise(began)] == pytest.approx([1, 2, 4])


def test_refusals_and_silence_do_not_agree_with_each_other(bench: Bench) -> None:
    bench.hear(TOTP_OFF, "ana", "ben")
    bench.hear(UNSENT, "cem")
    bench.hear(TOTP_OFF, "cem")
    assert bench.stopped == []


# --- writes -----------------------------------------------------------------------------------------------------------


def test_a_write_that_stays_unconfirmed_for_two_seconds_stops_calls(bench: Bench) -> None:
    async def main() -> float:
        bench.breaker.ledger_call_begins("first")
        await asyncio.sleep(1.9)
        assert await bench.pass_through() == pytest.approx(1.9)
        bench.breaker.ledger_call_begins("second")
        await asyncio.sleep(0.1)
        assert bench.breaker.waiting_for == "the ledger to confirm a write"
        asyncio.get_running_loop().call_later(5.0, bench.breaker.ledger_call_ends, "first")
        return await bench.pass_through()

    with pytest.raises(AssertionError, match="never comes"):
        bench.run(main())
    assert bench.virtual.now == pytest.approx(7.0), "the second one is overdue by then"
    bench.breaker.ledger_call_ends("second")
    assert bench.breaker.admits(probe=False)


def test_calls_go_on_with_the_confirmation(bench: Bench) -> None:
    async def main() -> float:
        bench.breaker.ledger_call_begins("key")
        await asyncio.sleep(2.0)
        asyncio.get_running_loop().call_later(3.0, bench.breaker.ledger_call_ends, "key")
        return max(await asyncio.gather(*(bench.pass_through() for _ in range(5))))

    assert bench.run(main()) == pytest.approx(5.0)


def test_a_write_that_failed_stops_calls_at_once_also_probes(bench: Bench) -> None:
    bench.breaker.ledger_call_begins("key")
    bench.breaker.ledger_call_failed("key", "the ledger: disk full")
    assert not bench.breaker.admits(probe=False)
    assert not bench.breaker.admits(probe=True)
    assert bench.breaker.waiting_for == "the ledger: disk full"
    bench.breaker.ledger_call_ends("key")
    assert bench.breaker.admits(probe=False)


def test_a_confirmed_write_does_not_close_what_a_fault_opened(bench: Bench) -> None:
    bench.breaker.ledger_call_begins("key")
    bench.hear(WAF, "ana")
    bench.breaker.ledger_call_ends("key")
    assert not bench.breaker.admits(probe=False)


@pytest.mark.parametrize("tick", [0.1 * number for number in range(1, 30)])
def test_a_probe_that_comes_due_between_two_looks_at_the_clock_still_leaves(virtual: VirtualTime, tick: float) -> None:
    class Ticking:
        """Time also passes while the breaker thinks."""

        def monotonic(self) -> float:
            virtual.now += tick
            return virtual.now

        utc = virtual.utc

    stopped: list[WorkerError] = []
    refusals = Refusals(virtual, stopped.append)
    breaker = CircuitBreaker(Ticking(), stopped.append, refusals, patience=60.0, refusal_patience=1e9)

    async def main() -> None:
        for _ in range(10):
            breaker.record_reply("ana", WAF, refusals.sent("ana"))
            async with breaker.permit("ana"):
                pass

    virtual.run(main())
    assert not stopped


def test_the_ledgers_latency_is_told_by_writes_under_way_and_forgotten_by_and_by(bench: Bench) -> None:
    breaker, virtual = bench.breaker, bench.virtual
    assert breaker.ledger_latency == 0.0
    breaker.ledger_call_begins("one")
    virtual.now += 0.25
    breaker.ledger_call_begins("two")
    virtual.now += 0.25
    assert breaker.ledger_latency == 0.5
    breaker.ledger_call_ends("one")
    assert breaker.ledger_latency == 0.5
    breaker.ledger_call_ends("two")
    virtual.now += LATENCY_HALF_LIFE
    assert breaker.ledger_latency == 0.25


def test_the_ledgers_latency_is_bounded_and_can_be_told_after_days_without_work(bench: Bench) -> None:
    bench.breaker.ledger_call_begins("one")
    bench.virtual.now += 100.0
    assert bench.breaker.ledger_latency == UNCONFIRMED_AFTER
    bench.breaker.ledger_call_ends("one")
    bench.virtual.now += 1e6
    assert bench.breaker.ledger_latency == 0.0
