"""When one user on the way may be stopped: where it costs nothing, or in a hurry, but never with a secret in hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from worker.core.resilience.cancellation import CancellationScope

Phase = Callable[[CancellationScope], None]
WAITING: Phase = CancellationScope.allow_stop
CALLING: Phase = CancellationScope.call_begins
WRITING: Phase = CancellationScope.forbid_stop


async def stopped(phase: Phase, *, hurry: bool) -> bool:
    """Whether a task in that phase is cancelled when it is told to stop."""
    scope = CancellationScope()
    go_on = asyncio.Event()

    async def way() -> None:
        phase(scope)
        await go_on.wait()

    scope.task = asyncio.create_task(way())
    await asyncio.sleep(0)
    scope.stop(hurry=hurry)
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait({scope.task})
    return scope.task.cancelled()


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
    scope = CancellationScope()
    scope.stop(hurry=False)
    scope.forbid_stop()
    scope.call_begins()
    scope.forbid_stop()
    with pytest.raises(asyncio.CancelledError):
        scope.allow_stop()


def test_in_a_hurry_no_request_leaves_any_more() -> None:
    sent: list[bool] = []
    scope = CancellationScope(lambda: sent.append(True))
    scope.stop(hurry=True)
    with pytest.raises(asyncio.CancelledError):
        scope.call_begins()
    assert sent == []
    assert not scope.was_calling


def test_whoever_is_cancelled_knows_whether_a_request_was_on_the_wire() -> None:
    sent: list[bool] = []
    scope = CancellationScope(lambda: sent.append(True))
    seen = [scope.was_calling]
    for phase in (WAITING, CALLING, WRITING):
        phase(scope)
        seen.append(scope.was_calling)
    assert seen == [False, False, True, False]
    assert sent == [True]


def test_a_hurry_stays_one_whatever_is_said_later() -> None:
    scope = CancellationScope()
    scope.stop(hurry=True)
    scope.stop(hurry=False)
    with pytest.raises(asyncio.CancelledError):
        scope.call_begins()


async def test_it_is_cancelled_once_and_then_left_to_tidy_up() -> None:
    scope = CancellationScope()
    tidied = asyncio.Event()

    async def way() -> None:
        scope.allow_stop()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            tidied.set()

    scope.task = asyncio.create_task(way())
    await asyncio.sleep(0)
    for hurry in (False, True, True):
        scope.stop(hurry=hurry)
        await asyncio.sleep(0)
    await scope.task
    assert tidied.is_set()


def test_a_scope_without_a_task_yet_can_be_told_to_stop() -> None:
    scope = CancellationScope()
    scope.stop(hurry=True)
    with pytest.raises(asyncio.CancelledError):
        scope.allow_stop()


async def test_whoever_waits_to_be_activated_is_cancelled_only_in_a_hurry() -> None:
    def almost_done(scope: CancellationScope) -> None:
        scope.allow_stop(only_in_hurry=True)

    assert not await stopped(almost_done, hurry=False)
    assert await stopped(almost_done, hurry=True)
