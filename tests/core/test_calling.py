"""When a request to Cognito leaves, under claim, pace and channel, and what is noted of its answer."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.support.one_user import BASE32, OneUser, WatchedWay, play
from tests.support.virtual_time import EPOCH, VirtualTime
from tests.support.worker_config import CALL_TIMEOUT
from worker.core.config import ActivationMode
from worker.core.model import (
    CredentialKind,
    Done,
    GiveBack,
    Issued,
    Postpone,
    Reason,
    Refused,
    Request,
    Secret,
    State,
    Trouble,
    TryAgain,
    Verdict,
)

SESSION, TOKEN = CredentialKind.SESSION, CredentialKind.ACCESS_TOKEN
TICKET, PASSWORD = CredentialKind.TICKET, CredentialKind.PASSWORD
DELIVERED = Done(State.DELIVERED)
ISSUED = Issued(Secret(BASE32), None, "id")
THROTTLED, CONFLICT = TryAgain(Trouble.THROTTLED), TryAgain(Trouble.CONFLICT)
SERVER_ERROR, NO_ANSWER = TryAgain(Trouble.SERVER_ERROR), TryAgain(Trouble.NO_ANSWER)
REFUSED = Refused(State.FAILED, Reason.INVALID_PARAMETER)


@pytest.fixture
def one(virtual: VirtualTime) -> OneUser:
    return OneUser(virtual)


async def channel_goes_away(one: OneUser) -> None:
    """A delivery fails and is given up, so nothing is in hand that would show when the channel is back."""
    one.channel_is_away = True
    first = asyncio.create_task(one.enrol(one.request(SESSION, username="first")))
    await asyncio.sleep(1.0)
    one.stop()
    await first
    one.seen.clear()


async def probe(one: OneUser, takes: float, answer: object) -> asyncio.Task[Verdict]:
    """Somebody's call probes the channel, and is under way for so long."""
    await channel_goes_away(one)
    usual, one.takes = one.takes, takes
    one.answers["associate"] = [answer]
    task = asyncio.create_task(one.enrol(one.request(SESSION, username="bob")))
    await asyncio.sleep(0.01)
    one.takes = usual
    return task


# --- the pace ---------------------------------------------------------------------------------------------------------


def test_each_request_waits_for_the_pace_of_its_own_quota_and_a_look_for_none(virtual: VirtualTime) -> None:
    one = OneUser(virtual, ActivationMode.PREFER)

    async def story() -> None:
        await one.enrol(one.request(TICKET))
        assert one.calls == ["begin", "answer", "look", "associate", "verify", "prefer"]
        assert (one.sign_in_pace.turns, one.pace.turns) == (2, 3)
        assert list(one.stats.latency) == [
            "InitiateAuth",
            "RespondToAuthChallenge",
            "GetUser",
            "AssociateSoftwareToken",
            "VerifySoftwareToken",
            "SetUserMFAPreference",
        ]

    play(one, story())


@pytest.mark.parametrize(("operation", "cuts"), [("associate", (1, 0)), ("begin", (0, 1)), ("look", (0, 0))])
def test_too_many_requests_cut_the_pace_of_that_quota_alone(
    one: OneUser, operation: str, cuts: tuple[int, int]
) -> None:
    async def story() -> None:
        one.answers[operation] = [THROTTLED]
        assert await one.enrol(one.request(TICKET)) == DELIVERED
        assert (one.pace.cuts, one.sign_in_pace.cuts) == cuts

    play(one, story())


def test_who_is_throttled_while_another_gets_through_is_postponed_and_slows_nobody_down(one: OneUser) -> None:
    async def story() -> None:
        one.takes = 5.0
        one.answers["associate"] = [lambda request: THROTTLED if request.username == "ana" else ISSUED] * 3
        ana = asyncio.create_task(one.enrol(one.request(TOKEN)))
        await asyncio.sleep(1.0)
        assert await one.enrol(one.request(TOKEN, username="bob")) == DELIVERED
        assert isinstance(await ana, Postpone)
        assert one.pace.cuts == 0
        assert len(one.calls) == 3

    play(one, story())


