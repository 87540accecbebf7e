"""Requests whose credential signs the user in when it is their turn: tickets and passwords."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import Malformed
from worker.core.model import NEVER, CredentialKind
from worker.requests.message import Parser
from worker.requests.ticket import make_ticket

POOL = "eu-central-1_AbCdEfGhI"
NOW = 1_700_000_000.0
FLOWS = ("none", "custom_auth", "user_password", "admin_user_password")
PARSERS = {flow: Parser(POOL, 180.0, flow=flow) for flow in FLOWS}
TICKETS, PASSWORDS = PARSERS["custom_auth"], PARSERS["user_password"]
PASSWORD = "Tr0ub4dor&3"
TICKET = make_ticket(bytes(32), user_pool_id=POOL, client_id="app", username="zoë", not_after=NOW + 3600)
CREDENTIALS = {
    "session": "s" * 40,
    "access_token": "x.y.z",
    "ticket": TICKET,
    "password": PASSWORD,
}
FITTING = {
    "none": {"session", "access_token"},
    "custom_auth": {"session", "access_token", "ticket"},
    "user_password": {"session", "access_token", "password"},
    "admin_user_password": {"session", "access_token", "password"},
}


def message(**keys: Any) -> bytes:
    return json.dumps({"username": "zoë", **keys}).encode()


def why(parser: Parser, raw: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        parser.to_push(raw, NOW)
    with pytest.raises(Malformed) as again:
        parser.parse(raw, NOW)
    assert str(again.value) == str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("key", CREDENTIALS)
def test_a_credential_fits_the_flow_or_is_malformed_with_a_reason_that_names_the_setting(flow: str, key: str) -> None:
    raw = message(**{key: CREDENTIALS[key]})
    if key in FITTING[flow]:
        assert PARSERS[flow].parse(raw, NOW).kind == CredentialKind(key)
    else:
        said = why(PARSERS[flow], raw)
        assert "sign_in.flow" in said
        assert f"and it is {flow}" in said
        assert all(each in said for each in FITTING[flow])


@pytest.mark.parametrize("flow", FLOWS)
def test_there_is_exactly_one_credential(flow: str) -> None:
    keys = [key for key in CREDENTIALS if key in FITTING[flow]]
    assert why(PARSERS[flow], message()) == f"has no credential; add {' or '.join(keys)}"
    assert why(PARSERS[flow], message(**dict.fromkeys(keys))) == f"has no credential; add {' or '.join(keys)}"
    for second in keys[1:]:
        both = message(**{key: CREDENTIALS[key] for key in (keys[0], second)})
        assert why(PARSERS[flow], both) == f"has both {keys[0]} and {second}; keep one"
    first = message(**dict.fromkeys(CREDENTIALS) | {keys[-1]: CREDENTIALS[keys[-1]]})
    assert PARSERS[flow].parse(first, NOW).kind == CredentialKind(keys[-1])


# --- tickets ----------------------------------------------------------------------------------------------------------


def test_a_ticket_lives_until_the_moment_in_it_and_is_one_request_however_often_it_is_pushed() -> None:
    request, body = TICKETS.to_push(message(ticket=TICKET), NOW)
    assert (request.kind, request.expires_at) == (CredentialKind.TICKET, NOW + 3600)
    assert request.id == hashlib.sha256(TICKET.encode()).hexdigest()
    assert json.loads(body) == {"username": "zoë", "ticket": TICKET}
    assert TICKETS.parse(body, NOW + 1e9, latest=0.0, origin="a message") == request
    assert TICKET not in repr(request)


@pytest.mark.parametrize(
    ("keys", "expires"),
    [
        ({"expires_at": "2023-11-14T22:20:00Z"}, 1_700_000_400.0),
        ({"expires_at": "2099-01-01T00:00:00Z"}, NOW + 3600),
        ({"issued_at": "2023-11-14T22:00:00Z"}, NOW + 3600),
    ],
)
def test_an_earlier_end_counts_and_no_later_one(keys: dict[str, str], expires: float) -> None:
    assert TICKETS.parse(message(ticket=TICKET, **keys), NOW).expires_at == expires


@pytest.mark.parametrize(("moment", "expires"), [(0, 0.0), (1, 1.0), (2**63, NEVER), (2**64 - 1, NEVER)])
def test_any_moment_is_a_deadline(moment: int, expires: float) -> None:
    ticket = base64.urlsafe_b64encode(moment.to_bytes(8, "big") + bytes(32)).decode().rstrip("=")
    assert TICKETS.parse(message(ticket=ticket), NOW).expires_at == expires


@pytest.mark.parametrize(
    "ticket",
    [
        "",
        TICKET[:-1],
        TICKET + "=",
        TICKET + "==",
        TICKET + "A",
        TICKET[:-1] + chr(ord(TICKET[-1]) + 1),
        "+" * 54,
        "é" * 54,
        base64.urlsafe_b64decode(TICKET + "==").hex(),
        "x" * 10_000,
    ],
)
def test_what_is_no_ticket_is_malformed_and_not_repeated(ticket: str) -> None:
    said = why(TICKETS, message(ticket=ticket))
    assert "is no ticket" in said
    assert len(ticket) < 8 or ticket not in said


@pytest.mark.parametrize("value", [7, True, ["x"], {"x": 1}])
def test_a_credential_that_is_no_text_is_malformed(value: object) -> None:
    assert why(TICKETS, message(ticket=value)) == "ticket should be text of 54 characters"
    assert why(PASSWORDS, message(password=value)) == "password should be text of 1 to 256 characters"
    assert "sign_in.flow" in why(TICKETS, message(password=value))


# --- passwords --------------------------------------------------------------------------------------------------------


def test_a_password_does_not_expire_unless_it_says_so() -> None:
    assert PASSWORDS.parse(message(password=PASSWORD), NOW).expires_at == NEVER
    ends = message(password=PASSWORD, expires_at="2023-11-14T22:20:00Z")
    assert PASSWORDS.parse(ends, NOW).expires_at == 1_700_000_400.0


@pytest.mark.parametrize("password", ["x", "é" * 256, " ", "\0", "\u202e\u2066\U0001f984", '"quoted"', PASSWORD])
def test_any_text_of_up_to_256_characters_is_a_password(password: str) -> None:
    request, body = PASSWORDS.to_push(message(password=password), NOW)
    assert request.credential.reveal() == PASSWORDS.parse(body, NOW).credential.reveal() == password
    assert password not in request.id or len(password) == 1


@pytest.mark.parametrize("password", ["", "x" * 257, "y" * 10_000])
def test_any_other_is_malformed_and_not_repeated(password: str) -> None:
    assert why(PASSWORDS, message(password=password)) == "password should be text of 1 to 256 characters"


def test_push_gives_it_a_random_id_which_stays_while_it_waits() -> None:
    request, body = PASSWORDS.to_push(message(password=PASSWORD), NOW)
    again, _ = PASSWORDS.to_push(message(password=PASSWORD), NOW)
    assert request.id != again.id
    assert PASSWORDS.parse(body, NOW + 60, latest=NOW, origin="of the queue") == request
    assert PASSWORDS.to_push(message(password=PASSWORD, id="row 7"), NOW)[0].id == "row 7"
    assert json.loads(PASSWORDS.body(message(password=PASSWORD, id=None), NOW))["id"]


def test_one_that_was_not_pushed_is_known_by_its_message() -> None:
    raw = message(password=PASSWORD)
    assert PASSWORDS.parse(raw, NOW, origin="a message").id == "a message"
    assert PASSWORDS.to_push(raw, NOW, origin="line 7")[0].id == "line 7"
    assert PASSWORDS.parse(raw, NOW).id != PASSWORDS.parse(raw, NOW).id
    assert TICKETS.parse(message(session="s" * 40), NOW, origin="x").id == hashlib.sha256(b"s" * 40).hexdigest()


def test_of_what_is_malformed_where_passwords_come_nothing_is_digested() -> None:
    for raw in (b"zo\xc3\xab,hunter2", message(session="hunter2"), message(pw="hunter2"), b"hunter2", b"{}"):
        assert [PARSERS[flow].digest(raw) for flow in FLOWS[2:]] == ["withheld"] * 2
    assert TICKETS.digest(b"{}") == hashlib.sha256(b"{}").hexdigest()[:16]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"hunter": 1}, "has the unknown key of 6 characters"),
        ({"hunter_two": 1}, "has the unknown key of 10 characters"),
        ({"unter": 1}, "has the unknown key of 5 characters"),
        ({"passwort": 1}, 'has the unknown key "passwort"; did you mean password?'),
    ],
)
def test_no_name_of_a_key_that_has_to_do_with_the_password_is_repeated(keys: dict[str, Any], said: str) -> None:
    assert why(PASSWORDS, message(password="hunter", **keys)) == said


def test_two_passwords_in_one_message_are_malformed() -> None:
    twice = message(password=PASSWORD)[:-1] + b', "password": "another"}'
    assert why(PASSWORDS, twice) == 'has two values for one key "password"; keep one'


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)


@given(texts, texts, st.sampled_from(["password", "session", "ticket", "pw", "id"]), st.booleans())
def test_no_reason_repeats_what_may_be_a_password(username: str, secret: str, key: str, twice: bool) -> None:
    marked = f"Ω{secret}Ω"
    raw = json.dumps({"username": username, key: marked, marked: 1}).encode()
    raw = raw[:-1] + b', "username": "x"}' if twice else raw
    assert not any("Ω" in why(parser, raw) for parser in PARSERS.values())


@given(texts, texts, texts.map(lambda text: text[:64]))
def test_what_is_pushed_is_what_is_read_back(username: str, password: str, attribute: str) -> None:
    raw = json.dumps({"username": username, "password": password, "attributes": {"a": attribute}}).encode()
    request, body = PASSWORDS.to_push(raw, NOW)
    assert PASSWORDS.parse(body, NOW + 99) == request
    assert request.username == username
