"""Remembers which secrets each user was issued, in order; rehearsals and tests compare delivered secrets with these.

A user's secrets are packed into bytes, about 250 bytes per user, so that a million users fit into memory and the
garbage collector has few objects to examine.
"""

from __future__ import annotations

import base64
import secrets
import struct
import uuid
from enum import Enum, auto
from typing import Any

import pyotp

_SECRET_BYTES = 20
"""Bytes of a secret, which make 32 characters of base32 (RFC 4226 recommends 20; Cognito's ``SecretCode`` has at least
16 characters, says its API reference)."""

_ISSUED = struct.Struct(f">{_SECRET_BYTES}s16sd8s?")
"""One issued secret: the secret, the request's id, UNIX seconds, the first 8 bytes of the credential's SHA-256, and
whether the credential was a Session."""


class CodeResult(Enum):
    """What a code is at a sign-in."""

    RIGHT = auto()
    WRONG = auto()
    USED = auto()
    """Right, and used before."""


class Enrolments:
    """The users to whom a secret was issued, and which of their secrets were verified and preferred."""

    def __init__(self) -> None:
        self._issued: dict[str, bytes] = {}
        self._verified: dict[str, int] = {}
        self._enabled: dict[str, bool] = {}
        """Whose TOTP is enabled, and whether it is preferred."""
        self._last_step: dict[str, int] = {}
        """The time step of the last code that each user verified or signed in with."""

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
        step = _matching(issued[-_ISSUED.size :], code, now) if issued else None
        if step is None:
            return False
        self._verified[username] = len(issued or b"") // _ISSUED.size
        self._last_step[username] = step
        return True

    def sign_in(self, username: str, code: str, now: float) -> CodeResult:
        """Judge a code at a sign-in at ``now`` (UNIX seconds): it must be one of the secret that was verified last.

        A code that was used before is refused. Whether Cognito refuses one that was used for the verification alone,
        nobody knows; here it does.
        """
        sequence = self._verified.get(username)
        if sequence is None:
            return CodeResult.WRONG
        issued = self._issued[username][(sequence - 1) * _ISSUED.size : sequence * _ISSUED.size]
        step = _matching(issued, code, now)
        if step is None:
            return CodeResult.WRONG
        if step <= self._last_step.get(username, -1):
            return CodeResult.USED
        self._last_step[username] = step
        return CodeResult.RIGHT

    def prefer(self, username: str, *, enabled: bool, preferred: bool | None = None) -> bool:
        """Set whether TOTP is enabled and preferred for the user; False if the newest secret was never verified.

        ``preferred`` is as ``enabled`` where nobody says so.
        """
        if not enabled:
            self._enabled.pop(username, None)
            return True
        newest = len(self._issued.get(username, b"")) // _ISSUED.size
        if not newest or self._verified.get(username) != newest:
            return False
        self._enabled[username] = enabled if preferred is None else preferred
        return True

    def is_verified(self, username: str) -> bool:
        """Whether any secret of the user's was verified."""
        return username in self._verified

    def is_enabled(self, username: str) -> bool:
        """Whether TOTP was enabled for the user."""
        return username in self._enabled

    def is_preferred(self, username: str) -> bool:
        """Whether TOTP was made the user's preferred factor."""
        return self._enabled.get(username, False)

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
            "preference": username in self._enabled,
        }


def _matching(record: bytes, code: str, now: float) -> int | None:
    """Return the time step of which this is the code, for one issued secret; None: of none near ``now``."""
    totp = pyotp.TOTP(_base32(record[:_SECRET_BYTES]))
    present = int(now) // totp.interval
    for step in (present, present - 1, present + 1):
        if step >= 0 and totp.generate_otp(step) == code:
            return step
    return None


def _base32(secret: bytes) -> str:
    return base64.b32encode(secret).decode()
