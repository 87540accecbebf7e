"""What each of Cognito's answers means for the user, for the attempt and for everybody."""

from __future__ import annotations

import json

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from worker.adapters.cognito.answers import read_answer, read_date
from worker.core.model import CredentialKind, Issued, PoolFault, Reason, Refused, Reply, State, Trouble, TryAgain
from worker.core.rules import MAY_MEAN_IT_WORKED

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
SESSION, TOKEN = CredentialKind.SESSION, CredentialKind.ACCESS_TOKEN
GOOD = json.dumps({"SecretCode": SECRET, "Session": "n" * 40}).encode()


def error(code: str, message: str = "", status: int = 400) -> Reply:
    return read_answer(SESSION, status, {}, json.dumps({"__type": code, "message": message}).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        GOOD[:20],
        b'{"SecretCode": "\xff\xfe"}',
        b'{"SecretCode": "TOOSHORT"}',
        b'{"SecretCode": "not base32 at all, surely"}',
        b'{"SecretCode": 1234567890123456}',
        b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("kind", [SESSION, TOKEN])
def test_a_success_without_a_whole_secret_acted_and_nobody_has_it(kind: CredentialKind, body: bytes) -> None:
    assert read_answer(kind, 200, {}, body) == TryAgain(Trouble.NO_ANSWER, "NoSecretCode")


@pytest.mark.parametrize("session", [None, "", 5])
def test_a_secret_without_the_session_to_verify_it_is_lost(session: object) -> None:
    body = json.dumps({"SecretCode": SECRET, "Session": session}).encode()
    assert read_answer(SESSION, 200, {}, body) == TryAgain(Trouble.NO_ANSWER, "NoSession")


@pytest.mark.parametrize(
    ("kind", "message", "reason"),
    [
        (SESSION, "Invalid session for the user, session is expired.", Reason.SESSION_EXPIRED),
        (SESSION, "invalid SESSION for the user - session is EXPIRED", Reason.SESSION_EXPIRED),
        (SESSION, "Invalid session for the user, session can only be used once.", Reason.SESSION_SPENT),
        (SESSION, "Invalid session for the user.", Reason.SESSION_INVALID),
        (SESSION, "Something new", Reason.SESSION_INVALID),
        (SESSION, "", Reason.SESSION_INVALID),
        (TOKEN, "Invalid Access Token", Reason.TOKEN_REVOKED),
        (TOKEN, "Access Token has expired", Reason.TOKEN_EXPIRED),
        (TOKEN, "Access Token has been revoked", Reason.TOKEN_REVOKED),
        (TOKEN, "Access Token does not have required scopes", Reason.TOKEN_SCOPE),
        (TOKEN, "Something new", Reason.TOKEN_REVOKED),
    ],
)
@pytest.mark.parametrize("key", ["message", "Message"])
def test_a_refused_credential_says_why(kind: CredentialKind, message: str, reason: Reason, key: str) -> None:
    body = json.dumps({"__type": "NotAuthorizedException", key: message}).encode()
    assert read_answer(kind, 400, {}, body) == Refused(State.NEEDS_SESSION, reason)


@pytest.mark.parametrize(
    ("code", "message", "state", "reason"),
    [
        ("UserNotFoundException", "", State.FAILED, Reason.USER_NOT_FOUND),
        ("NotAuthorizedException", "User does not exist.", State.FAILED, Reason.USER_NOT_FOUND),
        ("UserNotConfirmedException", "", State.SKIPPED, Reason.UNCONFIRMED),
        ("NotAuthorizedException", "User is not confirmed.", State.SKIPPED, Reason.UNCONFIRMED),
        ("NotAuthorizedException", "User is disabled.", State.SKIPPED, Reason.DISABLED),
        ("PasswordResetRequiredException", "", State.NEEDS_SESSION, Reason.PASSWORD_RESET_REQUIRED),
        (
            "NotAuthorizedException",
            "Password reset required for the user",
            State.NEEDS_SESSION,
            Reason.PASSWORD_RESET_REQUIRED,
        ),
        (
            "NotAuthorizedException",
            "Temporary password has expired and must be reset by an administrator.",
            State.NEEDS_SESSION,
            Reason.PASSWORD_RESET_REQUIRED,
        ),
        ("UnsupportedUserStateException", "User is disabled.", State.SKIPPED, Reason.DISABLED),
    ],
)
@pytest.mark.parametrize("kind", [SESSION, TOKEN])
def test_a_user_whose_account_changed_is_told_so(
    kind: CredentialKind, code: str, message: str, state: State, reason: Reason
) -> None:
    body = json.dumps({"__type": code, "message": message}).encode()
    found = read_answer(kind, 400, {}, body)
    assert isinstance(found, Refused)
    assert (found.state, found.reason) == (state, reason)
    assert reason not in MAY_MEAN_IT_WORKED, "no success of an earlier call could have caused it"


@pytest.mark.parametrize(
    "code", ["InvalidParameterException", "SerializationException", "ValidationError", "RequestEntityTooLargeException"]
)
def test_malformed_input_fails_its_user(code: str) -> None:
    assert error(code) == Refused(State.FAILED, Reason.INVALID_PARAMETER)


COMMON = (
    "AccessDeniedException",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InternalFailure",
    "InvalidAction",
    "InvalidClientTokenId",
    "NotAuthorized",
    "OptInRequired",
    "RequestExpired",
    "ServiceUnavailable",
    "ThrottlingException",
    "UnknownOperationException",
    "UnrecognizedClientException",
    "ValidationError",
)
"""AWS's own list of errors that any operation may bring (Cognito API reference, "Common Errors")."""


def test_every_error_that_aws_lists_for_the_operation_is_known() -> None:
    model = botocore.session.get_session().get_service_model("cognito-idp")
    shapes = model.operation_model("AssociateSoftwareToken").error_shapes
    for code in [*(shape.name for shape in shapes), *COMMON]:
        found = error(code)
        is_failure_of_the_service = code in ("InternalErrorException", "InternalFailure", "ServiceUnavailable")
        assert (found == TryAgain(Trouble.SERVER_ERROR, code)) is is_failure_of_the_service, code


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        ("OperationNotEnabledException", "primary Region"),
        ("FeatureUnavailableInTierException", "feature plan"),
        ("OptInRequired", "account"),
        ("RequestExpired", "proxy"),
    ],
)
def test_a_fault_of_the_pool_names_its_own_cure(code: str, cure: str) -> None:
    found = error(code)
    assert isinstance(found, PoolFault)
    assert cure in found.cure


