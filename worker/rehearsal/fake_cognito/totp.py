"""RFC 6238 one-time codes the way Cognito checks them: SHA-1, 6 digits, 30 s, one step of drift either way."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

PERIOD = 30
"""Seconds that a code is shown."""

DIGITS = 6


def new_secret() -> bytes:
    """Return 20 random bytes: 32 characters of base32, as Cognito issues them."""
    return secrets.token_bytes(20)


def encode(secret: bytes) -> str:
    """Return the secret as the base32 text that people type into their application."""
    return base64.b32encode(secret).decode().rstrip("=")


def decode(secret_code: str) -> bytes:
    """Return the secret behind a base32 text; spaces, lower case and missing padding are fine. Raises ValueError."""
    text = "".join(secret_code.split()).upper().rstrip("=")
    try:
        return base64.b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error:
        raise ValueError("the secret code is not base32") from None


def hotp(secret: bytes, counter: int, *, digits: int = DIGITS) -> str:
    """Return the RFC 4226 code of a counter."""
    digest = hmac.digest(secret, counter.to_bytes(8, "big"), hashlib.sha1)
    offset = digest[-1] & 0xF
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**digits:0{digits}d}"


def code_at(secret_code: str, unix_seconds: float, *, digits: int = DIGITS) -> str:
    """Return the code that an authenticator shows at that time for a base32 secret. Raises ValueError."""
    return hotp(decode(secret_code), int(unix_seconds // PERIOD), digits=digits)


def accepts(secret: bytes, code: str, unix_seconds: float, *, drift: int = 1) -> bool:
    """Say whether the code is one of that time, `drift` steps early or late allowed."""
    step = int(unix_seconds // PERIOD)
    given = code.encode()
    return any(
        hmac.compare_digest(hotp(secret, counter).encode(), given)
        for counter in range(max(step - drift, 0), step + drift + 1)
    )
