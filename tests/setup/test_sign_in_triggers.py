"""The pool's triggers, called as Cognito calls them: who gets tokens, who is refused, and when nobody can say."""

from __future__ import annotations

import ast
import base64
import json
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.triggers import PATH, load_triggers

KEY = bytes(range(32))
KEY_LINE = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
POOL, CLIENT, USER = "us-east-1_Example", "exampleclient", "zoë"
NOT_AFTER, NOW = 1_800_000_000, 1_799_000_000.0
TICKET = "AAAAAGtJ0gBuAVoIjz9olYGBepofbbqKhuuEISnlM30vsDNE0USorA"
"""The contract's test vector, for all of the above."""


@pytest.fixture
def triggers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The triggers of a rollout that lasts as long as the ticket and a little longer."""
    monkeypatch.setenv("CLIENT_ID", CLIENT)
    monkeypatch.setenv("ROLLOUT_ENDS", str(NOT_AFTER + 60))
    monkeypatch.setattr(time, "time", lambda: NOW)
    module = load_triggers()
    module.read_key_with(lambda: f"{KEY_LINE}\n")
    return module


def event(source: str, *, pool: str = POOL, client: str = CLIENT, user: str = USER, **request: Any) -> dict[str, Any]:
    """What Cognito sends to a trigger; it comes as JSON, so that it is made of nothing else."""
    made = {
        "version": "1",
        "region": "us-east-1",
        "userPoolId": pool,
        "userName": user,
        "callerContext": {"awsSdkVersion": "aws-sdk-unknown-unknown", "clientId": client},
        "triggerSource": f"{source}_Authentication",
        "request": {"userAttributes": {"sub": "1", "cognito:user_status": "CONFIRMED"}, **request},
        "response": {},
    }
    return dict(json.loads(json.dumps(made)))


def define(triggers: ModuleType, *answered: tuple[str, bool], **more: Any) -> Any:
    session = [{"challengeName": name, "challengeResult": right, "challengeMetadata": None} for name, right in answered]
    return triggers.handler(event("DefineAuthChallenge", session=session, **more), None)["response"]


def verify(triggers: ModuleType, answer: Any, **more: Any) -> bool:
    called = event(
        "VerifyAuthChallengeResponse", challengeAnswer=answer, privateChallengeParameters={"asks": "ticket"}, **more
    )
    answered = triggers.handler(called, None)
    assert answered["userName"] == called["userName"]
    right = answered["response"]["answerCorrect"]
    assert isinstance(right, bool)
    return right


def ticket(key: bytes = KEY, pool: str = POOL, client: str = CLIENT, user: str = USER, at: int = NOT_AFTER) -> str:
    made = load_triggers().make_ticket(key, user_pool_id=pool, client_id=client, username=user, not_after=at)
    return str(made.decode())


# --- who gets tokens --------------------------------------------------------------------------------------------------

CHALLENGE = {"challengeName": "CUSTOM_CHALLENGE", "issueTokens": False, "failAuthentication": False}
TOKENS = {"issueTokens": True, "failAuthentication": False}
REFUSED = {"issueTokens": False, "failAuthentication": True}


def test_one_right_answer_brings_tokens(triggers: ModuleType) -> None:
    assert define(triggers) == CHALLENGE
    asked = triggers.handler(event("CreateAuthChallenge", challengeName="CUSTOM_CHALLENGE", session=[]), None)
    assert set(asked["response"]) == {"publicChallengeParameters", "privateChallengeParameters", "challengeMetadata"}
    assert verify(triggers, TICKET)
    assert define(triggers, ("CUSTOM_CHALLENGE", True)) == TOKENS


def test_the_whole_event_goes_back_as_it_came_but_for_the_response(triggers: ModuleType) -> None:
    came = event("DefineAuthChallenge", session=[], clientMetadata={"a": "b"})

    went = triggers.handler(json.loads(json.dumps(came)), None)

    assert {**went, "response": {}} == came


@pytest.mark.parametrize(
    "answered",
    [
        [("CUSTOM_CHALLENGE", False)],
        [("CUSTOM_CHALLENGE", False), ("CUSTOM_CHALLENGE", True)],
        [("CUSTOM_CHALLENGE", True), ("CUSTOM_CHALLENGE", True)],
        [("SRP_A", True)],
        [("PASSWORD_VERIFIER", True)],
        [("SRP_A", True), ("PASSWORD_VERIFIER", True)],
        [("SRP_A", True), ("PASSWORD_VERIFIER", True), ("CUSTOM_CHALLENGE", True)],
        [("SMS_MFA", True)],
    ],
)
def test_anything_but_one_right_answer_is_refused(triggers: ModuleType, answered: list[tuple[str, bool]]) -> None:
    assert define(triggers, *answered) == REFUSED


def test_a_session_that_is_not_there_is_the_beginning(triggers: ModuleType) -> None:
    assert triggers.handler(event("DefineAuthChallenge"), None)["response"] == CHALLENGE
    assert triggers.handler(event("DefineAuthChallenge", session=None), None)["response"] == CHALLENGE


@pytest.mark.parametrize("result", [None, "true", 1, "false", 0])
def test_a_result_that_is_not_true_is_no_right_answer(triggers: ModuleType, result: Any) -> None:
    session = [{"challengeName": "CUSTOM_CHALLENGE", "challengeResult": result}]

    answered = triggers.handler(event("DefineAuthChallenge", session=session), None)

    assert answered["response"] == REFUSED


@pytest.mark.parametrize("client", ["another", "", CLIENT.upper(), f"{CLIENT} "])
def test_every_other_app_client_is_refused_even_with_a_ticket_for_it(triggers: ModuleType, client: str) -> None:
    assert define(triggers, client=client) == REFUSED
    assert not verify(triggers, ticket(client=client), client=client)
    assert define(triggers, ("CUSTOM_CHALLENGE", True), client=client) == REFUSED


def test_an_unknown_user_is_asked_like_everybody_and_refused_like_a_wrong_ticket(triggers: ModuleType) -> None:
    assert define(triggers, userNotFound=True) == CHALLENGE
    assert not verify(triggers, TICKET, userNotFound=True)
    assert define(triggers, ("CUSTOM_CHALLENGE", True), userNotFound=True) == REFUSED
    assert verify(triggers, TICKET, userNotFound=False)


def test_after_the_rollout_everybody_is_refused(triggers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLOUT_ENDS", str(int(NOW)))

    assert define(triggers) == REFUSED
    assert not verify(triggers, TICKET)
    assert define(triggers, ("CUSTOM_CHALLENGE", True)) == REFUSED


@pytest.mark.parametrize("text", ["2027-01-15T08:00:00Z", "2027-01-15T09:00:00+01:00", f" {NOT_AFTER} ", "1800000000"])
def test_the_end_may_be_written_in_both_ways(triggers: ModuleType, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    assert datetime.fromtimestamp(NOT_AFTER, UTC).isoformat() == "2027-01-15T08:00:00+00:00"
    monkeypatch.setenv("ROLLOUT_ENDS", text)
    for now, response in ((NOT_AFTER - 1, CHALLENGE), (NOT_AFTER, REFUSED)):
        monkeypatch.setattr(time, "time", lambda now=now: float(now))
        assert define(triggers) == response


# --- tickets ----------------------------------------------------------------------------------------------------------


def test_the_ticket_is_the_one_of_the_contract(triggers: ModuleType) -> None:
    assert ticket() == TICKET
    assert verify(triggers, TICKET)


def test_a_ticket_is_good_until_the_second_that_it_names(triggers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOT_AFTER - 0.001)
    assert verify(triggers, TICKET)
    monkeypatch.setattr(time, "time", lambda: float(NOT_AFTER))
    assert not verify(triggers, TICKET)


BODY = base64.urlsafe_b64decode(TICKET + "==")
BAD: dict[str, Any] = {
    "another user's": ticket(user="ana"),
    "another way to write the name": ticket(user="zoe\u0308"),
    "another app client's": ticket(client="other"),
    "another pool's": ticket(pool="us-east-1_Other"),
    "another key's": ticket(key=bytes(32)),
    "expired": ticket(at=int(NOW) - 1),
    "of the year 0": ticket(at=0),
    "a later end on the same code": base64.urlsafe_b64encode((NOT_AFTER + 1).to_bytes(8, "big") + BODY[8:])[
        :54
    ].decode(),
    "cut": TICKET[:-1],
    "cut to its end": TICKET[:12],
    "cut to the code": TICKET[12:],
    "longer": f"{TICKET}A",
    "twice": TICKET * 2,
    "padded": f"{TICKET}==",
    "with a line's end": f"{TICKET}\n",
    "with a blank before it": f" {TICKET}",
    "in other letters": TICKET.upper(),
    "in small letters": TICKET.lower(),
    "with another last character of the same bytes": TICKET[:-1] + "B",
    "in base64 of the other alphabet": base64.b64encode(base64.urlsafe_b64decode(ticket(user="ana3") + "==")).decode(),
    "in hexadecimal": BODY.hex(),
    "of its bytes": BODY.decode("latin-1"),
    "empty": "",
    "none": None,
    "a number": 1_800_000_000,
    "true": True,
    "a list": [TICKET],
    "an object": {"ANSWER": TICKET},
    "huge": "A" * 1_000_000,
    "not ASCII": "é" * 54,
    "of look-alikes": TICKET.replace("A", "А"),  # Cyrillic
    "half a surrogate": "\ud800" * 54,
    "with a null": f"{TICKET[:53]}\0",
    "the key": KEY_LINE,
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_ticket_is_a_wrong_answer_and_no_failure(triggers: ModuleType, name: str) -> None:
    assert verify(triggers, BAD[name]) is False


def test_the_same_bytes_written_otherwise_are_no_ticket(triggers: ModuleType) -> None:
    with_sign = next(made for n in range(99) if "-" in (made := ticket(at=NOT_AFTER + n)) or "_" in made)
    assert verify(triggers, with_sign)
    assert not verify(triggers, with_sign.replace("-", "+").replace("_", "/"))


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda each: base64.urlsafe_b64encode(each).decode()))
def test_no_text_but_the_ticket_is_right(text: str) -> None:
    triggers = load_triggers()
    triggers.read_key_with(lambda: KEY_LINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIENT_ID", CLIENT)
        patch.setenv("ROLLOUT_ENDS", str(2**40))
        assert verify(triggers, text) is False


@given(
    user=st.text(min_size=1, max_size=128),
    other=st.text(min_size=1, max_size=128),
    at=st.integers(2**31, 2**39),
    place=st.integers(0, 53),
    letter=st.sampled_from("ABab01-_"),
)
def test_a_ticket_is_right_for_one_user_and_not_when_one_letter_differs(
    user: str, other: str, at: int, place: int, letter: str
) -> None:
    triggers = load_triggers()
    triggers.read_key_with(lambda: KEY_LINE)
    made = ticket(user=user, at=at)
    changed = made[:place] + letter + made[place + 1 :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIENT_ID", CLIENT)
        patch.setenv("ROLLOUT_ENDS", str(2**40))
        assert verify(triggers, made, user=user)
        assert verify(triggers, made, user=other) == (user == other)
        assert verify(triggers, changed, user=user) == (changed == made)


# --- when nobody can say ----------------------------------------------------------------------------------------------


def cannot(triggers: ModuleType, caplog: pytest.LogCaptureFixture, answer: str = TICKET) -> str:
    """Cognito gets no answer, which is no refusal; return what the function's log says."""
    caplog.clear()
    called = event("VerifyAuthChallengeResponse", challengeAnswer=answer)
    assert triggers.handler(called, None) is None
    with pytest.raises(triggers.NotReadyError):
        triggers.verify_auth_challenge_response(called)
    return caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        '{"key": "AAEC"}',
        KEY_LINE[:-1],
        f"{KEY_LINE}A",
        f"{KEY_LINE}=",
        KEY_LINE[:-1] + "9",
        f"{KEY_LINE}\n{KEY_LINE}",
        base64.b64encode(b"\xff" * 32).decode().rstrip("="),
        KEY.hex(),
        "é" * 43,
        "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ",
    ],
)
@pytest.mark.parametrize("answer", [TICKET, "wrong"])
def test_a_malformed_key_is_never_taken_for_a_wrong_ticket(
    triggers: ModuleType, caplog: pytest.LogCaptureFixture, text: str, answer: str
) -> None:
    triggers.read_key_with(lambda: text)

    said = cannot(triggers, caplog, answer)

    assert "keygen --ticket" in said
    assert not text.strip() or text.strip() not in said
    assert TICKET not in said


