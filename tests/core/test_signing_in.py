"""Sign-in of one user when it is their turn: what follows from each answer, and what is never done."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.one_user import BASE32, OneUser, play
from tests.support.rows import row, sealed
from tests.support.virtual_time import EPOCH, VirtualTime
from tests.support.worker_config import CALL_TIMEOUT
from worker.core.errors import PersonMustAct
from worker.core.model import (
    AlreadyEnrolled,
    CredentialKind,
    CustomChallenge,
    Done,
    Duplicate,
    GiveBack,
    Issued,
    NotEnrolled,
    PoolFault,
    Postpone,
    Reason,
    Refused,
    Sealed,
    Secret,
    State,
    Trouble,
    TryAgain,
)
from worker.core.resilience.sign_in_refusals import FIRST_USERS

SESSION, TOKEN = CredentialKind.SESSION, CredentialKind.ACCESS_TOKEN
TICKET, PASSWORD = CredentialKind.TICKET, CredentialKind.PASSWORD
DELIVERED = Done(State.DELIVERED)
NO_ANSWER = TryAgain(Trouble.NO_ANSWER, "TimeoutError")
SPENT = Refused(State.NEEDS_SESSION, Reason.SESSION_SPENT)
WRONG = Refused(State.NEEDS_SESSION, Reason.SIGN_IN_REFUSED, "NotAuthorizedException")


@pytest.fixture
def one(virtual: VirtualTime) -> OneUser:
    return OneUser(virtual)


def test_the_claim_is_written_before_anybody_is_signed_in(one: OneUser) -> None:
    async def story() -> None:
        assert await one.enrol(one.request(TICKET)) == DELIVERED
        steps = ["[in_progress]", "begin", "answer", "look", "associate", "[sealed]", "deliver", "[delivered]"]
        assert one.steps == steps
        assert one.seen[-1][1].credential.reveal().startswith("token by sign-in")
        assert (one.stats.requests, one.stats.sign_ins, one.stats.looks) == (1, 2, 1)

    play(one, story())


def test_a_password_takes_one_request_and_a_session_is_not_looked_for(one: OneUser) -> None:
    async def story() -> None:
        one.signs_in_to = SESSION
        assert await one.enrol(one.request(PASSWORD)) == DELIVERED
        assert one.calls == ["begin", "associate"]
        assert one.record()["session"].startswith("next")

    play(one, story())


@pytest.mark.parametrize(("fields", "looks"), [({}, True), ({"replace": True}, False)])
def test_who_has_totp_already_is_skipped_unless_it_is_to_be_replaced(
    one: OneUser, fields: dict[str, Any], looks: bool
) -> None:
    async def story() -> None:
        one.answers["look"] = [AlreadyEnrolled()]
        verdict = await one.enrol(one.request(TICKET, **fields))
        assert verdict == (Done(State.SKIPPED, Reason.ALREADY_ENROLLED) if looks else DELIVERED)

    play(one, story())


def test_nobody_looks_for_a_token_that_the_request_brought_or_where_it_is_off(virtual: VirtualTime) -> None:
    one = OneUser(virtual, look_first=False)

    async def story() -> None:
        await one.enrol(one.request(TOKEN))
        await one.enrol(one.request(TICKET, username="bob"))
        assert "look" not in one.calls

    play(one, story())


@pytest.mark.parametrize("state", [State.DELIVERED, State.ACTIVE])
def test_a_replacement_that_needs_a_code_leaves_the_user_as_before(one: OneUser, state: State) -> None:
    async def story() -> None:
        one.rows["ana"] = row(state=state, sealed=sealed())
        one.answers["begin"] = [AlreadyEnrolled()]
        request = one.request(PASSWORD, replace=True)
        assert await one.enrol(request) == Done(State.NEEDS_SESSION, Reason.CHALLENGE_UNANSWERABLE)
        assert (one.row.state, one.row.reason) == (state, None)
        assert one.stats.outcomes == {(State.NEEDS_SESSION, Reason.CHALLENGE_UNANSWERABLE): 1}
        assert await one.enrol(request) == Duplicate()
        assert one.calls == ["begin"]

    play(one, story())


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (AlreadyEnrolled(), Done(State.SKIPPED, Reason.ALREADY_ENROLLED)),
        (Refused(State.SKIPPED, Reason.DISABLED), Done(State.SKIPPED, Reason.DISABLED)),
        (Refused(State.FAILED, Reason.USER_NOT_FOUND), Done(State.FAILED, Reason.USER_NOT_FOUND)),
        (
            Refused(State.NEEDS_SESSION, Reason.CHALLENGE_UNANSWERABLE, "SMS_MFA"),
            Done(State.NEEDS_SESSION, Reason.CHALLENGE_UNANSWERABLE),
        ),
    ],
    ids=str,
)
def test_an_answer_that_decides_the_user(one: OneUser, answer: Any, outcome: Done) -> None:
    async def story() -> None:
        one.answers["begin"] = [answer]
        assert await one.enrol(one.request(PASSWORD)) == outcome
        assert one.row.detail == getattr(answer, "detail", None)
        assert one.calls == ["begin"]

    play(one, story())


def test_a_lost_reply_begins_the_sign_in_again_after_a_call_time_out(one: OneUser) -> None:
    async def story() -> None:
        one.answers["answer"] = [NO_ANSWER]
        assert await one.enrol(one.request(TICKET)) == DELIVERED
        assert one.calls == ["begin", "answer", "begin", "answer", "look", "associate"]
        assert one.virtual.now >= CALL_TIMEOUT

    play(one, story())


def test_a_challenge_whose_own_session_died_says_nothing_of_the_ticket(one: OneUser) -> None:
    async def story() -> None:
        one.answers["answer"] = [SPENT]
        assert await one.enrol(one.request(TICKET)) == DELIVERED

    play(one, story())


@pytest.mark.parametrize("answers", [[SPENT], [NO_ANSWER, SPENT]], ids=["spent", "lost"])
def test_a_session_that_was_lost_is_no_outcome_while_the_credential_lives(one: OneUser, answers: list[Any]) -> None:
    async def story() -> None:
        one.signs_in_to = SESSION
        one.answers["associate"] = list(answers)
        assert await one.enrol(one.request(PASSWORD)) == DELIVERED
        assert one.calls.count("begin") == 2
        assert len(one.records) == 1

    play(one, story())


def test_it_is_tried_three_times_more_and_then_the_outcome_is_the_ordinary_one(one: OneUser) -> None:
    async def story() -> None:
        one.signs_in_to = SESSION
        one.answers["associate"] = [SPENT] * 9
        assert await one.enrol(one.request(PASSWORD)) == Done(State.NEEDS_SESSION, Reason.SESSION_SPENT)
        assert one.calls.count("begin") == 4
        one.answers["associate"] = [NO_ANSWER] + [SPENT] * 9
        assert await one.enrol(one.request(PASSWORD)) == Done(State.NEEDS_SESSION, Reason.REPLY_LOST)

    play(one, story())


def test_who_has_totp_by_a_later_sign_in_needs_no_secret_whatever_was_lost_before(one: OneUser) -> None:
    async def story() -> None:
        one.signs_in_to = SESSION
        one.answers["associate"] = [NO_ANSWER, SPENT]
        one.answers["begin"] = [lambda _: one.signed_in(), AlreadyEnrolled()]
        assert await one.enrol(one.request(PASSWORD)) == Done(State.SKIPPED, Reason.ALREADY_ENROLLED)

    play(one, story())


@pytest.mark.parametrize("answers", [[], [NO_ANSWER]], ids=["answered", "with another reply lost"])
def test_a_replacement_in_doubt_stays_in_doubt(one: OneUser, answers: list[Any]) -> None:
    async def story() -> None:
        one.signs_in_to = SESSION
        one.rows["ana"] = row(state=State.DELIVERED, sealed=sealed())
        one.answers["associate"] = [NO_ANSWER, SPENT]
        one.answers["begin"] = [lambda _: one.signed_in(), *answers, AlreadyEnrolled()]
        await one.enrol(one.request(PASSWORD, replace=True))
        assert (one.row.state, one.row.reason) == (State.NEEDS_SESSION, Reason.REPLY_LOST)

    play(one, story())


def test_a_ticket_that_expired_is_not_sent(one: OneUser) -> None:
    async def story() -> None:
        expired = one.request(TICKET, expires_at=EPOCH)
        assert await one.enrol(expired) == Done(State.NEEDS_SESSION, Reason.CREDENTIAL_EXPIRED)
        assert one.calls == []

    play(one, story())


def test_whom_cognito_lets_nobody_sign_in_as_waits_and_uses_no_attempt_up(one: OneUser) -> None:
    async def story() -> None:
        one.answers["begin"] = [TryAgain(Trouble.LOCKED, "NotAuthorizedException")] * 7
        request = one.request(PASSWORD)
        assert [await one.enrol(request) for _ in range(7)] == [Postpone(each) for each in (2, 4, 8, 16, 32, 60, 60)]
        assert one.row.worker is None
        assert not one.row.doubt
        assert await one.enrol(request) == DELIVERED
        one.answers["begin"] = [TryAgain(Trouble.LOCKED, "NotAuthorizedException")]
        assert await one.enrol(one.request(PASSWORD, replace=True)) == Postpone(2), "and begins anew with the next"

    play(one, story())


def test_a_trigger_that_fails_is_tried_again_and_then_counts_as_a_refusal_that_may_be_the_pools(one: OneUser) -> None:
    async def story() -> None:
        fault = PoolFault("UnexpectedLambdaException", "mend it", may_pass=True, may_be_own=True)
        one.answers["begin"] = [TryAgain(Trouble.SERVER_ERROR, "UnexpectedLambdaException", fault)] * 4
        request = one.request(PASSWORD)
        verdict = await one.enrol(request)
        assert isinstance(verdict, Postpone | GiveBack)
        assert one.calls == ["begin"] * 4
        assert one.loop._breaker.doubts_pool
        await asyncio.sleep(20)
        assert await one.enrol(request) == DELIVERED
        assert not one.loop._breaker.doubts_pool, "a call closed it"

    play(one, story())


def test_while_the_pool_is_doubted_only_a_call_shows_that_it_serves_and_no_sign_in(one: OneUser) -> None:
    async def story() -> None:
        fault = PoolFault("UnexpectedLambdaException", "mend it", may_pass=True, may_be_own=True)
        one.answers["begin"] = [TryAgain(Trouble.SERVER_ERROR, "UnexpectedLambdaException", fault)] * 4
        await one.enrol(one.request(PASSWORD, username="bob"))
        await asyncio.sleep(20)
        doubted: list[tuple[str, bool]] = []

        def then(operation: str, reply: object) -> Any:
            return lambda _: doubted.append((operation, one.loop._breaker.doubts_pool)) or reply  # type: ignore[func-returns-value]

        one.answers["begin"] = [then("begin", CustomChallenge(Secret("challenge")))]
        one.answers["answer"] = [then("answer", one.signed_in())]
        one.answers["look"] = [then("look", NotEnrolled())]
        one.answers["associate"] = [then("associate", Issued(Secret(BASE32), None, "id"))]
        assert await one.enrol(one.request(TICKET)) == DELIVERED
        assert doubted == [("begin", True), ("answer", True), ("look", True), ("associate", True)]
        assert not one.loop._breaker.doubts_pool

    play(one, story())


def test_the_sign_ins_before_a_call_that_is_tried_again_use_up_none_of_the_further_calls(one: OneUser) -> None:
    async def story() -> None:
        await one.enrol(one.request(TOKEN, username="somebody else"))
        fault = PoolFault("NotAuthorizedException", "mend it", may_be_own=True)
        one.answers["associate"] = [fault, fault]
        request = one.request(TICKET)
        assert await one.enrol(request) == Postpone(1.0)
        await asyncio.sleep(1.1)
        assert isinstance(await one.enrol(request), Postpone)
        await one.enrol(one.request(TOKEN, username="bob"))  # so it is one user alone who is refused
        await asyncio.sleep(10)
        assert await one.enrol(request) == DELIVERED

    play(one, story())


def test_a_stop_before_the_call_leaves_no_doubt(one: OneUser) -> None:
    async def story() -> None:
        one.answers["begin"] = [NO_ANSWER]
        asyncio.get_running_loop().call_later(2.0, one.stop)
        assert await one.enrol(one.request(PASSWORD)) == GiveBack()
        assert (one.row.worker, one.row.doubt) == (None, False)

    play(one, story())


def test_a_window_that_is_lost_before_the_delivery_is_no_outcome_either(one: OneUser) -> None:
    async def story() -> None:
        request = one.request(TICKET)
        dead = sealed(1, session_expires_at=EPOCH + 20)
        one.rows["ana"] = row(state=State.SEALED, sealed=dead, request_id=request.id, kind=TICKET)
        assert await one.enrol(request) == DELIVERED
        assert "deliver" in one.steps
        assert len(one.records) == 1
        assert one.records[0].attempt_id != dead.attempt_id

    play(one, story())


@pytest.mark.parametrize("may_come", [True, False])
def test_without_the_message_a_lost_window_is_the_outcome_only_once_no_message_can_come(
    one: OneUser, may_come: bool
) -> None:
    async def story() -> None:
        dead: Sealed = sealed(1, session_expires_at=EPOCH + 20)
        one.rows["ana"] = row(state=State.SEALED, sealed=dead, request_id="r", kind=TICKET)
        assert one.pipeline.waits_for_message(one.row)
        await one.finish(may_come=may_come)
        if may_come:
            assert (one.row.state, one.row.worker) == (State.SEALED, None)
        else:
            assert (one.row.state, one.row.reason) == (State.NEEDS_SESSION, Reason.VERIFY_WINDOW_LOST)

    play(one, story())


# --- refused ----------------------------------------------------------------------------------------------------------


def test_ten_users_who_are_all_refused_stop_the_run_and_nobody_is_settled(one: OneUser) -> None:
    async def story() -> None:
        one.answers["answer"] = [WRONG] * 20
        requests = [one.request(TICKET, username=f"user {number}") for number in range(FIRST_USERS)]
        await one.enrol(one.request(TOKEN, username="somebody with a token"))
        for number, request in enumerate(requests):
            assert one.shutdown.reason is None, number
            assert isinstance(await one.enrol(request), Postpone)
        assert isinstance(one.shutdown.reason, PersonMustAct)
        assert "is this the key the pool's trigger has?" in one.shutdown.reason.hint
        assert all(one.rows[request.username].state is State.IN_PROGRESS for request in requests)
        for request in requests:
            assert isinstance(await one.enrol(request), Postpone)
        assert one.calls.count("answer") == FIRST_USERS, "no credential is sent again"

    play(one, story())


@pytest.mark.parametrize("gets_in", [True, False])
def test_who_is_refused_is_settled_once_somebody_got_in_or_nobody_else_is_left(one: OneUser, gets_in: bool) -> None:
    async def story() -> None:
        one.answers["answer"] = [WRONG]
        refused = one.request(TICKET)
        assert isinstance(await one.enrol(refused), Postpone)
        one.loop._refusals.ended("ana")
        assert isinstance(await one.enrol(refused), Postpone)
        if gets_in:
            await one.enrol(one.request(TICKET, username="bob"))
        else:
            await asyncio.sleep(5)
        assert await one.enrol(refused) == Done(State.NEEDS_SESSION, Reason.SIGN_IN_REFUSED)
        assert one.row.detail == "NotAuthorizedException"
        assert one.calls.count("answer") == (2 if gets_in else 1)
        assert await one.enrol(refused) == Duplicate()

    play(one, story())


@pytest.mark.parametrize(
    ("kind", "answer", "is_in"),
    [
        (PASSWORD, None, True),
        (PASSWORD, AlreadyEnrolled(), True),
        (PASSWORD, Refused(State.NEEDS_SESSION, Reason.CHALLENGE_UNANSWERABLE, "SMS_MFA"), True),
        (TICKET, Refused(State.NEEDS_SESSION, Reason.CHALLENGE_UNANSWERABLE, "SMS_MFA"), False),
        (PASSWORD, Refused(State.FAILED, Reason.USER_NOT_FOUND), False),
    ],
)
def test_once_somebody_got_in_a_wrong_password_is_its_users_own(
    one: OneUser, kind: CredentialKind, answer: object, is_in: bool
) -> None:
    """A right password leads to a challenge; whoever has a ticket may be asked for something before it is looked at."""

    async def story() -> None:
        one.answers["begin"] = [answer or (lambda _: one.signed_in()), WRONG]
        await one.enrol(one.request(kind, username="bob"))
        verdict = await one.enrol(one.request(PASSWORD))
        assert verdict == (Done(State.NEEDS_SESSION, Reason.SIGN_IN_REFUSED) if is_in else Postpone(1.0))

    play(one, story())
