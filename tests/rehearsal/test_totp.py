"""One-time codes are those of RFC 4226 and RFC 6238."""

from __future__ import annotations

import pytest

from worker.rehearsal.fake_cognito import totp

SECRET = b"12345678901234567890"
SECRET_CODE = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


def test_counters_give_the_codes_of_rfc_4226() -> None:
    codes = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
    assert [totp.hotp(SECRET, counter) for counter in range(10)] == codes


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
    assert totp.code_at(SECRET_CODE, unix_seconds, digits=8) == code
    assert totp.code_at(SECRET_CODE, unix_seconds) == code[2:]


def test_a_code_is_good_for_one_step_either_way_and_no_further() -> None:
    now = 1_700_000_015.0
    for steps, good in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
        code = totp.code_at(SECRET_CODE, now + steps * totp.PERIOD)
        assert totp.accepts(SECRET, code, now) is good, steps


def test_the_first_seconds_of_time_have_no_step_before_them() -> None:
    assert totp.accepts(SECRET, totp.code_at(SECRET_CODE, 0), 0.0)


@pytest.mark.parametrize("code", ["", "00000", "0000000", "abcdef", "１２３４５６"])
def test_what_is_no_code_is_refused_and_breaks_nothing(code: str) -> None:
    assert not totp.accepts(SECRET, code, 59.0)


def test_a_secret_is_read_however_people_type_it() -> None:
    assert totp.decode("gezd gnbv gy3t qojq gezd gnbv gy3t qojq") == SECRET
    assert totp.decode(totp.encode(b"seven b")) == b"seven b"
    with pytest.raises(ValueError, match="not base32"):
        totp.decode("18")


def test_every_new_secret_is_another_32_characters_of_base32() -> None:
    codes = {totp.encode(totp.new_secret()) for _ in range(100)}
    assert len(codes) == 100
    assert {len(code) for code in codes} == {32}
