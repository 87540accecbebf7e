"""One-time codes by RFC 6238, computed without the library of the fake Cognito, so that each checks the other."""

from __future__ import annotations

import base64
import hashlib
import hmac

PERIOD = 30
"""Seconds for which an authenticator shows a code."""


def code_at(secret_code: str, unix_seconds: float, *, digits: int = 6) -> str:
    """The code that an authenticator shows at that time for a secret in base32."""
    secret = base64.b32decode(secret_code + "=" * (-len(secret_code) % 8))
    digest = hmac.digest(secret, int(unix_seconds // PERIOD).to_bytes(8, "big"), hashlib.sha1)
    offset = digest[-1] & 0xF
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**digits:0{digits}d}"
