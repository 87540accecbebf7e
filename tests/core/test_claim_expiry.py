"""How long a claim must be respected: by the clock, by watching, or until a dead worker's last call is over."""

from __future__ import annotations

import pytest

from tests.support.rows import row
from tests.support.virtual_time import EPOCH, VirtualTime
from worker.core.model import Enrolment
from worker.core.resilience.claim_expiry import MAX_REMEMBERED, ClaimExpiry


class Bench:
    def __init__(self, virtual: VirtualTime) -> None:
        self.virtual = virtual
        self.skewed = 0.0
        self.dead: set[str] = set()
        self.claim_expiry = ClaimExpiry(self, self.dead.__contains__, lease=60.0, clock_skew=5.0, call_timeout=10.0)

    def monotonic(self) -> float:
        return self.virtual.monotonic()

    def utc(self) -> float:
        return self.virtual.utc() + self.skewed

    def left(self, claimed: Enrolment) -> float:
        return self.claim_expiry.seconds_left(claimed)


@pytest.fixture
def bench(virtual: VirtualTime) -> Bench:
    return Bench(virtual)


def claimed(lease_until: float = 60.0, worker: str | None = "other", since: float = 0.0) -> Enrolment:
    return row(worker=worker, lease_until=EPOCH + lease_until, since=EPOCH + since)


def test_whom_nobody_holds_is_free(bench: Bench) -> None:
    assert bench.left(row()) == 0


def test_a_hold_lasts_for_its_lease_its_last_call_and_the_skew_of_clocks(bench: Bench) -> None:
    bench.virtual.now = 40.0
    one = claimed()
    assert bench.left(one) == pytest.approx(60 + 10 + 5 - 40)
    bench.virtual.now = 74.9
    assert bench.left(one) > 0
    bench.virtual.now = 75.0
    assert bench.left(one) == 0


def test_a_hold_that_was_renewed_is_a_new_one(bench: Bench) -> None:
    bench.left(claimed())
    bench.virtual.now = 69.0
    assert bench.left(claimed(lease_until=129.0)) == pytest.approx(70.0)


def test_a_hold_that_was_seen_unchanged_for_a_whole_lease_is_over_whatever_the_clocks_say(bench: Bench) -> None:
    bench.skewed = -3600.0
    one = claimed()
    assert bench.left(one) == pytest.approx(70.0)
    bench.virtual.now = 69.0
    assert bench.left(one) == pytest.approx(1.0)
    bench.virtual.now = 70.0
    assert bench.left(one) == 0


def test_whoever_is_known_to_be_dead_is_waited_for_only_until_its_last_call_is_over(bench: Bench) -> None:
    one = claimed(lease_until=60.0)
    assert bench.left(one) == pytest.approx(70.0)
    bench.virtual.now = 20.0
    bench.dead.add("other")
    assert bench.left(one) == pytest.approx(10.0), "counted from when its death was seen"
    bench.virtual.now = 30.0
    assert bench.left(one) == 0


def test_the_dead_hold_nothing_for_longer_than_the_living(bench: Bench) -> None:
    bench.dead.add("other")
    bench.virtual.now = 74.0
    assert bench.left(claimed()) == pytest.approx(1.0)


def test_whoever_gave_up_says_for_how_long_a_call_may_still_act(bench: Bench) -> None:
    one = claimed(worker=None, since=0.0, lease_until=10.0)
    assert bench.left(one) == pytest.approx(10.0)
    bench.virtual.now = 10.0
    assert bench.left(one) == 0


def test_what_gave_up_before_this_worker_looked_ends_by_the_clock_and_its_skew(bench: Bench) -> None:
    bench.virtual.now = 12.0
    assert bench.left(claimed(worker=None, since=0.0, lease_until=10.0)) == pytest.approx(10.0 + 5.0 - 12.0)


def test_a_claim_that_is_over_stays_so_for_as_long_again_whatever_is_forgotten(bench: Bench) -> None:
    bench.skewed = -1e6
    over = claimed()
    bench.left(over)
    bench.virtual.now = 139.0
    for _ in range(MAX_REMEMBERED + 10):
        bench.left(claimed())
    assert bench.left(over) == 0


def test_what_was_seen_is_forgotten_in_time_and_nothing_too_early(bench: Bench) -> None:
    bench.skewed = -1e6
    early = claimed()
    bench.left(early)
    bench.virtual.now = 65.0
    for _ in range(MAX_REMEMBERED + 10):
        bench.left(claimed())
    assert bench.left(early) == pytest.approx(5.0)
    bench.virtual.now = 300.0
    bench.left(claimed())
    assert len(bench.claim_expiry._first_seen) == 1


def test_all_claims_of_a_worker_that_is_dead_end_together_however_late_each_is_seen(bench: Bench) -> None:
    """It makes no call after its death was seen, so none of its claims has to be watched for itself."""
    bench.dead.add("other")
    assert bench.left(claimed()) == pytest.approx(10.0)
    bench.virtual.now = 10.0
    assert [bench.left(claimed()) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_many_young_claims_are_not_looked_through_for_each_one_that_comes(bench: Bench) -> None:
    """Forgetting looks at all that is remembered; with all of it young it would find nothing, each time anew."""
    bench.skewed = -1e6
    looks = 0
    forget = bench.claim_expiry._forget_old

    def counted(now: float) -> None:
        nonlocal looks
        looks += 1
        forget(now)

    bench.claim_expiry._forget_old = counted  # type: ignore[method-assign]
    for number in range(2 * MAX_REMEMBERED):
        bench.virtual.now = 30.0 * number / (2 * MAX_REMEMBERED)
        bench.left(claimed())
    assert looks <= 3
