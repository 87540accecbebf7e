"""What may happen to a user next, state by state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support.rows import activation, row, sealed
from worker.core import rules
from worker.core.model import (
    ENROLLED,
    NOT_ACTIVATED,
    STATE_OF,
    CredentialKind,
    Enrolment,
    Event,
    Issued,
    PoolFault,
    Reason,
    Refused,
    Request,
    Secret,
    SignedIn,
    State,
    Trouble,
    TryAgain,
    Verified,
)
from worker.core.rules import (
    DEADLINE_MARGIN,
    MAX_CRASHES,
    Activate,
    Call,
    Claimant,
    Conclude,
    Deliver,
    Skip,
    Step,
    Wait,
)
from worker.core.settled import NOTHING_SETTLED, load

NOW = 1.7e9
ME = Claimant("me", NOW, 60.0)


def request(**fields: Any) -> Request:
    return replace(Request("ana", CredentialKind.SESSION, Secret("s" * 40), "new", NOW + 100), **fields)


def nobody(_: Enrolment) -> float:
    """Every claim may be taken over."""
    return 0.0


def step(row: Enrolment | None, claimed: float = 0.0, **fields: Any) -> Step:
    return rules.next_step(request(**fields), row, ME, lambda _: claimed)


def in_state(state: State, **fields: Any) -> Enrolment:
    return row(state=state, sealed=sealed() if state is not State.IN_PROGRESS else None, **fields)


# --- the table --------------------------------------------------------------------------------------------------------

TABLE = {
    # state: what a new request does, the same with replace, the same that was settled already
    None: (Call, Call, None),
    State.IN_PROGRESS: (Call, Call, Skip),
    State.SEALED: (Deliver, Deliver, Skip),
    State.DELIVERED: (Skip, Call, Skip),
    State.ACTIVE: (Skip, Call, Skip),
    State.NEEDS_SESSION: (Call, Call, Skip),
    State.FAILED: (Call, Call, Skip),
    State.SKIPPED: (Skip, Call, Skip),
}


@pytest.mark.parametrize("state", TABLE, ids=str)
def test_what_a_request_does_follows_from_the_state(state: State | None) -> None:
    fresh, replaced, settled = TABLE[state]
    stands = in_state(state) if state else None
    assert isinstance(step(stands), fresh)
    assert isinstance(step(stands, replace=True), replaced)
    if stands is not None and settled:
        assert isinstance(step(stands._replace(settled=load(["old", "new"])), replace=True), settled)


@pytest.mark.parametrize("state", [State.IN_PROGRESS, State.SEALED])
@pytest.mark.parametrize("left", [0.125, 12.5])
def test_whom_somebody_else_holds_is_waited_for(state: State, left: float) -> None:
    claimed = in_state(state, worker="other", lease_until=NOW + 30)
    assert step(claimed, claimed=left) == Wait(left)
    assert step(claimed, claimed=left, replace=True, expires_at=NOW - 1) == Wait(left)
    assert rules.without_request(claimed, ME, lambda _: left) == Wait(left)


def test_a_claim_says_who_for_what_and_until_when() -> None:
    for stands in (None, in_state(State.NEEDS_SESSION, reason=Reason.REPLY_LOST, settled=load(["old"]))):
        call = step(stands, kind=CredentialKind.ACCESS_TOKEN)
        assert isinstance(call, Call)
        claim = call.row
        assert (claim.state, claim.reason, claim.worker) == (State.IN_PROGRESS, None, "me")
        assert (claim.since, claim.lease_until) == (NOW, NOW + 60)
        assert (claim.request_id, claim.kind) == ("new", CredentialKind.ACCESS_TOKEN)
        assert (claim.doubt, claim.crashes, claim.before) == (False, 0, None)
        assert claim.settled == (stands.settled if stands else NOTHING_SETTLED)


def test_nothing_of_an_earlier_request_counts_against_a_new_one() -> None:
    """Whoever wrote the row, and whatever it left in there."""
    left = {"doubt": True, "crashes": MAX_CRASHES, "before": State.ACTIVE, "before_reason": Reason.VERIFY_UNKNOWN}
    call = step(in_state(State.NEEDS_SESSION, reason=Reason.REPLY_LOST, **left))
    assert isinstance(call, Call)
    claim = call.row
    assert (claim.doubt, claim.crashes, claim.before, claim.before_reason) == (False, 0, None, None)


def test_the_generation_of_a_claim_is_the_clock_or_the_next_number_where_the_clock_was_set_back() -> None:
    clock = int(NOW * 1000)
    for stands, generation in ((7, clock), (clock, clock + 1), (clock + 900_000, clock + 900_001)):
        call = step(in_state(State.NEEDS_SESSION)._replace(generation=stands))
        assert isinstance(call, Call)
        assert call.row.generation == generation


@pytest.mark.parametrize("left", [0.125, 0.5, DEADLINE_MARGIN])
def test_a_request_that_is_not_worth_a_call_waits_until_it_is_dead(left: float) -> None:
    for stands in (None, in_state(State.IN_PROGRESS)):
        found = step(stands, expires_at=NOW + left)
        assert isinstance(found, Wait)
        assert found.seconds == pytest.approx(left)


@pytest.mark.parametrize(
    ("fields", "state", "reason"),
    [
        ({"mismatch": "pool"}, State.FAILED, Reason.CREDENTIAL_MISMATCH),
        ({"expires_at": NOW}, State.NEEDS_SESSION, Reason.SESSION_EXPIRED),
        ({"expires_at": 0.0}, State.NEEDS_SESSION, Reason.SESSION_EXPIRED),
        ({"expires_at": NOW, "kind": CredentialKind.ACCESS_TOKEN}, State.NEEDS_SESSION, Reason.TOKEN_EXPIRED),
    ],
)
def test_a_request_that_cannot_succeed_is_concluded_without_a_call(
    fields: dict[str, Any], state: State, reason: Reason
) -> None:
    for stands in (None, in_state(State.IN_PROGRESS)):
        found = step(stands, **fields)
        assert isinstance(found, Conclude)
        assert (found.row.state, found.row.reason) == (state, reason)
        assert found.row.settled == load(["new"])
        assert (found.row.worker, found.row.lease_until, found.row.request_id) == (None, 0.0, None)
        assert found.row.generation == (stands.generation if stands else 0), "which only a claim to call raises"


@pytest.mark.parametrize("state", [State.NEEDS_SESSION, State.FAILED, *sorted(ENROLLED)])
def test_a_dead_request_of_a_user_with_an_outcome_changes_nothing(state: State) -> None:
    for replaces in (False, True):
        assert step(in_state(state), expires_at=NOW, replace=replaces) == Skip()
        assert step(in_state(state), expires_at=NOW - 1e9, replace=replaces, claimed=5.0) == Skip()
    live = step(in_state(state), expires_at=NOW + 5, replace=True)
    assert isinstance(live, Call), "and a request that may still be tried is"


def test_a_mismatch_is_told_once_and_says_of_what() -> None:
    for stands in (
        in_state(State.NEEDS_SESSION),
        in_state(State.FAILED, reason=Reason.RETRIES_EXHAUSTED),
        in_state(State.FAILED, reason=Reason.CREDENTIAL_MISMATCH, detail="pool"),
        in_state(State.SKIPPED, reason=Reason.DISABLED),
    ):
        found = step(stands, mismatch="user")
        assert isinstance(found, Conclude)
        assert (found.row.state, found.row.reason) == (State.FAILED, Reason.CREDENTIAL_MISMATCH)
        assert found.row.detail == "user"
        assert step(found.row, id="newer", mismatch="user") == Skip()


@pytest.mark.parametrize("reason", [None, Reason.ALREADY_ENROLLED])
def test_whoever_was_enrolled_elsewhere_gets_a_secret_only_by_a_replacement(reason: Reason | None) -> None:
    stands = in_state(State.SKIPPED, reason=reason)
    assert step(stands) == Skip()
    call = step(stands, replace=True)
    assert isinstance(call, Call)
    refused = rules.conclude(call.row, State.FAILED, Reason.INVALID_PARAMETER, NOW)
    assert (refused.state, refused.reason) == (State.SKIPPED, Reason.ALREADY_ENROLLED), "and is left as before"
    doubtful = rules.conclude(call.row._replace(doubt=True), State.FAILED, Reason.INVALID_PARAMETER, NOW)
    assert (doubtful.state, doubtful.reason) == (State.NEEDS_SESSION, Reason.REPLY_LOST)


@pytest.mark.parametrize("reason", [Reason.DISABLED, Reason.UNCONFIRMED, Reason.DISMISSED])
def test_whoever_was_not_fit_or_was_dismissed_is_tried_again_with_the_next_request(reason: Reason) -> None:
    call = step(in_state(State.SKIPPED, reason=reason, detail="left the company"))
    assert isinstance(call, Call)
    assert (call.row.before, call.row.reason, call.row.detail) == (None, None, None)


@pytest.mark.parametrize("reason", [reason for reason in Reason if STATE_OF[reason] is State.FAILED])
def test_whoever_failed_is_tried_again_with_the_next_request(reason: Reason) -> None:
    assert isinstance(step(in_state(State.FAILED, reason=reason)), Call)


def test_every_reason_belongs_to_a_state() -> None:
    assert set(STATE_OF) == set(Reason)
    assert set(STATE_OF.values()) == {State.NEEDS_SESSION, State.FAILED, State.SKIPPED, State.DELIVERED}


@pytest.mark.parametrize("state", sorted(ENROLLED))
def test_a_replacement_that_cannot_succeed_is_a_duplicate(state: State) -> None:
    for fields in ({"mismatch": "user"}, {"expires_at": NOW}):
        assert step(in_state(state), replace=True, **fields) == Skip()


@pytest.mark.parametrize("state", sorted(ENROLLED))
def test_a_replacement_that_died_under_its_claim_leaves_the_user_as_before(state: State) -> None:
    begun = in_state(State.IN_PROGRESS, before=state, request_id="new")
    for fields in ({"mismatch": "user"}, {"expires_at": NOW}):
        found = step(begun, replace=True, **fields)
        assert isinstance(found, Conclude)
        assert (found.row.state, found.row.reason, found.row.settled) == (state, None, load(["new"]))


def test_a_taken_over_claim_counts_a_crash_and_leaves_a_doubt() -> None:
    dead = in_state(State.IN_PROGRESS, worker="dead", lease_until=NOW - 1, crashes=1)
    call = step(dead)
    assert isinstance(call, Call)
    assert (call.row.doubt, call.row.crashes) == (True, 2)


def test_a_claim_that_was_given_back_leaves_neither() -> None:
    call = step(in_state(State.IN_PROGRESS, crashes=1))
    assert isinstance(call, Call)
    assert (call.row.doubt, call.row.crashes) == (False, 1)


def test_a_user_over_whom_three_workers_died_is_not_called_for_again() -> None:
    dead = in_state(State.IN_PROGRESS, worker="dead", crashes=rules.MAX_CRASHES - 1)
    found = step(dead)
    assert isinstance(found, Conclude)
    assert (found.row.state, found.row.reason, found.row.crashes) == (State.FAILED, Reason.WORKER_CRASHED, 0)
    assert isinstance(step(found.row, id="newer"), Call), "but a new credential is a new try"


def test_a_replacement_that_another_request_carries_on_is_not_made_twice() -> None:
    begun = in_state(State.IN_PROGRESS, worker="dead", before=State.DELIVERED, request_id="old")
    call = step(begun)
    assert isinstance(call, Call)
    assert (call.row.before, call.row.request_id, call.row.settled) == (State.DELIVERED, "new", load(["old"]))
    again = step(begun, id="old")
    assert isinstance(again, Call)
    assert again.row.settled == NOTHING_SETTLED


# --- without a request ------------------------------------------------------------------------------------------------


def test_a_sealed_secret_is_delivered_without_its_request() -> None:
    stands = in_state(State.SEALED, request_id="old")
    found = rules.without_request(stands, ME, nobody)
    told = (Event(NOW, "claimed", "to deliver"),)
    assert found == Deliver(stands._replace(worker="me", lease_until=NOW + 60, events=told))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kind": CredentialKind.SESSION}, Reason.REQUEST_LOST),
        ({"kind": CredentialKind.ACCESS_TOKEN}, Reason.REQUEST_LOST),
        ({"kind": None}, Reason.REQUEST_LOST),
        ({"worker": "dead", "kind": CredentialKind.ACCESS_TOKEN}, Reason.REPLY_LOST),
        ({"doubt": True}, Reason.REPLY_LOST),
        ({"worker": "dead", "before": State.DELIVERED}, Reason.REPLY_LOST),
    ],
)
def test_whoever_was_left_in_progress_must_sign_in_again(fields: dict[str, Any], reason: Reason) -> None:
    found = rules.without_request(in_state(State.IN_PROGRESS, request_id="old", **fields), ME, nobody)
    assert isinstance(found, Conclude)
    assert (found.row.state, found.row.reason) == (State.NEEDS_SESSION, reason)
    assert found.row.settled == NOTHING_SETTLED, "should the message still come, it may be tried"


# --- outcomes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [None, State.DELIVERED, State.ACTIVE])
@pytest.mark.parametrize("reason", Reason)
def test_no_conclusion_leaves_a_doubtful_user_enrolled(reason: Reason, before: State | None) -> None:
    claim = in_state(State.IN_PROGRESS, doubt=True, before=before, request_id="new")
    found = rules.conclude(claim, State.NEEDS_SESSION, reason, NOW)
    assert found.state is State.NEEDS_SESSION
    if before or reason in {Reason.SESSION_EXPIRED, Reason.SESSION_SPENT, Reason.TOKEN_REVOKED}:
        assert found.reason is Reason.REPLY_LOST
    if reason is Reason.TOKEN_SCOPE and not before:
        assert found.reason is Reason.TOKEN_SCOPE, "which no success ever caused"


def test_nobody_is_skipped_in_doubt() -> None:
    for doubt, state in ((True, State.NEEDS_SESSION), (False, State.SKIPPED)):
        found = rules.conclude(in_state(State.IN_PROGRESS, doubt=doubt), State.SKIPPED, Reason.DISABLED, NOW)
        assert found.state is state


# --- kept, dismissed --------------------------------------------------------------------------------------------------


def test_a_record_that_is_kept_goes_with_the_secret_in_it() -> None:
    kept = rules.delivered(rules.recorded(in_state(State.IN_PROGRESS), sealed(), NOW), NOW, keep_sealed=True)
    assert kept.sealed == sealed()
    call = step(kept, replace=True)
    assert isinstance(call, Call)
    unchanged = rules.conclude(call.row, State.FAILED, Reason.INVALID_PARAMETER, NOW)
    assert (unchanged.state, unchanged.sealed) == (State.DELIVERED, sealed()), "a replacement that issued nothing"
    for dead in (
        rules.conclude(call.row._replace(doubt=True), State.FAILED, Reason.INVALID_PARAMETER, NOW),
        rules.in_doubt(kept, None, NOW, late_effect_for=0.0),
        rules.unrecordable(call.row, "ItemTooLarge", NOW),
        rules.dismissed("ana", kept._replace(state=State.FAILED), "left", NOW),
    ):
        assert dead.sealed == sealed(blob=b"")


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("reason", [None, Reason.DISABLED, Reason.ALREADY_ENROLLED, Reason.REPLY_LOST])
def test_whoever_has_a_secret_or_is_worked_on_is_not_dismissed(state: State, reason: Reason | None) -> None:
    allowed = {
        State.NEEDS_SESSION: True,
        State.FAILED: True,
        State.SKIPPED: reason in (Reason.DISABLED, Reason.REPLY_LOST),
        State.DELIVERED: reason is not None,
    }
    assert rules.may_be_dismissed(in_state(state, reason=reason)) is allowed.get(state, False)
    assert rules.may_be_dismissed(None)


def test_somebody_dismissed_keeps_what_is_known_of_their_requests_and_calls() -> None:
    stands = in_state(State.FAILED, settled=load(["old"]), lease_until=NOW + 7, generation=9)
    found = rules.dismissed("ana", stands, "left the company", NOW)
    assert (found.state, found.reason, found.detail) == (State.SKIPPED, Reason.DISMISSED, "left the company")
    assert (found.settled, found.lease_until, found.generation) == (load(["old"]), NOW + 7, 9)
    assert rules.dismissed("ana", stands, "left", NOW + 5).since == NOW + 5
    new = rules.dismissed("bob", None, "a test user", NOW)
    assert (new.username, new.state, new.generation) == ("bob", State.SKIPPED, 0)
    assert isinstance(step(found, id="new"), Call), "and the next request is tried"


def test_an_ambiguous_call_keeps_the_user_quiet_for_as_long_as_it_may_act() -> None:
    claim = in_state(State.IN_PROGRESS, worker="me", lease_until=NOW + 60)
    for found in (
        rules.conclude(claim, State.FAILED, Reason.RETRIES_EXHAUSTED, NOW, late_effect_for=7.0),
        rules.released(claim, NOW, doubt=True, late_effect_for=7.0),
        rules.in_doubt(claim, "old", NOW, late_effect_for=7.0),
    ):
        assert (found.worker, found.since, found.lease_until) == (None, NOW, NOW + 7)
        assert isinstance(step(found, claimed=7.0), Wait)


@pytest.mark.parametrize("late", [0.0, 0.5, 7.0])
def test_the_user_as_before_is_left_in_peace_for_as_long_as_a_call_of_the_replacement_may_act(late: float) -> None:
    call = step(in_state(State.ACTIVE), replace=True)
    assert isinstance(call, Call)
    found = rules.conclude(call.row, State.FAILED, Reason.THROTTLED_ALONE, NOW + 5, late_effect_for=late)
    assert (found.state, found.since, found.worker) == (State.ACTIVE, NOW + 5, None)
    assert found.lease_until == (NOW + 5 + late if late else 0.0)


OUTCOMES: dict[str, Callable[[Enrolment], Enrolment]] = {
    "concluded": lambda row: rules.conclude(row, State.FAILED, Reason.INVALID_PARAMETER, NOW + 5),
    "left as before": lambda row: rules.conclude(
        row._replace(before=State.DELIVERED, doubt=False), State.FAILED, Reason.INVALID_PARAMETER, NOW + 5
    ),
    "enrolled already": lambda row: rules.enrolled_already(row._replace(before=None), NOW + 5, replace=False),
    "unrecordable": lambda row: rules.unrecordable(row, "ItemTooLarge", NOW + 5),
    "refused delivery": lambda row: rules.refused_delivery(row, "KeyTooLongError", NOW + 5),
    "voided": lambda row: rules.voided(row, NOW + 5),
    "damaged": lambda row: rules.damaged(row, NOW + 5),
    "delivered": lambda row: rules.delivered(row, NOW + 5),
    "active": lambda row: rules.active(row, NOW + 5),
    "left to the user": lambda row: rules.left_to_the_user(row, NOW + 5),
    "not activated": lambda row: rules.not_activated(row, Reason.VERIFY_UNKNOWN, NOW + 5),
    "given up": lambda row: rules.given_up(row, NOW + 5),
}


@pytest.mark.parametrize("how", OUTCOMES)
def test_an_outcome_leaves_nothing_of_the_work_in_the_row(how: str) -> None:
    work = {"worker": "me", "lease_until": NOW + 60, "request_id": "new", "doubt": True, "crashes": 2}
    claim = in_state(State.IN_PROGRESS, before=State.DELIVERED, before_reason=Reason.VERIFY_REFUSED, **work)
    found = OUTCOMES[how](claim)
    assert not found.is_unfinished
    assert (found.since, found.worker, found.lease_until, found.request_id) == (NOW + 5, None, 0.0, None)
    assert (found.doubt, found.crashes, found.before, found.before_reason) == (False, 0, None, None)
    assert found.settled == load(["new"]), "and its request is not worked on again"


def test_a_recorded_secret_is_delivered_and_its_blob_forgotten() -> None:
    claim = in_state(State.IN_PROGRESS, worker="me", request_id="new", doubt=True, before=State.ACTIVE, crashes=2)
    claim = claim._replace(before_reason=Reason.VERIFY_REFUSED)
    recorded = rules.recorded(claim, sealed(), NOW + 1)
    assert (recorded.state, recorded.sealed, recorded.worker) == (State.SEALED, sealed(), "me")
    assert (recorded.doubt, recorded.before, recorded.settled) == (False, None, NOTHING_SETTLED)
    assert (recorded.since, recorded.before_reason) == (NOW + 1, None), "which an earlier secret left"
    delivered = rules.delivered(recorded, NOW)
    assert (delivered.state, delivered.reason, delivered.settled) == (State.DELIVERED, None, load(["new"]))
    assert delivered.sealed == sealed(blob=b"")
    assert (delivered.worker, delivered.crashes, delivered.request_id) == (None, 0, None)


def test_a_delivery_that_is_refused_for_good_never_leads_back_to_an_earlier_secret() -> None:
    claim = in_state(State.IN_PROGRESS, worker="me", request_id="new", before=State.DELIVERED)
    refused = rules.refused_delivery(rules.recorded(claim, sealed(), NOW), "KeyTooLongError", NOW)
    assert (refused.state, refused.reason) == (State.FAILED, Reason.DELIVERY_REFUSED)
    assert (refused.detail, refused.settled, refused.sealed) == ("KeyTooLongError", load(["new"]), sealed(blob=b""))
    lost = rules.unrecordable(claim, "ValidationException", NOW)
    assert (lost.state, lost.reason, lost.before) == (State.FAILED, Reason.RECORD_TOO_LARGE, None)
    assert lost.detail == "ValidationException"


def test_a_secret_whose_session_dies_too_soon_is_void() -> None:
    stands = in_state(State.SEALED, request_id="new")._replace(sealed=sealed(session_expires_at=NOW + 30))
    assert not rules.too_late_to_verify(stands, 30.0, NOW)
    assert rules.too_late_to_verify(stands, 30.0, NOW + 0.1)
    assert not rules.too_late_to_verify(in_state(State.SEALED), 30.0, NOW + 1e6), "an access token's secret keeps"
    voided = rules.voided(stands, NOW)
    assert (voided.state, voided.reason) == (State.NEEDS_SESSION, Reason.VERIFY_WINDOW_LOST)
    assert (voided.settled, voided.sealed) == (load(["new"]), sealed(blob=b"", session_expires_at=NOW + 30))


def test_whose_secret_was_damaged_in_the_ledger_must_sign_in_again_and_may_at_once() -> None:
    stands = in_state(State.SEALED, request_id="new", worker="me", lease_until=NOW + 60)
    found = rules.damaged(stands, NOW)
    assert (found.state, found.reason, found.lease_until) == (State.NEEDS_SESSION, Reason.REPLY_LOST, 0.0)
    assert (found.settled, found.sealed) == (load(["new"]), sealed(blob=b""))


def test_giving_back_a_replacement_that_issued_nothing_leaves_the_user_as_before() -> None:
    claim = in_state(State.IN_PROGRESS, worker="me", before=State.ACTIVE, request_id="new", lease_until=NOW + 60)
    back = rules.released(claim, NOW, doubt=False)
    assert (back.state, back.before, back.request_id, back.worker) == (State.ACTIVE, None, None, None)
    assert isinstance(step(back, replace=True), Call), "and the request is tried again"
    doubtful = rules.released(claim, NOW, doubt=True)
    assert (doubtful.state, doubtful.before, doubtful.doubt) == (State.IN_PROGRESS, State.ACTIVE, True)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (State.DELIVERED, None),
        (State.DELIVERED, Reason.VERIFY_REFUSED),
        (State.ACTIVE, None),
        (State.SKIPPED, Reason.ALREADY_ENROLLED),
    ],
)
def test_why_a_user_stood_where_they_stood_is_known_again_after_a_replacement_was_given_back(
    state: State, reason: Reason | None
) -> None:
    call = step(in_state(state, reason=reason), replace=True)
    assert isinstance(call, Call)
    back = rules.released(call.row, NOW + 5, doubt=False)
    assert (back.state, back.reason, back.since, back.lease_until) == (state, reason, NOW + 5, 0.0)
    assert (back.before, back.before_reason) == (None, None)


def test_a_bug_counts_like_a_death_and_leaves_a_doubt() -> None:
    claim = in_state(State.IN_PROGRESS, worker="me", request_id="new", crashes=1)
    back = rules.released(claim, NOW, doubt=True, crashed=True)
    assert (back.crashes, back.doubt, back.worker) == (2, True, None)
    assert rules.released(claim, NOW, doubt=False).crashes == 1


def test_a_hold_is_prolonged_and_nothing_else() -> None:
    claim = in_state(State.IN_PROGRESS, worker="me", lease_until=NOW)
    assert rules.renewed(claim, NOW + 60) == claim._replace(lease_until=NOW + 60)


def test_the_overtaken_leave_a_doubt_and_settle_their_own_request() -> None:
    other = in_state(State.DELIVERED, settled=load(["theirs"]))
    found = rules.in_doubt(other, "mine", NOW, late_effect_for=0.0)
    assert (found.state, found.reason) == (State.NEEDS_SESSION, Reason.REPLY_LOST)
    assert found.settled == load(["theirs", "mine"])


# --- activation -------------------------------------------------------------------------------------------------------

SESSION, TOKEN, TICKET = CredentialKind.SESSION, CredentialKind.ACCESS_TOKEN, CredentialKind.TICKET
PENDING = Reason.ACTIVATION_PENDING


def pending(held: CredentialKind = TOKEN, **fields: Any) -> Enrolment:
    fields = {"reason": PENDING, "activation": activation(kind=held, doubt=False), "request_id": "first", **fields}
    return in_state(State.DELIVERED, **fields)


def not_activated(reason: Reason, kind: CredentialKind = TOKEN) -> Enrolment:
    kept = activation(kind=kind) if kind is TOKEN else None
    return in_state(State.DELIVERED, reason=reason, activation=kept)


def test_who_is_being_activated_is_unfinished_whatever_is_asked_for() -> None:
    for fields in ({}, {"replace": True}, {"expires_at": NOW - 1}, {"mismatch": "user"}):
        assert isinstance(step(pending(), **fields), Activate)
        assert step(pending(), claimed=3.0, **fields) == Wait(3.0)
    assert step(pending(settled=load(["new"]))) == Skip()


def test_taking_over_an_activation_raises_no_generation_and_leaves_a_doubt_where_it_was_claimed() -> None:
    for worker, doubt in (("dead", True), (None, False)):
        for found in (step(pending(worker=worker)), rules.without_request(pending(worker=worker), ME, nobody)):
            assert isinstance(found, Activate)
            assert (found.row.generation, found.row.worker, found.row.request_id) == (1, "me", "first")
            assert found.row.activation is not None
            assert found.row.activation.doubt is doubt
            assert found.row.crashes == doubt


def test_over_whom_so_many_workers_died_nobody_is_activated() -> None:
    found = step(pending(worker="dead", crashes=MAX_CRASHES - 1))
    assert isinstance(found, Conclude)
    assert (found.row.state, found.row.reason) == (State.DELIVERED, Reason.VERIFY_UNKNOWN)
    assert found.row.settled == load(["first"])


@pytest.mark.parametrize("reason", sorted(NOT_ACTIVATED))
@pytest.mark.parametrize(
    ("kept", "brings", "expected"),
    [
        (TOKEN, TOKEN, Activate),
        (TOKEN, TICKET, Activate),
        (TOKEN, SESSION, Call),
        (SESSION, TOKEN, Call),
        (SESSION, TICKET, Call),
        (SESSION, SESSION, Call),
    ],
)
def test_a_new_request_goes_on_with_a_secret_that_a_token_can_verify(
    reason: Reason, kept: CredentialKind, brings: CredentialKind, expected: type
) -> None:
    stands = not_activated(reason, kept)._replace(since=NOW - 9, detail="CodeMismatchException")
    found = step(stands, kind=brings)
    assert isinstance(found, expected)
    assert isinstance(found, Activate | Call)
    assert (found.row.request_id, found.row.worker, found.row.before_reason) == ("new", "me", reason)
    assert (found.row.kind, found.row.detail, found.row.since) == (brings, None, NOW)
    if isinstance(found, Activate):
        assert (found.row.state, found.row.reason) == (State.DELIVERED, PENDING)
        assert (found.row.generation, found.row.activation) == (stands.generation, stands.activation)
    assert isinstance(step(not_activated(reason, kept), kind=brings, replace=True), Call)


@pytest.mark.parametrize("kept", [TOKEN, SESSION])
@pytest.mark.parametrize("replaces", [True, False])
def test_what_an_activation_needs_stays_until_another_secret_takes_its_place(
    kept: CredentialKind, *, replaces: bool
) -> None:
    claimed = pending(kept, worker="me", settled=load(["other"]))
    claimed = claimed._replace(activation=activation(kind=kept, replaces=replaces))
    outcome = rules.not_activated(claimed, Reason.VERIFY_REFUSED, NOW)
    assert (outcome.activation is None) == (kept is SESSION and not replaces)
    call = rules.call_instead(outcome, claimed, request(kind=SESSION, id="first"), ME)
    assert isinstance(call, Call)
    assert call.row.activation == outcome.activation
    assert (call.row.request_id, call.row.settled) == ("first", load(["other"])), "its own request is not over"
    as_before = rules.conclude(call.row, State.FAILED, Reason.INVALID_PARAMETER, NOW)
    assert (as_before.reason, as_before.activation) == (Reason.VERIFY_REFUSED, outcome.activation)
    over = rules.call_instead(outcome, claimed, request(kind=SESSION, id="first", expires_at=NOW), ME)
    assert not isinstance(over, Call)


@pytest.mark.parametrize("kind", [TOKEN, TICKET])
def test_a_token_by_the_same_ticket_does_not_go_on_where_another_secret_is_made(kind: CredentialKind) -> None:
    claimed = pending(TOKEN, worker="me")
    outcome = rules.not_activated(claimed, Reason.VERIFY_REFUSED, NOW)
    assert isinstance(rules.call_instead(outcome, claimed, request(kind=kind, id="first"), ME), Call)


@pytest.mark.parametrize("reason", sorted(NOT_ACTIVATED))
def test_what_surely_issued_nothing_leaves_the_user_with_what_can_still_be_verified(reason: Reason) -> None:
    stands = not_activated(reason)
    call = step(stands, replace=True)
    assert isinstance(call, Call)
    for after in (
        rules.conclude(call.row, State.FAILED, Reason.INVALID_PARAMETER, NOW),
        rules.released(call.row, NOW, doubt=False),
    ):
        assert (after.state, after.reason, after.activation) == (State.DELIVERED, reason, stands.activation)
    in_doubt = rules.conclude(call.row._replace(doubt=True), State.FAILED, Reason.INVALID_PARAMETER, NOW)
    assert (in_doubt.reason, in_doubt.activation) == (Reason.REPLY_LOST, None)


def test_what_activation_needs_lives_no_longer_than_its_outcome() -> None:
    claimed = pending(worker="me")
    for after in (
        rules.active(claimed, NOW),
        rules.voided(claimed, NOW),
        rules.not_activated(pending(SESSION), Reason.VERIFY_UNKNOWN, NOW),
        rules.in_doubt(claimed, "r", NOW, late_effect_for=1.0),
        rules.refused_delivery(in_state(State.SEALED, activation=activation()), "code", NOW),
        rules.unrecordable(in_state(State.IN_PROGRESS, activation=activation()), "code", NOW),
        rules.dismissed("ana", not_activated(Reason.VERIFY_REFUSED), "left", NOW),
        rules.delivered(in_state(State.SEALED, activation=activation()), NOW),
        rules.recorded(in_state(State.IN_PROGRESS, activation=activation()), sealed(2), NOW),
    ):
        assert after.activation is None
    assert rules.not_activated(pending(TOKEN), Reason.VERIFY_UNKNOWN, NOW).activation is not None


def test_a_delivery_that_is_to_be_activated_keeps_the_claim_and_settles_nothing() -> None:
    before = in_state(State.SEALED, activation=activation(), worker="me", lease_until=NOW + 9, request_id="first")
    after = rules.delivered(before, NOW, activates=True)
    assert (after.state, after.reason) == (State.DELIVERED, PENDING)
    assert (after.worker, after.lease_until, after.request_id) == ("me", NOW + 9, "first")
    assert after.settled == before.settled
    assert after.sealed is not None
    assert after.sealed.blob == b""
    late = rules.delivered(before._replace(crashes=2), NOW + 5, activates=True)
    assert (late.since, late.crashes) == (NOW + 5, 0), "deaths before the delivery say nothing of the activation"


def test_nobody_who_is_being_activated_is_dismissed() -> None:
    assert not rules.may_be_dismissed(pending())
    assert rules.may_be_dismissed(not_activated(Reason.VERIFY_REFUSED))
    assert not rules.may_be_dismissed(in_state(State.DELIVERED))


def test_what_only_a_new_sign_in_can_decide_is_left_to_the_message_while_it_may_come() -> None:
    later, over = NOW + 600, NOW + DEADLINE_MARGIN
    for kind, until, worker, waits in (
        (SESSION, later, None, False),
        (SESSION, later, "dead", True),
        (SESSION, over, None, True),
        (TOKEN, later, "dead", False),
        (TOKEN, over, None, True),
    ):
        found = pending(kind, worker=worker, kind=TICKET)
        held = activation(kind=kind, expires_at=until, verified=False, doubt=False)
        found = found._replace(activation=held)
        assert rules.waits_for_message(found, 30.0, NOW) is waits
        assert not rules.waits_for_message(found._replace(kind=kind), 30.0, NOW), "a Session's message brings no other"
        for decided in (held._replace(verified=True), None):
            assert not rules.waits_for_message(found._replace(activation=decided), 30.0, NOW), "nothing to decide"


def test_an_active_factor_says_nothing_of_a_secret_that_replaced_another_by_session() -> None:
    held = activation(kind=CredentialKind.SESSION, replaces=True)
    pending = in_state(State.DELIVERED, reason=Reason.ACTIVATION_PENDING, activation=held)
    left = rules.not_activated(pending, Reason.VERIFY_UNKNOWN, NOW)
    assert left.activation == held._replace(blob=b"")

    asked = left._replace(state=State.IN_PROGRESS, before=left.state, before_reason=left.reason, reason=None)

    stands = rules.enrolled_already(asked, NOW, replace=False)
    assert (stands.state, stands.reason) == (State.DELIVERED, Reason.VERIFY_UNKNOWN)
    first = rules.enrolled_already(asked._replace(activation=None), NOW, replace=False)
    assert first.state is State.ACTIVE


@pytest.mark.parametrize(
    ("before", "why", "fields", "replaces", "expected"),
    [
        (None, None, {}, False, (State.SKIPPED, Reason.ALREADY_ENROLLED)),
        (None, None, {"doubt": True}, False, (State.SKIPPED, Reason.ALREADY_ENROLLED)),
        (None, None, {}, True, (State.NEEDS_SESSION, Reason.CHALLENGE_UNANSWERABLE)),
        (State.DELIVERED, Reason.VERIFY_UNKNOWN, {}, False, (State.ACTIVE, None)),
        (State.DELIVERED, Reason.VERIFY_UNKNOWN, {}, True, (State.DELIVERED, Reason.VERIFY_UNKNOWN)),
        (State.DELIVERED, Reason.VERIFY_UNKNOWN, {"doubt": True}, False, (State.NEEDS_SESSION, Reason.REPLY_LOST)),
        (State.DELIVERED, Reason.VERIFY_UNKNOWN, {"doubt": True}, True, (State.NEEDS_SESSION, Reason.REPLY_LOST)),
        (State.DELIVERED, None, {}, True, (State.DELIVERED, None)),
        (State.DELIVERED, None, {}, False, (State.DELIVERED, None)),
        (State.ACTIVE, None, {}, True, (State.ACTIVE, None)),
        (State.ACTIVE, None, {"doubt": True}, True, (State.NEEDS_SESSION, Reason.REPLY_LOST)),
        (State.SKIPPED, Reason.ALREADY_ENROLLED, {}, True, (State.SKIPPED, Reason.ALREADY_ENROLLED)),
    ],
)
def test_what_follows_where_a_sign_in_shows_an_active_factor(
    before: State | None, why: Reason | None, fields: dict[str, Any], replaces: bool, expected: tuple[State, Reason]
) -> None:
    claim = in_state(State.IN_PROGRESS, before=before, before_reason=why, worker="me", request_id="new", **fields)
    found = rules.enrolled_already(claim, NOW, replace=replaces)
    assert (found.state, found.reason) == expected
    assert found.settled == load(["new"])
    cannot = found.reason is Reason.CHALLENGE_UNANSWERABLE
    assert found.detail == ("SOFTWARE_TOKEN_MFA" if cannot else None), "which is the challenge that cannot be answered"


@pytest.mark.parametrize(
    ("fields", "by_sign_in", "before", "may"),
    [
        ({"kind": SESSION}, False, None, False),
        ({"kind": SESSION, "replace": True}, False, None, True),
        ({"kind": SESSION}, False, State.DELIVERED, True),
        ({"kind": TOKEN}, True, None, False),
        ({"kind": TOKEN, "replace": True}, True, None, True),
        ({"kind": TOKEN}, True, State.ACTIVE, True),
        ({"kind": SESSION, "replace": True}, True, State.ACTIVE, False),
    ],
)
def test_an_earlier_secret_may_be_active_unless_a_sign_in_got_a_session_to_set_one_up(
    fields: dict[str, Any], by_sign_in: bool, before: State | None, may: bool
) -> None:
    usable = request(**fields)
    claim = in_state(State.IN_PROGRESS, before=before, kind=TICKET if by_sign_in else usable.kind)
    assert rules.may_have_a_factor(claim, usable) is may


@pytest.mark.parametrize(
    ("held", "lost", "reason"),
    [
        (activation(kind=TOKEN), False, Reason.VERIFY_REFUSED),
        (activation(kind=TOKEN), True, Reason.VERIFY_UNKNOWN),
        (activation(kind=TOKEN, doubt=True), False, Reason.VERIFY_UNKNOWN),
        (activation(kind=TOKEN, verified=True, doubt=True), True, Reason.PREFERENCE_REFUSED),
        (None, False, Reason.VERIFY_REFUSED),
    ],
)
def test_what_is_said_of_a_delivered_user_who_is_refused_alone(held: Any, lost: bool, reason: Reason) -> None:
    claimed = pending(worker="me", lease_until=NOW + 60)._replace(activation=held)
    found = rules.given_up(claimed, NOW, doubt=lost, late_effect_for=7.0, detail="ForbiddenException")
    assert (found.state, found.reason, found.detail) == (State.DELIVERED, reason, "ForbiddenException")
    assert (found.since, found.lease_until, found.activation) == (NOW, NOW + 7, held)
    assert found.settled == load(["first"])
    if not lost:
        assert rules.given_up(claimed, NOW) == found._replace(
            detail=None, lease_until=0.0, events=rules.not_activated(claimed, reason, NOW).events
        )


# --- what a user's history tells --------------------------------------------------------------------------------------


def told(found: Enrolment | Step) -> list[tuple[str, str, int]]:
    row = found if isinstance(found, Enrolment) else found.row  # type: ignore[union-attr]
    assert {event.at for event in row.events} == {NOW}
    return [(event.what, event.detail, event.times) for event in row.events]


def test_a_claim_tells_what_for_and_whether_a_worker_died_before() -> None:
    dead = {"worker": "dead", "request_id": "old"}
    for found, events in (
        (step(None), [("claimed", "", 1)]),
        (step(in_state(State.FAILED)), [("claimed", "", 1)]),
        (step(in_state(State.ACTIVE), replace=True), [("claimed", "to replace", 1)]),
        (step(in_state(State.IN_PROGRESS, **dead)), [("taken over", "", 1), ("claimed", "", 1)]),
        (step(in_state(State.SEALED)), [("claimed", "to deliver", 1)]),
        (step(in_state(State.SEALED, **dead)), [("taken over", "", 1), ("claimed", "to deliver", 1)]),
        (step(pending()), [("claimed", "to activate", 1)]),
        (step(pending(worker="dead")), [("taken over", "", 1), ("claimed", "to activate", 1)]),
        (step(not_activated(Reason.VERIFY_UNKNOWN), kind=TOKEN), [("claimed", "to activate", 1)]),
    ):
        assert told(found) == events


def test_each_answer_is_told_and_what_leads_to_an_event_of_its_own_is_not() -> None:
    for reply, operation, events in (
        (Issued(Secret("s"), None, "id"), "", [("answered", "issued", 1)]),
        (TryAgain(Trouble.CONFLICT), "", [("answered", "conflict", 1)]),
        (TryAgain(Trouble.NO_ANSWER), "InitiateAuth", [("answered", "no_answer to InitiateAuth", 1)]),
        (Refused(State.SKIPPED, Reason.DISABLED), "", [("answered", "disabled", 1)]),
        (Refused(State.SKIPPED, Reason.DISABLED), "GetUser", [("answered", "disabled to GetUser", 1)]),
        (PoolFault("Code", "cure"), "GetUser", [("answered", "pool_fault Code to GetUser", 1)]),
        (SignedIn(CredentialKind.ACCESS_TOKEN, Secret("t"), 60.0), "InitiateAuth", [("signed in", "access_token", 1)]),
        (Verified(), "VerifySoftwareToken", []),
    ):
        row = rules.answered(in_state(State.IN_PROGRESS), operation, reply, NOW)
        assert [(event.what, event.detail, event.times) for event in row.events] == events
        assert {event.at for event in row.events} <= {NOW}


HISTORIES: dict[str, tuple[Callable[[Enrolment], Enrolment], str, str]] = {
    "recorded": (lambda row: rules.recorded(row, sealed(7), NOW), "sealed", "7"),
    "the channel is away": (lambda row: rules.not_delivered(row, NOW), "not delivered", ""),
    "delivered": (lambda row: rules.delivered(row, NOW), "delivered", ""),
    "delivered, to activate": (
        lambda row: rules.delivered(row._replace(activation=activation()), NOW, activates=True),
        "delivered",
        "",
    ),
    "delivered again": (lambda row: rules.redelivered(row, NOW), "redelivered", ""),
    "verified": (lambda row: rules.verified(row._replace(activation=activation()), NOW), "verified", ""),
    "active": (lambda row: rules.active(row, NOW), "active", ""),
    "not activated": (
        lambda row: rules.not_activated(row, Reason.VERIFY_REFUSED, NOW, detail="ERROR"),
        "concluded",
        "delivered: verify_refused (ERROR)",
    ),
    "left to the user": (lambda row: rules.left_to_the_user(row, NOW), "concluded", "delivered"),
    "refused": (
        lambda row: rules.conclude(row, State.FAILED, Reason.REFUSED, NOW, detail="Forbidden"),
        "concluded",
        "failed: refused (Forbidden)",
    ),
    "expired": (
        lambda row: rules.conclude(row, State.NEEDS_SESSION, Reason.SESSION_EXPIRED, NOW),
        "concluded",
        "needs_session: session_expired",
    ),
    "not replaced": (
        lambda row: rules.conclude(
            row._replace(before=State.ACTIVE), State.FAILED, Reason.REFUSED, NOW, detail="Forbidden"
        ),
        "left as before",
        "failed: refused (Forbidden)",
    ),
    "enrolled already": (
        lambda row: rules.enrolled_already(row._replace(before=State.ACTIVE), NOW, replace=True),
        "left as before",
        "skipped: already_enrolled",
    ),
    "overtaken": (
        lambda row: rules.in_doubt(row, "new", NOW, late_effect_for=1.0),
        "put in doubt",
        "needs_session: reply_lost",
    ),
    "dismissed": (lambda row: rules.dismissed("ana", row, "left us", NOW), "dismissed", "left us"),
    "given back": (lambda row: rules.released(row, NOW, doubt=False), "given back", ""),
    "given back in doubt": (lambda row: rules.released(row, NOW, doubt=True), "given back", "in doubt"),
    "given back after a bug": (
        lambda row: rules.released(row, NOW, doubt=True, crashed=True),
        "given back",
        "after a bug",
    ),
}


@pytest.mark.parametrize("how", HISTORIES)
def test_everything_that_happens_to_a_user_is_told_once_with_its_detail(how: str) -> None:
    happens, what, detail = HISTORIES[how]
    claim = in_state(State.IN_PROGRESS, worker="me", request_id="new")
    assert told(happens(claim)) == [(what, detail, 1)]
