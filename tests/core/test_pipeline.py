"""One user through the pipeline where something comes in between: another worker, a bug, a refusal, a channel that is
away. What a sign-in and an activation add to that is in ``test_signing_in`` and ``test_activating``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from tests.support.one_user import OneUser, WatchedWay, play
from tests.support.rows import row, sealed
from tests.support.virtual_time import EPOCH, VirtualTime
from tests.support.worker_config import CALL_TIMEOUT
from worker.core.activation import TIME_STEP
from worker.core.config import ActivationMode
from worker.core.errors import ChannelUnavailable, ExitCode, RecordRefused
from worker.core.model import (
    CredentialKind,
    Done,
    Duplicate,
    Enrolment,
    GiveBack,
    PoolFault,
    Postpone,
    Reason,
    Refused,
    Request,
    Sealed,
    Secret,
    SignedIn,
    State,
    Trouble,
    TryAgain,
    WriteResult,
)
from worker.core.pipeline import LOOK_AGAIN_AFTER, OVERTAKEN_PAUSE
from worker.core.resilience.cancellation import CancellationScope
from worker.core.resilience.refusals import LONGEST_POSTPONED
from worker.core.settled import load

Result = TypeVar("Result")
SESSION, TOKEN = CredentialKind.SESSION, CredentialKind.ACCESS_TOKEN
TICKET, PASSWORD = CredentialKind.TICKET, CredentialKind.PASSWORD
DELIVERED, ACTIVE = Done(State.DELIVERED), Done(State.ACTIVE)
NO_ANSWER = TryAgain(Trouble.NO_ANSWER, "TimeoutError")
FAILED = TryAgain(Trouble.SERVER_ERROR, "InternalErrorException")
CONFLICT = TryAgain(Trouble.CONFLICT, "ConcurrentModificationException")
SPENT = Refused(State.NEEDS_SESSION, Reason.SESSION_SPENT)
OWN_FAULT = PoolFault("ForbiddenException", "cure", may_be_own=True)
AWAY = ChannelUnavailable("away", "wait")
LONG = 1_000.0


class World(OneUser):
    """``before``: what happens, once, before a row of that state is written."""

    def __init__(self, virtual: VirtualTime, mode: ActivationMode = ActivationMode.NONE, **fields: Any) -> None:
        super().__init__(virtual, mode, **fields)
        self.before: dict[State, Callable[[], None]] = {}
        self.failing: list[Exception] = []
        """What the next deliveries of this user raise."""

    async def put(self, row: Enrolment, replaces: str | None) -> WriteResult:
        self.before.pop(row.state, lambda: None)()
        return await super().put(row, replaces)

    async def deliver(self, username: str, sealed: Sealed) -> None:
        if self.failing and username == "ana":
            raise self.failing.pop(0)
        await super().deliver(username, sealed)

    def overtaken(self, state: State, **fields: Any) -> Callable[[], None]:
        """Another worker has left the user so."""
        return lambda: self.rows.update(ana=row(state=state, **fields))

    async def watched(self, work: Callable[[CancellationScope], Coroutine[Any, Any, object]]) -> list[tuple[str, str]]:
        """The steps of that work, as whoever watches the user's way is told of them."""
        scope, way = CancellationScope(), WatchedWay()
        scope.way = way
        with suppress(ChannelUnavailable):
            await work(scope)
        return way.steps

    async def refused_alone(self, kind: CredentialKind, operation: str, **fields: Any) -> Request:
        """The user is refused while others get through."""
        await self.enrol(self.request(TOKEN, username="bob"))
        self.answers[operation] = [OWN_FAULT]
        request = self.request(kind, **fields)
        assert isinstance(await self.enrol(request), Postpone)
        await self.enrol(self.request(TOKEN, username="cid"))
        self.seen.clear()
        return request


@pytest.fixture
def one(virtual: VirtualTime) -> World:
    return World(virtual)


# --- claimed ----------------------------------------------------------------------------------------------------------


