"""What a message may say, what becomes of it, and that nothing of a bad one is ever repeated."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import Malformed
from worker.core.model import MISMATCHES, CredentialKind, Request, Secret
from worker.requests.lines import MAX_MESSAGE
from worker.requests.message import Parser

POOL = "eu-central-1_AbCdEfGhI"
NOW = 1_700_000_000.0
SESSION = "AYABeN0tRealBut" + "x7Qz" * 40
PARSER = Parser(POOL, 180.0)


def message(**keys: Any) -> bytes:
    return json.dumps({"username": "alice", "session": SESSION} | keys).encode()


def token(**claims: Any) -> str:
    claims = {"username": "alice", "iss": f"https://idp.example/{POOL}", "exp": NOW + 3600} | claims
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + ".c2lnbmF0dXJl"


def with_token(access_token: str, **keys: Any) -> bytes:
    return json.dumps({"username": "alice", "access_token": access_token} | keys).encode()


def why(raw: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        PARSER.parse(raw, NOW)
    return str(caught.value)


def either(raw: bytes) -> Request | str:
    """The request, or why it is none."""
    try:
        return PARSER.parse(raw, NOW)
    except Malformed as error:
        return str(error)


def test_a_session_lives_from_the_moment_it_was_pushed() -> None:
    request = PARSER.parse(message(), NOW)
    assert (request.username, request.kind, request.expires_at) == ("alice", CredentialKind.SESSION, NOW + 180)
    assert request.credential == Secret(SESSION)
    assert not request.mismatch
    assert SESSION not in repr(request)


def test_a_session_lives_from_issued_at_where_that_is_known() -> None:
    assert PARSER.parse(message(issued_at="2025-01-31T12:00:00Z"), NOW).expires_at == 1738324800 + 180


@pytest.mark.parametrize(
    ("issued", "lives_from"), [(None, NOW), ("9999-12-31T23:59:59Z", NOW - 5), ("2020-01-01T00:00:00Z", 1577836800)]
)
def test_no_session_was_issued_after_its_message_was_sent_whatever_it_says(
    issued: str | None, lives_from: float
) -> None:
    """The script's clock may be wrong; SQS's is not."""
    keys = {} if issued is None else {"issued_at": issued}
    latest = NOW if issued is None else NOW - 5
    assert PARSER.parse(message(**keys), NOW, latest=latest).expires_at == lives_from + 180


def test_when_a_message_was_sent_bounds_no_deadline_that_is_stated() -> None:
    stated = message(expires_at="9999-12-31T23:59:59Z")
    assert PARSER.parse(stated, NOW, latest=NOW).expires_at == 253402300799
    assert PARSER.parse(with_token(token()), NOW, latest=0.0) == PARSER.parse(with_token(token()), NOW)


@pytest.mark.parametrize("text", ["2025-01-31T13:00:00+01:00", "2025-01-31t12:00:00z", "2025-01-31 12:00:00.000000Z"])
def test_expires_at_rules_over_everything_else(text: str) -> None:
    assert PARSER.parse(message(expires_at=text, issued_at="2020-01-01T00:00:00Z"), NOW).expires_at == 1738324800
    assert PARSER.parse(with_token(token(), expires_at=text), NOW).expires_at == 1738324800


@pytest.mark.parametrize(
    "text",
    [
        "2025-01-31",
        "2025-01-31T12:00:00",
        "20250131T120000Z",
        "2025-W05-5T12:00:00Z",
        "2025-02-30T12:00:00Z",
        "",
        "now",
    ],
)
def test_a_time_that_is_not_rfc_3339_with_a_zone_is_malformed(text: str) -> None:
    assert why(message(issued_at=text)).startswith("issued_at should be a time")
    assert why(with_token(token(), issued_at=text)).startswith("issued_at should be a time")


def test_a_token_lives_as_long_as_its_exp_claim_says() -> None:
    request = PARSER.parse(with_token(token()), NOW)
    assert (request.kind, request.expires_at, request.mismatch) == (CredentialKind.ACCESS_TOKEN, NOW + 3600, "")


@pytest.mark.parametrize(
    ("claims", "mismatch"),
    [
        ({"username": "mallory"}, "user"),
        ({"username": "Alice"}, "user"),
        ({"iss": "https://idp.example/eu-central-1_Other"}, "pool"),
        ({"iss": "https://idp.example/eu-central-1_Other", "username": "mallory"}, "pool"),
        ({"token_use": "id", "username": ""}, "id_token"),
        ({"token_use": 5}, "unreadable"),
    ],
)
def test_a_token_that_does_not_fit_its_request_says_in_what(claims: dict[str, Any], mismatch: str) -> None:
    assert PARSER.parse(with_token(token(**claims)), NOW).mismatch == mismatch
    assert mismatch in MISMATCHES


@pytest.mark.parametrize("claims", [{"client_id": "one"}, {"client_id": "another"}, {"token_use": "access"}])
def test_tokens_of_any_app_client_of_the_pool_fit(claims: dict[str, Any]) -> None:
    assert PARSER.parse(with_token(token(**claims)), NOW).mismatch == ""


@pytest.mark.parametrize(
    "credential",
    [
        *("opaque", "a.b.c", "..", "e30.e30.e30", "x." + base64.urlsafe_b64encode(b"[" * 9_000).decode() + ".x"),
        *(token(exp=None), token(exp="soon"), token(exp=True), token(exp=10**400), token(username=7)),
    ],
)
def test_a_token_that_does_not_say_whose_it_is_or_when_it_dies_is_a_mismatch(credential: str) -> None:
    request = PARSER.parse(with_token(credential), NOW)
    assert (request.mismatch, request.expires_at) == ("unreadable", NOW + 86_400)


def test_the_same_credential_gives_the_same_id_and_another_gives_another() -> None:
    first, again, other = (PARSER.parse(message(session=s), NOW + 1).id for s in (SESSION, SESSION, SESSION + "y"))
    assert first == again != other
    assert SESSION[:8] not in first
    assert PARSER.parse(message(id="row 7"), NOW).id == "row 7"


def test_what_export_adds_is_ignored() -> None:
    raw = message(state="needs_session", reason=None, since=[1], detail="ForbiddenException")
    assert PARSER.parse(raw, NOW) == PARSER.parse(message(), NOW)
    assert json.loads(PARSER.body(raw, NOW)).keys() == {"username", "session", "issued_at"}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{", "is not JSON: it ends too early"),
        (b'{"username": "ada", "session": "' + SESSION[:9].encode(), "is not JSON: it ends too early"),
        (b"broken", "is not JSON"),
        (b"\xff", "is not UTF-8; if it is Latin-1: iconv -f LATIN1 -t UTF-8"),
        (b"[" * 100_000, "is not JSON: it is nested too deeply"),
        (b'{"since":' + b'{"a":' * 50_000, "is not JSON: it is nested too deeply"),
        (b'{"username": "\\ud800"}', "is not JSON: half of a surrogate pair is no character"),
        (b'{"username": "\\udc00\\ud800"}', "is not JSON: half of a surrogate pair is no character"),
        (b'{"since": ' + b"9" * 5_000 + b"}", "is not JSON: a number has too many digits"),
        (b'{"username": "a\tb"}', "is not JSON: a text contains a control character, such as a line break"),
        (message() + message(), "is not JSON: something follows it on the line"),
        (message() + b",", "is not JSON: a comma follows the object; for a list of objects: jq -c '.[]'"),
        (b"{'username': 'ada'}", "is not JSON: names and texts stand in double quotes (json.dumps, not str)"),
        (message() + b"\r" + message(), "has lines that end with CR alone: tr '\\r' '\\n'"),
        (message() + b"\0\0\0", "contains NUL bytes"),
        (message().decode().encode("utf-16"), "is UTF-16, not UTF-8: convert the file (iconv -f UTF-16 -t UTF-8)"),
        (b'"text"', "is not a JSON object"),
        (b"7", "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b" " * MAX_MESSAGE + b"{}", "is longer than 256 KiB"),
        (b'{"session": "%s"}' % SESSION.encode(), "has no username"),
        (b'{"username": "alice"}', "has no credential; add session or access_token"),
        (message(access_token=token()), "has both session and access_token; keep one"),
        (message(username=""), "username should be text of 1 to 128 characters"),
        (message(username="é" * 129), "username should be text of 1 to 128 characters"),
        (message(username=7), "username should be text of 1 to 128 characters"),
        (message(session=None), "has no credential; add session or access_token"),
        (message(username=None), "username should be text of 1 to 128 characters"),
        (message(session="x" * 19), "session should be text of 20 to 8,192 characters"),
        (message(session="x" * 8_193), "session should be text of 20 to 8,192 characters"),
        (with_token(""), "access_token should be text of 1 to 16,384 characters"),
        (with_token("x" * 16_385), "access_token should be text of 1 to 16,384 characters"),
        (message(id=""), "id should be text of 1 to 256 characters"),
        (message(id="x" * 257), "id should be text of 1 to 256 characters"),
        (message(attributes=["mail"]), "attributes should be an object of text, 16 KiB together"),
        (message(attributes={"age": 7}), "attributes should be an object of text, 16 KiB together"),
        (message(attributes={"é": "é" * 8_192}), "attributes should be an object of text, 16 KiB together"),
        (message(username="alice")[:-1] + b', "username": "bob"}', 'has two values for one key "username"; keep one'),
        (message()[:-1] + b', "replace": false, "replace": true}', 'has two values for one key "replace"; keep one'),
        (message()[:-1] + b', "since": {"a": 1, "a": 2}}', 'has two values for one key "a"; keep one'),
        (
            message(id=None, issued_at=None)[:-1] + b', "username": "bob"}',
            'has two values for one key "username"; keep one',
        ),
        (
            message(attributes={"mail": "a:b"}).replace(b'"a:b"', b'"a:b", "mail": "c"'),
            'has two values for one key "mail"; keep one',
        ),
        (message(replace="true"), "replace should be true or false"),
        (message(replace=1), "replace should be true or false"),
    ],
)
def test_a_malformed_message_is_refused_with_the_rule_it_breaks(raw: bytes, reason: str) -> None:
    assert why(raw) == reason


@pytest.mark.parametrize(
    ("key", "flows"),
    [("ticket", "sign_in.flow custom_auth"), ("password", "sign_in.flow user_password or admin_user_password")],
)
def test_a_credential_that_this_worker_cannot_use_is_named_with_those_that_it_takes(key: str, flows: str) -> None:
    for raw in (message(**{key: "hunter2"}), json.dumps({"username": "ada", key: "hunter2"}).encode()):
        assert why(raw).startswith(f"{key} fits only {flows}")
        assert why(raw).endswith("it is none, which takes session or access_token")


def test_the_longest_of_everything_is_accepted() -> None:
    keys = {"username": "é" * 128, "session": "x" * 8_192, "id": "i" * 256, "attributes": {"é": "é" * 8_191}}
    assert PARSER.parse(message(**keys), NOW).attributes == keys["attributes"]
    PARSER.parse(with_token("x" * 16_384), NOW)


def test_an_unknown_key_is_refused_by_name_with_the_nearest_right_one() -> None:
    assert why(message(acces_token="x")) == 'has the unknown key "acces_token"; did you mean access_token?'
    assert why(message(qqq="x")) == 'has the unknown key "qqq"'
    assert why(message(Username="x")) == "has the unknown key of 8 characters; did you mean username?"


@pytest.mark.parametrize(
    "key", ["", "A", "q" * 33, "hunter2", "\x1b[2J\u202e\n", "é", SESSION, SESSION[:30], "a-b", "a b"]
)
def test_a_key_that_does_not_look_misspelt_is_not_repeated_it_may_be_a_secret(key: str) -> None:
    assert why(message(**{key: 1})) == f"has the unknown key of {len(key)} characters"
    twice = message()[:-1] + f', "since": {{{json.dumps(key)}: 1, {json.dumps(key)}: 2}}}}'.encode()
    assert why(twice) == f"has two values for one key of {len(key)} characters; keep one"


def test_a_key_that_the_credential_contains_is_not_repeated() -> None:
    assert why(message(session="abcdefghijklmnopqrstuvwxyz", abcdefgh=1)) == "has the unknown key of 8 characters"


# --- what is the absence of a key -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["id", "issued_at", "expires_at", "attributes", "replace", "access_token", "ticket", "password"]
)
def test_null_for_an_optional_key_is_its_absence(key: str) -> None:
    raw = message(**{key: None})
    assert PARSER.parse(raw, NOW) == PARSER.parse(message(), NOW)
    assert PARSER.body(raw, NOW) == PARSER.body(message(), NOW), "workers of earlier versions take no null"


def test_a_token_beside_a_session_that_is_null_counts() -> None:
    assert PARSER.parse(with_token(token(), session=None), NOW) == PARSER.parse(with_token(token()), NOW)


# --- files and queues are read in the same way ------------------------------------------------------------------------


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b" \t", b"\xef\xbb\xbf\xef\xbb\xbf ", b"\r\n", b"\x0b\x0c"])
@pytest.mark.parametrize("after", [b"", b"\r\n", b" \n\n", b"\r", b"\x0c"])
def test_what_stands_around_a_message_is_nothing_wherever_it_comes_from(before: bytes, after: bytes) -> None:
    raw = before + message() + after
    assert PARSER.parse(raw, NOW) == PARSER.parse(message(), NOW)
    assert PARSER.body(raw, NOW) == PARSER.body(message(), NOW)


# --- the attribute that people see ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attributes",
    [None, {}, {"mail": "a@b.example"}, {"email": ""}, {"email": " "}, {"email": ":"}, {"email": "\u200b:"}],
)
def test_a_request_without_the_attribute_that_people_see_is_malformed(attributes: dict[str, str] | None) -> None:
    parser = Parser(POOL, 180.0, "email")
    raw = message(attributes=attributes)
    for read in (parser.parse, parser.body):
        with pytest.raises(Malformed, match=r"^has no attribute email, which otp\.account names"):
            read(raw, NOW)
    assert PARSER.parse(raw, NOW).attributes == (attributes or {})
    assert parser.parse(message(attributes={"email": "a@b.example"}), NOW).attributes == {"email": "a@b.example"}


def test_push_writes_into_a_session_without_times_when_it_was_pushed() -> None:
    body = PARSER.body(message(), NOW)
    assert json.loads(body) == {"username": "alice", "session": SESSION, "issued_at": "2023-11-14T22:13:20Z"}
    assert PARSER.parse(body, NOW + 9_999) == PARSER.parse(message(), NOW)


@pytest.mark.parametrize("raw", [message(issued_at="2025-01-31T12:00:00Z"), with_token(token())])
def test_push_leaves_a_credential_that_knows_its_age_alone(raw: bytes) -> None:
    assert json.loads(PARSER.body(raw, NOW)) == json.loads(raw)


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
names = st.sampled_from(
    ["username", "session", "access_token", "id", "issued_at", "expires_at", "attributes", "replace", "state"]
)
# A credential has no character in common with the words of a reason.
credentials = st.text("0123456789-_АБВГДЕЖЗИЙКЛМНО", min_size=8, max_size=200)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_request_or_malformed(raw: bytes) -> None:
    assert isinstance(either(raw), str)


@given(st.dictionaries(names | st.text(max_size=60), values, max_size=6), st.booleans())
def test_any_object_is_a_request_or_malformed(keys: dict[str, Any], complete: bool) -> None:
    raw = json.dumps(keys | ({"username": "alice", "session": SESSION} if complete else {})).encode()
    found = either(raw)
    if isinstance(found, str):
        assert found.isprintable()
    else:
        assert PARSER.parse(PARSER.body(raw, NOW), NOW + 5) == found


@given(
    credentials, st.sampled_from(["session", "access_token"]), st.dictionaries(names | credentials, values, max_size=4)
)
def test_a_reason_never_repeats_a_part_of_the_credential(credential: str, kind: str, keys: dict[str, Any]) -> None:
    raw = json.dumps(keys | {kind: credential, credential: credential}).encode()
    reason = why(raw)
    assert not any(credential[at : at + 8] in reason for at in range(len(credential) - 7))


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=20, max_size=99),
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))
    ),
    st.booleans(),
)
def test_what_was_asked_is_what_is_read(username: str, session: str, attributes: dict[str, str], replace: bool) -> None:
    raw = message(username=username, session=session, attributes=attributes, replace=replace)
    request = PARSER.parse(raw, NOW)
    assert (request.username, request.credential.reveal()) == (username, session)
    assert (request.attributes, request.replace) == (attributes, replace)
    assert PARSER.parse(PARSER.body(raw, NOW), NOW + 60) == request
