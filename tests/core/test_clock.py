"""The clock that shows the endpoint's time: what it believes, how it is corrected, and what nobody can do to it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.clock import AGREEING_ANSWERS, MAX_SKEW, EndpointClock, SystemClock
from worker.core.errors import ExitCode

TRUTH = 1_700_000_000.0


class Machine:
    """A machine's clocks, of which a test moves each; ``ahead``: how far its UTC is wrong."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.seconds = 5_000.0
        self.ahead = ahead

    @property
    def truth(self) -> float:
        return TRUTH + self.seconds

    def monotonic(self) -> float:
        return self.seconds

    def utc(self) -> float:
        return self.truth + self.ahead


def hear(clock: EndpointClock, machine: Machine, times: int = 1, *, off: float = 0.0, took: float = 0.05) -> None:
    """Answers of an endpoint whose clock is ``off`` by so much, each a second after the other."""
    for _ in range(times):
        written = machine.truth + off
        machine.seconds += took
        clock.heard(float(int(written)), took)
        machine.seconds += 1.0


def test_before_any_answer_the_machines_clock_counts() -> None:
    clock = EndpointClock(Machine(ahead=7_200.0))
    assert clock.utc() == TRUTH + 5_000.0 + 7_200.0
    assert clock.skew is None
    assert clock.wrong() is None
    assert not clock.is_doubted


def test_a_clock_that_is_right_is_left_alone() -> None:
    machine = Machine()
    clock = EndpointClock(machine)
    hear(clock, machine, 9)
    assert clock.skew == 0.0
    assert not clock.is_doubted


@pytest.mark.parametrize("off", [0.0, -1.0])
def test_a_date_agrees_with_the_second_that_begins_there_from_end_to_end(off: float) -> None:
    machine = Machine()
    clock = EndpointClock(machine)
    hear(clock, machine, off=off, took=0.0)
    assert not clock.is_doubted


@pytest.mark.parametrize("ahead", [-7_200.0, -61.5, -59.0, -40.0, -1.5, 1.5, 40.0, 58.0, 61.5, 7_200.0, 8e9, -1.7e9])
def test_after_three_answers_that_agree_the_clock_is_right_to_a_second_and_never_ahead(ahead: float) -> None:
    machine = Machine(ahead)
    clock = EndpointClock(machine)
    hear(clock, machine, AGREEING_ANSWERS - 1)
    assert clock.utc() == pytest.approx(machine.utc())
    doubted_before = clock.is_doubted
    hear(clock, machine)
    assert machine.truth - 1.1 <= clock.utc() <= machine.truth + 1e-3
    assert (doubted_before, clock.is_doubted) == (True, False)
    wrong = clock.wrong()
    assert (wrong is not None) == (abs(ahead) > MAX_SKEW)
    if wrong is not None:
        assert wrong.exit_code is ExitCode.PERSON_MUST_ACT
        assert ("ahead of" if ahead > 0 else "behind") in str(wrong)
        assert "set the clock (NTP)" in wrong.hint


def test_one_answer_of_a_machine_whose_clock_is_wrong_moves_nothing() -> None:
    machine = Machine()
    clock = EndpointClock(machine)
    hear(clock, machine, 5)
    for off in (3_600.0, -3_600.0, 200.0):
        hear(clock, machine, AGREEING_ANSWERS - 1, off=off)
        hear(clock, machine)
    assert clock.skew == 0.0


def test_answers_that_contradict_each_other_move_nothing() -> None:
    machine = Machine()
    clock = EndpointClock(machine)
    for off in (3_600.0, 200.0) * 9:
        hear(clock, machine, off=off)
    assert clock.skew is None
    assert clock.is_doubted


def test_a_slow_answer_is_no_reason_to_move() -> None:
    machine = Machine()
    clock = EndpointClock(machine)
    hear(clock, machine, 9, took=30.0)
    assert clock.skew == 0.0


def test_a_machine_whose_clock_is_set_during_the_run_moves_no_deadline_and_is_noticed_at_once() -> None:
    machine = Machine()
    clock = EndpointClock(machine)
    hear(clock, machine)
    machine.ahead = 7_200.0
    assert clock.utc() == pytest.approx(machine.truth)
    assert clock.skew == pytest.approx(-7_200.0)
    assert clock.wrong() is not None


def test_a_monotonic_clock_that_stood_still_is_caught_up_with() -> None:
    """Such as in a virtual machine that was suspended without noticing."""
    machine = Machine()
    clock = EndpointClock(machine)
    hear(clock, machine)
    machine.ahead = 600.0  # the machine's clock was set on waking up, and the truth with it
    hear(clock, machine, AGREEING_ANSWERS, off=600.0)
    assert clock.utc() == pytest.approx(machine.truth + 600.0, abs=1.1)
    assert abs(clock.skew or 0.0) <= 1.1


def test_the_clock_drifts_within_the_precision_of_a_date_and_is_then_moved_a_little() -> None:
    machine = Machine()
    clock = EndpointClock(machine)
    moved, last = 0, clock.utc() - machine.seconds
    for second in range(4_000):
        hear(clock, machine, off=second / 2_000)
        now = clock.utc() - machine.seconds
        moved, last = moved + (abs(now - last) > 1e-3), now
    assert 1 <= moved <= 20  # half a second in a thousand: a bad crystal drifts a tenth of that


@given(
    st.floats(-1e4, 1e4),
    st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 9.0)), min_size=AGREEING_ANSWERS, max_size=20),
)
def test_whatever_the_answers_take_the_time_is_right_as_far_as_they_can_tell(
    ahead: float, answers: list[tuple[float, float]]
) -> None:
    machine = Machine(ahead)
    clock = EndpointClock(machine)
    for before, after in answers:
        written = machine.truth + before
        machine.seconds += before + after
        clock.heard(float(int(written)), before + after)
        if clock.skew is not None:
            took = max(one + other for one, other in answers)
            assert abs(clock.utc() - machine.truth) <= 1.0 + took + 1e-3
        machine.seconds += 1.0


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux has this clock")
def test_the_monotonic_clock_also_counts_while_the_machine_is_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)  # it stands still then
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    now = SystemClock().monotonic()
    assert before <= now <= time.clock_gettime(time.CLOCK_BOOTTIME)
