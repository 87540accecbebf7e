"""Activation of one user: what follows from each answer, in which order it is written, and what stops leave behind."""

from __future__ import annotations

import asyncio
import json

import pyotp
import pytest

from tests.support.one_user import OneUser, play
from tests.support.virtual_time import EPOCH, VirtualTime
from tests.support.worker_config import CALL_TIMEOUT
from worker.core.activation import TIME_STEP
from worker.core.config import ActivationMode
from worker.core.errors import PersonMustAct
from worker.core.model import (
    AlreadyEnrolled,
    CredentialKind,
    Done,
    Duplicate,
    GiveBack,
    Issued,
    NotEnrolled,
    PoolFault,
    Postpone,
    Preferred,
    Reason,
    Refused,
    Sealed,
    Secret,
    SignedIn,
    State,
    Trouble,
    TryAgain,
    Verified,
    WrongCode,
)

SESSION, TOKEN, TICKET = CredentialKind.SESSION, CredentialKind.ACCESS_TOKEN, CredentialKind.TICKET
PENDING = "[delivered: activation_pending]"
NO_ANSWER = TryAgain(Trouble.NO_ANSWER, "TimeoutError")
SPENT = Refused(State.NEEDS_SESSION, Reason.SESSION_SPENT)
EXPIRED_TOKEN = Refused(State.NEEDS_SESSION, Reason.TOKEN_EXPIRED)
ACTIVE = Done(State.ACTIVE)


@pytest.fixture(params=[ActivationMode.VERIFY, ActivationMode.PREFER], ids=str)
def one(request: pytest.FixtureRequest, virtual: VirtualTime) -> OneUser:
    return OneUser(virtual, request.param)


def left(reason: Reason) -> Done:
    return Done(State.DELIVERED, reason)


@pytest.mark.parametrize("kind", [SESSION, TOKEN])
def test_the_order_of_the_writes(one: OneUser, kind: CredentialKind) -> None:
    async def story() -> None:
        assert await one.enrol(one.request(kind)) == ACTIVE
        then = [PENDING, "prefer"] if one.config.activation is ActivationMode.PREFER else []
        assert one.steps == [
            "[in_progress]",
            "associate",
            "[sealed]",
            "deliver",
            PENDING,
            "verify",
            *then,
            "[active]",
        ]
        assert one.row.activation is None
        assert one.row.worker is None
        assert one.row.request_id is None
        assert sum(n for (operation, _), n in one.stats.attempts.items() if operation == "VerifySoftwareToken") == 1
        assert one.stats.requests == one.config.activation.calls
        assert "session" not in one.record()

    play(one, story())


@pytest.mark.parametrize("kind", [SESSION, TOKEN])
def test_the_code_is_that_of_the_delivered_secret_at_this_moment(one: OneUser, kind: CredentialKind) -> None:
    async def story() -> None:
        await one.enrol(one.request(kind))
        [(at, code)] = one.codes
        assert pyotp.TOTP(one.record()["secret_code"]).verify(code, for_time=int(at))
        if kind is SESSION:
            assert one.seen[1][1].credential.reveal().startswith("next"), "and the Session is the one that came with it"

    play(one, story())


