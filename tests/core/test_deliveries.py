"""How many secrets may be undelivered, and what a channel that fails means for the next call; in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.virtual_time import VirtualTime
from worker.core.errors import ChannelUnavailable, ExitCode
from worker.core.model import CredentialKind
from worker.core.resilience.deliveries import (
    LATE,
    PROBES,
    REFUSED_IN_A_ROW,
    REFUSED_PATIENCE,
    SLOW_HALF_LIFE,
    Deliveries,
)

SESSION, TOKEN = CredentialKind.SESSION, CredentialKind.ACCESS_TOKEN
AWAY = ChannelUnavailable("away", "wait")
WINDOW, PATIENCE = 150.0, 300.0


class Bench:
    """Deliveries in virtual time."""

    def __init__(self, virtual: VirtualTime, rate: float = 20.0) -> None:
        self.virtual = virtual
        virtual.now = 1_000.0
        self.deliveries = Deliveries(virtual, rate=rate, window=WINDOW, patience=PATIENCE)

    def issue(self, username: str, kind: CredentialKind = SESSION) -> None:
        self.deliveries.call_leaves(username, kind)
        self.deliveries.call_ends(username, issued=True)

    def fail(self, username: str) -> None:
        self.deliveries.begins(username)
        self.deliveries.failed(username, AWAY)

    def deliver(self, username: str, takes: float = 0.0) -> None:
        self.deliveries.begins(username)
        self.virtual.now += takes
        self.deliveries.delivered(username)

    def probes(self, number: int) -> list[float]:
        """The pauses before so many probes in a row, none of which gets its secret delivered."""
        pauses = []
        for _ in range(number):
            began = self.virtual.now
            while not self.deliveries.admits(SESSION):
                self.virtual.now += 1.0
            pauses.append(self.virtual.now - began)
            self.issue("probe")
            assert not self.deliveries.admits(SESSION)
            self.fail("probe")
            assert not self.deliveries.admits(SESSION)
            self.deliveries.ends("probe")
        return pauses

    @property
    def admitted(self) -> tuple[bool, bool]:
        """Whether a Session's call may leave, and a token's."""
        return self.deliveries.admits(SESSION), self.deliveries.admits(TOKEN)


@pytest.fixture
def bench(virtual: VirtualTime) -> Bench:
    return Bench(virtual)


@pytest.mark.parametrize(("rate", "most"), [(0.1, 1), (1.0, 1), (20.0, 20), (10_000.0, 10_000)])
def test_no_call_leaves_while_a_second_of_work_is_undelivered(virtual: VirtualTime, rate: float, most: int) -> None:
    bench = Bench(virtual, rate)
    for number in range(most):
        assert bench.admitted == (True, True)
        bench.issue(f"user-{number}")
    assert bench.admitted == (False, False)
    assert bench.deliveries.waiting_for == "the channel to take the secrets that are sealed"
    bench.deliver("user-0")
    assert bench.admitted == (True, True)
    assert bench.deliveries.waiting_for is None


def test_calls_under_way_cost_no_turn_while_the_channel_is_prompt(bench: Bench) -> None:
    """Cognito may take three seconds to answer: sixty calls are under way then."""
    for number in range(60):
        assert bench.admitted == (True, True)
        bench.deliveries.call_leaves(f"user-{number}", TOKEN)
        bench.virtual.now += 0.05


def test_once_a_delivery_is_late_what_is_under_way_counts_too(bench: Bench) -> None:
    bench.issue("late")
    bench.deliveries.begins("late")
    for number in range(19):
        bench.deliveries.call_leaves(f"user-{number}", TOKEN)
    assert bench.admitted == (True, True)
    bench.virtual.now += LATE
    assert bench.admitted == (True, True)
    bench.virtual.now += 0.01
    assert bench.admitted == (False, False)
    bench.deliveries.call_ends("user-0", issued=False)
    assert bench.admitted == (True, True)


def test_a_secret_that_a_dead_worker_left_counts_too(virtual: VirtualTime) -> None:
    bench = Bench(virtual, rate=1.0)
    bench.deliveries.begins("left")
    assert bench.admitted == (False, False)
    bench.deliver("left")
    assert bench.admitted == (True, True)


def test_while_deliveries_fail_no_session_is_called_and_tokens_up_to_the_bound(bench: Bench) -> None:
    bench.issue("first")
    bench.fail("first")
    assert bench.admitted == (False, True)
    assert bench.deliveries.waiting_for == "the channel: away"
    for number in range(19):
        bench.issue(f"user-{number}", TOKEN)
    assert bench.admitted == (False, False)


def test_while_deliveries_fail_what_is_under_way_counts_too(bench: Bench) -> None:
    bench.issue("first")
    bench.fail("first")
    for number in range(19):
        assert bench.admitted == (False, True)
        bench.deliveries.call_leaves(f"user-{number}", TOKEN)
    assert bench.admitted == (False, False)


def test_the_first_delivery_that_succeeds_lets_everybody_go_on(bench: Bench) -> None:
    for name in ("first", "second"):
        bench.issue(name)
        bench.fail(name)
    bench.deliver("second")
    assert bench.admitted == (True, True)


def test_one_record_that_never_gets_through_holds_up_nobody_once_others_did(bench: Bench) -> None:
    bench.issue("poison")
    bench.fail("poison")
    bench.issue("good", TOKEN)
    bench.deliver("good")
    for _ in range(9):
        bench.fail("poison")
        assert bench.admitted == (True, True)


def test_with_nothing_in_hand_one_call_at_a_time_probes_at_growing_intervals(bench: Bench) -> None:
    bench.issue("first")
    bench.fail("first")
    bench.deliveries.ends("first")  # its Session died
    assert bench.probes(5) == [0.0, *(PROBES.pause(number) for number in (1, 2, 3, 4))]
    bench.issue("last")
    bench.deliver("last")
    assert bench.admitted == (True, True)
    bench.virtual.now += 3600.0
    bench.issue("later")
    bench.fail("later")
    bench.deliveries.ends("later")
    assert bench.probes(3) == [0.0, PROBES.pause(1), PROBES.pause(2)], "from the beginning"


def test_a_slow_channel_is_not_down(bench: Bench) -> None:
    for number in range(3):
        bench.issue(f"user-{number}")
        bench.deliver(f"user-{number}", takes=20.0)
        assert bench.admitted == (True, True)


def test_a_channel_that_takes_longer_than_a_session_leaves_is_tried_again_later(bench: Bench) -> None:
    bench.issue("slow")
    bench.deliver("slow", takes=WINDOW + 1)
    assert bench.admitted == (False, True)
    bench.virtual.now += 60.0
    assert bench.admitted == (True, True)


def test_the_memory_of_a_slow_channel_halves_within_a_minute(bench: Bench) -> None:
    bench.issue("slow")
    bench.deliver("slow", takes=1.5 * WINDOW)
    bench.virtual.now += 30.0
    assert bench.admitted == (False, True)
    bench.virtual.now += 30.0
    assert bench.admitted == (True, True)


def test_each_delivery_shows_how_slow_the_channel_is_also_beside_one_that_waits(bench: Bench) -> None:
    for name in ("waits", "slow"):
        bench.issue(name)
    bench.deliver("slow", takes=WINDOW + 1)
    assert bench.admitted == (False, True)


def test_a_worker_that_was_stopped_for_hours_during_a_delivery_calls_for_sessions_again_within_a_minute(
    bench: Bench,
) -> None:
    bench.issue("stopped")
    bench.deliver("stopped", takes=10 * 3600.0)
    bench.virtual.now += 61.0
    assert bench.admitted == (True, True)


def test_a_delivery_that_hangs_for_longer_than_a_session_leaves_lets_no_session_leave(bench: Bench) -> None:
    bench.issue("hangs")
    bench.deliveries.begins("hangs")
    bench.virtual.now += WINDOW
    assert bench.admitted == (False, True)


def test_deliveries_that_fail_for_longer_than_patience_end_the_run_whoever_they_are_for(bench: Bench) -> None:
    """Each Session dies before patience is over; without a common count the run would go on for ever."""
    for number in range(int(PATIENCE / 100.0)):
        bench.issue(f"user-{number}")
        bench.fail(f"user-{number}")
        bench.virtual.now += 100.0
        bench.deliveries.ends(f"user-{number}")
    bench.issue("last")
    with pytest.raises(ChannelUnavailable):
        bench.fail("last")


def test_who_waits_goes_on_at_once_when_a_secret_is_delivered(virtual: VirtualTime) -> None:
    bench = Bench(virtual, rate=1.0)

    async def main() -> float:
        bench.issue("first")
        waiting = asyncio.create_task(bench.deliveries.wait(60.0))
        await asyncio.sleep(7.0)
        bench.deliver("first")
        await waiting
        return virtual.now - 1_000.0

    before = bench.deliveries.held_up_until
    assert virtual.run(main()) == 7.0
    assert before < 0.0
    assert bench.deliveries.held_up_until == 1_007.0


def test_who_waits_looks_again_when_a_probe_is_due_or_their_time_is_over(bench: Bench) -> None:
    async def main() -> list[float]:
        moments = []
        bench.issue("first")
        bench.fail("first")
        bench.deliveries.ends("first")
        bench.issue("probe")
        bench.fail("probe")
        for seconds in (2.0, PROBES.pause(1) - 2.5, 60.0, 7.0):
            await bench.deliveries.wait(seconds)
            moments.append(bench.virtual.now - 1_000.0)
        return moments

    due = PROBES.pause(1)
    assert bench.virtual.run(main()) == [2.0, due - 0.5, due, due + 7.0], "the probe that is due waits for one in hand"


def test_who_waits_for_a_slow_channel_looks_again_when_its_memory_may_have_faded(bench: Bench) -> None:
    async def main() -> float:
        await bench.deliveries.wait(1e6)
        return bench.virtual.now - 1_000.0

    assert bench.virtual.run(main()) == SLOW_HALF_LIFE / 2


# A channel that refuses: a person must act.


def refusing() -> ChannelUnavailable:
    error = ChannelUnavailable("not permitted", "allow it")
    error.exit_code = ExitCode.PERSON_MUST_ACT
    return error


def refuse(bench: Bench, username: str) -> None:
    bench.deliveries.begins(username)
    bench.deliveries.failed(username, refusing())


def test_a_channel_that_refuses_everybody_ends_the_run_soon(bench: Bench) -> None:
    for name in ("ana", "ben", "cleo"):
        bench.issue(name)
    for _ in range(5):
        for name in ("ana", "ben", "cleo"):
            refuse(bench, name)
        bench.virtual.now += REFUSED_PATIENCE / 5
    with pytest.raises(ChannelUnavailable) as raised:
        refuse(bench, "ana")
    assert raised.value.exit_code is ExitCode.PERSON_MUST_ACT


def test_a_refusal_is_one_users_own_while_others_get_through(bench: Bench) -> None:
    bench.issue("refused")
    for number in range(60):
        refuse(bench, "refused")
        bench.issue(f"user-{number}")
        bench.deliver(f"user-{number}")
        bench.virtual.now += REFUSED_PATIENCE / 2


def test_a_secret_that_was_not_tried_yet_may_still_be_taken(bench: Bench) -> None:
    for name in ("refused", "not tried"):
        bench.issue(name)
    for _ in range(3):
        refuse(bench, "refused")
        bench.virtual.now += REFUSED_PATIENCE
    assert bench.deliveries.waiting_for == "the channel: not permitted"


def test_a_channel_that_is_away_for_some_is_not_taken_for_one_that_refuses(bench: Bench) -> None:
    for name in ("refused", "away"):
        bench.issue(name)
    for _ in range(9):
        refuse(bench, "refused")
        bench.fail("away")
        bench.virtual.now += REFUSED_PATIENCE
    assert bench.virtual.now - 1_000.0 < PATIENCE


def test_a_permission_that_is_repaired_in_time_lets_the_run_go_on(bench: Bench) -> None:
    bench.issue("ana")
    refuse(bench, "ana")
    bench.virtual.now += REFUSED_PATIENCE - 1
    refuse(bench, "ana")
    bench.deliver("ana")
    bench.issue("ben")
    bench.virtual.now += REFUSED_PATIENCE
    refuse(bench, "ben")
    assert bench.deliveries.waiting_for == "the channel: not permitted"


def test_a_channel_that_refuses_one_record_after_the_other_is_to_blame_itself(bench: Bench) -> None:
    for number in range(REFUSED_IN_A_ROW - 1):
        bench.deliveries.refused(f"user-{number}", "KeyTooLongError")
        bench.deliveries.refused("user-0", "KeyTooLongError")
    with pytest.raises(ChannelUnavailable, match="KeyTooLongError") as caught:
        bench.deliveries.refused("one more", "KeyTooLongError")
    assert caught.value.exit_code is ExitCode.PERSON_MUST_ACT
    assert "run again" in caught.value.hint


def test_a_record_that_is_taken_shows_that_those_refused_were_to_blame(bench: Bench) -> None:
    for number in range(5 * REFUSED_IN_A_ROW):
        bench.deliveries.refused(f"user-{number}", "KeyTooLongError")
        if number % 5 == 0:
            bench.deliver(f"good-{number}")
    assert bench.admitted == (True, True)


def test_nobody_signs_in_for_a_session_while_the_channel_is_away(bench: Bench) -> None:
    bench.issue("ana")
    bench.fail("ana")
    assert not bench.deliveries.admits(CredentialKind.PASSWORD)
    assert bench.deliveries.admits(CredentialKind.TICKET)