def test_a_request_first_finishes_what_another_one_began_and_then_has_its_own_outcome(one: World) -> None:
    async def story() -> None:
        left = row(state=State.SEALED, sealed=sealed(), request_id="other", kind=TOKEN)
        one.rows["ana"] = left
        assert await one.enrol(one.request(TOKEN)) == Duplicate()
        assert one.steps == ["[sealed]", "deliver", "[delivered]"]
        one.rows["ana"] = left
        way = await one.watched(lambda scope: one.pipeline.enrol(one.request(TOKEN, replace=True), scope))
        assert [step for step, _ in way].count("deliver") == 2
        assert way.count(("claim", "lost")) == 1, "after that it goes on from the row that it has just left"
        assert one.row.settled == load(["other", "r2"])

    play(one, story())


def test_a_secret_that_another_request_lost_is_that_requests_outcome(one: World) -> None:
    async def story() -> None:
        dead = sealed(1, session_expires_at=EPOCH + 20)
        one.rows["ana"] = row(state=State.SEALED, sealed=dead, request_id="other", kind=SESSION)
        assert await one.enrol(one.request(TICKET)) == DELIVERED
        assert one.steps[:2] == ["[sealed]", "[needs_session: verify_window_lost]"]
        assert one.row.settled == load(["other", "r1"])

    play(one, story())


def test_the_way_of_a_user_tells_each_step_and_what_came_of_it(one: World) -> None:
    async def story() -> None:
        one.before[State.IN_PROGRESS] = one.overtaken(State.NEEDS_SESSION)
        request = one.request(TOKEN)
        called = [("AssociateSoftwareToken", "issued"), ("seal", ""), ("record", "")]
        assert await one.watched(lambda scope: one.pipeline.enrol(request, scope)) == [
            *(("claim", "lost"), ("claim", ""), *called, ("deliver", "delivered"), ("settle", "")),
        ]
        one.failing = [RecordRefused("KeyTooLongError")]
        replacement = one.request(TOKEN, replace=True)
        way = await one.watched(lambda scope: one.pipeline.enrol(replacement, scope))
        assert way == [("claim", "lost"), ("claim", ""), *called, ("deliver", "refused")]
        one.failing = [AWAY] * 1_000
        other = one.request(TOKEN, id="other")
        way = await one.watched(lambda scope: one.pipeline.enrol(other, scope))
        assert way == [("claim", "lost"), ("claim", ""), *called, ("deliver", "not_delivered")]

    play(one, story())


def test_who_finishes_a_row_tells_the_same_and_leaves_it_to_whoever_was_faster(one: World) -> None:
    async def story() -> None:
        stands = row(state=State.SEALED, sealed=sealed(), request_id="r")
        one.rows["ana"] = row(state=State.DELIVERED)
        assert await one.watched(lambda scope: one.pipeline.finish(stands, scope)) == [("claim", "lost")]
        assert one.steps == []
        one.rows["ana"] = stands
        way = await one.watched(lambda scope: one.pipeline.finish(stands, scope))
        assert way == [("claim", ""), ("deliver", "delivered"), ("settle", "")]
        dead = sealed(2, session_expires_at=EPOCH + 20)
        one.rows["ana"] = row(state=State.SEALED, sealed=dead, request_id="r", kind=TICKET)
        await one.pipeline.finish(one.row, CancellationScope())
        assert one.row.reason is Reason.VERIFY_WINDOW_LOST, "where nothing says that the message may still come"

    play(one, story())


def test_whose_record_would_be_too_large_is_not_called_for(virtual: VirtualTime) -> None:
    class Narrow(World):
        def most_sealed(self, username: str) -> int:
            return 100

    one = Narrow(virtual)

    async def story() -> None:
        assert await one.enrol(one.request(TOKEN)) == Done(State.FAILED, Reason.RECORD_TOO_LARGE)
        assert one.calls == []
        assert one.stats.outcomes == {(State.FAILED, Reason.RECORD_TOO_LARGE): 1}

    play(one, story())


def test_duplicates_are_told_by_the_row_as_it_stands(one: World) -> None:
    async def story() -> None:
        request = one.request(TOKEN)
        assert await one.pipeline.duplicates([request]) == [False]
        await one.enrol(request)
        assert await one.pipeline.duplicates([request, replace(request, id="newer", replace=True)]) == [True, False]

    play(one, story())


