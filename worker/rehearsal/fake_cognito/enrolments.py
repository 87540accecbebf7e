"""Which secrets every user was issued, in order: what the whole project is reconciled with.

Packed into bytes, about 250 of them for a user, so that a million users fit into memory and burden no collector.
"""

from __future__ import annotations

import struct
import uuid
from typing import Any

from worker.rehearsal.fake_cognito import totp

_SECRET = 20
_ISSUED = struct.Struct(f">{_SECRET}s16sd8s?")
"""Secret, request id, UNIX seconds, the credential's digest, whether the credential was a Session."""


class Enrolments:
    """The users, by name; somebody to whom nothing was issued is not among them."""

    def __init__(self) -> None:
        self._issued: dict[str, bytes] = {}
        self._verified: dict[str, int] = {}
        self._preferred: set[str] = set()

    def __len__(self) -> int:
        return len(self._issued)

    def issue(self, username: str, request_id: str, now: float, digest: bytes, *, by_session: bool) -> str:
        """Give the user a new secret, which alone counts from now on, and return it as base32."""
        secret = totp.new_secret()
        uuid_bytes = bytes.fromhex(request_id.replace("-", ""))
        record = _ISSUED.pack(secret, uuid_bytes, now, digest, by_session)
        self._issued[username] = self._issued.get(username, b"") + record
        return totp.encode(secret)

    def verify(self, username: str, code: str, now: float) -> bool:
        """Say whether the code is the newest secret's, and remember that it was."""
        issued = self._issued.get(username)
        if not issued or not totp.accepts(issued[-_ISSUED.size :][:_SECRET], code, now):
            return False
        self._verified[username] = len(issued) // _ISSUED.size
        return True

    def prefer(self, username: str, *, enabled: bool) -> bool:
        """Set the user's preference; False where the newest secret was never verified."""
        if not enabled:
            self._preferred.discard(username)
            return True
        newest = len(self._issued.get(username, b"")) // _ISSUED.size
        if not newest or self._verified.get(username) != newest:
            return False
        self._preferred.add(username)
        return True

    def usernames(self) -> list[str]:
        """Return everybody to whom a secret was issued."""
        return list(self._issued)

    def truth(self, username: str) -> dict[str, Any]:
        """Return a user's secrets in the order of issue and what became of them, as JSON would have it."""
        secrets = [
            {
                "sequence": sequence,
                "secret_code": totp.encode(secret),
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
            "secrets": secrets,
            "verified": self._verified.get(username),
            "preference": username in self._preferred,
        }
