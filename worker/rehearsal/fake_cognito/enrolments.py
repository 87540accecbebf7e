"""Remembers which secrets each user was issued, in order; rehearsals and tests compare delivered secrets with these.

A user's secrets are packed into bytes, about 250 bytes per user, so that a million users fit into memory and the
garbage collector has few objects to examine.
"""

from __future__ import annotations

import base64
import secrets
import struct
import uuid
from typing import Any

import pyotp

_SECRET_BYTES = 20
"""Bytes of a secret, which make 32 characters of base32 (RFC 4226 recommends 20; Cognito's ``SecretCode`` has at least
16 characters, says its API reference)."""

_ISSUED = struct.Struct(f">{_SECRET_BYTES}s16sd8s?")
"""One issued secret: the secret, the request's id, UNIX seconds, the first 8 bytes of the credential's SHA-256, and
whether the credential was a Session."""


class Enrolments:
    """The users to whom a secret was issued, and which of their secrets were verified and preferred."""

    def __init__(self) -> None:
        self._issued: dict[str, bytes] = {}
        self._verified: dict[str, int] = {}
        self._preferred: set[str] = set()

    def __len__(self) -> int:
        return len(self._issued)

    def issue(self, username: str, request_id: str, now: float, digest: bytes, *, by_session: bool) -> str:
        """Issue a new secret to the user, which is the only valid one from now on, and return it as base32.

        ``now`` is in UNIX seconds; ``digest`` is the first 8 bytes of the credential's SHA-256.
        """
        secret = secrets.token_bytes(_SECRET_BYTES)
        uuid_bytes = bytes.fromhex(request_id.replace("-", ""))
        record = _ISSUED.pack(secret, uuid_bytes, now, digest, by_session)
        self._issued[username] = self._issued.get(username, b"") + record
        return _base32(secret)

    def verify(self, username: str, code: str, now: float) -> bool:
        """Return whether the code is that of the newest secret at ``now`` (UNIX seconds); if so, it counts as verified.

        The codes of the previous and the next time step are accepted too, as RFC 6238 recommends and users of Cognito
        report.
        """
        issued = self._issued.get(username)
        if not issued:
            return False
        totp = pyotp.TOTP(_base32(issued[-_ISSUED.size :][:_SECRET_BYTES]))
        first = -1 if now >= totp.interval else 0  # before the first step of UNIX time there is none
        if code not in [totp.at(int(now), counter_offset=step) for step in range(first, 2)]:
            return False
        self._verified[username] = len(issued) // _ISSUED.size
        return True

    def prefer(self, username: str, *, enabled: bool) -> bool:
        """Set whether TOTP is the user's preference; return False if the newest secret was never verified."""
        if not enabled:
            self._preferred.discard(username)
            return True
        newest = len(self._issued.get(username, b"")) // _ISSUED.size
        if not newest or self._verified.get(username) != newest:
            return False
        self._preferred.add(username)
        return True

    def usernames(self) -> list[str]:
        """Return all users to whom a secret was issued."""
        return list(self._issued)

    def truth(self, username: str) -> dict[str, Any]:
        """Return a user's secrets in the order of issue and what became of them, as an object for JSON."""
        issued = [
            {
                "sequence": sequence,
                "secret_code": _base32(secret),
                "issued_at": issued_at,
                "request_id": str(uuid.UUID(bytes=request_id)),
                "credential": "session" if by_session else "token",
                "credential_digest": digest.hex(),
            }
            for sequence, (secret, request_id, issued_at, digest, by_session) in enumerate(
                _ISSUED.iter_unpack(self._issued.get(username, b"")), 1
            )
        ]
        return {
            "username": username,
            "secrets": issued,
            "verified": self._verified.get(username),
            "preference": username in self._preferred,
        }


def _base32(secret: bytes) -> str:
    return base64.b32encode(secret).decode()
