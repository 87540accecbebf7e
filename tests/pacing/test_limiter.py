"""When one worker's requests leave; and what the limiter relies on in asyncio-throttle for that. In virtual time.

That the throttle's three settings may be changed while it is in use: they are public attributes, but only its
constructor's arguments are documented.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from itertools import pairwise

import pytest
from asyncio_throttle.throttler import Throttler

from tests.support.pace_stores import Fleet, TickingTime
from worker.pacing.limiter import AT_ONCE, CATCH_UP, GUARD, RateLimiter
from worker.pacing.schedule import MARGIN, SHARED_MARGIN


async def left_at(throttler: Throttler, sends: int) -> list[float]:
    """When so many sends left, in seconds from now, rounded to milliseconds."""
    began = time.monotonic()
    moments = []
    for _ in range(sends):
        await throttler.acquire()  # type: ignore[no-untyped-call]
        moments.append(round(time.monotonic() - began, 2))
    return moments


def in_ticking_time(main: Callable[[], Coroutine[None, None, None]]) -> None:
    TickingTime().run(main())


def test_a_throttle_takes_another_rate_while_it_is_in_use_and_forgets_no_send() -> None:
    async def main() -> None:
        throttler = Throttler(1, period=1.0, retry_interval=0.01)
        assert await left_at(throttler, 2) == [0.0, 1.0]
        throttler.rate_limit, throttler.period = 2, 4.0
        moments = await left_at(throttler, 3)
        assert moments[0] == 0.0  # one send of the old rate still counts, so one is possible
        assert moments[1] == pytest.approx(4.0, abs=0.05)  # and no more until that is four seconds old
        assert moments[2] == pytest.approx(4.0, abs=0.05)

    in_ticking_time(main)


@pytest.mark.parametrize("interval", [0.01, 0.5])
def test_a_throttle_looks_again_after_the_interval_that_was_set_last(interval: float) -> None:
    async def main() -> None:
        looks = 0

        class Counted(Throttler):
            def flush(self) -> None:
                nonlocal looks
                looks += 1
                super().flush()  # type: ignore[no-untyped-call]

        throttler = Counted(1, period=1.0)
        await left_at(throttler, 1)
        throttler.retry_interval, looks = interval, 0
        await left_at(throttler, 1)
        assert looks == pytest.approx(1 / interval + 1, abs=2)

    in_ticking_time(main)


def test_the_limiter_makes_the_throttle_look_only_when_a_send_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    flush = Throttler.flush

    def counted(throttler: Throttler) -> None:
        nonlocal looks
        looks += 1
        flush(throttler)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(Throttler, "flush", counted)

    async def main() -> None:
        limiter = RateLimiter(20)
        for _ in range(60):
            await limiter.acquire(alone=True)

    in_ticking_time(main)
    assert looks <= 3 * 60  # a look at the guard, one at the spread, and one more where the spread had to wait


def test_without_setting_the_interval_the_quota_would_not_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What setting ``retry_interval`` buys where timers ring late; if this ever fails, it can go."""

    def used() -> float:
        fleet = Fleet(100.0, late=True)

        async def work() -> None:
            fleet.join()
            await asyncio.sleep(20)

        fleet.run(work)
        return fleet.used(1002, 1020)

    assert used() >= 0.99
    polling = property(lambda _: 0.01, lambda *_: None)  # asyncio-throttle's default, whatever is set
    monkeypatch.setattr(Throttler, "retry_interval", polling, raising=False)
    assert used() < 0.95


# --- when requests leave ----------------------------------------------------------------------------------------------


def leaving(rate: float, sends: int, *, ago: float = 0.0, alone: bool = True, then: float | None = None) -> list[float]:
    """When so many requests leave, in seconds, if the slice began so long ago; each about when ``wait_time`` said.

    The rate is told before each, as it is after each reservation; ``then``: another rate, for the last one.
    """
    moments = []

    async def main() -> None:
        limiter = RateLimiter(rate)
        limiter.margin = MARGIN if alone else SHARED_MARGIN
        limiter.begin(ago)
        began = time.monotonic()
        for left in reversed(range(sends)):
            limiter.set(rate if left or then is None else then)
            foretold = time.monotonic() + limiter.wait_time(alone=alone)
            await limiter.acquire(alone=alone)
            moments.append(time.monotonic() - began)
            assert 0 <= time.monotonic() - foretold < 0.002

    in_ticking_time(main)
    return moments


@pytest.mark.parametrize(("rate", "early"), [(0.5, 0.0), (3.0, 0.0), (25.0, 0.0), (100.0, 0.0), (1000.0, 0.001)])
def test_requests_leave_evenly(rate: float, early: float) -> None:
    late = [moment - number * (1 + MARGIN) / rate for number, moment in enumerate(leaving(rate, 60))]
    assert min(late) >= -AT_ONCE - early
    assert max(late[1:]) == pytest.approx(-early, abs=0.0003)


def test_at_a_high_rate_three_requests_share_a_timer() -> None:
    moments = leaving(1000.0, 61)
    timers = sum(later - earlier > 0.0005 for earlier, later in pairwise(moments))
    assert timers <= 21


@pytest.mark.parametrize(("rate", "together"), [(25.0, 1), (50.0, 1), (100.0, 2), (1000.0, 20)])
def test_late_requests_follow_a_little_sooner_until_they_are_on_time(rate: float, together: int) -> None:
    distance = (1 + MARGIN) / rate
    ago = 3.5 * together * distance
    moments = leaving(rate, 24 * together, ago=ago)
    for earlier, later in zip(moments, moments[together:], strict=False):
        assert later - earlier > CATCH_UP * together / rate - 1e-6
    assert moments[2 * together] == pytest.approx(2 * CATCH_UP * together / rate, abs=0.003)
    for number in range(18 * together, 24 * together):
        assert -AT_ONCE - 0.001 <= moments[number] - (number * distance - ago) < 0.002


@pytest.mark.parametrize("rate", [0.5, 3.0, 25.0, 1000.0])
def test_no_second_holds_more_than_the_rate_however_much_is_late(rate: float) -> None:
    sends = max(1, int(rate))
    second = sends / rate
    moments = leaving(rate, 4 * sends + 1, ago=10.0)
    assert moments[sends - 1] < 0.8  # what is late follows sooner
    for seconds in range(1, 5):
        assert 0 <= moments[seconds * sends] - seconds * second * (1 + GUARD) < 0.001 * seconds


@pytest.mark.parametrize(
    ("rate", "late"),
    [(25.0, 0.025), (50.0, 0.0235), (100.0, 0.0135), (400.0, 0.0085), (1000.0, 0.0075)],
)
@pytest.mark.parametrize("lost", [0, 1, 4])
def test_beside_other_workers_a_request_that_is_too_late_does_not_leave(rate: float, late: float, lost: int) -> None:
    distance = (1 + SHARED_MARGIN) / rate
    ago = late + (lost - 0.5) * distance
    moments = leaving(rate, 50, ago=ago, alone=False)
    assert -AT_ONCE - 0.001 <= moments[-1] - ((49 + lost) * distance - ago) < 0.002


@pytest.mark.parametrize(
    ("rate", "then", "moment"),
    [(100.0, 25.0, 5 * (1 + MARGIN) / 100 + 1 + GUARD), (25.0, 100.0, 30 * (1 + MARGIN) / 25)],
)
def test_what_left_at_another_rate_counts(rate: float, then: float, moment: float) -> None:
    assert leaving(rate, 31, then=then)[-1] == pytest.approx(moment, abs=AT_ONCE)