@pytest.mark.parametrize(
    ("kind", "first", "then"),
    [(TOKEN, "associate", ["verify", "prefer"]), (TICKET, "begin", ["answer"])],
    ids=["calls", "sign-ins"],
)
def test_who_was_delivered_or_is_half_signed_in_goes_before_who_only_begins(
    virtual: VirtualTime, kind: CredentialKind, first: str, then: list[str]
) -> None:
    one = OneUser(virtual, ActivationMode.PREFER if kind is TOKEN else ActivationMode.NONE)
    paced = one.pace if kind is TOKEN else one.sign_in_pace

    async def story() -> None:
        paced.waits = [1.0] * 9
        await asyncio.gather(*(one.enrol(one.request(kind, username=name)) for name in ("ana", "bob", "cleo")))
        order = [(operation, request.username) for operation, request in one.seen if operation in (first, *then)]
        begun = [(operation, name) for operation in (first, *then) for name in ("ana", "bob")]
        assert order == begun + [(operation, "cleo") for operation in (first, *then)]

    play(one, story())


# --- the channel ------------------------------------------------------------------------------------------------------


def bug(_: Request) -> None:
    raise RuntimeError


@pytest.mark.parametrize("kind", [SESSION, PASSWORD])
@pytest.mark.parametrize("answer", [REFUSED, bug], ids=["refused", "a bug"])
def test_while_the_channel_is_away_one_call_for_a_session_leaves_and_nobody_signs_in_for_one(
    one: OneUser, kind: CredentialKind, answer: object
) -> None:
    async def story() -> None:
        one.signs_in_to = SESSION
        bob = await probe(one, 20.0, answer)
        ana = asyncio.create_task(one.enrol(one.request(kind, expires_at=EPOCH + 100.0)))
        await asyncio.sleep(19.0)
        assert one.calls == ["associate"], "the probe, although the next would be due"
        one.channel_is_away = False
        await asyncio.wait([bob])
        assert (bob.exception() is not None) == (answer is bug)
        assert await ana == DELIVERED
        assert one.virtual.now == pytest.approx(21.0, abs=1.0), "as soon as the probe has ended"

    play(one, story())


def test_who_waited_for_the_pace_while_the_channel_went_away_does_not_call(one: OneUser) -> None:
    async def story() -> None:
        one.channel_is_away, one.pace.waits = True, [0.0, 5.0]
        both = [asyncio.create_task(one.enrol(one.request(SESSION, username=name))) for name in ("first", "ana")]
        await asyncio.sleep(7.0)
        assert one.calls == ["associate"]
        one.channel_is_away = False
        assert await asyncio.gather(*both) == [DELIVERED, DELIVERED]

    play(one, story())


@pytest.mark.parametrize("lives", [1.5, 5.0])
def test_who_waits_for_the_channel_is_given_back_just_before_the_credential_dies(one: OneUser, lives: float) -> None:
    async def story() -> None:
        bob = await probe(one, 100.0, REFUSED)
        began = one.virtual.now
        assert await one.enrol(one.request(SESSION, expires_at=one.clock.utc() + lives)) == GiveBack(1.0)
        assert one.virtual.now - began == pytest.approx(lives - 1.0, abs=0.1)
        assert one.calls == ["associate"]
        await bob

    play(one, story())


# --- the claim --------------------------------------------------------------------------------------------------------


def test_a_claim_does_not_end_while_its_user_waits_for_the_channel(one: OneUser) -> None:
    async def story() -> None:
        bob = await probe(one, 100.0, REFUSED)
        one.channel_is_away = False
        ana = asyncio.create_task(one.enrol(one.request(SESSION)))
        while not bob.done():
            await asyncio.sleep(0.5)
            assert one.row.lease_until - one.clock.utc() > CALL_TIMEOUT - 0.6
        assert await ana == DELIVERED

    play(one, story())