def test_a_row_is_free_exactly_when_no_call_may_take_effect_any_more(one: World) -> None:
    async def story() -> None:
        given_back = row(since=EPOCH, lease_until=EPOCH + 0.5)
        assert not one.pipeline.is_free(given_back)
        await asyncio.sleep(0.5)
        assert one.pipeline.is_free(given_back)

    play(one, story())


def test_a_bug_counts_as_a_death_in_doubt_and_the_user_is_left_in_peace_for_a_call_time_out(one: World) -> None:
    async def story() -> None:
        one.answers["associate"] = [lambda _: 1 / 0]
        with pytest.raises(ZeroDivisionError):
            await one.enrol(one.request(TOKEN))
        await one.pipeline.crashed(one.scopes[-1])
        assert (one.row.state, one.row.worker) == (State.IN_PROGRESS, None)
        assert (one.row.crashes, one.row.doubt) == (1, True)
        assert one.row.lease_until - one.row.since == pytest.approx(CALL_TIMEOUT)

    play(one, story())


@pytest.mark.parametrize(
    ("kind", "answer", "outcome"),
    [
        (SESSION, NO_ANSWER, Done(State.NEEDS_SESSION, Reason.REPLY_LOST)),
        (SESSION, FAILED, Done(State.FAILED, Reason.RETRIES_EXHAUSTED)),
        (SESSION, CONFLICT, Done(State.FAILED, Reason.RETRIES_EXHAUSTED)),
        (TOKEN, NO_ANSWER, Done(State.FAILED, Reason.RETRIES_EXHAUSTED)),
        (TOKEN, CONFLICT, Done(State.FAILED, Reason.RETRIES_EXHAUSTED)),
    ],
)
def test_when_the_attempts_are_used_up_a_session_whose_reply_was_lost_is_spent(
    one: World, kind: CredentialKind, answer: TryAgain, outcome: Done
) -> None:
    async def story() -> None:
        one.answers["associate"] = [answer] * 4
        assert await one.enrol(one.request(kind)) == outcome
        assert one.stats.outcomes == {(outcome.state, outcome.reason): 1}
        late = one.row.lease_until - one.row.since
        assert late == pytest.approx(CALL_TIMEOUT if answer is NO_ANSWER else -one.row.since, abs=0.1)

    play(one, story())


@pytest.mark.parametrize(
    ("signs_in_to", "answer", "again"),
    [(SESSION, NO_ANSWER, True), (SESSION, CONFLICT, False), (TOKEN, NO_ANSWER, False), (TOKEN, CONFLICT, False)],
)
def test_only_a_session_whose_reply_was_lost_is_mended_by_a_new_sign_in(
    one: World, signs_in_to: CredentialKind, answer: TryAgain, *, again: bool
) -> None:
    async def story() -> None:
        one.signs_in_to = signs_in_to
        one.answers["associate"] = [answer] * 4
        verdict = await one.enrol(one.request(PASSWORD))
        assert verdict == (DELIVERED if again else Done(State.FAILED, Reason.RETRIES_EXHAUSTED))
        assert one.calls.count("begin") == (2 if again else 1)

    play(one, story())


def test_whose_sign_ins_bring_only_sessions_that_die_at_once_has_a_dead_session(one: World) -> None:
    async def story() -> None:
        one.answers["begin"] = [SignedIn(CredentialKind.SESSION, Secret("short"), 1.05)] * 9
        assert await one.enrol(one.request(PASSWORD)) == Done(State.NEEDS_SESSION, Reason.SESSION_EXPIRED)
        assert one.calls == ["begin"] * 4
        assert one.virtual.now < 3 * CALL_TIMEOUT + 5

    play(one, story())


def test_a_ticket_that_dies_meanwhile_is_the_outcome_once_it_is_dead(one: World) -> None:
    async def story() -> None:
        one.takes = 0.5
        one.answers["answer"] = [SignedIn(CredentialKind.SESSION, Secret("short"), 0.9)] * 9
        request = one.request(TICKET, expires_at=EPOCH + 1.8)
        verdict = await one.enrol(request)
        assert isinstance(verdict, GiveBack)
        assert verdict.delay == pytest.approx(0.8, abs=0.05)
        await asyncio.sleep(verdict.delay + 0.1)
        assert await one.enrol(request) == Done(State.NEEDS_SESSION, Reason.CREDENTIAL_EXPIRED)

    play(one, story())


