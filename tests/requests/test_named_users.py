"""Lines that name users become requests with tickets, and what names nobody is said."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import Malformed
from worker.requests.lines import read_lines
from worker.requests.message import Parser
from worker.requests.named_users import NamedUsers
from worker.requests.ticket import make_ticket

NOW = 1_700_000_000.0
POOL = "eu-central-1_AbCdEfGhI"
PARSER = Parser(POOL, 180.0, flow="custom_auth")


def ticket(username: str) -> str:
    return make_ticket(bytes(32), user_pool_id=POOL, client_id="app", username=username, not_after=NOW + 60)


def read(data: bytes | str, parser: Parser = PARSER) -> list[Any]:
    """What becomes of each line: a request, or why there is none."""
    users, found = NamedUsers(ticket), list[Any]()
    for line in read_lines(io.BytesIO(data if isinstance(data, bytes) else data.encode())):
        try:
            found.append(parser.to_push(users.message(line), NOW)[0])
        except Malformed as malformed:
            found.append(str(malformed))
    return found


def test_each_line_is_a_user_with_a_ticket_of_their_own() -> None:
    found = read("\ufeffada\r\n\n  zoë \n{odd}\nO'Neil, Shaquille\n")
    assert [request.username for request in found] == ["ada", "zoë", "{odd}", "O'Neil, Shaquille"]
    assert [request.credential.reveal() for request in found] == [ticket(request.username) for request in found]


def test_an_object_brings_what_a_request_may_say_but_a_credential() -> None:
    keys = {"username": "ada", "attributes": {"email": "a@b"}, "replace": True, "id": "7"}
    (request,) = read(json.dumps({**keys, "password": None, "ticket": None}))
    assert (request.username, request.attributes, request.replace, request.id) == ("ada", {"email": "a@b"}, True, "7")
    (exported,) = read('{"username": "ada", "state": "failed", "reason": "x", "since": "2025", "detail": "y"}')
    assert exported.credential.reveal() == ticket("ada")


def test_the_attribute_that_people_see_is_needed_here_too() -> None:
    parser = Parser(POOL, 180.0, "email", flow="custom_auth")
    assert read("ada", parser) == ["has no attribute email, which otp.account names as what people see"]
    assert read('{"username": "ada", "attributes": {"email": "a@b"}}', parser)[0].username == "ada"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff", "is not UTF-8"),
        ("x" * 129, "is no username: 1 to 128 characters"),
        ("ada\tbob\tcleo", "holds a tab"),
        ('["ada",', "is part of a JSON list"),
        ('  "ada",', "is part of a JSON list"),
        ("]", "is part of a JSON list"),
        ('{"username": "ada"', "is not JSON: it ends too early"),
        ('{"username": 7}', "username should be text of 1 to 128 characters"),
        ('{"username": "\\ud800"}', "is not JSON: half of a surrogate pair"),
        ('{"name": "ada"}', "has no username"),
        ('{"username": "ada", "session": "' + "s" * 40 + '"}', "has a session already; push it without --usernames"),
        ('{"username": "ada", "password": "hunter2"}', "has a password already; push it without --usernames"),
        ('{"username": "ada", "username": "bob"}', 'has two values for one key "username"'),
        ('{"username": "ada", "mail": "x"}', 'has the unknown key "mail"'),
    ],
)
def test_what_names_nobody_is_malformed_with_a_cure(data: bytes | str, why: str) -> None:
    (said,) = read(data)
    assert said.startswith(why)


@pytest.mark.parametrize("header", ["username,email", "cognito:username,name", "Username;Mail", "user_name\tmail"])
def test_a_table_is_said_for_each_of_its_lines(header: str) -> None:
    assert [said[:20] for said in read(f"{header}\nada,a@b\nbob,b@b\n")] == ["is part of a table, "] * 3


def test_whoever_is_called_username_is_a_user() -> None:
    assert [request.username for request in read("username\nusername,2\n")] == ["username", "username,2"]


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)


@given(names)
def test_any_name_in_an_object_gets_its_ticket(name: str) -> None:
    (request,) = read(json.dumps({"username": name}))
    assert (request.username, request.credential.reveal()) == (name, ticket(name))


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_lines_are_requests_or_malformed(lines: list[bytes]) -> None:
    for found in read(b"\n".join(lines)):
        assert isinstance(found, str) or found.credential.reveal() == ticket(found.username)
