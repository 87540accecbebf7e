"""What the fake Cognito does, without a network: which credential is good, who has which secret."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fake_service import ASSOCIATE, PREFER, VERIFY, Service
from tests.support.totp import code_at
from worker.rehearsal.fake_cognito import answers
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig

ENABLED: dict[str, Any] = {"SoftwareTokenMfaSettings": {"Enabled": True, "PreferredMfa": True}}


@pytest.fixture
def service() -> Service:
    return Service()


def test_a_session_can_be_used_only_once(service: Service) -> None:
    session = service.session()
    service.result(ASSOCIATE, Session=session)
    assert service.call(ASSOCIATE, Session=session) == answers.SESSION_SPENT
    assert len(service.secrets()) == 1


def test_a_session_expires_to_the_second(service: Service) -> None:
    used, late = service.session(validity=180), service.session(validity=180)
    service.now += 179.9
    service.result(ASSOCIATE, Session=used)
    service.now += 0.1
    assert service.call(ASSOCIATE, Session=late) == answers.SESSION_EXPIRED
    assert len(service.secrets()) == 1


def test_the_new_session_alone_verifies_and_it_expires_too(service: Service) -> None:
    session = service.session()
    first = service.result(ASSOCIATE, Session=session)
    code = code_at(first["SecretCode"], service.now)
    assert service.call(VERIFY, Session=session, UserCode=code) == answers.SESSION_INVALID
    assert service.call(VERIFY, Session=service.session(), UserCode=code) == answers.SESSION_INVALID
    assert service.call(ASSOCIATE, Session=first["Session"]) == answers.SESSION_INVALID
    verified = service.result(VERIFY, Session=first["Session"], UserCode=code)
    assert verified["Status"] == "SUCCESS"
    assert service.call(VERIFY, Session=first["Session"], UserCode=code) == answers.SESSION_SPENT
    assert service.call(VERIFY, Session=verified["Session"], UserCode=code) == answers.SESSION_INVALID

    late = service.result(ASSOCIATE, Session=service.session())
    service.now += 180
    code = code_at(late["SecretCode"], service.now)
    assert service.call(VERIFY, Session=late["Session"], UserCode=code) == answers.SESSION_EXPIRED


def test_a_wrong_code_verifies_nothing_and_spends_nothing(service: Service) -> None:
    issued = service.result(ASSOCIATE, Session=service.session())
    right = code_at(issued["SecretCode"], service.now)
    wrong = f"{(int(right) + 1) % 1_000_000:06d}"
    assert service.call(VERIFY, Session=issued["Session"], UserCode=wrong) == answers.WRONG_CODE
    assert service.cognito.enrolments.truth("ana")["verified"] is None
    service.result(VERIFY, Session=issued["Session"], UserCode=right)
    assert service.cognito.enrolments.truth("ana")["verified"] == 1


def test_only_the_newest_secret_verifies(service: Service) -> None:
    old = service.result(ASSOCIATE, Session=service.session())
    new = service.result(ASSOCIATE, Session=service.session())
    assert old["SecretCode"] != new["SecretCode"]
    assert service.secrets() == [old["SecretCode"], new["SecretCode"]]
    stale = code_at(old["SecretCode"], service.now)
    assert service.call(VERIFY, Session=new["Session"], UserCode=stale) == answers.WRONG_CODE
    assert service.call(VERIFY, AccessToken=service.token("nobody"), UserCode="000000") == answers.WRONG_CODE


def test_an_access_token_serves_again_and_again_and_gives_no_session(service: Service) -> None:
    token = service.token()
    assert [list(service.result(ASSOCIATE, AccessToken=token)) for _ in range(3)] == [["SecretCode"]] * 3
    assert len(set(service.secrets())) == 3


def test_the_preference_wants_the_newest_secret_verified(service: Service) -> None:
    token = service.token()
    assert service.call(PREFER, AccessToken=token, **ENABLED) == answers.NOT_VERIFIED
    secret = service.result(ASSOCIATE, AccessToken=token)["SecretCode"]
    assert service.call(PREFER, AccessToken=token, **ENABLED) == answers.NOT_VERIFIED
    service.result(VERIFY, AccessToken=token, UserCode=code_at(secret, service.now))
    assert service.result(PREFER, AccessToken=token, **ENABLED) == {}
    assert service.cognito.enrolments.truth("ana")["preference"] is True
    service.result(PREFER, AccessToken=token, SoftwareTokenMfaSettings={"Enabled": False})
    assert service.cognito.enrolments.truth("ana")["preference"] is False
    service.result(ASSOCIATE, AccessToken=token)
    assert service.call(PREFER, AccessToken=token, **ENABLED) == answers.NOT_VERIFIED
    assert service.cognito.acted == 5


def test_tokens_expire_are_revoked_lack_scope_and_are_garbage(service: Service) -> None:
    good, unscoped, short = service.token(), service.token(scope="openid"), service.token(validity=300)
    assert service.call(ASSOCIATE, AccessToken=unscoped) == answers.TOKEN_SCOPE
    for garbage in ("", "x.y.z", "é.ü.ö", good[:-1], good[:-1] + ("A" if good[-1] != "A" else "B"), service.session()):
        assert service.call(ASSOCIATE, AccessToken=garbage) == answers.TOKEN_INVALID
    service.now += 300
    assert service.call(ASSOCIATE, AccessToken=short) == answers.TOKEN_EXPIRED
    service.cognito.revoke(["ana"])
    assert service.call(ASSOCIATE, AccessToken=good) == answers.TOKEN_REVOKED
    service.result(ASSOCIATE, AccessToken=service.token())
    service.result(ASSOCIATE, AccessToken=service.token("ben"))


def test_an_access_token_says_what_cognitos_do(service: Service) -> None:
    token, expires_at = service.cognito.sign_in("ana", "token", 3600)
    head, claims, _ = token.split(".")
    assert json.loads(base64.urlsafe_b64decode(head + "=="))["alg"]
    told = json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert told | {"sub": "", "jti": ""} == {
        "sub": "",
        "iss": "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_rehearsal",
        "client_id": service.cognito.config.client_id,
        "token_use": "access",
        "scope": "aws.cognito.signin.user.admin",
        "auth_time": 1_700_000_000,
        "iat": 1_700_000_000,
        "exp": 1_700_003_600,
        "jti": "",
        "username": "ana",
    }
    assert expires_at == told["exp"]


@pytest.mark.parametrize(
    "session", ["x" * 20, "A" * 896, "x" * 2048, "ä" * 100, "é" + "A" * 895, "=" * 896, "\ud800" * 30]
)
def test_a_session_that_was_never_given_out_is_invalid(service: Service, session: str) -> None:
    assert service.call(ASSOCIATE, Session=session) == answers.SESSION_INVALID


def test_a_session_cannot_be_forged(service: Service) -> None:
    sealed = bytearray(base64.b64decode(service.session()))
    sealed[8] ^= 1  # the serial number
    assert service.call(ASSOCIATE, Session=base64.b64encode(sealed).decode()) == answers.SESSION_INVALID
    assert Service().call(ASSOCIATE, Session=service.session()) == answers.SESSION_INVALID


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"Session": None, "AccessToken": None},
        {"Session": "x" * 30, "AccessToken": "y"},
        {"Session": 7},
        {"AccessToken": ["y"]},
        {"Session": "x" * 19},
        {"Session": "x" * 2049},
    ],
)
@pytest.mark.parametrize("operation", [ASSOCIATE, VERIFY, PREFER])
def test_malformed_input_is_an_invalid_parameter(service: Service, operation: str, parameters: dict[str, Any]) -> None:
    assert service.call(operation, UserCode="123456", **parameters).error == "InvalidParameterException"


@pytest.mark.parametrize("code", [None, 123456, "12345", "1234567", "12345a", "１２３４５６"])
def test_a_code_is_six_digits(service: Service, code: Any) -> None:
    assert service.call(VERIFY, AccessToken=service.token(), UserCode=code).error == "InvalidParameterException"


def test_the_preference_wants_an_access_token_and_objects(service: Service) -> None:
    assert service.call(PREFER, Session=service.session(), **ENABLED).error == "InvalidParameterException"
    wrong = service.call(PREFER, AccessToken=service.token(), SoftwareTokenMfaSettings="yes")
    assert wrong.error == "InvalidParameterException"


def test_of_two_overlapping_calls_for_one_user_the_second_is_refused_and_costs_nothing(service: Service) -> None:
    sessions = [service.session(), service.session()]
    first, second = (service.cognito.arrive(ASSOCIATE, {"Session": session}) for session in sessions)
    other = service.cognito.arrive(ASSOCIATE, {"Session": service.session("ben")})
    assert service.cognito.act(second) == answers.CONFLICT
    assert [service.cognito.act(call).error for call in (first, other)] == [None, None]
    for call in (first, second, other):
        service.cognito.leave(call)
    stats = service.cognito.stats()
    assert stats["overlapping"] == {"ana": 1}
    assert (stats["most_in_flight"], stats["most_in_flight_one_user"], stats["in_flight"]) == (3, 2, 0)
    service.result(ASSOCIATE, Session=sessions[1])


def test_overlapping_calls_both_act_where_that_is_asked_for() -> None:
    service = Service(refuse_overlaps=False)
    calls = [service.cognito.arrive(ASSOCIATE, {"Session": service.session()}) for _ in range(2)]
    assert [service.cognito.act(call).error for call in calls] == [None, None]
    assert service.cognito.stats()["overlapping"] == {"ana": 1}, "but it is seen"


def test_over_the_quota_nothing_happens_and_the_session_stays_good() -> None:
    service = Service(quota=2)
    sessions = [service.session() for _ in range(3)]
    told = [service.call(ASSOCIATE, Session=session).error for session in sessions]
    assert told == [None, None, "TooManyRequestsException"]
    service.now += 0.5
    service.result(ASSOCIATE, Session=sessions[2])
    stats = service.cognito.stats()
    assert (stats["wire_requests"], stats["admitted"], stats["refused"], stats["issued"]) == (4, 3, 1, 3)
    assert stats["errors"] == {"TooManyRequestsException": 1}


def test_the_three_operations_share_one_quota() -> None:
    service = Service(quota=2)
    token = service.token()
    service.result(ASSOCIATE, AccessToken=token)
    service.call(VERIFY, AccessToken=token, UserCode="000000")
    assert service.call(PREFER, AccessToken=token, **ENABLED) == answers.TOO_MANY_REQUESTS
    assert service.cognito.stats()["operations"] == {ASSOCIATE: 1, VERIFY: 1, PREFER: 1}


def test_the_truth_says_when_how_and_for_which_credential(service: Service) -> None:
    session = service.session()
    call = service.cognito.arrive(ASSOCIATE, {"Session": session})
    service.cognito.act(call)
    service.cognito.leave(call)
    service.now += 5
    service.result(ASSOCIATE, AccessToken=service.token())
    first, second = service.cognito.enrolments.truth("ana")["secrets"]
    assert (first["sequence"], first["request_id"], first["issued_at"]) == (1, call.request_id, 1_700_000_000.0)
    assert (second["sequence"], second["credential"], second["issued_at"]) == (2, "token", 1_700_000_005.0)
    assert first["credential"] == "session"
    assert len({first["credential_digest"], second["credential_digest"]}) == 2
    assert service.cognito.enrolments.usernames() == ["ana"]


def test_a_skewed_clock_is_skewed_in_everything() -> None:
    service = Service(clock_skew=90)
    token, expires_at = service.cognito.sign_in("ana", "token", 3600)
    assert expires_at == service.now + 3690
    secret = service.result(ASSOCIATE, AccessToken=token)["SecretCode"]
    ours, its = (code_at(secret, service.now + skew) for skew in (0, 90))
    assert service.call(VERIFY, AccessToken=token, UserCode=ours) == answers.WRONG_CODE
    service.result(VERIFY, AccessToken=token, UserCode=its)


@given(st.text(min_size=1, max_size=128), st.sampled_from(["session", "token"]))
def test_any_text_is_a_username(username: str, kind: str) -> None:
    service = Service()
    key = "Session" if kind == "session" else "AccessToken"
    credential = service.session(username) if kind == "session" else service.token(username)
    assert 20 <= len(credential) <= 2048
    service.result(ASSOCIATE, **{key: credential})
    assert service.cognito.enrolments.usernames() == [username]


@pytest.mark.parametrize("username", ["", "x" * 129])
def test_a_username_is_1_to_128_characters(service: Service, username: str) -> None:
    with pytest.raises(ValueError, match="1 to 128"):
        service.session(username)


def test_settings_that_cannot_be_are_refused(service: Service) -> None:
    for wrong in ({"pool": 1}, {"quota": 0}, {"latency": -1}, {"latency": "fast"}, {"port": 1}, {"faults": ["no=1"]}):
        with pytest.raises(ValueError, match=r"."):
            service.cognito.configure(wrong)
    with pytest.raises(ValueError, match="JSON object"):
        FakeCognitoConfig.from_json("[]")
    config = FakeCognitoConfig(quota=None, faults=("conflict=2%",), latency=0.2)
    assert FakeCognitoConfig.from_json(config.to_json()) == config