def test_who_is_stopped_after_a_lost_reply_is_given_back_in_doubt(one: World) -> None:
    async def story() -> None:
        one.answers["associate"] = [NO_ANSWER] * 4
        asyncio.get_running_loop().call_later(0.15, one.stop)
        assert await one.enrol(one.request(TOKEN)) == GiveBack()
        assert (one.row.worker, one.row.doubt) == (None, True)

    play(one, story())


# --- issued -----------------------------------------------------------------------------------------------------------


def test_a_sealer_that_is_slow_seals_aside(virtual: VirtualTime) -> None:
    class Slow(World):
        async def aside(self, do: Callable[[], Result]) -> Result:
            await asyncio.sleep(1.0)
            self.steps.append("sealed aside")
            return do()

    one = Slow(virtual)

    async def story() -> None:
        assert await one.enrol(one.request(TOKEN)) == DELIVERED
        assert one.steps[1:4] == ["associate", "sealed aside", "[sealed]"]

    play(one, story())


def test_a_record_that_the_ledger_refuses_for_good_is_the_users_own_outcome(one: World) -> None:
    async def story() -> None:
        def refuse() -> None:
            raise RecordRefused("ItemTooLarge")

        one.before[State.SEALED] = refuse
        assert await one.enrol(one.request(TOKEN)) == Done(State.FAILED, Reason.RECORD_TOO_LARGE)
        assert (one.row.state, one.row.detail) == (State.FAILED, "ItemTooLarge")
        assert one.stats.outcomes == {(State.FAILED, Reason.RECORD_TOO_LARGE): 1}

    play(one, story())


@pytest.mark.parametrize("state", [State.IN_PROGRESS, State.SEALED, State.DELIVERED])
def test_whose_secret_cannot_be_recorded_any_more_must_sign_in_again_whatever_the_other_worker_did(
    one: World, state: State
) -> None:
    async def story() -> None:
        other = None if state is State.IN_PROGRESS else sealed(9)
        one.before[State.SEALED] = one.overtaken(state, sealed=other, request_id="other")
        assert await one.enrol(one.request(TOKEN)) == Done(State.NEEDS_SESSION, Reason.REPLY_LOST)
        assert (one.row.state, one.row.reason) == (State.NEEDS_SESSION, Reason.REPLY_LOST)
        assert one.row.settled == load(["r1"])
        most = one.config.lease + CALL_TIMEOUT
        assert one.row.lease_until - one.row.since == pytest.approx(most), "in which the other worker may still call"
        assert one.stats.outcomes == {(State.NEEDS_SESSION, Reason.REPLY_LOST): 1}

    play(one, story())


def test_another_worker_that_went_on_from_our_secret_is_left_to_it(one: World) -> None:
    async def story() -> None:
        put = one.put

        async def unconfirmed(row: Enrolment, replaces: str | None) -> WriteResult:
            result = await put(row, replaces)
            if row.state is State.SEALED:
                one.rows["ana"] = stands = row._replace(worker="other", version="theirs")
                one.put = put  # type: ignore[method-assign]
                assert stands.sealed is not None
                return await put(row, replaces)
            return result

        one.put = unconfirmed  # type: ignore[method-assign]
        assert await one.enrol(one.request(TOKEN)) == GiveBack(LOOK_AGAIN_AFTER)
        assert (one.row.state, one.row.worker) == (State.SEALED, "other")

    play(one, story())


# --- delivered --------------------------------------------------------------------------------------------------------


def test_a_channel_that_stays_away_ends_the_run_when_patience_is_over(one: World) -> None:
    async def story() -> None:
        one.failing = [AWAY] * 1_000
        seen: list[str] = []
        for second in (5, 30):
            asyncio.get_running_loop().call_later(second, lambda: seen.append(one.stats.waiting_for))
        with pytest.raises(ChannelUnavailable):
            await one.enrol(one.request(TOKEN))
        assert one.config.channel_patience <= one.virtual.now <= one.config.channel_patience + 11
        assert seen == ["the channel: away"] * 2
        assert one.row.state is State.SEALED

    play(one, story())


