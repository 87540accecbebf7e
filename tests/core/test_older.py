"""What a row of an older ledger becomes, given what the channel shows and who is in question."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.history import RECOVERED
from worker.core.model import ENROLLED, UNFINISHED, Enrolment, Reason, Sealed, State
from worker.core.older import LATE_EFFECT, Shown, damaged, gone, note, recovered, unsure_up_to

NOW = 2_000.0


def row(state: State, generation: int, *, sealed: int | None = None) -> Enrolment:
    secret = None if sealed is None else Sealed(sealed, "old", "", b"sealed" if state is State.SEALED else b"")
    worker = "dead" if state is State.IN_PROGRESS else None
    return Enrolment("ana", state, 0.0, generation, worker=worker, sealed=secret, request_id="r1")


def shown(generation: int) -> Shown:
    return Shown(generation, "new", "2030-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("older", "newest"),
    [
        (row(State.DELIVERED, 5, sealed=5), 6),
        (row(State.ACTIVE, 5, sealed=5), 6),
        (row(State.IN_PROGRESS, 5), 5),
        (row(State.IN_PROGRESS, 5, sealed=4), 6),
        (row(State.SEALED, 5, sealed=5), 5),
        (row(State.NEEDS_SESSION, 5), 6),
        (row(State.FAILED, 5), 6),
        (row(State.SKIPPED, 5), 6),
        (None, 1),
    ],
)
def test_who_is_behind_the_channel_is_delivered_with_what_it_shows(older: Enrolment | None, newest: int) -> None:
    after = recovered("ana", older, shown(newest), None, NOW)

    assert after is not None
    assert (after.username, after.state, after.reason, after.since) == ("ana", State.DELIVERED, None, NOW)
    assert after.sealed == Sealed(newest, "new", "2030-01-01T00:00:00Z", b"")
    assert after.generation == newest
    assert (after.worker, after.request_id) == (None, None)
    assert [(event.at, event.what, event.detail) for event in after.events] == [(NOW, RECOVERED, "delivered")]
    assert older is None or "r1" in after.settled, "the request that was under way must not replace the secret again"


@pytest.mark.parametrize(
    ("older", "newest"),
    [
        (row(State.DELIVERED, 5, sealed=5), 5),
        (row(State.DELIVERED, 5, sealed=5), None),
        (row(State.IN_PROGRESS, 6, sealed=5), 5),
        (row(State.IN_PROGRESS, 6), None),
        (row(State.SEALED, 6, sealed=6), 5),
        (row(State.NEEDS_SESSION, 5, sealed=5), 5),
        (row(State.FAILED, 5), 5),
        (None, None),
    ],
)
def test_who_is_not_behind_stays(older: Enrolment | None, newest: int | None) -> None:
    assert recovered("ana", older, shown(newest) if newest else None, None, NOW) is None


@pytest.mark.parametrize(
    ("older", "newest"),
    [
        (row(State.DELIVERED, 5, sealed=5), 5),
        (row(State.DELIVERED, 5, sealed=5), 6),
        (row(State.ACTIVE, 5, sealed=5), None),
        (row(State.SEALED, 5, sealed=5), 5),
        (row(State.IN_PROGRESS, 5), 5),
        (None, 5),
        (None, None),
    ],
)
def test_whose_secret_was_being_replaced_is_in_doubt_unless_a_later_one_is_shown(
    older: Enrolment | None, newest: int | None
) -> None:
    after = recovered("ana", older, shown(newest) if newest else None, 6, NOW)

    assert after is not None
    assert (after.state, after.reason, after.worker) == (State.NEEDS_SESSION, Reason.REPLY_LOST, None)
    assert after.generation == 7, "a later secret must be known to be later than the lost one"
    assert after.lease_until == 0, "a new request need not wait: all workers were stopped"
    assert older is None or "r1" in after.settled, "the request that was under way must not be worked on again"
    assert [(event.what, event.detail) for event in after.events] == [(RECOVERED, "needs_session: reply_lost")]
    later = recovered("ana", older, shown(7), 6, NOW)
    assert later is not None
    assert later.state is State.DELIVERED


@pytest.mark.parametrize(
    ("known", "newest", "kept"),
    [
        (Sealed(5, "new", "", b"sealed", digest="d" * 64), 5, "d" * 64),
        (Sealed(5, "another ledger's", "", b"sealed", digest="d" * 64), 5, ""),
        (Sealed(5, "new", "", b"sealed", digest="d" * 64), 6, ""),
    ],
)
def test_a_digest_is_only_kept_of_the_very_secret_that_the_channel_shows(known: Sealed, newest: int, kept: str) -> None:
    after = recovered("ana", row(State.SEALED, 5)._replace(sealed=known), shown(newest), None, NOW)

    assert after is not None
    assert after.sealed is not None
    assert after.sealed.digest == kept


@pytest.mark.parametrize("unsure", [None, 7, int(NOW * 1000) + 7])
@pytest.mark.parametrize("newest", [None, 7, int(NOW * 1000) + 7])
def test_whose_row_is_damaged_is_in_doubt_above_all_that_is_known_until_no_call_can_act_any_more(
    newest: int | None, unsure: int | None
) -> None:
    after = damaged("ana", shown(newest) if newest else None, unsure, NOW)

    assert (after.username, after.state, after.reason) == ("ana", State.NEEDS_SESSION, Reason.REPLY_LOST)
    highest = max(newest or 0, unsure or 0)
    assert after.generation == (highest + 1 if highest > NOW * 1000 else NOW * 1000)
    assert after.sealed == (Sealed(newest, "new", "2030-01-01T00:00:00Z", b"") if newest else None)
    assert after.lease_until == NOW + LATE_EFFECT
    assert [(event.what, event.detail) for event in after.events] == [(RECOVERED, "needs_session: reply_lost")]


def test_whose_record_is_gone_from_the_channel_is_in_doubt_and_may_be_called_at_once() -> None:
    after = gone(row(State.DELIVERED, 5, sealed=5), NOW)

    assert (after.state, after.reason, after.generation) == (State.NEEDS_SESSION, Reason.REPLY_LOST, 5)
    assert (after.lease_until, "r1" in after.settled) == (0, True)
    assert [(event.what, event.detail) for event in after.events] == [(RECOVERED, "needs_session: reply_lost")]


@pytest.mark.parametrize("state", [State.NEEDS_SESSION, State.FAILED, State.SKIPPED])
def test_who_has_no_secret_by_the_older_ledger_either_stays_and_is_not_behind_the_channel(state: State) -> None:
    assert recovered("ana", row(state, 4), shown(5), 6, NOW) == row(state, 7)
    assert recovered("ana", row(state, 4), None, 6, NOW) == row(state, 7)
    assert recovered("ana", row(state, 6), shown(5), 6, NOW) is None, "nothing of theirs was lost"


@pytest.mark.parametrize("newest", [None, 5])
def test_of_whoever_was_being_activated_nobody_knows_whether_that_came_to_an_end(newest: int | None) -> None:
    pending = row(State.DELIVERED, 5, sealed=5)._replace(reason=Reason.ACTIVATION_PENDING, worker="other")
    after = recovered("ana", pending, shown(newest) if newest else None, None, NOW)
    assert after is not None
    assert (after.state, after.reason, after.worker) == (State.DELIVERED, Reason.VERIFY_UNKNOWN, None)


@pytest.mark.parametrize(
    ("found", "unsure"),
    [
        (row(State.IN_PROGRESS, 6), None),
        (row(State.FAILED, 6), None),
        (row(State.DELIVERED, 6, sealed=6), None),
        (row(State.ACTIVE, 6, sealed=6), None),
        (row(State.SEALED, 6, sealed=6), 5),
        (row(State.IN_PROGRESS, 6, sealed=3), 5),
        (row(State.NEEDS_SESSION, 6, sealed=3), 6),
        (row(State.FAILED, 6, sealed=3), 6),
        (row(State.SKIPPED, 6, sealed=3), 6),
    ],
)
def test_who_had_a_secret_is_in_question_until_a_later_one_is_delivered(found: Enrolment, unsure: int | None) -> None:
    assert unsure_up_to(found) == unsure


@pytest.mark.parametrize(
    ("before", "written", "said", "after"),
    [
        (None, row(State.IN_PROGRESS, 6, sealed=3), True, 5),
        (5, row(State.NEEDS_SESSION, 6, sealed=3), True, 6),
        (6, row(State.NEEDS_SESSION, 6, sealed=3), None, 6),
        (6, row(State.IN_PROGRESS, 6, sealed=3), None, 6),
        (None, row(State.SEALED, 6, sealed=6), None, None),
        (5, row(State.SEALED, 6, sealed=6), None, 5),
        (5, row(State.DELIVERED, 6, sealed=6), False, None),
        (6, row(State.DELIVERED, 6, sealed=6), None, 6),  # this very secret was doubted since
        (None, row(State.DELIVERED, 6, sealed=6), None, None),
    ],
)
def test_a_name_is_written_only_where_that_says_something_new(
    before: int | None, written: Enrolment, said: bool | None, after: int | None
) -> None:
    names = {} if before is None else {"ana": before}
    assert note(names, written) is said
    assert names == ({} if after is None else {"ana": after})


states = st.sampled_from([*State])
rows = st.builds(row, states, st.integers(1, 9), sealed=st.none() | st.integers(1, 9))


@given(st.none() | rows, st.none() | st.builds(shown, st.integers(1, 9)), st.none() | st.integers(1, 9))
def test_it_is_done_once(older: Enrolment | None, newest: Shown | None, unsure: int | None) -> None:
    after = recovered("ana", older, newest, unsure, NOW)
    if after is not None:
        assert after.state not in UNFINISHED
        assert recovered("ana", after, newest, unsure, NOW) is None
    if unsure is not None:
        found = after or older
        assert found is not None
        assert found.generation >= unsure, "the ledger would still count as an older copy"


@given(st.lists(rows))
def test_a_name_is_noted_for_exactly_those_whose_last_row_asks_for_it(history: list[Enrolment]) -> None:
    names: dict[str, int] = {}
    for number, each in enumerate(history, 1):  # a user's claims are numbered in rising order
        each = each._replace(generation=number, sealed=each.sealed and each.sealed._replace(generation=number))
        note(names, each)
        if each.state in ENROLLED:
            assert not names
        elif each.state is not State.SEALED and unsure_up_to(each) is not None:
            assert names == {"ana": unsure_up_to(each)}
