"""Trying again: how long the pauses are, when it is enough, and what is not waited for at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.virtual_time import VirtualTime
from worker.core.errors import ExitCode, LedgerUnavailable, QueueUnavailable
from worker.core.resilience.backoff import Backoff, Outage, retry, retry_in_thread

TO_TWO_SECONDS = Backoff(0.1, 2.0)


class Service:
    """Fails in turn with these errors, the last one for ever if ``then`` is ``None``; ``takes`` is seconds."""

    def __init__(self, *errors: Exception, then: str | None = "done", takes: float = 0.0) -> None:
        self._errors = list(errors)
        self._then = then
        self._takes = takes
        self.attempts = 0

    async def __call__(self) -> str:
        await asyncio.sleep(self._takes)
        return self.blocking()

    def blocking(self) -> str:
        self.attempts += 1
        if self._errors and (self._then is None or self.attempts <= len(self._errors)):
            raise self._errors[min(self.attempts, len(self._errors)) - 1]
        assert self._then is not None
        return self._then


def unavailable(name: str = "away") -> LedgerUnavailable:
    return LedgerUnavailable(name)


def for_a_person() -> LedgerUnavailable:
    error = LedgerUnavailable("no permission")
    error.exit_code = ExitCode.PERSON_MUST_ACT
    return error


# --- the pauses -------------------------------------------------------------------------------------------------------


def test_pauses_double_up_to_the_longest() -> None:
    assert [TO_TWO_SECONDS.pause(failures) for failures in range(1, 8)] == pytest.approx(
        [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    )
    assert TO_TWO_SECONDS.pause(1_000_000) == 2.0


@pytest.mark.parametrize(("jitter", "least"), [(0.5, 0.5), (1.0, 0.0)])
def test_jitter_is_a_share_of_the_pause(jitter: float, least: float) -> None:
    pauses = [Backoff(1.0, 1.0, jitter).pause(1) for _ in range(2000)]
    assert least <= min(pauses) < least + 0.05
    assert 0.95 < max(pauses) <= 1.0


# --- an outage --------------------------------------------------------------------------------------------------------


def test_an_outage_is_too_long_when_patience_has_passed_since_its_first_failure(virtual: VirtualTime) -> None:
    outage = Outage(60.0, virtual.monotonic)
    virtual.now = 1000.0
    assert not outage.lasts_too_long(), "nothing failed yet"
    outage.failed(unavailable())
    virtual.now += 59.9
    outage.failed(unavailable("still away"))
    outage.check()
    assert (outage.failures, outage.lasts_too_long()) == (2, False)
    virtual.now += 0.1
    with pytest.raises(LedgerUnavailable, match="still away"):
        outage.check()


def test_a_success_ends_the_outage_and_the_next_one_begins_anew(virtual: VirtualTime) -> None:
    outage = Outage(60.0, virtual.monotonic)
    assert not outage.recovered()
    outage.failed(unavailable())
    virtual.now += 100.0
    assert outage.recovered()
    outage.check()
    outage.failed(unavailable())
    assert (outage.failures, outage.lasts_too_long()) == (1, False)


def test_an_outage_that_a_person_has_to_end_is_too_long_at_once_unless_it_is_to_be_waited_for() -> None:
    outage, patient = Outage(60.0), Outage(60.0, stop_for_person=False)
    for each in (outage, patient):
        each.failed(for_a_person())
    with pytest.raises(LedgerUnavailable, match="no permission"):
        outage.check()
    patient.check()


# --- trying again -----------------------------------------------------------------------------------------------------


def test_what_succeeds_is_called_once_and_nothing_is_waited_for(virtual: VirtualTime) -> None:
    service = Service()
    assert virtual.run(retry(service, on=LedgerUnavailable, backoff=TO_TWO_SECONDS)) == "done"
    assert (service.attempts, virtual.now) == (1, 0.0)


def test_what_fails_is_called_again_after_growing_pauses(virtual: VirtualTime) -> None:
    service = Service(*[unavailable()] * 4)
    assert virtual.run(retry(service, on=LedgerUnavailable, backoff=TO_TWO_SECONDS)) == "done"
    assert service.attempts == 5
    assert virtual.now == pytest.approx(0.1 + 0.2 + 0.4 + 0.8)


def test_when_patience_is_over_the_last_failure_is_raised(virtual: VirtualTime) -> None:
    service = Service(unavailable("first"), unavailable("last"), then=None, takes=3.0)
    with pytest.raises(LedgerUnavailable, match="last"):
        virtual.run(
            retry(service, on=LedgerUnavailable, backoff=TO_TWO_SECONDS, patience=60.0, monotonic=virtual.monotonic)
        )
    assert 63.0 <= virtual.now <= 68.0, "counted from the first failure, with one more pause and attempt at most"


def test_without_patience_there_is_one_attempt(virtual: VirtualTime) -> None:
    service = Service(unavailable())
    with pytest.raises(LedgerUnavailable):
        virtual.run(retry(service, on=LedgerUnavailable, backoff=TO_TWO_SECONDS, patience=0.0))
    assert service.attempts == 1


def test_after_so_many_attempts_the_last_failure_is_raised(virtual: VirtualTime) -> None:
    service = Service(unavailable("first"), unavailable("second"), unavailable("third"), then=None)
    with pytest.raises(LedgerUnavailable, match="third"):
        virtual.run(retry(service, on=LedgerUnavailable, backoff=TO_TWO_SECONDS, attempts=3))
    assert service.attempts == 3


@pytest.mark.parametrize("error", [QueueUnavailable("another"), TypeError("a bug")])
@pytest.mark.parametrize("failures_before", [0, 2])
def test_what_is_not_expected_is_raised_at_once(virtual: VirtualTime, error: Exception, failures_before: int) -> None:
    service = Service(*[unavailable()] * failures_before, error)
    with pytest.raises(type(error)):
        virtual.run(retry(service, on=LedgerUnavailable, backoff=TO_TWO_SECONDS))
    assert service.attempts == failures_before + 1


def test_a_function_may_say_what_is_worth_another_attempt(virtual: VirtualTime) -> None:
    service = Service(unavailable("busy"), unavailable("busy"), unavailable("broken"))
    with pytest.raises(LedgerUnavailable, match="broken"):
        virtual.run(retry(service, on=lambda error: str(error) == "busy", backoff=TO_TWO_SECONDS))
    assert service.attempts == 3


@pytest.mark.parametrize(
    ("options", "attempts"), [({}, 2), ({"stop_for_person": True}, 2), ({"stop_for_person": False}, 4)]
)
def test_what_a_person_has_to_mend_is_not_waited_for_unless_asked(
    virtual: VirtualTime, options: dict[str, Any], attempts: int
) -> None:
    service = Service(unavailable(), for_a_person(), then=None)
    with pytest.raises(LedgerUnavailable, match="no permission"):
        virtual.run(
            retry(
                service,
                on=LedgerUnavailable,
                backoff=TO_TWO_SECONDS,
                attempts=4,
                **options,
            )
        )
    assert service.attempts == attempts


def test_before_each_pause_the_failure_is_told(virtual: VirtualTime) -> None:
    service = Service(unavailable("first"), unavailable("second"))
    told: list[str] = []
    virtual.run(
        retry(service, on=LedgerUnavailable, backoff=TO_TWO_SECONDS, before_pause=lambda error: told.append(str(error)))
    )
    assert told == ["first", "second"]


def test_whoever_is_cancelled_in_a_pause_makes_no_more_attempts(virtual: VirtualTime) -> None:
    service = Service(unavailable(), then=None)

    async def main() -> None:
        task = asyncio.create_task(retry(service, on=LedgerUnavailable, backoff=Backoff(10.0, 10.0)))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    virtual.run(main())
    assert service.attempts == 1


def test_a_cancellation_during_an_attempt_is_no_failure(virtual: VirtualTime) -> None:
    service = Service(unavailable(), then=None, takes=10.0)

    async def main() -> None:
        task = asyncio.create_task(retry(service, on=LedgerUnavailable, backoff=TO_TWO_SECONDS))
        await asyncio.sleep(15)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    virtual.run(main())
    assert service.attempts == 1


def test_a_sleep_that_refuses_ends_the_retries(virtual: VirtualTime) -> None:
    async def stopped(_: float) -> None:
        raise asyncio.CancelledError

    service = Service(unavailable(), then=None)
    with pytest.raises(asyncio.CancelledError):
        virtual.run(retry(service, on=LedgerUnavailable, backoff=TO_TWO_SECONDS, sleep=stopped))
    assert service.attempts == 1


# --- in a thread ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", [LedgerUnavailable, lambda error: str(error) == "away"])
def test_a_thread_tries_again_as_well(
    on: type[Exception] | Callable[[BaseException], bool],
) -> None:
    service = Service(unavailable(), unavailable())
    assert retry_in_thread(service.blocking, on=on, backoff=Backoff(0.001, 0.001)) == "done"
    assert service.attempts == 3


def test_a_thread_stops_when_patience_is_over_and_for_what_is_not_expected() -> None:
    with pytest.raises(LedgerUnavailable):
        retry_in_thread(
            Service(unavailable(), then=None).blocking,
            on=LedgerUnavailable,
            backoff=Backoff(0.001, 0.001),
            patience=0.05,
        )
    bug = Service(unavailable(), TypeError("a bug"))
    with pytest.raises(TypeError):
        retry_in_thread(bug.blocking, on=LedgerUnavailable, backoff=Backoff(0.001, 0.001), attempts=9)
    assert bug.attempts == 2