def test_one_record_that_is_never_confirmed_ends_the_run_too_although_others_get_through(one: World) -> None:
    async def story() -> None:
        one.failing = [AWAY] * 1_000
        stuck = asyncio.ensure_future(one.enrol(one.request(TOKEN)))
        while not stuck.done() and one.virtual.now < 100.0:
            await asyncio.sleep(5.0)
            assert await one.enrol(one.request(TOKEN, username=f"user at {one.virtual.now}")) == DELIVERED
        assert stuck.done()
        assert isinstance(stuck.exception(), ChannelUnavailable)

    play(one, story())


def test_a_channel_that_a_person_must_mend_is_given_time_all_the_same(one: World) -> None:
    """It may refuse this one user's record alone."""

    async def story() -> None:
        forbidden = ChannelUnavailable("AccessDenied", "grant it")
        forbidden.exit_code = ExitCode.PERSON_MUST_ACT
        one.failing = [forbidden] * 3
        assert await one.enrol(one.request(TOKEN)) == DELIVERED
        assert one.stats.waiting_for == ""

    play(one, story())


@pytest.mark.parametrize("refused", [True, False])
def test_nobody_is_said_to_wait_for_the_channel_once_the_user_has_an_outcome(one: World, *, refused: bool) -> None:
    async def story() -> None:
        stands = sealed(1, session_expires_at=EPOCH + one.config.min_validity + 5.0)
        one.rows["ana"] = row(state=State.SEALED, sealed=stands, request_id="r", kind=SESSION)
        one.failing = [AWAY, RecordRefused("KeyTooLongError") if refused else AWAY, *[AWAY] * 99]
        await one.finish()
        assert one.row.reason is (Reason.DELIVERY_REFUSED if refused else Reason.VERIFY_WINDOW_LOST)
        assert one.stats.waiting_for == ""

    play(one, story())


def test_who_is_stopped_while_the_channel_is_away_is_given_back_with_the_secret(one: World) -> None:
    async def story() -> None:
        one.failing = [AWAY] * 1_000
        asyncio.get_running_loop().call_later(3.0, one.stop)
        assert await one.enrol(one.request(TOKEN)) == GiveBack()
        assert (one.row.state, one.row.worker, one.row.doubt) == (State.SEALED, None, False)
        assert [event.what for event in one.row.events][-2:] == ["not delivered", "given back"]
        assert one.stats.waiting_for == ""

    play(one, story())


def test_the_user_of_whoever_took_over_meanwhile_is_not_put_in_doubt_by_a_secret_that_was_recorded(one: World) -> None:
    async def story() -> None:
        one.failing = [AWAY] * 1_000
        loop = asyncio.get_running_loop()
        loop.call_later(2.9, one.overtaken(State.SEALED, sealed=sealed(9), worker="other"))
        loop.call_later(3.0, one.stop)
        assert await one.enrol(one.request(TOKEN)) == GiveBack(OVERTAKEN_PAUSE)
        assert (one.row.state, one.row.worker) == (State.SEALED, "other")

    play(one, story())


@pytest.mark.parametrize("mode", [ActivationMode.NONE, ActivationMode.VERIFY])
@pytest.mark.parametrize(
    ("left", "verdict"),
    [
        (row(state=State.SEALED, worker="other"), GiveBack(LOOK_AGAIN_AFTER)),
        (row(state=State.DELIVERED), DELIVERED),
        (row(state=State.FAILED, reason=Reason.DELIVERY_REFUSED), Done(State.FAILED, Reason.DELIVERY_REFUSED)),
    ],
    ids=["under way", "delivered", "failed"],
)
def test_whoever_was_taken_over_during_the_delivery_has_what_the_other_worker_left(
    virtual: VirtualTime, mode: ActivationMode, left: Enrolment, verdict: object
) -> None:
    one = World(virtual, mode)

    async def story() -> None:
        one.before[State.DELIVERED] = lambda: one.rows.update(ana=left)
        assert await one.enrol(one.request(TOKEN)) == verdict
        assert one.row == left

    play(one, story())


@pytest.mark.parametrize("keeps", [True, False])
def test_the_sealed_bytes_are_kept_only_where_that_is_set(virtual: VirtualTime, *, keeps: bool) -> None:
    one = World(virtual, keep_sealed=keeps)

    async def story() -> None:
        await one.enrol(one.request(TOKEN))
        assert one.row.sealed is not None
        assert bool(one.row.sealed.blob) is keeps

    play(one, story())