def test_a_claim_does_not_end_while_a_request_is_under_way(one: OneUser) -> None:
    left: list[float] = []

    def conflict(_: Request) -> TryAgain:
        left.append(one.row.lease_until - one.clock.utc())
        return CONFLICT

    async def story() -> None:
        one.pace.waits, one.takes = [45.0, 45.0, 45.0], CALL_TIMEOUT
        one.answers["associate"] = [conflict] * 3
        assert await one.enrol(one.request(TOKEN)) == DELIVERED
        assert len(left) == 3
        assert min(left) >= 0.0

    play(one, story())


def test_who_was_overtaken_while_they_waited_sends_nothing(one: OneUser) -> None:
    async def story() -> None:
        one.pace.waits = [55.0]
        asyncio.get_running_loop().call_later(30.0, one.overtake)
        assert isinstance(await one.enrol(one.request(TOKEN)), GiveBack)
        assert one.calls == []
        assert one.row.worker == "other"

    play(one, story())


# --- how often and for how long ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("takes", "calls"), [(19.9, 4), (20.1, 3)])
def test_the_time_of_all_attempts_together_is_bounded(
    one: OneUser, takes: float, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, _: low)

    async def story() -> None:
        await asyncio.sleep(3.0)
        one.takes = takes
        one.answers["associate"] = [SERVER_ERROR] * 9
        assert await one.enrol(one.request(TOKEN)) == Done(State.FAILED, Reason.RETRIES_EXHAUSTED)
        assert len(one.calls) == calls

    play(one, story())


@pytest.mark.parametrize(("takes", "lives"), [(0.1, 5.0), (5.0, 4.0)])
def test_nobody_waits_for_another_attempt_for_longer_than_the_credential_lives(
    one: OneUser, takes: float, lives: float
) -> None:
    async def story() -> None:
        one.takes = takes
        one.answers["associate"] = [NO_ANSWER]
        assert await one.enrol(one.request(TOKEN, expires_at=EPOCH + lives)) == Done(
            State.NEEDS_SESSION, Reason.REPLY_LOST
        )
        assert one.virtual.now == pytest.approx(5.0, abs=0.1)

    play(one, story())


@pytest.mark.parametrize(
    ("operation", "answers", "reason"),
    [
        ("associate", [NO_ANSWER] * 4, Reason.REPLY_LOST),
        ("associate", [CONFLICT] * 4, Reason.RETRIES_EXHAUSTED),
        ("begin", [NO_ANSWER] * 4, Reason.RETRIES_EXHAUSTED),
    ],
)
def test_a_lost_reply_to_a_call_spends_a_session_and_one_to_a_sign_in_none(
    one: OneUser, operation: str, answers: list[object], reason: Reason
) -> None:
    async def story() -> None:
        one.answers[operation] = list(answers)
        verdict = await one.enrol(one.request(SESSION if operation == "associate" else PASSWORD))
        assert isinstance(verdict, Done)
        assert verdict.reason is reason

    play(one, story())


# --- what is noted ----------------------------------------------------------------------------------------------------


def test_an_answer_is_told_with_its_request_and_how_long_it_took(one: OneUser) -> None:
    async def story() -> None:
        await asyncio.sleep(10.0)
        one.takes, way = 0.5, WatchedWay()
        one.answers["begin"] = [CONFLICT, CONFLICT]
        one.answers["associate"] = [CONFLICT]
        await one.enrol(one.request(PASSWORD), way)
        seconds = {operation: known.sum for operation, known in one.stats.latency.items()}
        assert seconds == pytest.approx({"InitiateAuth": 1.5, "GetUser": 0.5, "AssociateSoftwareToken": 1.0})
        told = [(event.detail, event.times) for event in one.row.events if event.what == "answered"]
        assert told == [("conflict to InitiateAuth", 2), ("conflict", 1), ("issued", 1)]
        assert ("InitiateAuth", "conflict") in way.steps
        assert ("AssociateSoftwareToken", "issued") in way.steps

    play(one, story())


def test_an_answer_shows_that_nothing_is_waited_for_any_more(one: OneUser) -> None:
    async def story() -> None:
        one.stats.waiting_for = "the channel"
        one.answers["associate"] = [REFUSED]
        assert await one.enrol(one.request(TOKEN)) == Done(State.FAILED, Reason.INVALID_PARAMETER)
        assert one.stats.waiting_for == ""

    play(one, story())
