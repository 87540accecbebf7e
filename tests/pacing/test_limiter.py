"""What the limiter relies on in asyncio-throttle: that its three settings may be changed while it is in use.

They are public attributes, but only its constructor's arguments are documented. In virtual time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine

import pytest
from asyncio_throttle.throttler import Throttler

from tests.support.pace_stores import Fleet, TickingTime
from worker.pacing.limiter import RateLimiter


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