# --- activated --------------------------------------------------------------------------------------------------------


@pytest.fixture
def active(virtual: VirtualTime) -> World:
    return World(virtual, ActivationMode.VERIFY)


def test_whose_sessions_are_lost_again_and_again_is_signed_in_three_times_more(active: World) -> None:
    one = active

    async def story() -> None:
        one.signs_in_to = SESSION
        one.answers["verify"] = [SPENT] * 9
        assert await one.enrol(one.request(TICKET)) == Done(State.DELIVERED, Reason.VERIFY_REFUSED)
        assert one.calls.count("begin") == one.calls.count("associate") == len(one.records) == 4
        assert one.steps.count("[in_progress]") == 4, "each of them one claim, which needs no renewal"

    play(one, story())


def test_a_session_of_a_new_sign_in_is_used_for_the_secret_that_it_leads_to(active: World) -> None:
    one = active

    async def story() -> None:
        one.answers["verify"] = [Refused(State.NEEDS_SESSION, Reason.TOKEN_EXPIRED)]
        await one.enrol(one.request(TOKEN))
        one.seen.clear()
        one.signs_in_to = SESSION
        assert await one.enrol(one.request(TICKET)) == ACTIVE
        assert one.calls == ["begin", "answer", "associate", "verify"]

    play(one, story())


def test_another_secret_is_not_made_for_a_user_whom_another_worker_has_taken_over(active: World) -> None:
    one = active

    async def story() -> None:
        one.signs_in_to = SESSION
        left = row(state=State.NEEDS_SESSION, reason=Reason.REPLY_LOST)

        def spent(_: Request) -> Refused:
            one.before[State.IN_PROGRESS] = lambda: one.rows.update(ana=left)
            return SPENT

        one.answers["verify"] = [spent]
        assert await one.enrol(one.request(TICKET)) == Done(State.NEEDS_SESSION, Reason.REPLY_LOST)
        assert one.row == left
        assert one.calls.count("associate") == 1

    play(one, story())


def test_whoever_finishes_an_activation_claims_it_once(active: World) -> None:
    one = active

    async def story() -> None:
        await one.refused_alone(TOKEN, "verify")
        one.steps.clear()
        await asyncio.sleep(5.0)
        way = await one.watched(lambda scope: one.pipeline.finish(one.row, scope))
        assert one.steps == ["[delivered: activation_pending]", "verify", "[active]"]
        assert way == [("claim", ""), ("VerifySoftwareToken", "verified"), ("activate", "")]

    play(one, story())


def test_a_token_that_lives_goes_on_whatever_became_of_the_message_that_brought_it(active: World) -> None:
    one = active

    async def story() -> None:
        one.answers["verify"] = [TryAgain(Trouble.UNSENT)] * 99
        request = one.request(TOKEN)
        asyncio.get_running_loop().call_later(3.0, lambda: one.stop(hurry=True))
        assert isinstance(await one.enrol(request), GiveBack)
        one.answers.clear()
        assert await one.enrol(replace(request, expires_at=one.clock.utc())) == ACTIVE

    play(one, story())


def test_who_is_locked_out_while_a_new_sign_in_is_to_go_on_waits(active: World) -> None:
    one = active

    async def story() -> None:
        one.answers["verify"] = [Refused(State.NEEDS_SESSION, Reason.TOKEN_EXPIRED)]
        await one.enrol(one.request(TOKEN))
        one.answers["begin"] = [TryAgain(Trouble.LOCKED, "NotAuthorizedException")]
        request = one.request(TICKET)
        assert isinstance(await one.enrol(request), Postpone)
        assert (one.row.reason, one.row.worker) == (Reason.ACTIVATION_PENDING, None)
        assert await one.enrol(request) == ACTIVE

    play(one, story())


