"""One-time codes are those of RFC 4226 and RFC 6238, and the fake Cognito takes them as Cognito does."""

from __future__ import annotations

import base64

import pytest

from tests.support.totp import PERIOD, code_at
from worker.rehearsal.fake_cognito.enrolments import Enrolments

SECRET_CODE = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
"""The RFCs' own secret, 12345678901234567890, in base32."""


@pytest.fixture
def enrolments() -> Enrolments:
    return Enrolments()


def issued(enrolments: Enrolments) -> str:
    """A new secret of ana's."""
    return enrolments.issue("ana", "0" * 32, 0.0, b"", by_session=False)


def test_counters_give_the_codes_of_rfc_4226() -> None:
    codes = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
    assert [code_at(SECRET_CODE, counter * PERIOD) for counter in range(10)] == codes


@pytest.mark.parametrize(
    ("unix_seconds", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_times_give_the_codes_of_rfc_6238(unix_seconds: int, code: str) -> None:
    assert code_at(SECRET_CODE, unix_seconds, digits=8) == code
    assert code_at(SECRET_CODE, unix_seconds) == code[2:]


def test_a_code_is_good_for_one_step_either_way_and_no_further(enrolments: Enrolments) -> None:
    now = 1_700_000_015.0
    secret_code = issued(enrolments)
    for steps, good in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
        code = code_at(secret_code, now + steps * PERIOD)
        assert enrolments.verify("ana", code, now) is good, steps


def test_the_first_seconds_of_time_have_no_step_before_them(enrolments: Enrolments) -> None:
    secret_code = issued(enrolments)
    assert enrolments.verify("ana", code_at(secret_code, 0), 0.0)


@pytest.mark.parametrize("code", ["", "00000", "0000000", "abcdef", "１２３４５６"])
def test_what_is_no_code_is_refused_and_breaks_nothing(enrolments: Enrolments, code: str) -> None:
    issued(enrolments)
    assert not enrolments.verify("ana", code, 59.0)


def test_every_new_secret_is_another_32_characters_of_base32(enrolments: Enrolments) -> None:
    codes = {issued(enrolments) for _ in range(100)}
    assert len(codes) == 100
    assert {len(code) for code in codes} == {32}
    assert {len(base64.b32decode(code)) for code in codes} == {20}
