"""Sign-ins that are refused before anybody got in, and users who are locked out: who waits, how long, how it ends."""

from __future__ import annotations

import pytest

from tests.support.virtual_time import VirtualTime
from worker.core.errors import PersonMustAct, WorkerError
from worker.core.model import CredentialKind, Reason, Request, Secret
from worker.core.resilience.refusals import QUIET, Concluded, Later, Refusals
from worker.core.resilience.sign_in_refusals import (
    FIRST_USERS,
    LOCKED_PAUSE,
    LONGEST_LOCKED_PAUSE,
    MOST_LOCKED,
    REFUSED_PAUSE,
    SignInRefusals,
)


class Bench:
    """The memory of one worker on whose queue nobody else is left."""

    def __init__(self, virtual: VirtualTime) -> None:
        self.virtual = virtual
        self.stopped: list[WorkerError] = []
        self.refused = SignInRefusals(Refusals(virtual, self.stopped.append), self.stopped.append)

    def step(self, request: Request) -> Concluded | Later | None:
        return self.refused.next_step(request)


@pytest.fixture
def bench(virtual: VirtualTime) -> Bench:
    return Bench(virtual)


def ticket(username: str) -> Request:
    return Request(username, CredentialKind.TICKET, Secret("ticket"), username, 4e9)


@pytest.mark.parametrize(("users", "stops"), [(FIRST_USERS - 1, False), (FIRST_USERS, True)])
def test_where_nobody_else_is_left_fewer_than_ten_get_their_outcome_and_ten_stop_the_run(
    bench: Bench, users: int, stops: bool
) -> None:
    requests = [ticket(f"user-{number}") for number in range(users)]
    assert not any(bench.refused.note(request, "NotAuthorizedException") for request in requests)
    bench.virtual.now += QUIET - 0.5
    assert [bench.step(request) for request in requests] == [Later(REFUSED_PAUSE)] * users
    bench.virtual.now += 0.5
    outcome = Concluded(Reason.SIGN_IN_REFUSED, "NotAuthorizedException")
    assert [bench.step(request) for request in requests] == [Later(REFUSED_PAUSE) if stops else outcome] * users
    assert [type(error) for error in bench.stopped] == [PersonMustAct] * stops


def test_a_refusal_about_which_nothing_more_is_known_is_an_outcome_without_detail(bench: Bench) -> None:
    bench.refused.note(ticket("ana"), None)
    bench.refused.got_in()
    assert bench.step(ticket("ana")) == Concluded(Reason.SIGN_IN_REFUSED, "")


def test_who_is_locked_out_waits_twice_as_long_each_time_up_to_a_minute(bench: Bench) -> None:
    pauses = [bench.refused.locked("ana") for _ in range(7)]
    assert pauses == [LOCKED_PAUSE, 4.0, 8.0, 16.0, 32.0, LONGEST_LOCKED_PAUSE, LONGEST_LOCKED_PAUSE]
    bench.refused.not_locked("ana")
    assert bench.refused.locked("ana") == LOCKED_PAUSE


def test_of_many_who_are_locked_out_one_more_waits_for_the_longest_and_the_others_as_before(bench: Bench) -> None:
    for number in range(MOST_LOCKED):
        assert bench.refused.locked(f"user-{number}") == LOCKED_PAUSE
    assert bench.refused.locked("one more") == LONGEST_LOCKED_PAUSE
    assert bench.refused.locked("user-0") == 2 * LOCKED_PAUSE
    bench.refused.not_locked("user-0")
    assert bench.refused.locked("one more") == LOCKED_PAUSE
