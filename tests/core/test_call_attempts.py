"""What counts as an attempt, how long to wait before the next, and when it is enough."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.virtual_time import VirtualTime
from worker.core.model import Trouble, TryAgain
from worker.core.resilience.call_attempts import RetryPolicy, until_decided

THROTTLED, UNSENT = TryAgain(Trouble.THROTTLED), TryAgain(Trouble.UNSENT)
CONFLICT, SERVER_ERROR, NO_ANSWER = (
    TryAgain(Trouble.CONFLICT),
    TryAgain(Trouble.SERVER_ERROR),
    TryAgain(Trouble.NO_ANSWER),
)
POLICY = RetryPolicy(attempts=5, base=0.2, cap=5.0, total=60.0, call_timeout=10.0)


class Calls:
    """Gives the answers in turn, the last one for ever; every counted attempt takes ``takes`` seconds."""

    def __init__(self, answers: Iterable[TryAgain | str], takes: float = 0.0) -> None:
        self._answers = list(answers)
        self._takes = takes
        self.made = 0
        self.spent = 0.0
        self.pauses: list[float] = []

    async def attempt(self) -> TryAgain | str:
        self.made += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        await asyncio.sleep(self._takes)
        if isinstance(answer, TryAgain) and answer.counts:
            self.spent += self._takes
        return answer

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(seconds)

    async def go(self, policy: RetryPolicy = POLICY) -> TryAgain | str:
        return await until_decided(self.attempt, policy, spent_calling=lambda: self.spent, sleep=self.sleep)


def run(virtual: VirtualTime, calls: Calls, policy: RetryPolicy = POLICY) -> TryAgain | str:
    return virtual.run(calls.go(policy))


def test_what_is_decided_at_once_is_not_tried_again(virtual: VirtualTime) -> None:
    calls = Calls(["issued"])
    assert run(virtual, calls) == "issued"
    assert (calls.made, calls.pauses) == (1, [])


@pytest.mark.parametrize("again", [CONFLICT, SERVER_ERROR, NO_ANSWER, THROTTLED, UNSENT])
def test_what_is_undecided_is_tried_again(virtual: VirtualTime, again: TryAgain) -> None:
    calls = Calls([again, again, "issued"])
    assert run(virtual, calls) == "issued"
    assert calls.made == 3


@pytest.mark.parametrize("again", [CONFLICT, SERVER_ERROR])
def test_after_so_many_attempts_the_last_answer_stands(virtual: VirtualTime, again: TryAgain) -> None:
    calls = Calls([again])
    assert run(virtual, calls) is again
    assert calls.made == 5
    assert len(calls.pauses) == 4


@pytest.mark.parametrize("again", [THROTTLED, UNSENT])
def test_being_throttled_and_never_leaving_are_no_attempts(virtual: VirtualTime, again: TryAgain) -> None:
    calls = Calls([*[again] * 500, CONFLICT, *[again] * 500, "issued"], takes=1.0)
    assert run(virtual, calls) == "issued"
    assert max(calls.pauses[:400]) <= POLICY.base, "the pacer is what slows down"
    assert virtual.now > POLICY.total


def test_backoff_grows_with_full_jitter_up_to_its_cap(virtual: VirtualTime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: (low, high)[1])
    calls = Calls([CONFLICT])
    run(virtual, calls, replace(POLICY, attempts=9, total=100.0))
    assert calls.pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0])


def test_jitter_is_full(virtual: VirtualTime) -> None:
    calls = Calls([CONFLICT])
    run(virtual, calls, replace(POLICY, attempts=900, base=1.0, cap=1.0, total=1e6))
    assert min(calls.pauses) < 0.05
    assert max(calls.pauses) > 0.95
    assert 0.45 < sum(calls.pauses) / len(calls.pauses) < 0.55


def test_after_no_answer_a_whole_call_time_out_passes_before_the_next(virtual: VirtualTime) -> None:
    calls = Calls([NO_ANSWER, CONFLICT, NO_ANSWER, "issued"])
    run(virtual, calls)
    assert [pause >= POLICY.call_timeout for pause in calls.pauses] == [True, False, True]


def test_attempts_and_their_pauses_are_bounded_in_time(virtual: VirtualTime) -> None:
    calls = Calls([NO_ANSWER], takes=10.0)
    assert run(virtual, calls, replace(POLICY, attempts=100)) is NO_ANSWER
    assert calls.made == 3
    assert virtual.now <= 60.0
    calls = Calls([NO_ANSWER])
    run(virtual, calls, replace(POLICY, attempts=100, total=2 * POLICY.call_timeout + 0.5))
    assert calls.made == 3, "without any time for the calls their pauses fit in twice"


@given(
    st.lists(st.sampled_from([CONFLICT, SERVER_ERROR, NO_ANSWER, THROTTLED, UNSENT]), max_size=30),
    st.integers(1, 6),
    st.floats(0.0, 5.0),
)
def test_no_more_attempts_than_allowed_count_whatever_is_answered(
    answers: list[TryAgain], attempts: int, takes: float
) -> None:
    calls, policy = Calls([*answers, "issued"], takes), replace(POLICY, attempts=attempts)
    result = VirtualTime().run(calls.go(policy))
    counted = [answer for answer in answers if answer.counts][:attempts]
    within_time = calls.spent + sum(calls.pauses) + policy.call_timeout < policy.total  # also with one pause more
    if len(counted) < attempts and within_time:
        assert result == "issued"
    if len(counted) == attempts and within_time:
        assert result is counted[-1]
    assert calls.made <= len(answers) + 1
    assert calls.spent <= attempts * takes + 1e-9


@pytest.mark.parametrize("after", [0.5, 5.0])
def test_cancelling_passes_through_a_call_and_a_pause_alike(virtual: VirtualTime, after: float) -> None:
    calls = Calls([NO_ANSWER], takes=1.0)

    async def main() -> None:
        task = asyncio.ensure_future(calls.go())
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    virtual.run(main())
    assert calls.made == 1


def test_an_exception_passes_through_and_is_not_retried(virtual: VirtualTime) -> None:
    made = []

    async def attempt() -> TryAgain:
        made.append(True)
        raise LookupError("a bug")

    with pytest.raises(LookupError):
        virtual.run(until_decided(attempt, POLICY, spent_calling=lambda: 0.0, sleep=asyncio.sleep))
    assert len(made) == 1