texts = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=40)
"""Text as JSON's escapes can make it, half characters too."""
values: st.SearchStrategy[object] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.just(SECRET)
    | st.just("NotAuthorizedException"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(["__type", "message", "Message", "code", "SecretCode", "Session"]) | texts
bodies = st.binary(max_size=60) | st.dictionaries(keys, values, max_size=6).map(
    lambda found: json.dumps(found).encode()
)
odd = st.text(st.characters(max_codepoint=255) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF), max_size=40)
"""What a header's bytes become when they are read."""
headers = st.dictionaries(st.sampled_from(["x-amzn-requestid", "x-amzn-errortype", "date"]), odd)


@given(st.sampled_from(CredentialKind), st.integers(200, 599), headers, bodies)
def test_no_answer_whatever_is_in_it_is_a_bug(
    kind: CredentialKind, status: int, headers: dict[str, str], body: bytes
) -> None:
    found = read_answer(kind, status, headers, body)
    if isinstance(found, Issued):
        to_json([found.secret_code.reveal(), found.session and found.session.reveal(), found.request_id])
    elif status < 300:
        assert isinstance(found, TryAgain)
        assert found.ambiguous
    read_date(headers)


@pytest.mark.parametrize("key", ["__type", "message", "SecretCode", "Session", "code"])
@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_that_is_nested_as_deeply_as_can_be_read_is_no_bug(key: str, status: int) -> None:
    nested = b"[" * 900 + b"]" * 900
    body = b'{"' + key.encode() + b'": ' + nested + b"}"
    assert isinstance(read_answer(SESSION, status, {}, body), TryAgain)


@pytest.mark.parametrize("secret", [r"JBSWY3DPEHPK3PX\u212a", r"JBSWY3DPEHPK3PX\u017f", r"JBSWY3DPEHPK3PX\ud800"])
def test_a_secret_with_letters_that_only_look_like_base32_is_none(secret: str) -> None:
    body = b'{"SecretCode": "' + secret.encode() + b'", "Session": "' + b"n" * 40 + b'"}'
    assert read_answer(SESSION, 200, {}, body) == TryAgain(Trouble.NO_ANSWER, "NoSecretCode")


@pytest.mark.parametrize(
    "code",
    [
        "TooManyRequestsException",
        "ThrottlingException",
        "LimitExceededException",
        "Throttling",
        "RequestLimitExceeded",
    ],
)
def test_every_way_of_saying_too_many_is_throttling(code: str) -> None:
    reply = error(code)
    assert reply == TryAgain(Trouble.THROTTLED, code)
    assert isinstance(reply, TryAgain)
    assert not reply.counts


