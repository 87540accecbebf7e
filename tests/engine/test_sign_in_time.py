"""How long a sign-in takes, as it is learned."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.support.virtual_time import VirtualTime
from worker.core.model import (
    CredentialKind,
    CustomChallenge,
    LookReply,
    NotEnrolled,
    Request,
    Secret,
    SignedIn,
    SignInReply,
)
from worker.core.stats import RunStats
from worker.engine.sign_in_time import FIRST_GUESS, MOST, REMEMBERED, TimedSignIns

REQUEST = Request("ana", CredentialKind.TICKET, Secret("x" * 54), "1", 1e12)
CHALLENGE = CustomChallenge(Secret("s" * 20))


class SlowPool:
    """Takes so many seconds for each step."""

    def __init__(self, clock: VirtualTime) -> None:
        self.clock = clock
        self.takes = 0.0
        self.away = False

    async def begin(self, request: Request) -> SignInReply:
        self.clock.now += self.takes
        if self.away:
            raise ConnectionError
        return CHALLENGE

    async def answer(self, request: Request, challenge: CustomChallenge) -> SignInReply:
        self.clock.now += self.takes
        return SignedIn(CredentialKind.ACCESS_TOKEN, Secret("token"), 3600.0)

    async def look(self, request: Request) -> LookReply:
        self.clock.now += self.takes
        return NotEnrolled()


@pytest.fixture
def pool() -> SlowPool:
    return SlowPool(VirtualTime())


@pytest.fixture
def stats(pool: SlowPool) -> RunStats:
    return RunStats(pool.clock)


@pytest.fixture
def timed(pool: SlowPool, stats: RunStats) -> TimedSignIns:
    return TimedSignIns(pool, pool.clock, stats)


async def often(step: Callable[[], Awaitable[object]], times: int = 4 * REMEMBERED) -> None:
    for _ in range(times):
        await step()


async def test_before_the_first_sign_in_a_guess_counts(timed: TimedSignIns) -> None:
    assert timed.takes() == FIRST_GUESS


async def test_all_steps_of_a_sign_in_count(pool: SlowPool, timed: TimedSignIns) -> None:
    pool.takes = 0.1
    await often(lambda: timed.begin(REQUEST))
    assert timed.takes() == pytest.approx(0.1, abs=0.01)
    await timed.answer(REQUEST, CHALLENGE)
    assert timed.takes() == pytest.approx(0.2, abs=0.01)
    pool.takes = 0.05
    await timed.look(REQUEST)
    assert timed.takes() == pytest.approx(0.25, abs=0.01)


async def test_one_slow_answer_changes_little_and_a_slow_pool_is_known_soon(
    pool: SlowPool, timed: TimedSignIns
) -> None:
    pool.takes = 0.1
    await often(lambda: timed.begin(REQUEST))
    pool.takes = 1.0
    await timed.begin(REQUEST)
    assert timed.takes() < 0.2
    await often(lambda: timed.begin(REQUEST), 2 * REMEMBERED)
    assert timed.takes() > 0.8


async def test_what_a_pool_that_hangs_takes_is_limited(pool: SlowPool, timed: TimedSignIns) -> None:
    pool.takes, pool.away = 30.0, True
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await timed.begin(REQUEST)
    assert timed.takes() == MOST


async def test_every_request_is_counted_and_the_looks_apart(timed: TimedSignIns, stats: RunStats) -> None:
    await timed.begin(REQUEST)
    await timed.answer(REQUEST, CHALLENGE)
    await timed.look(REQUEST)
    assert (stats.sign_ins, stats.looks, stats.requests) == (2, 1, 0)
    assert stats.sign_ins_per_second == 2.0
