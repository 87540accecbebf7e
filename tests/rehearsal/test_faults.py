"""Every fault can be asked for, comes as often as asked, and shows to the SDK as the real thing would."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sdk import code_of, cognito_at, until_in_flight
from worker.rehearsal.fake_cognito.client import FakeCognito, serve_fake_cognito
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig
from worker.rehearsal.fake_cognito.faults import FAULTS, FaultError, FaultPlan
from worker.rehearsal.fake_cognito.operations import OPERATIONS
from worker.rehearsal.fake_cognito.service import FakeUserPool

NOT_AUTHORIZED = "NotAuthorizedException"
ONCE = "Invalid session for the user, session can only be used once."

ERRORS = {
    "conflict": (400, "ConcurrentModificationException", None),
    "internal_error": (500, "InternalErrorException", None),
    "internal_error_acted": (500, "InternalErrorException", None),
    "throttled": (400, "TooManyRequestsException", None),
    "throttling": (400, "ThrottlingException", None),
    "limit_exceeded": (400, "LimitExceededException", None),
    "http_429": (429, "429", None),
    "session_expired": (400, NOT_AUTHORIZED, "Invalid session for the user, session is expired."),
    "session_spent": (400, NOT_AUTHORIZED, ONCE),
    "session_invalid": (400, NOT_AUTHORIZED, "Invalid session for the user."),
    "token_invalid": (400, NOT_AUTHORIZED, "Invalid Access Token"),
    "token_expired": (400, NOT_AUTHORIZED, "Access Token has expired"),
    "token_revoked": (400, NOT_AUTHORIZED, "Access Token has been revoked"),
    "token_scope": (400, NOT_AUTHORIZED, "Access Token does not have required scopes"),
    "invalid_parameter": (400, "InvalidParameterException", None),
    "echo": (400, "InvalidParameterException", None),
    "totp_off": (400, "SoftwareTokenMFANotFoundException", None),
    "pool_gone": (400, "ResourceNotFoundException", None),
    "client_gone": (400, "ResourceNotFoundException", None),
    "waf": (403, "ForbiddenException", None),
    "waf_400": (400, "ForbiddenException", None),
    "not_enabled": (400, "OperationNotEnabledException", None),
    "html_503": (503, "503", None),
    "html_502_acted": (502, "502", None),
}

# A reset after the request was sent looks to the SDK like a connection that was never made.
CUTS = {
    "cut_before": EndpointConnectionError,
    "reset_after": EndpointConnectionError,
    "cut_after": ConnectionClosedError,
    "cut_body": ConnectionClosedError,
    "corrupt": UnicodeDecodeError,
}
EMPTY = ("truncated", "empty_200")
PATIENCE = ("hang", "hang_acted", "slow")


@asynccontextmanager
async def meeting(fault: str, read_timeout: float = 10.0) -> AsyncIterator[tuple[FakeCognito, Any, str]]:
    """A client whose next call meets the fault, and a session to make it with."""
    config = FakeCognitoConfig(quota=None, latency=0.0, faults=(f"{fault}=1x",))
    async with (
        serve_fake_cognito(config) as fake_cognito,
        cognito_at(fake_cognito.url, read_timeout=read_timeout) as client,
    ):
        [credential] = await fake_cognito.sign_in(["ana"])
        yield fake_cognito, client, credential.value


async def issued(fake_cognito: FakeCognito) -> int:
    truth = await fake_cognito.truth()
    return len(truth["ana"].secrets) if truth else 0


async def expect_the_truth(fake_cognito: FakeCognito, client: Any, session: str, *, acted: bool) -> None:
    """A secret exists and the Session is spent, or neither; the same Session tells."""
    assert await issued(fake_cognito) == acted
    if acted:
        with pytest.raises(ClientError, match=ONCE):
            await client.associate_software_token(Session=session)
    else:
        assert (await client.associate_software_token(Session=session))["SecretCode"]
    assert await issued(fake_cognito) == 1


ELSEWHERE = {
    # What never happens to AssociateSoftwareToken: the operation that meets it instead.
    "wrong_password": ("InitiateAuth", "NotAuthorizedException", "Incorrect username or password."),
    "locked": ("InitiateAuth", "NotAuthorizedException", "Password attempts exceeded"),
    "user_lambda": ("RespondToAuthChallenge", "UserLambdaValidationException", None),
    "unexpected_lambda": ("InitiateAuth", "UnexpectedLambdaException", None),
    "invalid_lambda": ("AdminInitiateAuth", "InvalidLambdaResponseException", None),
    "wrong_code": ("VerifySoftwareToken", "EnableSoftwareTokenMFAException", None),
    "status_error": ("VerifySoftwareToken", None, None),
    "access_denied": ("AdminSetUserMFAPreference", "AccessDeniedException", None),
}


@pytest.mark.parametrize("fault", ELSEWHERE)
def test_a_fault_happens_only_where_it_can(fault: str) -> None:
    operation, error, message = ELSEWHERE[fault]
    cognito = FakeUserPool(FakeCognitoConfig(quota=None, latency=0.0, faults=(f"{fault}=1",)))
    [token, _] = cognito.sign_in("ana", "token")

    spared = cognito.arrive("AssociateSoftwareToken", {"AccessToken": token})
    assert cognito.act(spared).error is None
    cognito.leave(spared)

    answer = cognito.act(cognito.arrive(operation, {}))
    assert answer.error == error
    assert isinstance(answer.body, dict)
    assert message in (None, answer.body.get("message"))


def test_every_fault_of_the_table_is_tested_here() -> None:
    assert {*ERRORS, *CUTS, *EMPTY, *PATIENCE, *ELSEWHERE} == set(FAULTS)
    assert all(fault.help for fault in FAULTS.values())


@pytest.mark.parametrize("fault", ERRORS)
async def test_an_error_arrives_with_its_status_code_and_message(fault: str) -> None:
    status, code, message = ERRORS[fault]
    async with meeting(fault) as (fake_cognito, client, session):
        with pytest.raises(ClientError) as caught:
            await client.associate_software_token(Session=session)
        told = code_of(caught.value)
        assert (caught.value.response["ResponseMetadata"]["HTTPStatusCode"], told[0]) == (status, code)
        assert message is None or told[1] == message
        assert (session in told[1]) is (fault == "echo")
        await expect_the_truth(fake_cognito, client, session, acted=fault.endswith("_acted"))
        assert (await fake_cognito.stats()).faults == {fault: 1}


@pytest.mark.parametrize("fault", CUTS)
async def test_a_failing_wire_raises_what_was_measured(fault: str) -> None:
    async with meeting(fault) as (fake_cognito, client, session):
        with pytest.raises(CUTS[fault]):
            await client.associate_software_token(Session=session)
        await expect_the_truth(fake_cognito, client, session, acted=fault != "cut_before")


@pytest.mark.parametrize("fault", EMPTY)
async def test_half_an_answer_is_an_empty_result_without_an_exception(fault: str) -> None:
    async with meeting(fault) as (fake_cognito, client, session):
        result = await client.associate_software_token(Session=session)
        assert result["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert result.keys() == {"ResponseMetadata"}
        await expect_the_truth(fake_cognito, client, session, acted=True)


@pytest.mark.parametrize("fault", ["hang", "hang_acted"])
async def test_a_call_that_hangs_lasts_as_long_as_the_client_waits(fault: str) -> None:
    async with meeting(fault, read_timeout=0.5) as (fake_cognito, client, session):
        with pytest.raises(ReadTimeoutError):
            await client.associate_software_token(Session=session)
        await until_in_flight(fake_cognito, 0)
        await expect_the_truth(fake_cognito, client, session, acted=fault == "hang_acted")


async def test_a_slow_call_acts_after_the_client_gave_up() -> None:
    async with meeting("slow", read_timeout=0.5) as (fake_cognito, client, session):
        with pytest.raises(ReadTimeoutError):
            await client.associate_software_token(Session=session)
        assert await issued(fake_cognito) == 0
        with pytest.raises(ClientError, match="Concurrent"):
            await client.associate_software_token(Session=session)
        await until_in_flight(fake_cognito, 0)
        await expect_the_truth(fake_cognito, client, session, acted=True)


def drawn(plan: FaultPlan, username: str | None = "ana", times: int = 10_000) -> Counter[str | None]:
    faults = (plan.draw(username) for _ in range(times))
    return Counter(fault.name if fault else None for fault in faults)


def test_faults_come_as_often_as_asked_and_the_same_seed_gives_the_same() -> None:
    faults = ["conflict=2%", "cut_after=0.1"]
    counts = drawn(FaultPlan(faults, seed=1))
    assert counts["conflict"] == pytest.approx(200, abs=60)
    assert counts["cut_after"] == pytest.approx(1000, abs=130)
    assert counts == drawn(FaultPlan(faults, seed=1)) != drawn(FaultPlan(faults, seed=2))


def test_certain_faults_always_come_impossible_ones_never() -> None:
    assert drawn(FaultPlan(["waf=1"])) == {"waf": 10_000}
    assert drawn(FaultPlan(["waf=100%"])) == {"waf": 10_000}
    assert drawn(FaultPlan(["waf=0"])) == {None: 10_000}
    assert drawn(FaultPlan()) == {None: 10_000}


def test_counted_faults_come_first_and_in_order() -> None:
    plan = FaultPlan(["waf=1", "conflict=2x", "slow=1x"])
    names = [fault.name for _ in range(4) if (fault := plan.draw("ana"))]
    assert names == ["conflict", "conflict", "slow", "waf"]


def test_a_fault_aimed_at_a_user_meets_nobody_else() -> None:
    plan = FaultPlan(["cut_after@ana=1", "conflict@ben=1x"])
    assert drawn(plan, "ana") == {"cut_after": 10_000}
    assert drawn(plan, "ben") == {"conflict": 1, None: 9_999}
    assert drawn(plan, "eve") == drawn(plan, None) == {None: 10_000}


def test_a_user_meets_the_faults_for_everybody_too() -> None:
    counts = drawn(FaultPlan(["conflict@ana=50%", "waf=1"]))
    assert counts["conflict"] + counts["waf"] == 10_000
    assert counts["conflict"] == pytest.approx(5000, abs=300)


@given(st.text(min_size=1, max_size=128))
def test_a_fault_can_be_aimed_at_any_username(username: str) -> None:
    plan = FaultPlan([f"conflict@{username}=1x"])
    assert plan.draw(username + "!") is None
    assert plan.draw(username) is FAULTS["conflict"]
    assert plan.draw(username) is None


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("conflikt=1", "did you mean conflict"),
        ("internal=1", "did you mean internal_error"),
        ("=1", "did you mean"),
        ("conflict", "how often"),
        ("conflict=", "probability"),
        ("conflict=often", "probability"),
        ("conflict=-1x", "probability"),
        ("conflict=3", "conflict=3x"),
        ("conflict=101%", "between 0 and 1"),
        ("conflict=nan", "between 0 and 1"),
        ("conflict@=1", "names no user"),
        ("conflict/InitAuth=1", "did you mean InitiateAuth"),
        ("conflict/=1", "no operation ''"),
        ("wrong_code/InitiateAuth=1", "only in VerifySoftwareToken"),
    ],
)
def test_a_fault_that_cannot_be_had_is_refused_with_what_to_write(wrong: str, hint: str) -> None:
    with pytest.raises(FaultError, match=hint):
        FaultPlan([wrong])


@pytest.mark.parametrize("at", ["", "@ana"])
def test_faults_cannot_be_more_than_certain_together(at: str) -> None:
    FaultPlan([f"waf{at}=0.7", f"conflict{at}=0.3"])
    with pytest.raises(FaultError, match="more than certain"):
        FaultPlan([f"waf{at}=0.7", f"conflict{at}=0.4"])


def test_a_refusal_shows_no_username_that_would_upset_a_terminal() -> None:
    with pytest.raises(FaultError) as caught:
        FaultPlan(["conflict@\x1b[31m\u202eana="])
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


def test_a_fault_can_be_aimed_at_all_users_whose_names_begin_alike() -> None:
    plan = FaultPlan(["client_gone~bad-=1", "waf@bad-1=2x", "conflict=0"])
    names = ["good-1", "bad-1", "bad-1", "bad-1", "bad-", "bad", "so bad-2", None]
    drawn = [plan.draw(name) for name in names]
    assert [fault and fault.name for fault in drawn] == [
        None,
        "waf",
        "waf",
        "client_gone",
        "client_gone",
        None,
        None,
        None,
    ]


def test_a_fault_can_be_aimed_at_an_operation_and_at_a_user_in_it() -> None:
    plan = FaultPlan(["cut_after/InitiateAuth=1", "conflict/VerifySoftwareToken@ana=2x"])
    assert {name for name in OPERATIONS if plan.draw("ben", name)} == {"InitiateAuth"}
    met = [(name, fault.name) for name in OPERATIONS if (fault := plan.draw("ana", name))]
    assert met == [("VerifySoftwareToken", "conflict"), ("InitiateAuth", "cut_after")]


def test_faults_of_different_operations_are_not_added_up() -> None:
    FaultPlan(["conflict/InitiateAuth=0.7", "conflict/GetUser=0.7"])
    with pytest.raises(FaultError, match="more than certain"):
        FaultPlan(["conflict/GetUser=0.7", "waf=0.7"])
