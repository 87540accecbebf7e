"""Signing users in and looking at them: what leaves, over a real wire on loopback, and what each answer means."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.adapters.cognito.test_answers import COMMON, bodies, headers
from tests.support.wire import Wire, answer, unused_port
from worker.adapters.cognito.client import CognitoClient, cognito
from worker.adapters.cognito.sign_in import SignInConfig, secret_hash
from worker.adapters.cognito.sign_in_answers import (
    ADMIN_INITIATE,
    INITIATE,
    LONGEST_TOKEN,
    RESPOND,
    SHORTEST_TOKEN,
    Asked,
    read_look,
    read_sign_in,
)
from worker.core.clock import EndpointClock, SystemClock
from worker.core.model import (
    AlreadyEnrolled,
    CredentialKind,
    CustomChallenge,
    NotEnrolled,
    PoolFault,
    Reason,
    Refused,
    Request,
    Secret,
    SignedIn,
    SignInReply,
    State,
    Trouble,
    TryAgain,
)

SESSION: Final = CredentialKind.SESSION
TOKEN: Final = CredentialKind.ACCESS_TOKEN
TICKET, PASSWORD = CredentialKind.TICKET, CredentialKind.PASSWORD
POOL, NOW = "eu-west-1_Example", 1_800_000_000.0
S = "AYABe" + "s" * 40


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def token(**claims: object) -> str:
    iss = f"https://cognito-idp.eu-west-1.amazonaws.com/{POOL}"
    whole = {"username": "ana", "token_use": "access", "iss": iss, "exp": NOW + 3600}
    return f"{part({'alg': 'RS256'})}.{part({**whole, **claims})}.c2lnbmF0dXJl"


def result(access_token: str = "", **more: object) -> dict[str, object]:
    issued = {"AccessToken": access_token or token(), "RefreshToken": "REFRESH", "IdToken": "ID", "ExpiresIn": 3600}
    return {"AuthenticationResult": {**issued, **more}, "ChallengeParameters": {}}


def challenge(name: str, **parameters: object) -> dict[str, object]:
    return {"ChallengeName": name, "Session": S, "ChallengeParameters": parameters}


def asked(kind: CredentialKind = PASSWORD, operation: Any = INITIATE) -> Asked:
    return Asked(operation, "ana", kind, POOL, 180.0, NOW)


def read(content: object, status: int = 200, kind: CredentialKind = PASSWORD, operation: Any = INITIATE) -> SignInReply:
    return read_sign_in(asked(kind, operation), status, {}, json.dumps(content).encode())


def error(code: str, message: str = "", kind: CredentialKind = PASSWORD, operation: Any = INITIATE) -> SignInReply:
    return read({"__type": code, "message": message}, 400, kind, operation)


def request(kind: CredentialKind, credential: str = "s" * 54, username: str = "ana") -> Request:
    return Request(username, kind, Secret(credential), id="1", expires_at=2e9)


def config(flow: str = "custom_auth", secret: str | None = None) -> SignInConfig:
    return SignInConfig(flow, "exampleclient", Secret(secret) if secret else None, POOL, 180.0)


async def ask(wire: Wire, sign_in: SignInConfig, what: Any, content: object = None) -> Any:
    wire.does = answer(json.dumps(result() if content is None else content).encode())
    clock = EndpointClock(SystemClock())
    async with cognito("eu-west-1", endpoint_url=wire.url, clock=clock, sign_in=sign_in) as client:
        return await what(client)


def sent(wire: Wire) -> tuple[str, Any]:
    ((head, body),) = wire.seen
    assert "authorization:" not in head.lower(), "nothing is signed"
    (target,) = [line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("x-amz-target")]
    return target.removeprefix("AWSCognitoIdentityProviderService."), json.loads(body)


# --- what leaves ------------------------------------------------------------------------------------------------------


async def test_a_ticket_begins_with_the_username_alone(wire: Wire) -> None:
    reply = await ask(wire, config(), lambda client: client.begin(request(TICKET)), challenge("CUSTOM_CHALLENGE"))
    assert reply == CustomChallenge(Secret(S))
    parameters = {"AuthFlow": "CUSTOM_AUTH", "ClientId": "exampleclient", "AuthParameters": {"USERNAME": "ana"}}
    assert sent(wire) == ("InitiateAuth", parameters)


async def test_the_ticket_answers_the_challenge(wire: Wire) -> None:
    reply = await ask(wire, config(), lambda client: client.answer(request(TICKET), CustomChallenge(Secret(S))))
    assert isinstance(reply, SignedIn)
    assert sent(wire) == (
        "RespondToAuthChallenge",
        {
            "ChallengeName": "CUSTOM_CHALLENGE",
            "ClientId": "exampleclient",
            "Session": S,
            "ChallengeResponses": {"USERNAME": "ana", "ANSWER": "s" * 54},
        },
    )


@pytest.mark.parametrize("username", ["ana", "zoë", 'a"\\\u2028', "\ud800"])
async def test_a_password_and_the_proof_of_the_clients_secret_are_sent(wire: Wire, username: str) -> None:
    password = request(PASSWORD, 'p"\ud800ä', username)
    await ask(wire, config("user_password", "s3cret"), lambda client: client.begin(password))
    proof = secret_hash(Secret("s3cret"), username, "exampleclient")
    parameters = {"USERNAME": username, "SECRET_HASH": proof, "PASSWORD": 'p"\ud800ä'}
    assert sent(wire) == (
        "InitiateAuth",
        {"AuthFlow": "USER_PASSWORD_AUTH", "ClientId": "exampleclient", "AuthParameters": parameters},
    )


async def test_an_answer_proves_the_secret_too(wire: Wire) -> None:
    challenged = CustomChallenge(Secret(S))
    await ask(wire, config(secret="s3cret"), lambda client: client.answer(request(TICKET), challenged))
    proof = secret_hash(Secret("s3cret"), "ana", "exampleclient")
    assert sent(wire)[1]["ChallengeResponses"]["SECRET_HASH"] == proof


def test_the_proof_is_the_documented_one() -> None:
    """Made with openssl: printf 'anaexampleclient' | openssl dgst -sha256 -hmac s3cret -binary | base64"""
    assert secret_hash(Secret("s3cret"), "ana", "exampleclient") == "4y3jMUoxKz+Q2vf3DpX4owM5g+NAAlvJL+hclwcos1M="


async def test_looking_sends_the_token(wire: Wire) -> None:
    found = {"Username": "ana", "UserAttributes": [], "UserMFASettingList": ["SOFTWARE_TOKEN_MFA"]}
    assert await ask(wire, config(), lambda client: client.look(request(TOKEN, "t")), found) == AlreadyEnrolled()
    assert sent(wire) == ("GetUser", {"AccessToken": "t"})


@pytest.mark.parametrize("method", ["begin", "answer", "look"])
async def test_a_wire_that_fails_is_a_trouble_and_nothing_else(method: str) -> None:
    async def make(client: CognitoClient) -> Any:
        more = [CustomChallenge(Secret(S))] if method == "answer" else []
        return await getattr(client, method)(request(TICKET), *more)

    clock = EndpointClock(SystemClock())
    with unused_port() as url:
        async with cognito("eu-west-1", endpoint_url=url, clock=clock, sign_in=config()) as client:
            assert await make(client) == TryAgain(Trouble.UNSENT, "ClientConnectorError")


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_tokens_are_the_access_token_and_how_long_it_lives() -> None:
    assert read(result()) == SignedIn(TOKEN, Secret(token()), 3600.0)


@pytest.mark.parametrize("said", [None, 0, -5, True, "3600", 86_401, 1e300, 10**400, float("nan"), float("inf")])
def test_a_lifetime_that_cannot_be_is_the_tokens_own(said: object) -> None:
    reply = read(result(token(exp=NOW + 900), ExpiresIn=said))
    assert isinstance(reply, SignedIn)
    assert reply.lives == 900.0


@pytest.mark.parametrize("exp", [None, NOW - 1, NOW + LONGEST_TOKEN + 1, "soon", 10**400])
def test_where_nothing_says_how_long_the_shortest_is_believed(exp: object) -> None:
    reply = read(result(token(exp=exp), ExpiresIn=None))
    assert isinstance(reply, SignedIn)
    assert reply.lives == SHORTEST_TOKEN


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        (token(username="eve"), "user"),
        (token(username="Ana"), "user"),
        (token(token_use="id"), "id_token"),
        (token(username=None), "unreadable"),
        ("opaque", "unreadable"),
        ("a.b.c", "unreadable"),
        ("a.\u00fc.c", "unreadable"),
        (f"a.{part([])}.c", "unreadable"),
    ],
)
def test_a_token_that_is_not_this_users_is_never_used(given: str, detail: str) -> None:
    assert read(result(given)) == Refused(State.FAILED, Reason.CREDENTIAL_MISMATCH, detail)


def test_a_client_of_another_pool_is_a_fault_of_the_settings() -> None:
    reply = read(result(token(iss="https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Other")))
    assert isinstance(reply, PoolFault)
    assert "sign_in.client_id" in reply.cure


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        None,
        {"AuthenticationResult": None},
        {"AuthenticationResult": {}},
        {"AuthenticationResult": []},
        {"AuthenticationResult": {"AccessToken": ""}},
        {"AuthenticationResult": {"AccessToken": "\ud800"}},
        {"ChallengeName": 5},
    ],
)
def test_a_success_without_anything_is_a_lost_reply(content: object) -> None:
    assert read(content) == TryAgain(Trouble.NO_ANSWER, "NoAccessToken")


# --- challenges -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "can",
    [
        '["SOFTWARE_TOKEN_MFA"]',
        '["SMS_MFA","SOFTWARE_TOKEN_MFA"]',
        "SOFTWARE_TOKEN_MFA",
        "SMS_MFA, SOFTWARE_TOKEN_MFA",
        ["SOFTWARE_TOKEN_MFA"],
        ["SMS_MFA", "SOFTWARE_TOKEN_MFA"],
        None,
    ],
)
def test_who_may_set_up_totp_has_a_session(can: object) -> None:
    assert read(challenge("MFA_SETUP", MFAS_CAN_SETUP=can)) == SignedIn(SESSION, Secret(S), 180.0)


@pytest.mark.parametrize("can", ['["SMS_MFA"]', "[]", "", [], ["EMAIL_OTP"], "SOFTWARE_TOKEN_MFA_NOT", 5, {}])
def test_who_may_not_set_up_totp_is_left_to_a_person(can: object) -> None:
    assert read(challenge("MFA_SETUP", MFAS_CAN_SETUP=can)) == unanswerable("MFA_SETUP")


def unanswerable(name: str | None) -> Refused:
    return Refused(State.NEEDS_SESSION, Reason.CHALLENGE_UNANSWERABLE, name)


@pytest.mark.parametrize("session", [None, "", 5, "\ud800"])
@pytest.mark.parametrize("name", ["MFA_SETUP", "CUSTOM_CHALLENGE"])
def test_a_challenge_without_its_session_is_a_lost_reply(session: object, name: str) -> None:
    content = {**challenge(name), "Session": session}
    assert read(content, kind=TICKET) == TryAgain(Trouble.NO_ANSWER, "NoSession")


def test_a_code_of_totp_is_asked_of_whoever_is_enrolled() -> None:
    assert read(challenge("SOFTWARE_TOKEN_MFA", FRIENDLY_DEVICE_NAME="x")) == AlreadyEnrolled()
    chosen = challenge("SELECT_MFA_TYPE", MFAS_CAN_CHOOSE='["SMS_MFA","SOFTWARE_TOKEN_MFA"]')
    assert read(chosen) == AlreadyEnrolled()
    assert read(challenge("SELECT_MFA_TYPE", MFAS_CAN_CHOOSE='["SMS_MFA"]')) == unanswerable("SELECT_MFA_TYPE")
    assert read(challenge("SELECT_MFA_TYPE")) == unanswerable("SELECT_MFA_TYPE")


@pytest.mark.parametrize("name", ["MFA_SETUP", "SOFTWARE_TOKEN_MFA"])
def test_a_challenge_of_somebody_who_was_named_by_an_alias_is_not_this_users(name: str) -> None:
    found = read(challenge(name, MFAS_CAN_SETUP='["SOFTWARE_TOKEN_MFA"]', USER_ID_FOR_SRP="0b9f"))
    assert found == Refused(State.FAILED, Reason.CREDENTIAL_MISMATCH, "user")
    own = challenge(name, MFAS_CAN_SETUP='["SOFTWARE_TOKEN_MFA"]', USER_ID_FOR_SRP="ana")
    assert not isinstance(read(own), Refused)


MODEL: Any = botocore.session.get_session().get_service_model("cognito-idp")
NAMES = MODEL.shape_for("ChallengeNameType").enum


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("operation", [INITIATE, ADMIN_INITIATE, RESPOND])
def test_every_challenge_of_the_model_has_a_verdict(name: str, operation: Any) -> None:
    reply = read(challenge(name, MFAS_CAN_SETUP='["SMS_MFA"]'), operation=operation)
    if name == "SOFTWARE_TOKEN_MFA":
        assert reply == AlreadyEnrolled()
    elif name == "CUSTOM_CHALLENGE" and operation is RESPOND:
        assert reply == Refused(State.NEEDS_SESSION, Reason.SIGN_IN_REFUSED)
    else:
        assert reply == unanswerable(name)


def test_a_challenge_whose_name_is_none_is_not_repeated() -> None:
    assert read(challenge("s3cret and\nmore")) == unanswerable(None)


def test_a_second_challenge_means_that_the_ticket_was_refused() -> None:
    reply = read(challenge("CUSTOM_CHALLENGE"), kind=TICKET, operation=RESPOND)
    assert reply == Refused(State.NEEDS_SESSION, Reason.SIGN_IN_REFUSED)


# --- errors -----------------------------------------------------------------------------------------------------------

ECHO = "1 validation error detected: Value 'a secret hash, flow not enabled for this client' at 'x' failed to satisfy"
NO_HASH = "Client 1example23456789 is configured with secret but SECRET_HASH was not received"


@pytest.mark.parametrize(
    ("code", "message", "state", "reason"),
    [
        ("NotAuthorizedException", "Incorrect username or password.", State.NEEDS_SESSION, Reason.SIGN_IN_REFUSED),
        ("NotAuthorizedException", "Something new", State.NEEDS_SESSION, Reason.SIGN_IN_REFUSED),
        ("NotAuthorizedException", "", State.NEEDS_SESSION, Reason.SIGN_IN_REFUSED),
        (
            "NotAuthorizedException",
            "Unable to login because of security reasons.",
            State.NEEDS_SESSION,
            Reason.SIGN_IN_REFUSED,
        ),
        (
            "UserLambdaValidationException",
            "PreAuthentication failed with error User is disabled.",
            State.NEEDS_SESSION,
            Reason.SIGN_IN_REFUSED,
        ),
        ("NotAuthorizedException", "User is disabled.", State.SKIPPED, Reason.DISABLED),
        ("NotAuthorizedException", "User is not confirmed.", State.SKIPPED, Reason.UNCONFIRMED),
        ("UserNotConfirmedException", "User is not confirmed.", State.SKIPPED, Reason.UNCONFIRMED),
        ("UserNotFoundException", "User does not exist.", State.FAILED, Reason.USER_NOT_FOUND),
        (
            "PasswordResetRequiredException",
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
        (
            "InvalidParameterException",
            ECHO,
            State.FAILED,
            Reason.INVALID_PARAMETER,
        ),
    ],
)
@pytest.mark.parametrize("operation", [INITIATE, ADMIN_INITIATE, RESPOND])
def test_what_is_one_users_own(code: str, message: str, state: State, reason: Reason, operation: Any) -> None:
    reply = error(code, message, operation=operation)
    assert isinstance(reply, Refused)
    assert (reply.state, reply.reason) == (state, reason)


@pytest.mark.parametrize(
    ("code", "message", "cure"),
    [
        ("NotAuthorizedException", "Unable to verify secret hash for client 1example", "sign_in.client_secret"),
        ("NotAuthorizedException", NO_HASH, "sign_in.client_secret"),
        ("InvalidParameterException", NO_HASH, "sign_in.client_secret"),
        ("NotAuthorizedException", "Client 1ex is configured for secret but secret was not received", "client_secret"),
        ("InvalidParameterException", "USER_PASSWORD_AUTH flow not enabled for this client", "ExplicitAuthFlows"),
        ("InvalidParameterException", "Auth flow not enabled for this client", "ExplicitAuthFlows"),
        ("InvalidParameterException", "CUSTOM_AUTH is not enabled for the client.", "ExplicitAuthFlows"),
        ("InvalidParameterException", "Initiate Auth method not supported.", "ExplicitAuthFlows"),
        (
            "InvalidParameterException",
            "Custom auth lambda trigger is not configured for the user pool.",
            "config/sign-in",
        ),
        ("ResourceNotFoundException", "User pool client 1example does not exist.", "sign_in.client_id"),
        ("ResourceNotFoundException", "User pool eu-west-1_Example does not exist.", "cognito.user_pool_id"),
        ("InvalidUserPoolConfigurationException", "", "configuration"),
    ],
)
@pytest.mark.parametrize("operation", [INITIATE, ADMIN_INITIATE, RESPOND])
def test_what_concerns_everybody_comes_with_its_cure(code: str, message: str, cure: str, operation: Any) -> None:
    reply = error(code, message, operation=operation)
    assert isinstance(reply, PoolFault)
    assert cure in reply.cure
    assert reply.cure.endswith(".")
    assert not reply.may_pass
    assert not reply.may_be_own
    assert reply.code.startswith(code)


def test_too_many_wrong_passwords_wait_and_are_no_attempt() -> None:
    reply = error("NotAuthorizedException", "Password attempts exceeded")
    assert reply == TryAgain(Trouble.LOCKED, "NotAuthorizedException")
    assert isinstance(reply, TryAgain)
    assert not reply.counts


@pytest.mark.parametrize("code", ["UnexpectedLambdaException", "InvalidLambdaResponseException"])
def test_a_trigger_that_fails_is_tried_again_and_may_be_the_pools(code: str) -> None:
    reply = error(code, "CreateAuthChallenge failed with error …")
    assert isinstance(reply, TryAgain)
    assert (reply.trouble, reply.detail, reply.counts) == (Trouble.SERVER_ERROR, code, True)
    assert reply.fault is not None
    assert (reply.fault.code, reply.fault.may_pass, reply.fault.may_be_own) == (code, True, True)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Invalid session for the user, session is expired.", Reason.SESSION_EXPIRED),
        ("Invalid session for the user, session can only be used once.", Reason.SESSION_SPENT),
        ("Invalid session for the user.", Reason.SESSION_INVALID),
    ],
)
def test_a_challenge_whose_session_died_says_nothing_of_the_ticket(message: str, reason: Reason) -> None:
    for code in ("NotAuthorizedException", "CodeMismatchException"):
        assert error(code, message, TICKET, RESPOND) == Refused(State.NEEDS_SESSION, reason)


@pytest.mark.parametrize("code", ["TooManyRequestsException", "ThrottlingException", "LimitExceededException"])
def test_too_many_is_throttling(code: str) -> None:
    assert error(code) == TryAgain(Trouble.THROTTLED, code)


@pytest.mark.parametrize("operation", [INITIATE, ADMIN_INITIATE, RESPOND])
def test_every_error_that_aws_lists_for_a_sign_in_is_known(operation: Any) -> None:
    shapes = MODEL.operation_model(operation.name).error_shapes
    for code in [*(shape.name for shape in shapes), *COMMON]:
        reply = error(code, operation=operation)
        of_the_service = code in ("InternalErrorException", "InternalFailure", "ServiceUnavailable")
        assert (reply == TryAgain(Trouble.SERVER_ERROR, code)) is of_the_service, code
        if isinstance(reply, PoolFault):
            assert "AssociateSoftwareToken" not in reply.cure, code
            assert "{" not in reply.cure, code


def test_the_firewalls_cure_is_the_pace_of_sign_ins() -> None:
    reply = error("ForbiddenException", "Request not allowed due to WAF block.")
    assert isinstance(reply, PoolFault)
    assert "sign_in.requests_per_second" in reply.cure
    assert reply.may_pass


def test_an_unknown_code_is_tried_again() -> None:
    assert error("BrandNewException") == TryAgain(Trouble.SERVER_ERROR, "BrandNewException")


@pytest.mark.parametrize("secret", ["s3cret", "REFRESH", "ID"])
def test_nothing_secret_is_shown(secret: str) -> None:
    for reply in (
        error("Novel", secret),
        error("NotAuthorizedException", secret),
        read(result()),
        read(challenge("X")),
    ):
        assert secret not in repr(reply)


# --- looking ----------------------------------------------------------------------------------------------------------


def look(content: object, status: int = 200) -> Any:
    return read_look(status, {}, json.dumps(content).encode())


def test_looking_tells_who_has_totp() -> None:
    assert look({"Username": "ana", "UserMFASettingList": ["SMS_MFA", "SOFTWARE_TOKEN_MFA"]}) == AlreadyEnrolled()
    assert look({"Username": "ana", "UserMFASettingList": ["SMS_MFA"]}) == NotEnrolled()
    assert look({"Username": "ana", "UserMFASettingList": []}) == NotEnrolled()
    assert look({"Username": "ana"}) == NotEnrolled()


@pytest.mark.parametrize(
    "content",
    [{}, [], None, {"UserMFASettingList": []}, {"Username": "ana", "UserMFASettingList": "SOFTWARE_TOKEN_MFA"}],
)
def test_an_answer_that_is_not_whole_tells_nothing(content: object) -> None:
    assert look(content) == TryAgain(Trouble.NO_ANSWER, "NoUser")


@pytest.mark.parametrize(
    ("message", "reason"),
    [("Access Token has expired", Reason.TOKEN_EXPIRED), ("Access Token has been revoked", Reason.TOKEN_REVOKED)],
)
def test_looking_with_a_dead_token_says_so(message: str, reason: Reason) -> None:
    refusal = {"__type": "NotAuthorizedException", "message": message}
    assert look(refusal, 400) == Refused(State.NEEDS_SESSION, reason)


# --- whatever comes ---------------------------------------------------------------------------------------------------

odd_fields = st.sampled_from(["ChallengeName", "ChallengeParameters", "AuthenticationResult", "Session", "Username"])
odd_values: st.SearchStrategy[object] = st.sampled_from(
    ["MFA_SETUP", "CUSTOM_CHALLENGE", "SOFTWARE_TOKEN_MFA", "SELECT_MFA_TYPE", "\ud800", S, {}, [], 5, None, [{}], [[]]]
)
odd = st.dictionaries(odd_fields, odd_values).map(lambda found: json.dumps(found).encode())


@given(
    st.sampled_from([TICKET, PASSWORD]),
    st.sampled_from([INITIATE, ADMIN_INITIATE, RESPOND]),
    st.integers(200, 599),
    headers,
    bodies | odd,
)
def test_no_answer_whatever_is_in_it_is_a_bug(
    kind: CredentialKind, operation: Any, status: int, heads: Mapping[str, str], body: bytes
) -> None:
    read_sign_in(asked(kind, operation), status, heads, body)
    read_look(status, heads, body)
