"""The fake Cognito runs the triggers that a real pool installs, and both judge the same tickets alike.

The tickets are made here by the contract's words alone, so that neither side proves itself.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.fake_service import Service, body
from tests.support.pool_triggers import CLIENT, KEY, installed
from worker.rehearsal.fake_cognito import answers
from worker.rehearsal.fake_cognito.answers import Answer
from worker.rehearsal.fake_cognito.triggers import Trigger

POOL = "us-east-1_rehearsal"


def ticket(
    username: str = "ana", *, pool: str = POOL, client: str = CLIENT, lives: int = 3600, key: bytes = bytes(range(32))
) -> str:
    not_after = int(time.time()) + lives
    text = f"mfa-worker ticket v1\n{pool}\n{client}\n{username}\n{not_after}"
    code = hmac.digest(key, text.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(not_after.to_bytes(8, "big") + code).rstrip(b"=").decode()


@pytest.fixture(params=["the pool's own", "the fake's"])
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Service:
    if request.param == "the fake's":
        return Service(ticket_key=KEY, now=time.time())
    return Service(trigger=installed(monkeypatch.setenv).handler, now=time.time())


@pytest.mark.parametrize("username", ["ana", "zoë", "👩‍👩‍👧", "a\nb", " ", "x" * 128])
def test_a_ticket_lets_its_user_in(service: Service, username: str) -> None:
    assert body(service.ticket(ticket(username), username))["AuthenticationResult"]["AccessToken"]


def test_a_ticket_can_be_used_again(service: Service) -> None:
    for _ in range(2):
        body(service.ticket(ticket()))


def re_encoded(text: str) -> str:
    """Another spelling that decodes to the same bytes: the last character has two bits to spare."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) + 1]


def other_end(text: str) -> str:
    """The same code with a later end."""
    raw = base64.urlsafe_b64decode(text + "==")
    later = (int.from_bytes(raw[:8], "big") + 1).to_bytes(8, "big")
    return base64.urlsafe_b64encode(later + raw[8:]).rstrip(b"=").decode()


BAD: dict[str, Callable[[], str]] = {
    "another user's": lambda: ticket("ben"),
    "another client's": lambda: ticket(client="another"),
    "another pool's": lambda: ticket(pool="us-east-1_another"),
    "of another key": lambda: ticket(key=bytes(32)),
    "expired": lambda: ticket(lives=-1),
    "cut": lambda: ticket()[:-1],
    "longer": lambda: ticket() + "A",
    "padded": lambda: ticket() + "==",
    "with a line end": lambda: ticket() + "\n",
    "re-encoded": lambda: re_encoded(ticket()),
    "with another end": lambda: other_end(ticket()),
    "in base64 proper": lambda: ticket().replace("-", "+").replace("_", "/") + "==",
    "empty": lambda: "",
    "no base64": lambda: "é" * 54,
    "short": lambda: "AAAA",
    "very long": lambda: "A" * 10_000,
}


@pytest.mark.parametrize("bad", BAD)
def test_whatever_is_no_ticket_of_this_user_here_and_now_is_a_wrong_password(service: Service, bad: str) -> None:
    assert service.ticket(BAD[bad]()) == answers.WRONG_PASSWORD


def test_after_a_wrong_answer_the_session_is_spent(service: Service) -> None:
    session = body(service.begin("CUSTOM_AUTH", USERNAME="ana"))["Session"]
    assert service.respond("CUSTOM_CHALLENGE", session, ANSWER=ticket("ben")) == answers.WRONG_PASSWORD
    assert service.respond("CUSTOM_CHALLENGE", session, ANSWER=ticket()) == answers.SESSION_SPENT


def test_a_session_of_one_user_is_not_answered_by_another(service: Service) -> None:
    session = body(service.begin("CUSTOM_AUTH", USERNAME="ana"))["Session"]
    assert service.respond("CUSTOM_CHALLENGE", session, "ben", ANSWER=ticket("ben")) == answers.SESSION_INVALID
    body(service.respond("CUSTOM_CHALLENGE", session, ANSWER=ticket()))


def test_who_cannot_sign_in_is_told_before_the_challenge(service: Service) -> None:
    service.cognito.configure({"knows_everybody": False})
    assert service.ticket(ticket()) == answers.NO_USER
    service.cognito.configure({"prevent_user_existence_errors": True})
    assert service.ticket(ticket()) == answers.WRONG_PASSWORD


@pytest.mark.parametrize("mfa", ["optional", "required"])
def test_custom_auth_asks_for_no_second_factor(service: Service, mfa: str) -> None:
    service.cognito.configure({"mfa": mfa})
    service.enrol({"Enabled": True, "PreferredMfa": True})
    assert body(service.ticket(ticket()))["AuthenticationResult"]["AccessToken"]


def test_without_triggers_there_is_no_custom_auth() -> None:
    assert Service().ticket(ticket()) == answers.NO_TRIGGERS


@pytest.mark.parametrize("ends", ["1577836800", "2020-01-01T00:00:00Z"])
def test_after_the_end_of_the_rollout_the_pool_refuses_everything(monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    service = Service(trigger=installed(monkeypatch.setenv, ROLLOUT_ENDS=ends).handler, now=time.time())
    assert service.ticket(ticket()) == answers.WRONG_PASSWORD


def test_the_pool_refuses_every_other_app_client(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(trigger=installed(monkeypatch.setenv, CLIENT_ID="another").handler, now=time.time())
    assert service.ticket(ticket()) == answers.WRONG_PASSWORD


@pytest.mark.parametrize("environment", [{"ROLLOUT_ENDS": "soon"}, {"CLIENT_ID": ""}])
def test_a_pool_that_is_set_up_wrongly_refuses_nobody_for_good(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    service = Service(trigger=installed(monkeypatch.setenv, **environment).handler, now=time.time())
    assert service.ticket(ticket()).error == "InvalidLambdaResponseException"


def test_a_missing_key_refuses_nobody_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    module = installed(monkeypatch.setenv)
    module.read_key_with(lambda: "no key")
    service = Service(trigger=module.handler, now=time.time())
    assert service.ticket(ticket()).error == "InvalidLambdaResponseException"


def test_triggers_that_fail_are_told_as_cognito_tells_it() -> None:
    def raises(event: dict[str, Any], _context: object) -> dict[str, Any]:
        raise RuntimeError("not you")

    def unknown_challenge(event: dict[str, Any], _context: object) -> dict[str, Any]:
        return event | {"response": {"challengeName": "SRP_A"}}

    told: Answer = Service(trigger=raises).ticket(ticket())
    assert (told.error, "not you" in str(told.body)) == ("UserLambdaValidationException", True)
    answered_with: list[Trigger] = [lambda *_: None, lambda *_: {}, unknown_challenge]
    for nonsense in answered_with:
        assert Service(trigger=nonsense).ticket(ticket()).error == "InvalidLambdaResponseException"
