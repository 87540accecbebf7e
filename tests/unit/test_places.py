"""How many users may be on the way before their call."""

from __future__ import annotations

from tests.conftest import VirtualTime
from worker.places import Places


def places(virtual: VirtualTime, ahead: int = 2, rate: float = 25.0) -> Places:
    return Places(virtual, ahead, rate, lambda: None)


def test_where_claims_take_no_time_only_a_few_wait(virtual: VirtualTime) -> None:
    some = places(virtual)
    taken = [some.take() for _ in range(some.free)]
    assert (len(taken), some.free) == (2, 0)
    taken[0].ready()
    assert some.free == 0
    taken[0].leave()
    assert some.free == 1


def test_while_claims_are_slow_as_many_more_are_on_the_way_as_the_quota_admits_meanwhile(virtual: VirtualTime) -> None:
    some = places(virtual)
    first = some.take()
    virtual.now += 0.4
    first.ready()
    first.leave()
    assert some.free == 2 + 10


def test_a_slow_moment_is_forgotten(virtual: VirtualTime) -> None:
    some = places(virtual)
    slow = some.take()
    virtual.now += 0.4
    slow.ready()
    slow.leave()
    for _ in range(50):
        quick = some.take()
        quick.ready()
        quick.leave()
    assert some.free == 2


def test_leaving_twice_is_leaving_once(virtual: VirtualTime) -> None:
    freed: list[int] = []
    some = Places(virtual, 2, 0.0, lambda: freed.append(1))
    one = some.take()
    one.leave()
    one.leave()
    assert (some.free, len(freed)) == (2, 1)


def test_many_places_are_filled_a_quarter_at_a_time(virtual: VirtualTime) -> None:
    some = places(virtual, ahead=40)
    taken = [some.take() for _ in range(40)]
    for place in taken[:9]:
        place.leave()
    assert some.free == 0
    taken[9].leave()
    assert some.free == 10
