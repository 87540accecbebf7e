"""How many users may be on the way before their call."""

from __future__ import annotations

from worker.engine.admission import WAVES, AdmissionControl


class Ledger:
    """In which a claim takes so many seconds."""

    takes = 0.0


def places(ahead: int = 2, rate: float = 25.0, ledger: Ledger | None = None) -> AdmissionControl:
    claims = ledger or Ledger()
    return AdmissionControl(ahead, rate, lambda: claims.takes, lambda: None)


def test_where_claims_take_no_time_only_a_few_wait() -> None:
    some = places()
    taken = [some.take() for _ in range(some.free)]
    assert (len(taken), some.free) == (2, 0)
    taken[0].leave()
    assert some.free == 1


def test_while_claims_are_slow_as_many_more_are_on_the_way_as_the_quota_admits_meanwhile() -> None:
    some = places(ledger=(ledger := Ledger()))
    some.take()
    ledger.takes = 0.4
    assert some.free == 2 + WAVES * 10 - 1
    ledger.takes = 0.0
    assert some.free == 1


def test_leaving_twice_is_leaving_once() -> None:
    freed: list[int] = []
    some = AdmissionControl(2, 0.0, lambda: 0.0, lambda: freed.append(1))
    one = some.take()
    one.leave()
    one.leave()
    assert (some.free, len(freed)) == (2, 1)


def test_many_places_are_filled_a_quarter_at_a_time() -> None:
    some = places(ahead=40)
    taken = [some.take() for _ in range(40)]
    for place in taken[:9]:
        place.leave()
    assert some.free == 0
    taken[9].leave()
    assert some.free == 10
