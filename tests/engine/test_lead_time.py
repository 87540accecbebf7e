"""How long it takes from a lease to a call, as it is learned."""

from __future__ import annotations

import math

import pytest

from tests.support.virtual_time import VirtualTime
from worker.core.outlook import UNJUDGED, Outlook
from worker.core.rules import DEADLINE_MARGIN
from worker.engine.lead_time import FIRST_GUESS, HALF_LIFE, HALF_LIFE_IN_CALLS, LeadTime


class HeldUp:
    """Until when something held calls up."""

    until = -math.inf


def lead_time(clock: VirtualTime, spacing: float = 0.02, held_up: HeldUp | None = None) -> LeadTime:
    held = held_up or HeldUp()
    return LeadTime(clock, spacing, lambda: held.until)


def test_the_longest_time_counts_and_is_forgotten_by_halves() -> None:
    clock = VirtualTime()
    lead = lead_time(clock)
    clock.now = 8.0
    lead.took(leased_at=0.0)
    lead.took(leased_at=7.9)
    assert lead.seconds == pytest.approx(8.0)
    clock.now += 2 * HALF_LIFE
    assert lead.seconds == pytest.approx(2.0)
    lead.took(leased_at=clock.now - 3.0)
    assert lead.seconds == pytest.approx(3.0)


def test_at_a_slow_rate_the_last_call_is_not_forgotten_before_the_next() -> None:
    clock = VirtualTime()
    lead = lead_time(clock, spacing=10.0)
    clock.now = 10.0
    lead.took(leased_at=0.0)
    clock.now = 20.0
    assert lead.seconds == pytest.approx(10.0 * 2 ** (-1 / HALF_LIFE_IN_CALLS))


def test_before_the_first_call_at_a_slow_rate_somebody_else_is_expected_to_come_first() -> None:
    assert lead_time(VirtualTime()).seconds == FIRST_GUESS
    assert lead_time(VirtualTime(), spacing=10.0).seconds == 10.0


def test_times_in_which_calls_were_held_up_teach_nothing() -> None:
    clock = VirtualTime()
    lead = lead_time(clock, held_up=(held_up := HeldUp()))
    clock.now = held_up.until = 600.0
    lead.took(leased_at=10.0)
    assert lead.seconds < FIRST_GUESS
    clock.now = 601.0
    lead.took(leased_at=600.5)
    assert lead.seconds == pytest.approx(0.5)


def test_the_outlook_says_who_is_dead_who_is_late_and_who_is_not() -> None:
    outlook = Outlook(now=1000.0, lead=2.0, spacing=0.5)
    assert outlook.too_late_up_to == 1000.0 + DEADLINE_MARGIN
    assert outlook.passed_over_up_to == outlook.too_late_up_to + 2.0
    assert outlook.passed_over_in_turn(4) == outlook.passed_over_up_to + 2.0
    assert UNJUDGED.passed_over_in_turn(100) == -math.inf