def test_status_429_is_throttling_whatever_the_body_says() -> None:
    assert read_answer(SESSION, 429, {}, b"<html>slow down</html>") == TryAgain(Trouble.THROTTLED, "HTTP429")
    assert error("Novelty", status=429) == TryAgain(Trouble.THROTTLED, "Novelty")


def test_a_concurrent_modification_is_a_conflict_that_issued_nothing() -> None:
    reply = error("ConcurrentModificationException")
    assert reply == TryAgain(Trouble.CONFLICT, "ConcurrentModificationException")
    assert isinstance(reply, TryAgain)
    assert not reply.ambiguous


@pytest.mark.parametrize("status", [400, 500, 503])
def test_an_answered_failure_of_the_service_is_ambiguous(status: int) -> None:
    reply = error("InternalErrorException", status=status)
    assert reply == TryAgain(Trouble.SERVER_ERROR, "InternalErrorException")
    assert isinstance(reply, TryAgain)
    assert reply.ambiguous


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_a_failure_that_is_not_cognitos_own_may_be_acting_still(status: int) -> None:
    assert read_answer(SESSION, status, {}, b"<html>Bad Gateway</html>") == TryAgain(Trouble.NO_ANSWER, f"HTTP{status}")


@pytest.mark.parametrize(
    "code", ["SoftwareTokenMFANotFoundException", "ResourceNotFoundException", "OperationNotEnabledException"]
)
def test_what_stops_everybody_comes_with_a_cure(code: str) -> None:
    reply = error(code)
    assert isinstance(reply, PoolFault)
    assert (reply.code, reply.may_pass) == (code, False)
    assert reply.cure.endswith(".")


@pytest.mark.parametrize("status", [400, 403])
def test_a_refusal_by_the_firewall_may_pass(status: int) -> None:
    reply = error("ForbiddenException", status=status)
    assert isinstance(reply, PoolFault)
    assert reply.may_pass


def test_a_403_without_a_code_is_the_firewall() -> None:
    reply = read_answer(SESSION, 403, {}, b"<html>Forbidden</html>")
    assert isinstance(reply, PoolFault)
    assert (reply.code, reply.may_pass) == ("HTTP403", True)


def test_some_refusals_of_everybody_may_be_one_users_own() -> None:
    def may_be_own(code: str, message: str = "") -> bool:
        reply = error(code, message)
        assert isinstance(reply, PoolFault)
        return reply.may_be_own

    assert may_be_own("ResourceNotFoundException", "User pool client 1example23456789 does not exist.")
    assert not may_be_own("ResourceNotFoundException", "User pool us-east-1_Example does not exist.")
    assert may_be_own("ForbiddenException", "Request not allowed due to WAF block.")
    assert not may_be_own("SoftwareTokenMFANotFoundException")


def test_a_session_of_half_a_character_cannot_be_used_and_is_a_lost_reply() -> None:
    body = b'{"SecretCode": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", "Session": "AYABeQQQQQQQQQQQQQQQQ\\ud800QQQQQQQQ"}'
    assert read_answer(SESSION, 200, {}, body) == TryAgain(Trouble.NO_ANSWER, "NoSession")


@pytest.mark.parametrize("status", [301, 307, 404, 405])
def test_something_that_is_not_cognito_is_a_fault_of_the_settings(status: int) -> None:
    reply = read_answer(SESSION, status, {}, b"")
    assert isinstance(reply, PoolFault)
    assert "cognito.endpoint_url" in reply.cure


def test_nobody_fails_for_a_code_that_is_not_known() -> None:
    assert error("BrandNewException") == TryAgain(Trouble.SERVER_ERROR, "BrandNewException")
    assert read_answer(SESSION, 418, {}, b"short and stout") == TryAgain(Trouble.SERVER_ERROR, "HTTP418")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b'{"__type": "com.amazonaws.cognito#ConcurrentModificationException"}'),
        ({"x-amzn-errortype": "ConcurrentModificationException:http://internal.amazon.com/"}, b"{}"),
        ({"x-amzn-errortype": "ConcurrentModificationException"}, b"\xff"),
        ({}, b'{"code": "ConcurrentModificationException"}'),
    ],
)
def test_the_code_is_found_wherever_it_stands(headers: dict[str, str], body: bytes) -> None:
    assert read_answer(SESSION, 400, headers, body) == TryAgain(Trouble.CONFLICT, "ConcurrentModificationException")


def test_the_text_of_an_error_never_leaves() -> None:
    for reply in (
        error("Novel", "s3cret"),
        error("s3cret and\nmore", "s3cret"),
        error("NotAuthorizedException", "s3cret"),
    ):
        assert "s3cret" not in repr(reply)