@pytest.mark.parametrize("kind", [SESSION, TOKEN])
@pytest.mark.parametrize("before_its_end", [20.0, 0.8])
def test_a_wrong_code_is_tried_once_more_in_the_next_time_step(
    one: OneUser, kind: CredentialKind, before_its_end: float
) -> None:
    async def story() -> None:
        await asyncio.sleep(TIME_STEP - one.clock.utc() % TIME_STEP + TIME_STEP - before_its_end)
        one.answers["verify"] = [WrongCode(None, "CodeMismatchException")]
        assert await one.enrol(one.request(kind)) == ACTIVE
        (first, _), (second, _) = one.codes
        assert int(second // TIME_STEP) == int(first // TIME_STEP) + 1

    play(one, story())


@pytest.mark.parametrize("kind", [SESSION, TOKEN])
def test_two_wrong_codes_leave_the_user_to_a_person(one: OneUser, kind: CredentialKind) -> None:
    async def story() -> None:
        one.answers["verify"] = [WrongCode(None, "ERROR"), WrongCode(None, "CodeMismatchException")]
        assert await one.enrol(one.request(kind)) == left(Reason.VERIFY_REFUSED)
        assert one.row.detail == "CodeMismatchException"
        assert (one.row.activation is not None) == (kind is TOKEN), "what a token can still verify is kept"
        assert one.row.worker is None

    play(one, story())


def test_the_session_of_the_answer_is_recorded_before_it_is_used(one: OneUser) -> None:
    async def story() -> None:
        one.answers["verify"] = [WrongCode(Secret("newer"), "ERROR")]
        assert await one.enrol(one.request(SESSION)) == ACTIVE
        wrong = one.steps.index("verify")
        assert one.steps[wrong : wrong + 3] == ["verify", PENDING, "verify"]
        assert [request.credential for name, request in one.seen if name == "verify"][1] == Secret("newer")

    play(one, story())


def test_the_next_time_step_is_not_waited_for_by_whose_token_dies_before(one: OneUser) -> None:
    async def story() -> None:
        one.answers["verify"] = [WrongCode(None, "ERROR")]
        assert await one.enrol(one.request(TOKEN, expires_at=EPOCH + 5.0)) == left(Reason.VERIFY_REFUSED)
        assert one.virtual.now == pytest.approx(5.0, abs=0.1)

    play(one, story())


def test_a_claim_does_not_end_while_a_time_step_is_waited_for(one: OneUser) -> None:
    async def story() -> None:
        one.pace.waits = [0.0, 40.5]  # a step has just begun then, and the claim ends before the next one
        one.answers["verify"] = [WrongCode(None, "ERROR")]
        task = asyncio.create_task(one.enrol(one.request(TOKEN)))
        await asyncio.sleep(0.5)
        while not task.done():
            assert one.row.lease_until - one.clock.utc() > CALL_TIMEOUT - 0.6
            await asyncio.sleep(0.5)
        assert await task == ACTIVE
        assert one.virtual.now > 60.0

    play(one, story())


def test_two_wrong_codes_tell_of_a_tokens_secret_whatever_became_of_a_lost_verification(one: OneUser) -> None:
    async def story() -> None:
        one.answers["verify"] = [NO_ANSWER, WrongCode(None, "ERROR"), WrongCode(None, "ERROR")]
        assert await one.enrol(one.request(TOKEN)) == left(Reason.VERIFY_REFUSED)

    play(one, story())


@pytest.mark.parametrize("kind", [SESSION, TOKEN])
def test_a_secret_of_which_no_code_can_be_made_is_told_so(one: OneUser, kind: CredentialKind) -> None:
    async def story() -> None:
        one.answers["associate"] = [Issued(Secret("not base32!"), Secret("next"), "id")]
        assert await one.enrol(one.request(kind)) == left(Reason.VERIFY_REFUSED)
        assert "base32" in (one.row.detail or "")
        assert "verify" not in one.calls

    play(one, story())


def test_a_lost_reply_is_asked_again_with_a_token_and_a_fresh_code(one: OneUser) -> None:
    async def story() -> None:
        one.answers["verify"] = [NO_ANSWER, NO_ANSWER]
        assert await one.enrol(one.request(TOKEN)) == ACTIVE
        steps = [int(at // TIME_STEP) for at, _ in one.codes]
        assert len(set(steps)) == 3
        assert one.codes[1][0] - one.codes[0][0] >= CALL_TIMEOUT

    play(one, story())


@pytest.mark.parametrize(
    ("answer", "verifications"),
    [(SPENT, 2), (WrongCode(None), 3), (NO_ANSWER, 2)],
    ids=["spent", "wrong", "lost again"],
)
def test_after_a_lost_reply_no_refusal_of_a_session_says_that_it_failed(
    one: OneUser, answer: object, verifications: int
) -> None:
    async def story() -> None:
        one.answers["verify"] = [NO_ANSWER, answer, answer]
        one.answers["prefer"] = [Refused(State.FAILED, Reason.INVALID_PARAMETER)]
        assert await one.enrol(one.request(SESSION)) == left(Reason.VERIFY_UNKNOWN)
        assert one.row.activation is None
        assert ("prefer" in one.calls) == (one.config.activation is ActivationMode.PREFER)
        assert one.calls.count("verify") == verifications
        may_still_act = answer is NO_ANSWER and one.config.activation is ActivationMode.VERIFY
        assert one.row.lease_until == pytest.approx(one.clock.utc() + CALL_TIMEOUT if may_still_act else 0.0, abs=0.1)

    play(one, story())


def test_a_preference_that_can_be_set_proves_the_verification(virtual: VirtualTime) -> None:
    one = OneUser(virtual, ActivationMode.PREFER)

    async def story() -> None:
        one.answers["verify"] = [NO_ANSWER, SPENT]
        assert await one.enrol(one.request(SESSION)) == ACTIVE

    play(one, story())


@pytest.mark.parametrize("kind", [SESSION, TOKEN])
def test_what_dies_before_a_verification_was_sent(one: OneUser, kind: CredentialKind) -> None:
    async def story() -> None:
        one.answers["verify"] = [TryAgain(Trouble.UNSENT)] * 60
        verdict = await one.enrol(one.request(kind, expires_at=EPOCH + 40.0))
        if kind is SESSION:
            assert verdict == Done(State.NEEDS_SESSION, Reason.VERIFY_WINDOW_LOST)
            assert one.row.activation is None
        else:
            assert verdict == left(Reason.VERIFY_TOKEN_EXPIRED)
            assert one.row.activation is not None

    play(one, story())


@pytest.mark.parametrize("answer", [SPENT, TryAgain(Trouble.THROTTLED)], ids=["refused", "throttled"])
def test_no_window_was_lost_where_a_verification_was_sent(one: OneUser, answer: object) -> None:
    async def story() -> None:
        one.answers["verify"] = [answer, *[TryAgain(Trouble.UNSENT)] * 500]
        assert await one.enrol(one.request(SESSION)) == left(Reason.VERIFY_REFUSED)
        assert one.row.detail == (Reason.SESSION_SPENT if answer is SPENT else None)
        assert one.row.activation is None

    play(one, story())


def test_no_window_was_lost_where_a_worker_gave_the_user_back_after_a_verification(one: OneUser) -> None:
    async def story() -> None:
        one.answers["verify"] = [PoolFault("ForbiddenException", "cure", may_pass=True)]
        assert await one.enrol(one.request(SESSION)) == Postpone(1.0)
        await asyncio.sleep(300)
        await one.finish()
        assert one.row.reason is Reason.VERIFY_REFUSED

    play(one, story())


def test_a_refused_preference_keeps_what_a_token_can_set_later(virtual: VirtualTime) -> None:
    one = OneUser(virtual, ActivationMode.PREFER)

    async def story() -> None:
        one.answers["prefer"] = [Refused(State.FAILED, Reason.INVALID_PARAMETER, "InvalidParameterException")] * 2
        for _ in range(2):
            assert await one.enrol(one.request(TOKEN)) == left(Reason.PREFERENCE_REFUSED)
            assert one.held.verified
            assert one.row.detail == "InvalidParameterException"
        assert await one.enrol(one.request(TOKEN)) == ACTIVE
        assert one.calls == ["associate", "verify", "prefer", "prefer", "prefer"], "the secret is verified already"

    play(one, story())


@pytest.mark.parametrize(
    ("operation", "answers", "reason", "detail"),
    [
        ("verify", [Refused(State.FAILED, Reason.INVALID_PARAMETER)], Reason.VERIFY_REFUSED, "invalid_parameter"),
        ("verify", [Refused(State.FAILED, Reason.INVALID_PARAMETER, "Code")], Reason.VERIFY_REFUSED, "Code"),
        ("prefer", [Refused(State.FAILED, Reason.INVALID_PARAMETER)], Reason.PREFERENCE_REFUSED, "invalid_parameter"),
        ("prefer", [TryAgain(Trouble.CONFLICT, "Code")] * 4, Reason.PREFERENCE_REFUSED, "Code"),
    ],
)
def test_a_refusal_is_told_with_its_code_and_nobody_is_signed_in_again_for_it(
    virtual: VirtualTime, operation: str, answers: list[object], reason: Reason, detail: str
) -> None:
    one = OneUser(virtual, ActivationMode.PREFER)

    async def story() -> None:
        one.answers[operation] = list(answers)
        assert await one.enrol(one.request(TICKET)) == left(reason)
        assert one.row.detail == detail
        assert one.calls.count("begin") == 1

    play(one, story())


def test_a_preference_is_set_with_a_session_that_died_and_not_with_a_token(virtual: VirtualTime) -> None:
    """With a Session the call needs no credential of the user's."""
    one = OneUser(virtual, ActivationMode.PREFER)
    late = [0.0, 0.0, 400.0]

    async def story() -> None:
        one.pace.waits = late.copy()
        assert await one.enrol(one.request(SESSION)) == ACTIVE
        one.seen.clear()
        one.pace.waits = late.copy()
        token = one.request(TOKEN, replace=True, expires_at=one.clock.utc() + 300.0)
        assert await one.enrol(token) == left(Reason.PREFERENCE_REFUSED)
        assert (one.row.detail, one.calls) == (Reason.TOKEN_EXPIRED, ["associate", "verify"])
        one.pace.waits = late.copy()
        one.answers["answer"] = [SignedIn(CredentialKind.ACCESS_TOKEN, Secret("dies soon"), 300.0)]
        assert await one.enrol(one.request(TICKET, replace=True)) == ACTIVE, "by another sign-in"

    play(one, story())


@pytest.mark.parametrize("lost_reply", [False, True])
def test_whose_preference_is_refused_as_for_everybody_is_tried_again(virtual: VirtualTime, *, lost_reply: bool) -> None:
    one = OneUser(virtual, ActivationMode.PREFER)

    async def story() -> None:
        one.answers["verify"] = [NO_ANSWER, SPENT, SPENT] if lost_reply else []
        one.answers["prefer"] = [PoolFault("ForbiddenException", "cure", may_pass=True)]
        request = one.request(SESSION)
        assert await one.enrol(request) == Postpone(1.0)
        assert one.row.reason is Reason.ACTIVATION_PENDING
        await asyncio.sleep(CALL_TIMEOUT)
        assert await one.enrol(request) == ACTIVE

    play(one, story())


@pytest.mark.parametrize("doubted", [False, True])
def test_attempts_that_are_used_up(one: OneUser, doubted: bool) -> None:
    async def story() -> None:
        again = TryAgain(Trouble.SERVER_ERROR if doubted else Trouble.CONFLICT, "Code")
        one.answers["verify"] = [again] * 4
        reason = Reason.VERIFY_UNKNOWN if doubted else Reason.VERIFY_REFUSED
        assert await one.enrol(one.request(TOKEN)) == left(reason)
        assert one.row.detail == (None if doubted else "Code")

    play(one, story())


# --- stops, deaths, and who goes on -----------------------------------------------------------------------------------


def test_a_stop_while_a_step_is_waited_for_gives_the_user_back_as_pending(one: OneUser) -> None:
    async def story() -> None:
        one.answers["verify"] = [WrongCode(None)]
        request = one.request(SESSION)
        asyncio.get_running_loop().call_later(2.0, one.stop)
        assert await one.enrol(request) == GiveBack()
        assert (one.row.reason, one.row.worker) == (Reason.ACTIVATION_PENDING, None)
        assert not one.held.doubt, "the answer was seen"
        await asyncio.sleep(300)
        await one.finish()
        assert one.row.reason is Reason.VERIFY_REFUSED, "a verification was sent, so no window was lost"

    play(one, story())


def test_a_hurry_during_a_verification_leaves_a_doubt(one: OneUser) -> None:
    async def story() -> None:
        one.takes = 5.0
        asyncio.get_running_loop().call_later(
            7.0,
            one.stop,
        )
        asyncio.get_running_loop().call_later(7.5, lambda: one.stop(hurry=True))
        assert isinstance(await one.enrol(one.request(SESSION)), GiveBack)
        assert (one.row.reason, one.row.worker) == (Reason.ACTIVATION_PENDING, None)
        assert one.held.doubt
        assert one.row.lease_until > one.clock.utc(), "and it may still take effect"

    play(one, story())


def test_a_stop_after_a_preference_without_an_answer_leaves_the_doubt_of_the_verification(virtual: VirtualTime) -> None:
    one = OneUser(virtual, ActivationMode.PREFER)

    def unanswered(_: object) -> TryAgain:
        asyncio.get_running_loop().call_later(1.0, one.stop)
        return NO_ANSWER

    async def story() -> None:
        one.answers["verify"] = [NO_ANSWER, SPENT]
        one.answers["prefer"] = [unanswered]
        assert isinstance(await one.enrol(one.request(SESSION)), GiveBack)
        assert one.held.doubt

    play(one, story())


def test_who_was_overtaken_during_the_verification_is_left_to_the_other_worker(virtual: VirtualTime) -> None:
    one = OneUser(virtual, ActivationMode.PREFER)

    async def story() -> None:
        one.answers["verify"] = [lambda _: one.overtake() or Verified()]  # type: ignore[func-returns-value]
        assert isinstance(await one.enrol(one.request(TOKEN)), GiveBack)
        assert "prefer" not in one.calls
        assert one.row.worker == "other"

    play(one, story())


@pytest.mark.parametrize("kind", [SESSION, TOKEN])
def test_another_worker_goes_on_without_the_message(one: OneUser, kind: CredentialKind) -> None:
    async def story() -> None:
        await begun_by_the_dead(one, kind)
        generation = one.row.generation
        await one.finish()
        assert one.row.state is State.ACTIVE
        assert one.row.generation == generation
        assert "associate" not in one.calls

    play(one, story())


async def begun_by_the_dead(one: OneUser, kind: CredentialKind) -> None:
    """Leave the row of a worker that died during its verification."""
    dies = asyncio.get_running_loop().create_future()
    one.answers["verify"] = [lambda _: dies.set_result(None) or NO_ANSWER]  # type: ignore[func-returns-value]
    task = asyncio.ensure_future(one.enrol(one.request(kind)))
    await dies
    row = one.row
    one.stop(hurry=True)
    await task
    one.rows["ana"] = row._replace(worker="dead")
    one.dead.add("dead")
    one.pipeline.is_free(one.row)
    await asyncio.sleep(CALL_TIMEOUT + 1)
    one.seen.clear()


def test_what_was_taken_over_stays_in_doubt(one: OneUser) -> None:
    async def story() -> None:
        await begun_by_the_dead(one, SESSION)
        one.answers["verify"] = [SPENT]
        one.answers["prefer"] = [Refused(State.FAILED, Reason.INVALID_PARAMETER)]
        await one.finish()
        assert one.row.reason is Reason.VERIFY_UNKNOWN

    play(one, story())


def test_the_session_of_an_answer_takes_no_doubt_away(one: OneUser) -> None:
    async def story() -> None:
        await begun_by_the_dead(one, SESSION)
        one.answers["verify"] = [WrongCode(Secret("newer"), "ERROR"), SPENT]
        one.answers["prefer"] = [Refused(State.FAILED, Reason.INVALID_PARAMETER)]
        await one.finish()
        assert one.row.reason is Reason.VERIFY_UNKNOWN

    play(one, story())


def test_what_another_identity_sealed_is_left_to_a_person_who_is_told_whose_it_is(one: OneUser) -> None:
    async def story() -> None:
        await begun_by_the_dead(one, TOKEN)
        one.rows["ana"] = one.row._replace(activation=one.held._replace(blob=b"other:{}"))
        with pytest.raises(PersonMustAct, match="'ana'") as caught:
            await one.finish()
        assert "activation.identity" in caught.value.hint
        assert one.calls == []

    play(one, story())


def test_over_whom_three_workers_died_is_left_to_a_person(one: OneUser) -> None:
    async def story() -> None:
        await begun_by_the_dead(one, TOKEN)
        one.rows["ana"] = one.row._replace(crashes=2)
        await one.finish()
        assert (one.row.reason, one.row.detail) == (Reason.VERIFY_UNKNOWN, "worker_crashed")
        assert one.calls == []

    play(one, story())


# --- another request --------------------------------------------------------------------------------------------------


def test_a_new_token_verifies_the_same_secret(one: OneUser) -> None:
    async def story() -> None:
        one.answers["verify"] = [EXPIRED_TOKEN]
        await one.enrol(one.request(TOKEN))
        request = one.request(TOKEN)
        assert await one.enrol(request) == ACTIVE
        assert one.calls.count("associate") == 1
        assert one.seen[-1][1].credential == request.credential
        assert await one.enrol(request) == Duplicate()

    play(one, story())


def test_a_new_ticket_looks_first(one: OneUser) -> None:
    async def story() -> None:
        one.answers["verify"] = [EXPIRED_TOKEN]
        await one.enrol(one.request(TOKEN))
        one.seen.clear()
        one.answers["look"] = [AlreadyEnrolled()]
        assert await one.enrol(one.request(TICKET)) == ACTIVE
        assert one.calls == ["begin", "answer", "look"]
        assert one.row.activation is None

    play(one, story())


def test_a_new_ticket_that_is_refused_leaves_the_user_as_before(one: OneUser) -> None:
    async def story() -> None:
        one.answers["verify"] = [EXPIRED_TOKEN]
        await one.enrol(one.request(TOKEN))
        one.pipeline._sign_in.refused.got_in()  # type: ignore[union-attr]
        one.answers["answer"] = [Refused(State.NEEDS_SESSION, Reason.SIGN_IN_REFUSED)]
        request = one.request(TICKET)
        assert await one.enrol(request) == left(Reason.VERIFY_TOKEN_EXPIRED)
        assert one.held.blob
        assert await one.enrol(request) == Duplicate()

    play(one, story())


def test_whose_session_is_lost_gets_another_secret_by_a_new_sign_in(one: OneUser) -> None:
    async def story() -> None:
        one.answers["verify"] = [Refused(State.FAILED, Reason.INVALID_PARAMETER)]
        await one.enrol(one.request(SESSION))
        assert one.row.reason is Reason.VERIFY_REFUSED
        one.signs_in_to = SESSION
        assert await one.enrol(one.request(TICKET)) == ACTIVE
        assert one.calls.count("associate") == 2
        assert one.records[1].generation > one.records[0].generation

    play(one, story())


@pytest.mark.parametrize("answers", [[SPENT], [NO_ANSWER, SPENT]], ids=["lost window", "lost reply"])
def test_a_living_ticket_signs_in_again(one: OneUser, answers: list[object]) -> None:
    async def story() -> None:
        one.signs_in_to = SESSION
        one.answers["verify"] = list(answers)
        one.answers["prefer"] = [Refused(State.FAILED, Reason.INVALID_PARAMETER)] * (len(answers) - 1)
        assert await one.enrol(one.request(TICKET)) == ACTIVE
        assert one.calls.count("associate") == 2
        assert one.row.sealed is not None
        assert one.row.sealed.attempt_id == one.records[-1].attempt_id

    play(one, story())


def test_whose_session_dies_before_the_verification_is_signed_in_again(one: OneUser) -> None:
    async def story() -> None:
        one.signs_in_to = SESSION
        one.pace.waits = [0.0, 200.0]
        assert await one.enrol(one.request(TICKET)) == ACTIVE
        assert one.calls[:6] == ["begin", "answer", "associate", "begin", "answer", "associate"]

    play(one, story())


def test_who_is_overtaken_before_another_sign_in_is_left_to_the_other_worker(one: OneUser) -> None:
    async def story() -> None:
        one.signs_in_to = SESSION
        one.pace.waits, one.takes = [0.0, 43.0], 2.0
        one.answers["verify"] = [lambda _: one.overtake() or SPENT]  # type: ignore[func-returns-value]
        assert await one.enrol(one.request(TICKET)) == GiveBack(1.0)
        assert one.calls.count("begin") == 1
        assert one.row.worker == "other"

    play(one, story())


def test_a_sign_in_that_asks_for_a_code_proves_a_lost_verification(one: OneUser) -> None:
    async def story() -> None:
        one.signs_in_to = SESSION
        one.answers["verify"] = [NO_ANSWER, SPENT]
        one.answers["prefer"] = [Refused(State.FAILED, Reason.INVALID_PARAMETER)]
        first = SignedIn(CredentialKind.SESSION, Secret("session"), 180.0)
        one.answers["answer"] = [first, AlreadyEnrolled()]
        assert await one.enrol(one.request(TICKET)) == ACTIVE
        assert one.calls.count("associate") == 1

    play(one, story())


def test_a_token_that_dies_is_replaced_by_a_living_ticket_and_the_secret_stays(one: OneUser) -> None:
    async def story() -> None:
        one.answers["verify"] = [EXPIRED_TOKEN, EXPIRED_TOKEN, EXPIRED_TOKEN]
        assert await one.enrol(one.request(TICKET)) == ACTIVE
        assert one.calls.count("associate") == 1
        assert one.calls.count("begin") == 4

    play(one, story())


def test_the_factor_of_an_earlier_secret_proves_nothing_of_the_one_that_replaces_it(one: OneUser) -> None:
    async def story() -> None:
        await one.enrol(one.request(TICKET))
        one.seen.clear()
        one.answers["look"] = [AlreadyEnrolled()] * 9  # whoever is active keeps that factor until the next is verified
        one.answers["verify"] = [EXPIRED_TOKEN]
        assert await one.enrol(one.request(TICKET, replace=True)) == ACTIVE
        assert one.calls.count("verify") == 2
        assert one.calls.count("associate") == 1
        assert "look" not in one.calls

    play(one, story())


def test_nor_does_a_sign_in_that_asks_for_its_code(one: OneUser) -> None:
    async def story() -> None:
        await one.enrol(one.request(TICKET))
        one.answers["verify"] = [EXPIRED_TOKEN] * 4
        replacement = one.request(TICKET, replace=True)
        assert await one.enrol(replacement) == left(Reason.VERIFY_TOKEN_EXPIRED)
        one.answers["answer"] = [AlreadyEnrolled()]
        assert await one.enrol(one.request(TICKET)) == left(Reason.VERIFY_TOKEN_EXPIRED)
        assert one.held.replaces
        assert await one.enrol(one.request(TICKET)) == ACTIVE, "with the secret that was delivered"
        assert one.calls.count("associate") == 2

    play(one, story())


def test_once_verified_nothing_is_looked_for_before_the_preference(virtual: VirtualTime) -> None:
    one = OneUser(virtual, ActivationMode.PREFER)

    async def story() -> None:
        one.answers["prefer"] = [EXPIRED_TOKEN]
        one.answers["look"] = [NotEnrolled(), AlreadyEnrolled()]
        assert await one.enrol(one.request(TICKET)) == ACTIVE
        assert one.calls.count("prefer") == 2

    play(one, story())


def test_the_preference_proves_nothing_while_a_verification_may_still_take_effect(virtual: VirtualTime) -> None:
    one = OneUser(virtual, ActivationMode.PREFER)
    times: list[float] = []

    def preferred(_: object) -> Preferred:
        times.append(virtual.monotonic())
        return Preferred()

    def unanswered(_: object) -> TryAgain:
        times.append(virtual.monotonic())
        return NO_ANSWER

    async def story() -> None:
        one.answers["verify"] = [unanswered, unanswered]
        one.answers["prefer"] = [preferred]
        assert await one.enrol(one.request(SESSION)) == ACTIVE
        assert times[-1] - times[-2] >= CALL_TIMEOUT

    play(one, story())


def test_another_token_does_not_send_a_wrong_code_again(one: OneUser) -> None:
    async def story() -> None:
        await asyncio.sleep(TIME_STEP - one.clock.utc() % TIME_STEP)  # so that all of it is in one time step
        short = SignedIn(CredentialKind.ACCESS_TOKEN, Secret("dies soon"), 4.0)
        one.answers["answer"] = [short]
        one.answers["verify"] = [WrongCode(None, "ERROR")]
        assert await one.enrol(one.request(TICKET)) == ACTIVE
        assert one.calls.count("begin") == 2
        (first, _), (second, _) = one.codes
        assert int(second // TIME_STEP) > int(first // TIME_STEP)

    play(one, story())


def test_a_ticket_signs_in_three_times_more_and_no_more(one: OneUser) -> None:
    async def story() -> None:
        one.answers["verify"] = [EXPIRED_TOKEN] * 9
        assert await one.enrol(one.request(TICKET)) == left(Reason.VERIFY_TOKEN_EXPIRED)
        assert one.calls.count("begin") == 4

    play(one, story())


def test_what_verifies_the_secret_lies_only_under_the_own_seal(one: OneUser) -> None:
    async def story() -> None:
        one.answers["verify"] = [EXPIRED_TOKEN]
        request = one.request(TOKEN)
        await one.enrol(request)
        held = json.loads(one.held.blob.removeprefix(b"own:"))
        assert held == {"secret_code": one.record()["secret_code"], "credential": request.credential.reveal()}
        assert request.credential.reveal() not in repr(one.row._replace(activation=None))

    play(one, story())


def test_a_replacement_keeps_the_earlier_secret_until_the_new_one_is_recorded(one: OneUser) -> None:
    async def story() -> None:
        one.answers["verify"] = [EXPIRED_TOKEN]
        await one.enrol(one.request(TOKEN))
        kept = one.held
        one.answers["associate"] = [Refused(State.FAILED, Reason.INVALID_PARAMETER)]
        assert await one.enrol(one.request(TOKEN, replace=True)) == left(Reason.VERIFY_TOKEN_EXPIRED)
        assert one.held == kept
        one.answers["associate"] = [TryAgain(Trouble.SERVER_ERROR)] * 4
        assert await one.enrol(one.request(TOKEN, replace=True)) == Done(State.NEEDS_SESSION, Reason.REPLY_LOST)
        assert one.row.activation is None

    play(one, story())


@pytest.mark.parametrize("with_message", [True, False])
def test_a_worker_that_does_not_activate_delivers_nothing_that_was_to_be_verified(
    virtual: VirtualTime, *, with_message: bool
) -> None:
    one, other = OneUser(virtual, ActivationMode.VERIFY), OneUser(virtual)

    async def story() -> None:
        request, deliver = one.request(SESSION), one.deliver

        async def leave_sealed(username: str, sealed: Sealed) -> None:
            other.rows["ana"] = one.row._replace(worker=None, lease_until=0.0)
            await deliver(username, sealed)

        one.deliver = leave_sealed  # type: ignore[method-assign]
        await one.enrol(request)
        with pytest.raises(PersonMustAct, match="does not activate") as raised:
            await (other.enrol(request) if with_message else other.finish())
        assert "activation.mode" in raised.value.hint
        assert other.steps == []
        assert other.row.state is State.SEALED

    play(one, story())
