"""What a user is delivered, and that every authenticator application reads the same from its URI."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rows import NASTY_NAMES, usernames
from worker.core.key_uri import MAX_BYTES, issuer_fits, label, otpauth_uri
from worker.core.model import CredentialKind, Issued, Request, Sealed, Secret
from worker.core.record import RecordFormat, rfc3339, seal_record

CODE = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
NOW = 1_738_324_800.25


class Glass:
    """A sealer that everybody can see through."""

    def seal(self, plaintext: bytes) -> bytes:
        return plaintext

    def sealed_size(self, plaintext: int) -> int:
        return plaintext


def sealed_record(
    attributes: dict[str, str] | None = None,
    session: str | None = None,
    form: RecordFormat | None = None,
    username: str = "ana",
) -> tuple[Sealed, dict[str, Any]]:
    kind = CredentialKind.SESSION if session else CredentialKind.ACCESS_TOKEN
    request = Request(username, kind, Secret("credential"), "id", NOW + 100, attributes or {})
    issued = Issued(Secret(CODE), Secret(session) if session else None, "request-1")
    sealed = seal_record(request, issued, 7, NOW, form or RecordFormat("Acme"), Glass())
    return sealed, json.loads(sealed.blob)


def read(uri: str) -> tuple[str, str, dict[str, str]]:
    """Issuer prefix, account and parameters as an authenticator application reads them."""
    parts = urlsplit(uri)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("otpauth", "totp", "")
    prefix, colon, account = unquote(parts.path.removeprefix("/"), errors="strict").partition(":")
    assert colon
    parameters = parse_qs(parts.query, keep_blank_values=True, strict_parsing=True)
    return prefix, account, {name: value for name, [value] in parameters.items()}


# --- the record -------------------------------------------------------------------------------------------------------


def test_a_record_holds_what_the_contract_says() -> None:
    sealed, record = sealed_record({"email": "ana@example.com", "locale": "de"})
    assert record == {
        "username": "ana",
        "generation": 7,
        "attempt_id": sealed.attempt_id,
        "secret_code": CODE,
        "otpauth_uri": f"otpauth://totp/Acme:ana?secret={CODE}&issuer=Acme&algorithm=SHA1&digits=6&period=30",
        "associated_at": "2025-01-31T12:00:00.250Z",
        "request_id": "request-1",
        "attributes": {"email": "ana@example.com", "locale": "de"},
    }
    assert (sealed.generation, sealed.associated_at) == (7, "2025-01-31T12:00:00.250Z")
    assert sealed.digest == hashlib.sha256(sealed.blob).hexdigest()
    assert sealed.session_expires_at is None


def test_on_the_session_path_the_only_session_that_can_verify_is_there_with_its_end() -> None:
    sealed, record = sealed_record(session="the new session", form=RecordFormat("Acme", session_validity=180.0))
    assert (record["session"], record["session_expires_at"]) == ("the new session", "2025-01-31T12:03:00.250Z")
    assert sealed.session_expires_at == NOW + 180
    assert "credential" not in str(record)


def test_every_secret_has_an_attempt_id_of_its_own() -> None:
    ids = {sealed_record()[0].attempt_id for _ in range(50)}
    assert len(ids) == 50
    assert all(str(uuid.UUID(attempt_id)) == attempt_id for attempt_id in ids)


@given(usernames, st.dictionaries(st.text(max_size=20), st.text(max_size=50), max_size=3))
def test_names_and_attributes_are_sealed_as_they_came(username: str, attributes: dict[str, str]) -> None:
    _, record = sealed_record(attributes, username=username)
    assert (record["username"], record["attributes"]) == (username, attributes)


@pytest.mark.parametrize(
    ("attributes", "account"),
    [({"email": "ana@example.com"}, "ana@example.com"), ({}, "ana"), ({"email": ""}, "ana")],
)
def test_the_account_is_the_attribute_asked_for_or_else_the_username(attributes: dict[str, str], account: str) -> None:
    _, record = sealed_record(attributes, form=RecordFormat("Acme", account="email"))
    assert read(record["otpauth_uri"])[1] == account


def test_an_attribute_that_is_called_username_does_not_stand_for_it() -> None:
    _, record = sealed_record({"username": "somebody else"}, form=RecordFormat("Acme"))
    assert read(record["otpauth_uri"])[1] == "ana"


# --- the URI ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("account", [*NASTY_NAMES, "a&secret=X", "a?b#c", "a/b", "a+b@example.com", "50%41"])
def test_any_account_is_read_from_the_uri_as_it_is(account: str) -> None:
    prefix, found, parameters = read(otpauth_uri("Acme", account, CODE))
    assert (prefix, found) == ("Acme", account)
    assert parameters == {"secret": CODE, "issuer": "Acme", "algorithm": "SHA1", "digits": "6", "period": "30"}


@pytest.mark.parametrize("issuer", ["Acme & Söhne", "50% off", "a/b", "a?b=c#d", "Acme+Co", "株式会社", 'quo"te'])
def test_any_issuer_is_read_from_the_uri_as_it_is_and_the_same_twice(issuer: str) -> None:
    prefix, account, parameters = read(otpauth_uri(issuer, "ana", CODE))
    assert (prefix, account, parameters["issuer"]) == (issuer, "ana", issuer)


def test_an_issuer_with_a_colon_does_not_run_into_the_account() -> None:
    """The Key URI format allows none there: applications take what follows for the account."""
    prefix, account, parameters = read(otpauth_uri("Acme: EU", "ana", CODE))
    assert account == "ana"
    assert prefix == parameters["issuer"] == "Acme EU"


@pytest.mark.parametrize(
    ("account", "shown"), [("ana:ben", "anaben"), (":ana::", "ana"), ("%3A", "%3A"), ("::", "Acme")]
)
def test_an_account_with_colons_is_shown_without_them(account: str, shown: str) -> None:
    assert read(otpauth_uri("Acme", account, CODE))[:2] == ("Acme", shown)


@given(st.text(min_size=1, max_size=100).filter(label), usernames)
def test_the_uri_is_plain_ascii_that_any_qr_code_and_printer_takes(issuer: str, account: str) -> None:
    uri = otpauth_uri(issuer, account, CODE)
    assert re.fullmatch(r"otpauth://totp/[\w.~%-]+:[\w.~%-]+\?[\w.~%&=-]+", uri, re.ASCII)
    without = issuer.replace(":", "")
    assert read(uri)[:2] == (without, account.replace(":", "") or without)
    if issuer_fits(issuer):
        assert len(uri) <= MAX_BYTES


@given(st.text(min_size=1, max_size=20_000), st.sampled_from(["Acme", "\u682a\u5f0f\u4f1a\u793e", "x" * 1_300]))
def test_an_account_that_no_qr_code_can_hold_is_cut_after_a_character(account: str, issuer: str) -> None:
    account = (account + "\U0001f984 \u00e9" * 400).replace(":", "")
    uri = otpauth_uri(issuer, account, CODE)
    shown = read(uri)[1]
    assert account.startswith(shown)
    assert shown
    assert len(uri) <= MAX_BYTES < len(uri) + 12, "as much of it as can be"


@pytest.mark.parametrize("secret", [CODE.lower(), f"{CODE}====", f"{CODE.lower()}="])
def test_the_secret_is_upper_case_without_padding(secret: str) -> None:
    assert read(otpauth_uri("Acme", "ana", secret))[2]["secret"] == CODE


@pytest.mark.parametrize("letter", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
def test_whatever_letter_a_secret_ends_with_is_in_its_uri(letter: str) -> None:
    assert read(otpauth_uri("Acme", "ana", f"{CODE}{letter}=="))[2]["secret"] == CODE + letter


@pytest.mark.parametrize(("issuer", "fits"), [("a" * 1_300, True), ("a" * 1_301, False), (":" + "é" * 216, True)])
def test_an_issuer_may_have_as_many_bytes_as_leave_room_for_a_username(issuer: str, fits: bool) -> None:
    assert issuer_fits(issuer) is fits
    assert (read(otpauth_uri(issuer, "u" * 128, "A" * 52))[1] == "u" * 128) or not fits


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Acme", "Acme"),
        (" a: b ", " a b "),
        ("", ""),
        (" ", ""),
        (":", ""),
        (" : \t", ""),
        ("\u200b\u202e\x00\n", ""),
        ("\u200ba", "\u200ba"),
    ],
)
def test_a_label_in_which_nothing_can_be_seen_is_none(text: str, seen: str) -> None:
    assert label(text) == seen


# --- times ------------------------------------------------------------------------------------------------------------


@given(st.floats(0, 4e9))
def test_a_time_is_rfc_3339_in_utc_to_the_millisecond(at: float) -> None:
    text = rfc3339(at)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert abs(datetime.fromisoformat(text).timestamp() - at) < 0.0011
    assert datetime.fromisoformat(text).tzinfo == UTC