@pytest.mark.parametrize("name", ["CLIENT_ID", "ROLLOUT_ENDS"])
@pytest.mark.parametrize("value", ["", " ", None])
def test_what_is_not_set_is_named(
    triggers: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str | None,
) -> None:
    monkeypatch.delenv(name)
    if value is not None:
        monkeypatch.setenv(name, value)

    assert f"{name} is not set" in cannot(triggers, caplog)
    assert triggers.handler(event("DefineAuthChallenge", session=[]), None) is None


@pytest.mark.parametrize(
    "value", ["soon", "2027-01-15", "2027-01-15T08:00:00", "-1", "1e9", "١٨", "2027-13-01T00:00:00Z"]
)
def test_an_end_that_is_no_moment_lets_nobody_in(
    triggers: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    monkeypatch.setenv("ROLLOUT_ENDS", value)

    assert "ROLLOUT_ENDS is no time such as" in cannot(triggers, caplog)
    assert triggers.handler(event("DefineAuthChallenge", session=[]), None) is None


def test_as_another_trigger_it_answers_nothing(triggers: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    called = event("DefineAuthChallenge", session=[]) | {"triggerSource": "PreSignUp_SignUp"}

    assert triggers.handler(called, None) is None
    assert "three triggers" in caplog.text


def test_a_new_key_counts_after_a_minute_and_until_then_nothing_is_asked(
    triggers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, read, texts = 100.0, list[str](), [KEY_LINE]

    def secret_text() -> str:
        read.append(texts[-1])
        return texts[-1]

    monkeypatch.setattr(time, "monotonic", lambda: now)
    triggers.read_key_with(secret_text)
    assert [verify(triggers, TICKET) for _ in range(3)] == [True] * 3
    texts.append(base64.urlsafe_b64encode(bytes(32)).decode().rstrip("="))
    now += triggers.KEY_LIVES - 1
    assert verify(triggers, TICKET)
    now += 1
    assert not verify(triggers, TICKET)
    assert verify(triggers, ticket(key=bytes(32)))
    assert len(read) == 2


def test_a_key_that_is_taken_away_counts_no_longer_than_a_minute(
    triggers: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, texts = 100.0, [KEY_LINE]
    monkeypatch.setattr(time, "monotonic", lambda: now)
    triggers.read_key_with(lambda: texts[-1])
    assert verify(triggers, TICKET)
    texts.append("")
    now += triggers.KEY_LIVES

    assert cannot(triggers, caplog)
    texts.append(KEY_LINE)
    assert verify(triggers, TICKET)


# --- Secrets Manager, as boto3 would be -------------------------------------------------------------------------------


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[Any]]:
    """What Secrets Manager answers from now on (an exception is raised); returns how it was asked."""
    asked: list[Any] = []

    def answers(answer: Any) -> list[Any]:
        def get_secret_value(**arguments: Any) -> Any:
            asked.append(arguments)
            if isinstance(answer, Exception):
                raise answer
            return answer

        def client(*arguments: Any, **more: Any) -> SimpleNamespace:
            asked.append((arguments, more))
            return SimpleNamespace(get_secret_value=get_secret_value)

        monkeypatch.setitem(sys.modules, "boto3", SimpleNamespace(client=client))
        return asked

    return answers


def test_the_key_comes_from_the_secret_that_the_environment_names(
    triggers: ModuleType, monkeypatch: pytest.MonkeyPatch, secret: Callable[[Any], list[Any]]
) -> None:
    monkeypatch.setenv("KEY_SECRET", "arn:aws:secretsmanager:…:secret:key")
    asked = secret({"SecretString": f"{KEY_LINE}\n"})
    fresh = load_triggers()

    assert verify(fresh, TICKET)
    assert asked[-1] == {"SecretId": "arn:aws:secretsmanager:…:secret:key"}
    (arguments, more) = asked[0]
    assert arguments == ("secretsmanager",)
    assert more["config"].connect_timeout + more["config"].read_timeout < 5


@pytest.mark.parametrize("answer", [{"SecretBinary": b"\0" * 32}, {"SecretString": ""}, {}])
def test_a_secret_without_a_text_is_no_key(
    triggers: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    secret: Callable[[Any], list[Any]],
    answer: Any,
) -> None:
    monkeypatch.setenv("KEY_SECRET", "key")
    secret(answer)

    assert "the secret holds no key" in cannot(load_triggers(), caplog)


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "AccessDeniedException", "ThrottlingException"])
def test_a_secret_that_cannot_be_read_is_named_with_its_cause(
    triggers: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    secret: Callable[[Any], list[Any]],
    code: str,
) -> None:
    from botocore.exceptions import ClientError, ConnectTimeoutError

    monkeypatch.setenv("KEY_SECRET", "key")
    for error in (ClientError({"Error": {"Code": code}}, "GetSecretValue"), ConnectTimeoutError(endpoint_url="x")):
        secret(error)
        assert "cannot be read" in cannot(load_triggers(), caplog)


def test_without_a_secrets_name_nobody_is_asked(
    triggers: ModuleType, caplog: pytest.LogCaptureFixture, secret: Callable[[Any], list[Any]]
) -> None:
    secret({"SecretString": KEY_LINE})

    assert "KEY_SECRET is not set" in cannot(load_triggers(), caplog)


# --- what is said of it, and what it is made of -----------------------------------------------------------------------


def test_a_refusal_is_logged_in_a_word_and_nothing_of_the_ticket(
    triggers: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [value for value in BAD.values() if isinstance(value, str) and len(value) > 8]
    for answer in answers:
        verify(triggers, answer)
    verify(triggers, TICKET)

    assert "refused: the ticket has expired" in caplog.text
    assert "refused: the ticket is not this user's" in caplog.text
    for secret in [*answers, TICKET, TICKET[12:], KEY_LINE, USER]:
        assert secret not in caplog.text


def test_it_is_made_of_the_standard_library_and_what_lambda_has() -> None:
    imported = set[str]()
    for node in ast.walk(ast.parse(PATH.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])

    assert imported - sys.stdlib_module_names == {"boto3", "botocore"}
