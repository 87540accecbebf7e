"""Verifying a secret and preferring TOTP: what leaves, over a real wire on loopback, and what each answer means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.adapters.cognito.test_answers import COMMON, bodies, headers
from tests.support.wire import Wire, answer
from worker.adapters.cognito.activation_answers import ADMIN_PREFER, PREFER, read_prefer, read_verify
from worker.adapters.cognito.client import cognito
from worker.core.clock import EndpointClock, SystemClock
from worker.core.model import (
    CredentialKind,
    PoolFault,
    Preferred,
    PreferReply,
    Reason,
    Refused,
    Request,
    Secret,
    State,
    Trouble,
    TryAgain,
    Verified,
    VerifyReply,
    WrongCode,
)

SESSION, TOKEN = CredentialKind.SESSION, CredentialKind.ACCESS_TOKEN
NEXT = "n" * 40
NOT_VERIFIED = "User does not have delivery config set to turn on SOFTWARE_TOKEN_MFA"
MODEL: Any = botocore.session.get_session().get_service_model("cognito-idp")


def verify(content: object, kind: CredentialKind = SESSION, status: int = 200) -> VerifyReply:
    return read_verify(kind, status, {}, json.dumps(content).encode())


def verify_error(code: str, message: str = "", kind: CredentialKind = SESSION) -> VerifyReply:
    return verify({"__type": code, "message": message}, kind, 400)


def prefer_error(operation: Any, code: str, message: str = "") -> PreferReply:
    kind = SESSION if operation is ADMIN_PREFER else TOKEN
    return read_prefer(operation, kind, 400, {}, json.dumps({"__type": code, "message": message}).encode())


def request(kind: CredentialKind) -> Request:
    return Request("zoë", kind, Secret("s" * 40), id="1", expires_at=2e9)


async def ask(wire: Wire, what: Any, content: object) -> Any:
    wire.does = answer(json.dumps(content).encode())
    async with cognito("eu-west-1", endpoint_url=wire.url, clock=EndpointClock(SystemClock())) as client:
        return await what(client)


# --- what leaves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "key"), [(SESSION, "Session"), (TOKEN, "AccessToken")])
async def test_a_code_is_sent_with_the_credential(wire: Wire, kind: CredentialKind, key: str) -> None:
    secret = Secret("012345")
    assert await ask(wire, lambda client: client.verify(request(kind), secret), {"Status": "SUCCESS"}) == Verified()
    ((head, body),) = wire.seen
    assert "x-amz-target: awscognitoidentityproviderservice.verifysoftwaretoken\r\n" in head.lower()
    assert "authorization:" not in head.lower()
    assert json.loads(body) == {key: "s" * 40, "UserCode": "012345"}


async def test_the_preference_is_set_with_the_token(wire: Wire) -> None:
    assert await ask(wire, lambda client: client.prefer(request(TOKEN)), {}) == Preferred()
    ((head, body),) = wire.seen
    assert "x-amz-target: awscognitoidentityproviderservice.setusermfapreference\r\n" in head.lower()
    assert "authorization:" not in head.lower()
    settings = {"Enabled": True, "PreferredMfa": True}
    assert json.loads(body) == {"AccessToken": "s" * 40, "SoftwareTokenMfaSettings": settings}


# --- verifying --------------------------------------------------------------------------------------------------------


def test_only_success_is_success() -> None:
    assert verify({"Status": "SUCCESS", "Session": NEXT}) == Verified()
    assert verify({"Status": "SUCCESS"}, TOKEN) == Verified()


@pytest.mark.parametrize(
    ("content", "session"),
    [
        ({"Status": "ERROR", "Session": NEXT}, Secret(NEXT)),
        ({"Status": "ERROR"}, None),
        ({"Status": "ERROR", "Session": ""}, None),
        ({"Status": "ERROR", "Session": 5}, None),
        ({"Status": "ERROR", "Session": "\ud800"}, None),
    ],
)
def test_an_error_within_a_success_is_a_wrong_code_with_the_session_that_came(
    content: object, session: Secret | None
) -> None:
    assert verify(content) == WrongCode(session, "ERROR")
    assert verify(content, TOKEN) == WrongCode(None, "ERROR")


@pytest.mark.parametrize("code", ["EnableSoftwareTokenMFAException", "CodeMismatchException", "ExpiredCodeException"])
def test_a_wrong_code_is_one_whatever_it_is_called(code: str) -> None:
    assert verify_error(code, "Code mismatch and fail enable Software Token MFA") == WrongCode(None, code)


@pytest.mark.parametrize("content", [{}, [], None, {"Status": ""}, {"Status": "success"}, {"Status": ["SUCCESS"]}])
def test_a_success_without_a_status_is_a_lost_reply(content: object) -> None:
    assert verify(content) == TryAgain(Trouble.NO_ANSWER, "NoStatus")


@pytest.mark.parametrize(
    ("kind", "message", "reason"),
    [
        (SESSION, "Invalid session for the user, session is expired.", Reason.SESSION_EXPIRED),
        (SESSION, "Invalid session for the user, session can only be used once.", Reason.SESSION_SPENT),
        (SESSION, "Invalid session for the user.", Reason.SESSION_INVALID),
        (TOKEN, "Access Token has expired", Reason.TOKEN_EXPIRED),
        (TOKEN, "Access Token has been revoked", Reason.TOKEN_REVOKED),
        (TOKEN, "Access Token does not have required scopes", Reason.TOKEN_SCOPE),
    ],
)
def test_a_credential_that_died_says_how(kind: CredentialKind, message: str, reason: Reason) -> None:
    found = verify_error("NotAuthorizedException", message, kind)
    assert found == Refused(State.NEEDS_SESSION, reason, "NotAuthorizedException")


def test_a_secret_that_is_gone_may_be_one_users_own() -> None:
    found = verify_error("SoftwareTokenMFANotFoundException")
    assert isinstance(found, PoolFault)
    assert (found.may_pass, found.may_be_own) == (False, True)


@pytest.mark.parametrize("code", ["TooManyRequestsException", "TooManyFailedAttemptsException", "ThrottlingException"])
def test_too_many_is_throttling(code: str) -> None:
    assert verify_error(code) == TryAgain(Trouble.THROTTLED, code)


def test_every_error_that_aws_lists_for_verifying_is_known() -> None:
    shapes = MODEL.operation_model("VerifySoftwareToken").error_shapes
    for code in [*(shape.name for shape in shapes), *COMMON]:
        found = verify_error(code)
        of_the_service = code in ("InternalErrorException", "InternalFailure", "ServiceUnavailable")
        assert (found == TryAgain(Trouble.SERVER_ERROR, code)) is of_the_service, code


# --- preferring -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"{}", b"", b" {} "])
def test_a_success_has_nothing_to_say(body: bytes) -> None:
    assert read_prefer(PREFER, TOKEN, 200, {}, body) == Preferred()


@pytest.mark.parametrize("body", [b"<html>sign in to this network</html>", b"null", b"OK"])
def test_a_page_is_no_success(body: bytes) -> None:
    assert read_prefer(PREFER, TOKEN, 200, {}, body) == TryAgain(Trouble.NO_ANSWER, "NoObject")


@pytest.mark.parametrize("operation", [PREFER, ADMIN_PREFER])
def test_who_is_not_verified_is_refused(operation: Any) -> None:
    found = prefer_error(operation, "InvalidParameterException", NOT_VERIFIED)
    assert found == Refused(State.FAILED, Reason.INVALID_PARAMETER, "InvalidParameterException")


@pytest.mark.parametrize("operation", [PREFER, ADMIN_PREFER])
def test_every_error_that_aws_lists_for_preferring_is_known(operation: Any) -> None:
    shapes = MODEL.operation_model(operation.name).error_shapes
    for code in [*(shape.name for shape in shapes), *COMMON]:
        found = prefer_error(operation, code)
        of_the_service = code in ("InternalErrorException", "InternalFailure", "ServiceUnavailable")
        assert (found == TryAgain(Trouble.SERVER_ERROR, code)) is of_the_service, code


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        ("AccessDeniedException", "cognito-idp:AdminSetUserMFAPreference"),
        ("UnrecognizedClientException", "AWS credentials"),
        ("ExpiredTokenException", "AWS credentials"),
        ("InvalidSignatureException", "AWS credentials"),
        ("OptInRequired", "AWS account"),
    ],
)
def test_what_aws_has_against_a_signed_request_is_a_persons_business(code: str, cure: str) -> None:
    found = prefer_error(ADMIN_PREFER, code, "User: arn:aws:sts::1:assumed-role/w/i is not authorized to perform: …")
    assert isinstance(found, PoolFault)
    assert cure in found.cure
    assert (found.may_pass, found.may_be_own) == (False, False)


def test_a_signature_that_expired_is_the_clocks() -> None:
    found = prefer_error(ADMIN_PREFER, "InvalidSignatureException", "Signature expired: 2026… is now earlier than …")
    assert isinstance(found, PoolFault)
    assert "clock" in found.cure


def test_an_unsigned_request_that_is_called_unsigned_meets_something_else() -> None:
    found = prefer_error(PREFER, "MissingAuthenticationTokenException")
    assert isinstance(found, PoolFault)
    assert "SetUserMFAPreference is not signed" in found.cure


# --- whatever comes ---------------------------------------------------------------------------------------------------

odd = st.dictionaries(
    st.sampled_from(["Status", "Session"]), st.sampled_from(["SUCCESS", "ERROR", "\ud800", NEXT, [], {}, 5, None])
).map(lambda found: json.dumps(found).encode())


@given(st.sampled_from([SESSION, TOKEN]), st.integers(200, 599), headers, bodies | odd)
def test_no_answer_whatever_is_in_it_is_a_bug(
    kind: CredentialKind, status: int, heads: Mapping[str, str], body: bytes
) -> None:
    read_verify(kind, status, heads, body)
    for operation in (PREFER, ADMIN_PREFER):
        read_prefer(operation, kind, status, heads, body)
