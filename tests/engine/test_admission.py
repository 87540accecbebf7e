"""How many users may be on the way before their call."""

from __future__ import annotations

from worker.engine.admission import CLAIMS_IN_PROGRESS, AdmissionControl


class Ledger:
    """In which a claim takes so many seconds."""

    takes = 0.0


def slots(ahead: int = 2, rate: float = 25.0, ledger: Ledger | None = None) -> AdmissionControl:
    claims = ledger or Ledger()
    return AdmissionControl(ahead, rate, lambda: claims.takes, lambda: None)


def test_where_claims_take_no_time_only_a_few_wait() -> None:
    slots_ = slots()
    taken = [slots_.take() for _ in range(slots_.free)]
    assert (len(taken), slots_.free) == (2, 0)
    taken[0].release()
    assert slots_.free == 1


def test_while_claims_are_slow_as_many_more_are_on_the_way_as_the_quota_admits_meanwhile() -> None:
    slots_ = slots(ledger=(ledger := Ledger()))
    slots_.take()
    ledger.takes = 0.4
    assert slots_.free == 2 + CLAIMS_IN_PROGRESS * 10 - 1
    ledger.takes = 0.0
    assert slots_.free == 1


def test_leaving_twice_is_leaving_once() -> None:
    freed: list[int] = []
    slots_ = AdmissionControl(2, 0.0, lambda: 0.0, lambda: freed.append(1))
    one = slots_.take()
    one.release()
    one.release()
    assert (slots_.free, len(freed)) == (2, 1)


def test_many_places_are_filled_a_quarter_at_a_time() -> None:
    slots_ = slots(ahead=40)
    taken = [slots_.take() for _ in range(40)]
    for slot in taken[:9]:
        slot.release()
    assert slots_.free == 0
    taken[9].release()
    assert slots_.free == 10
