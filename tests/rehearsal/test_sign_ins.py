"""What the fake Cognito's sign-ins bring, for every status of a user and of a pool, with Cognito's codes and words."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.fake_service import ASSOCIATE, PREFER, VERIFY, Service, body
from tests.support.totp import PERIOD, code_at
from worker.rehearsal.fake_cognito import answers
from worker.rehearsal.fake_cognito.answers import Answer
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig
from worker.rehearsal.fake_cognito.credentials import ID_TOKEN_HEAD, REFRESH_TOKEN_HEAD
from worker.rehearsal.fake_cognito.operations import Category
from worker.rehearsal.fake_cognito.users import User, user_from

PASSWORD = "Correct-Horse-9"
ENABLED = {"Enabled": True, "PreferredMfa": True}
TOTP = "SOFTWARE_TOKEN_MFA"
GOOD = (
    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261126/us-east-1/cognito-idp/aws4_request, "
    f"SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature={'a' * 64}"
)


@pytest.fixture
def service() -> Service:
    return Service(password=PASSWORD)


def add(service: Service, **user: Any) -> None:
    given = {"password": PASSWORD, "status": "CONFIRMED", "factors": (), "preferred": None, **user}
    service.cognito.users.add("ana", user_from(**given))


def tokens(answer: Answer) -> dict[str, Any]:
    brought = body(answer)["AuthenticationResult"]
    assert isinstance(brought, dict)
    return brought


def challenge(answer: Answer) -> str:
    return str(body(answer)["ChallengeName"])


def test_a_password_brings_tokens_of_which_only_one_is_a_credential(service: Service) -> None:
    brought = tokens(service.password(PASSWORD))
    service.result(ASSOCIATE, AccessToken=brought["AccessToken"])
    assert brought["IdToken"].startswith(ID_TOKEN_HEAD)
    assert brought["RefreshToken"].startswith(REFRESH_TOKEN_HEAD)
    for name in ("IdToken", "RefreshToken"):
        assert service.call(ASSOCIATE, AccessToken=brought[name]) == answers.TOKEN_INVALID
    assert (brought["ExpiresIn"], brought["TokenType"]) == (3600, "Bearer")


def test_everybody_has_a_password_of_their_own() -> None:
    service = Service(password="pw-{username}")
    tokens(service.password("pw-ana"))
    assert service.password("pw-ben") == answers.WRONG_PASSWORD
    add(service, password=None)
    tokens(service.password("pw-ana"))
    assert Service().password(PASSWORD) == answers.WRONG_PASSWORD


@pytest.mark.parametrize(
    ("status", "right", "wrong"),
    [
        ("DISABLED", answers.DISABLED, answers.DISABLED),
        ("RESET_REQUIRED", answers.RESET_REQUIRED, answers.RESET_REQUIRED),
        ("UNCONFIRMED", answers.UNCONFIRMED, answers.WRONG_PASSWORD),
        ("DELETED", answers.NO_USER, answers.NO_USER),
    ],
)
def test_who_cannot_sign_in_is_told_why(service: Service, status: str, right: Answer, wrong: Answer) -> None:
    add(service, status=status)
    assert (service.password(PASSWORD), service.password("x")) == (right, wrong)


def test_a_temporary_password_asks_for_a_new_one(service: Service) -> None:
    add(service, status="FORCE_CHANGE_PASSWORD")
    assert challenge(service.password(PASSWORD)) == "NEW_PASSWORD_REQUIRED"


def test_a_pool_may_know_nobody_and_may_not_tell(service: Service) -> None:
    service.cognito.configure({"knows_everybody": False})
    assert service.password(PASSWORD) == answers.NO_USER
    service.cognito.configure({"prevent_user_existence_errors": True})
    assert service.password(PASSWORD) == answers.WRONG_PASSWORD
    add(service)
    tokens(service.password(PASSWORD))


def test_who_has_a_token_was_signed_in_here_and_exists_until_deleted_or_disabled(service: Service) -> None:
    service.cognito.configure({"knows_everybody": False})
    token = service.token()
    service.result(ASSOCIATE, AccessToken=token)
    add(service, status="DISABLED")
    assert service.call(ASSOCIATE, AccessToken=token) == answers.DISABLED
    add(service, status="DELETED")
    assert service.call("GetUser", AccessToken=token) == answers.NO_USER


def test_five_wrong_passwords_lock_a_user_out_ever_longer(service: Service) -> None:
    for _ in range(5):
        assert service.password("wrong") == answers.WRONG_PASSWORD
    assert service.password(PASSWORD) == answers.LOCKED
    service.now += 1
    assert service.password("wrong") == answers.WRONG_PASSWORD
    service.now += 1.9
    assert service.password(PASSWORD) == answers.LOCKED, "two seconds after the sixth"
    tokens(service.password(PASSWORD, "ben"))
    service.now += 0.1
    tokens(service.password(PASSWORD))
    assert service.password("wrong") == answers.WRONG_PASSWORD
    tokens(service.password(PASSWORD))


def test_a_required_second_factor_is_set_up_with_the_session_of_the_sign_in() -> None:
    service = Service(password=PASSWORD, mfa="required")
    begun = body(service.password(PASSWORD))
    assert begun["ChallengeName"] == "MFA_SETUP"
    assert json.loads(begun["ChallengeParameters"]["MFAS_CAN_SETUP"]) == [TOTP]
    issued = service.result(ASSOCIATE, Session=begun["Session"])
    assert service.respond("MFA_SETUP", issued["Session"]) == answers.SESSION_INVALID, "verified first"
    code = code_at(issued["SecretCode"], service.now)
    verified = service.result(VERIFY, Session=issued["Session"], UserCode=code)
    tokens(service.respond("MFA_SETUP", verified["Session"]))

    again = body(service.password(PASSWORD))
    assert again["ChallengeName"] == TOTP
    used = service.respond(TOTP, again["Session"], SOFTWARE_TOKEN_MFA_CODE=code)
    assert used == answers.CODE_USED
    next_code = code_at(issued["SecretCode"], service.now + PERIOD)
    tokens(service.respond(TOTP, again["Session"], SOFTWARE_TOKEN_MFA_CODE=next_code))
    assert service.respond(TOTP, again["Session"], SOFTWARE_TOKEN_MFA_CODE=next_code) == answers.SESSION_SPENT


def test_an_optional_second_factor_counts_only_once_it_is_enabled(service: Service) -> None:
    secret = service.enrol()
    brought = tokens(service.password(PASSWORD))
    assert "UserMFASettingList" not in service.result("GetUser", AccessToken=brought["AccessToken"])
    service.cognito.configure({"verified_shows": True})
    told = service.result("GetUser", AccessToken=brought["AccessToken"])
    assert (told["UserMFASettingList"], "PreferredMfaSetting" in told) == ([TOTP], False)

    service.result(PREFER, AccessToken=brought["AccessToken"], SoftwareTokenMfaSettings=ENABLED)
    told = service.result("GetUser", AccessToken=brought["AccessToken"])
    assert (told["Username"], told["UserMFASettingList"], told["PreferredMfaSetting"]) == ("ana", [TOTP], TOTP)
    begun = body(service.password(PASSWORD))
    assert begun["ChallengeName"] == TOTP
    for wrong in ("000000", code_at(secret, service.now + 2 * PERIOD), ""):
        assert service.respond(TOTP, begun["Session"], SOFTWARE_TOKEN_MFA_CODE=wrong) == answers.MISMATCH
    code = code_at(secret, service.now + PERIOD)
    assert service.respond(TOTP, begun["Session"], "ben", SOFTWARE_TOKEN_MFA_CODE=code) == answers.SESSION_INVALID
    tokens(service.respond(TOTP, begun["Session"], SOFTWARE_TOKEN_MFA_CODE=code))


def test_a_verified_secret_is_good_until_the_next_one_is_verified(service: Service) -> None:
    old = service.enrol(ENABLED)
    service.result(ASSOCIATE, AccessToken=service.token())
    begun = body(service.password(PASSWORD))
    tokens(service.respond(TOTP, begun["Session"], SOFTWARE_TOKEN_MFA_CODE=code_at(old, service.now + PERIOD)))
    new = service.enrol(ENABLED)
    begun = body(service.password(PASSWORD))
    for secret, result in ((old, answers.MISMATCH), (new, None)):
        answer = service.respond(TOTP, begun["Session"], SOFTWARE_TOKEN_MFA_CODE=code_at(secret, service.now + PERIOD))
        assert result in (answer, answer.error)


@pytest.mark.parametrize(
    ("factors", "preferred", "asked"),
    [
        (["SMS_MFA"], None, "SMS_MFA"),
        (["EMAIL_OTP"], None, "EMAIL_OTP"),
        ([TOTP], None, TOTP),
        (["SMS_MFA", "EMAIL_OTP"], None, "SELECT_MFA_TYPE"),
        (["SMS_MFA", TOTP], None, "SELECT_MFA_TYPE"),
        (["SMS_MFA", TOTP], "SMS_MFA", "SMS_MFA"),
        (["SMS_MFA", TOTP], TOTP, TOTP),
    ],
)
@pytest.mark.parametrize("mfa", ["optional", "required"])
def test_who_has_a_second_factor_is_asked_for_it(
    service: Service, mfa: str, factors: list[str], preferred: str | None, asked: str
) -> None:
    add(service, factors=factors, preferred=preferred)
    service.cognito.configure({"mfa": mfa})
    begun = body(service.password(PASSWORD))
    assert begun["ChallengeName"] == asked
    if asked == "SELECT_MFA_TYPE":
        assert json.loads(begun["ChallengeParameters"]["MFAS_CAN_CHOOSE"]) == factors
        chosen = service.respond(asked, begun["Session"], ANSWER=factors[0])
        assert challenge(chosen) == factors[0]
    elif asked != TOTP:
        assert service.respond(asked, begun["Session"], SMS_MFA_CODE="123456") == answers.MISMATCH
    told = service.result("GetUser", AccessToken=service.token())
    assert (told["UserMFASettingList"], told.get("PreferredMfaSetting")) == (factors, preferred)


def test_where_mfa_is_off_nobody_is_asked_and_nobody_enrols(service: Service) -> None:
    add(service, factors=[TOTP])
    service.cognito.configure({"mfa": "off"})
    token = tokens(service.password(PASSWORD))["AccessToken"]
    assert service.call(ASSOCIATE, AccessToken=token) == answers.TOTP_OFF
    assert service.call(PREFER, AccessToken=token, SoftwareTokenMfaSettings=ENABLED) == answers.TOTP_OFF


def hashed(secret: str, content: str) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), content.encode(), hashlib.sha256)).decode()


def test_a_client_with_a_secret_wants_its_hash_in_every_step() -> None:
    service = Service(password=PASSWORD, client_secret="s3cret", mfa="required")
    client = service.cognito.config.client_id
    right = hashed("s3cret", f"zoë{client}")

    def begin(**told: str) -> Answer:
        return service.begin("USER_PASSWORD_AUTH", USERNAME="zoë", PASSWORD=PASSWORD, **told)

    assert "SECRET_HASH was not received" in str(begin().body)
    assert "Unable to verify secret hash" in str(begin(SECRET_HASH=hashed("other", f"zoë{client}")).body)
    assert challenge(begin(SECRET_HASH=right)) == "MFA_SETUP"
    service.enrol(username="zoë")
    session = body(begin(SECRET_HASH=right))["Session"]
    assert "not received" in str(service.respond(TOTP, session, "zoë", SOFTWARE_TOKEN_MFA_CODE="000000").body)
    without = Service(password=PASSWORD)
    told = without.begin("USER_PASSWORD_AUTH", USERNAME="ana", PASSWORD=PASSWORD, SECRET_HASH=right)
    assert "without secret" in str(told.body)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"ClientId": "gone"}, "ResourceNotFoundException"),
        ({"AuthFlow": "USER_SRP_AUTH"}, "InvalidParameterException"),
        ({"AuthFlow": "ADMIN_USER_PASSWORD_AUTH"}, "InvalidParameterException"),
        ({"AuthFlow": None}, "InvalidParameterException"),
        ({"AuthParameters": None}, "InvalidParameterException"),
        ({"AuthParameters": {"PASSWORD": PASSWORD}}, "InvalidParameterException"),
        ({"AuthParameters": {"USERNAME": "ana"}}, "InvalidParameterException"),
        ({"AuthFlow": "CUSTOM_AUTH"}, "InvalidParameterException"),
    ],
)
def test_a_sign_in_that_makes_no_sense_is_refused(service: Service, changes: dict[str, Any], error: str) -> None:
    given = {"USERNAME": "ana", "PASSWORD": PASSWORD}
    asked = {**service.client(), "AuthFlow": "USER_PASSWORD_AUTH", "AuthParameters": given, **changes}
    assert service.call("InitiateAuth", **asked).error == error


def test_a_flow_that_the_client_does_not_allow_is_refused() -> None:
    service = Service(password=PASSWORD, flows=("ALLOW_CUSTOM_AUTH",))
    assert "not enabled for this client" in str(service.password(PASSWORD).body)


def admin(service: Service, authorization: str, pool: str = "us-east-1_rehearsal") -> Answer:
    return service.call(
        "AdminInitiateAuth",
        authorization=authorization,
        **service.client(),
        UserPoolId=pool,
        AuthFlow="ADMIN_USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": "ana", "PASSWORD": PASSWORD},
    )


@pytest.mark.parametrize(
    ("authorization", "error"),
    [
        ("", "MissingAuthenticationTokenException"),
        ("Bearer x", "IncompleteSignatureException"),
        (GOOD.replace("host;", ""), "IncompleteSignatureException"),
        (GOOD[:-1], "IncompleteSignatureException"),
        (GOOD.replace("us-east-1", "eu-west-1"), "InvalidSignatureException"),
        (GOOD.replace("cognito-idp", "sqs"), "InvalidSignatureException"),
    ],
)
def test_an_admin_call_must_be_signed(service: Service, authorization: str, error: str) -> None:
    assert admin(service, authorization).error == error
    preferred = service.call("AdminSetUserMFAPreference", authorization=authorization, Username="ana")
    assert preferred.error == error


def test_an_admin_signs_in_and_prefers(service: Service) -> None:
    assert admin(service, GOOD, "us-east-1_gone").error == "ResourceNotFoundException"
    tokens(admin(service, GOOD))
    asked = {"UserPoolId": "us-east-1_rehearsal", "Username": "ana", "SoftwareTokenMfaSettings": ENABLED}
    assert service.call("AdminSetUserMFAPreference", authorization=GOOD, **asked) == answers.NOT_VERIFIED
    service.enrol()
    service.call("AdminSetUserMFAPreference", authorization=GOOD, **asked)
    assert challenge(admin(service, GOOD)) == TOTP
    assert service.cognito.stats()["signed"] == {"AdminInitiateAuth": 3, "AdminSetUserMFAPreference": 2}


def test_each_category_has_a_quota_of_its_own() -> None:
    service = Service(quota=1, sign_in_quota=2, read_quota=3, password=PASSWORD, ticket_key=base64key())
    token = service.token()
    calls: list[tuple[Callable[[], Answer], int]] = [
        (lambda: service.call(ASSOCIATE, AccessToken=token), 1),
        (lambda: service.password(PASSWORD), 2),
        (lambda: service.respond("CUSTOM_CHALLENGE", "x" * 20), 6),
        (lambda: service.call("GetUser", AccessToken=token), 3),
    ]
    for call, times in calls:
        refused = [call() == answers.TOO_MANY_REQUESTS for _ in range(times + 1)]
        assert refused == [False] * times + [True]
    stats = service.cognito.stats()
    assert stats["wire_requests"] == 2, "the enrolments' category"
    assert {name: each["refused"] for name, each in stats["categories"].items()} == dict.fromkeys(Category, 1)
    service.cognito.configure({"sign_in_quota": None})
    tokens(service.password(PASSWORD))


def base64key() -> str:
    return base64.urlsafe_b64encode(bytes(range(32))).rstrip(b"=").decode()


def test_sign_ins_of_one_user_that_overlap_are_seen_and_not_refused(service: Service) -> None:
    asked = {**service.client(), "AuthFlow": "USER_PASSWORD_AUTH"}
    given = {"USERNAME": "ana", "PASSWORD": PASSWORD}
    calls = [service.cognito.arrive("InitiateAuth", {**asked, "AuthParameters": given}) for _ in range(2)]
    assert [service.cognito.act(call).error for call in calls] == [None, None]
    for call in calls:
        service.cognito.leave(call)
    stats = service.cognito.stats()
    assert (stats["sign_ins_overlapping"], stats["overlapping"], stats["in_flight"]) == ({"ana": 1}, {}, 0)


def test_what_cannot_be_set_is_refused() -> None:
    for wrong in ({"mfa": "on"}, {"flows": ["ALLOW_USER_SRP_AUTH"]}, {"sign_in_quota": 0}, {"token_validity": 0}):
        with pytest.raises(ValueError):
            FakeCognitoConfig(**wrong)
    with pytest.raises(ValueError, match="ticket_key"):
        Service(ticket_key="short")
    for wrong in ({"password": 7}, {"status": "GONE"}, {"factors": ["FAX"]}, {"preferred": TOTP}):
        with pytest.raises(ValueError):
            add(Service(), **wrong)
    assert user_from(None, "CONFIRMED", [], None) == User()