def test_whom_another_worker_takes_over_during_a_sign_in_is_left_to_it(active: World) -> None:
    one = active

    async def story() -> None:
        one.answers["verify"] = [Refused(State.NEEDS_SESSION, Reason.TOKEN_EXPIRED)]
        await one.enrol(one.request(TOKEN))

        async def slow() -> None:
            await asyncio.sleep(one.config.lease)
            one.overtaken(State.ACTIVE)()

        one.sign_in_pace.acquire = slow  # type: ignore[method-assign]
        request = one.request(TICKET)
        assert await one.enrol(request) == GiveBack(LOOK_AGAIN_AFTER), "that was not the outcome of this request"
        assert await one.enrol(request) == Duplicate()

    play(one, story())


# --- refused alone ----------------------------------------------------------------------------------------------------


def test_who_is_refused_alone_has_an_outcome_that_names_the_code(one: World) -> None:
    async def story() -> None:
        request = await one.refused_alone(TOKEN, "associate")
        await asyncio.sleep(LONGEST_POSTPONED)
        assert await one.enrol(request) == Done(State.FAILED, Reason.REFUSED)
        assert one.row.detail == OWN_FAULT.code
        assert one.calls == []

    play(one, story())


def test_whose_credential_dies_before_another_try_has_it_at_once(one: World) -> None:
    async def story() -> None:
        request = await one.refused_alone(TOKEN, "associate", expires_at=EPOCH + 8.0)
        await asyncio.sleep(4.0)
        one.answers["associate"] = [OWN_FAULT]
        verdict = await one.enrol(request)
        assert verdict == Done(State.FAILED, Reason.REFUSED)
        assert one.row.detail == OWN_FAULT.code

    play(one, story())


def test_nor_is_it_waited_for_a_try_that_a_credential_does_not_live_to_see(one: World) -> None:
    async def story() -> None:
        request = await one.refused_alone(TOKEN, "associate", expires_at=EPOCH + 3.5)
        assert await one.enrol(request) == Done(State.FAILED, Reason.REFUSED)
        assert one.calls == []

    play(one, story())


@pytest.mark.parametrize("kind", [SESSION, TOKEN])
@pytest.mark.parametrize("with_message", [True, False])
def test_a_delivered_user_who_is_refused_alone_keeps_the_secret_and_is_left_to_a_person(
    active: World, kind: CredentialKind, *, with_message: bool
) -> None:
    one = active

    async def story() -> None:
        request = await one.refused_alone(kind, "verify")
        await asyncio.sleep(LONGEST_POSTPONED)
        if with_message:
            assert await one.enrol(request) == Done(State.DELIVERED, Reason.VERIFY_REFUSED)
        else:
            await one.finish()
        assert (one.row.state, one.row.reason) == (State.DELIVERED, Reason.VERIFY_REFUSED)
        assert one.row.detail == OWN_FAULT.code
        assert one.calls == []

    play(one, story())


def test_until_that_is_known_whoever_finishes_the_row_waits_and_calls_nobody(active: World) -> None:
    one = active

    async def story() -> None:
        await one.refused_alone(TOKEN, "verify")
        stands, began = one.row, one.virtual.now
        await one.finish()
        assert one.row == stands
        assert one.calls == []
        assert one.virtual.now > began

    play(one, story())


def test_who_may_be_verified_all_the_same_is_told_so(active: World) -> None:
    one = active

    async def story() -> None:
        await asyncio.sleep((TIME_STEP - 5.0 - one.clock.utc()) % TIME_STEP)
        begins = one.clock.utc() + TIME_STEP
        request = await one.refused_alone(TOKEN, "verify", expires_at=begins + 15.0)
        one.answers["verify"] = [NO_ANSWER, OWN_FAULT]  # with a fresh code, a call time-out later
        await asyncio.sleep(begins - one.clock.utc())
        verdict = await one.enrol(request)
        assert verdict == Done(State.DELIVERED, Reason.VERIFY_UNKNOWN)
        assert one.row.detail == OWN_FAULT.code

    play(one, story())


def test_who_is_taken_over_while_being_postponed_is_left_to_the_other_worker(one: World) -> None:
    async def story() -> None:
        await one.enrol(one.request(TOKEN, username="bob"))

        def refused(_: Request) -> PoolFault:
            one.overtaken(State.SEALED, sealed=sealed(9), worker="other")()
            return OWN_FAULT

        one.answers["associate"] = [refused]
        assert await one.enrol(one.request(TOKEN)) == GiveBack(OVERTAKEN_PAUSE)
        assert one.row.worker == "other"

    play(one, story())
