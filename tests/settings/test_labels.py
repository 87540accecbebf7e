"""What people see in their authenticator app: a label that any of them takes, or an error before anything begins."""

from __future__ import annotations

import pytest

from worker.core.errors import UsageError
from worker.core.key_uri import MAX_BYTES, otpauth_uri
from worker.settings import load

POOL = "eu-central-1_A"
SECRET = "A" * 52


def issuer(text: str, environ: dict[str, str] | None = None) -> str:
    return load(None, [f"cognito.user_pool_id={POOL}", f"otp.issuer={text}"], environ or {}).otp.issuer


@pytest.mark.parametrize("text", ["", " ", ":", " : :", "\t", "\u200b", "\u200b:\u2028"])
def test_an_issuer_in_which_nothing_can_be_seen_counts_as_not_set(text: str) -> None:
    assert issuer(text) == POOL


@pytest.mark.parametrize("text", ["Acme", "Acme: EU", "a", "a" * 200, "é" * 200, "\u202eAcme", "株" * 144])
def test_any_other_issuer_is_taken_as_it_is_and_fits_with_any_username(text: str) -> None:
    assert issuer(text) == text
    assert len(otpauth_uri(text, "a" * 128, SECRET)) <= MAX_BYTES


@pytest.mark.parametrize("text", ["株" * 145, "🦄" * 109, "a" * 201])
def test_an_issuer_that_no_qr_code_can_hold_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"otp\.issuer"):
        issuer(text)


def test_an_issuer_that_is_no_text_is_refused() -> None:
    environ = {"MFA_WORKER_OTP__ISSUER": b"Acm\xe9".decode("utf-8", "surrogateescape")}
    with pytest.raises(UsageError, match=r"otp\.issuer|OTP__ISSUER") as caught:
        load(None, [f"cognito.user_pool_id={POOL}"], environ)
    str(caught.value).encode()
