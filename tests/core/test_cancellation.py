"""When one user on the way may be stopped: where it costs nothing, or in a hurry, but never with a secret in hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from worker.core.resilience.cancellation import Flight

Phase = Callable[[Flight], None]
WAITING: Phase = Flight.may_stop
CALLING: Phase = Flight.calls
WRITING: Phase = Flight.must_finish


async def stopped(phase: Phase, *, hurry: bool) -> bool:
    """Whether a flight that is in that phase is cancelled when it is told to stop."""
    flight = Flight()
    go_on = asyncio.Event()

    async def way() -> None:
        phase(flight)
        await go_on.wait()

    flight.task = asyncio.create_task(way())
    await asyncio.sleep(0)
    flight.stop(hurry=hurry)
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait({flight.task})
    return flight.task.cancelled()


@pytest.mark.parametrize(
    ("phase", "hurry", "expected"),
    [
        (WAITING, False, True),
        (WAITING, True, True),
        (CALLING, False, False),
        (CALLING, True, True),
        (WRITING, False, False),
        (WRITING, True, False),
    ],
)
async def test_it_stops_where_that_costs_nothing_or_in_a_hurry_in_a_call(
    phase: Phase, hurry: bool, expected: bool
) -> None:
    assert await stopped(phase, hurry=hurry) is expected


def test_what_was_told_to_stop_stops_at_the_next_moment_that_costs_nothing() -> None:
    flight = Flight()
    flight.stop(hurry=False)
    flight.must_finish()
    flight.calls()
    flight.must_finish()
    with pytest.raises(asyncio.CancelledError):
        flight.may_stop()


def test_in_a_hurry_no_request_leaves_any_more() -> None:
    sent: list[bool] = []
    flight = Flight(lambda: sent.append(True))
    flight.stop(hurry=True)
    with pytest.raises(asyncio.CancelledError):
        flight.calls()
    assert sent == []
    assert not flight.was_calling


def test_whoever_is_cancelled_knows_whether_a_request_was_on_the_wire() -> None:
    sent: list[bool] = []
    flight = Flight(lambda: sent.append(True))
    seen = [flight.was_calling]
    for phase in (WAITING, CALLING, WRITING):
        phase(flight)
        seen.append(flight.was_calling)
    assert seen == [False, False, True, False]
    assert sent == [True]


async def test_it_is_cancelled_once_and_then_left_to_tidy_up() -> None:
    flight = Flight()
    tidied = asyncio.Event()

    async def way() -> None:
        flight.may_stop()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            tidied.set()

    flight.task = asyncio.create_task(way())
    await asyncio.sleep(0)
    for hurry in (False, True, True):
        flight.stop(hurry=hurry)
        await asyncio.sleep(0)
    await flight.task
    assert tidied.is_set()


def test_a_flight_without_a_task_yet_can_be_told_to_stop() -> None:
    flight = Flight()
    flight.stop(hurry=True)
    with pytest.raises(asyncio.CancelledError):
        flight.may_stop()
