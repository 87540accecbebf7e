"""The fake Cognito's Sessions and access tokens: how they are made, and how it decides whether they are valid.

Each contains its user, a serial number and its expiry, authenticated by a keyed hash. So the service recognises
millions of them and stores only one byte for each: whether it was used. A Session looks opaque, as Cognito's do; an
access token is a JWT with Cognito's claims.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import random
import secrets
import struct
import uuid
from collections.abc import Iterable
from enum import IntEnum
from typing import Any, NamedTuple

from worker.rehearsal.fake_cognito import answers
from worker.rehearsal.fake_cognito.answers import Answer

SCOPE = "aws.cognito.signin.user.admin"
"""The scope without which an access token may not call the operations of a user ("Scopes, M2M, and resource servers",
Cognito developer guide)."""

_HEAD = struct.Struct(">BQdH")
"""The beginning of a Session: purpose, serial number, expiry (UNIX seconds), and the username's length in bytes."""

_MAC = 16
"""Bytes of the keyed hash at the end of a Session."""

_SESSION = 672
"""Bytes of a Session, which are 896 characters of base64: enough for a username of 128 characters in any script."""


class Purpose(IntEnum):
    """What a credential is valid for."""

    ASSOCIATE = 1
    """A Session from the sign-in."""
    VERIFY = 2
    """A Session from AssociateSoftwareToken."""
    RESPOND = 3
    """A Session from VerifySoftwareToken: for the rest of the sign-in."""
    TOKEN = 4
    """An access token."""
    CUSTOM = 5
    """A Session from the sign-in, for the challenge of the pool's triggers."""
    CODE = 6
    """A Session from the sign-in, for a one-time code."""
    CHOICE = 7
    """A Session from the sign-in, for the choice of a second factor."""
    UNANSWERABLE = 8
    """A Session from the sign-in, for a challenge that nobody here can meet."""


class Opened(NamedTuple):
    """What a credential that this service made contains; it may have expired, or been used or revoked."""

    username: str
    purpose: Purpose
    serial: int
    expires_at: float
    """UNIX seconds."""
    scope: str = SCOPE


class Credentials:
    """Makes credentials and decides whether they are valid. Raises ValueError for a username that Cognito forbids."""

    def __init__(self, *, issuer: str, client_id: str) -> None:
        self._issuer = issuer
        self._client_id = client_id
        self._key = secrets.token_bytes(32)
        self._filler = random.Random()  # noqa: S311 - padding, not keys
        self._spent = bytearray()
        self._revoked: dict[str, int] = {}
        self._token_head = _head("rehearsal")

    def session(self, username: str, expires_at: float, purpose: Purpose = Purpose.ASSOCIATE) -> str:
        """Return a new Session, valid until `expires_at` (UNIX seconds)."""
        return self.opened_session(username, expires_at, purpose)[1]

    def opened_session(self, username: str, expires_at: float, purpose: Purpose) -> tuple[Opened, str]:
        """Return a new Session like `session`, and before it what it contains."""
        name, serial = check_username(username).encode("utf-8", "surrogatepass"), self._next_serial()
        content = _HEAD.pack(purpose, serial, expires_at, len(name)) + name
        content += self._filler.randbytes(_SESSION - _MAC - len(content))
        text = binascii.b2a_base64(content + self._seal(content), newline=False).decode()
        return Opened(username, purpose, serial, expires_at), text

    def token(self, username: str, issued_at: float, expires_at: float, scope: str = SCOPE) -> str:
        """Return a new access token, valid until `expires_at` (UNIX seconds, rounded down as the claim `exp` is)."""
        claims = {
            "sub": str(uuid.uuid5(uuid.NAMESPACE_URL, ascii(username))),
            "iss": self._issuer,
            "client_id": self._client_id,
            "token_use": "access",
            "scope": scope,
            "auth_time": int(issued_at),
            "exp": int(expires_at),
            "iat": int(issued_at),
            "jti": str(uuid.UUID(int=self._next_serial())),
            "username": check_username(username),
        }
        content = self._token_head + _encoded(claims)
        return f"{content}.{_base64url(self._sign(content))}"

    def id_token(self, username: str, issued_at: float, expires_at: float) -> str:
        """Return an ID token, which is no credential here."""
        claims = {
            "sub": str(uuid.uuid5(uuid.NAMESPACE_URL, ascii(username))),
            "iss": self._issuer,
            "aud": self._client_id,
            "token_use": "id",
            "auth_time": int(issued_at),
            "exp": int(expires_at),
            "iat": int(issued_at),
            "cognito:username": username,
        }
        content = f"{ID_TOKEN_HEAD}{_encoded(claims)}"
        return f"{content}.{_base64url(self._sign(content))}"

    def refresh_token(self) -> str:
        """Return a refresh token, which is no credential here."""
        return REFRESH_TOKEN_HEAD + _base64url(self._filler.randbytes(700))

    def open_session(self, text: str) -> Opened | None:
        """Return the content of a Session; None if this service did not make it."""
        try:
            sealed = binascii.a2b_base64(text, strict_mode=True)
        except ValueError:
            return None
        content = sealed[:-_MAC]
        if len(sealed) != _SESSION or not hmac.compare_digest(self._seal(content), sealed[-_MAC:]):
            return None
        purpose, serial, expires_at, length = _HEAD.unpack_from(content)
        username = content[_HEAD.size : _HEAD.size + length].decode("utf-8", "surrogatepass")
        return Opened(username, Purpose(purpose), serial, expires_at)

    def open_token(self, text: str) -> Opened | None:
        """Return the content of an access token; None if this service did not make it."""
        content, _, signature = text.rpartition(".")
        if not hmac.compare_digest(_base64url(self._sign(content)).encode(), signature.encode("utf-8", "replace")):
            return None
        if not content.startswith(self._token_head):
            return None
        claims: dict[str, Any] = json.loads(_unbase64url(content.partition(".")[2]))
        serial = uuid.UUID(claims["jti"]).int
        return Opened(claims["username"], Purpose.TOKEN, serial, claims["exp"], claims["scope"])

    def judge(self, opened: Opened | None, purpose: Purpose, now: float) -> Opened | Answer:
        """Return the credential if it is valid for that purpose at `now` (UNIX seconds), else a refusal."""
        if purpose is Purpose.TOKEN:
            return self._judge_token(opened, now)
        if opened is None or opened.purpose is not purpose:
            return answers.SESSION_INVALID
        if now >= opened.expires_at:
            return answers.SESSION_EXPIRED
        return answers.SESSION_SPENT if self._spent[opened.serial] else opened

    def _judge_token(self, opened: Opened | None, now: float) -> Opened | Answer:
        if opened is None or opened.purpose is not Purpose.TOKEN:
            return answers.TOKEN_INVALID
        if now >= opened.expires_at:
            return answers.TOKEN_EXPIRED
        if opened.serial <= self._revoked.get(opened.username, -1):
            return answers.TOKEN_REVOKED
        return opened if SCOPE in opened.scope.split() else answers.TOKEN_SCOPE

    def spend(self, opened: Opened) -> None:
        """Remember that a Session was used: it is valid for one call only."""
        self._spent[opened.serial] = 1

    def revoke(self, usernames: Iterable[str]) -> None:
        """Revoke every access token that these users have now; later ones are valid."""
        for username in usernames:
            self._revoked[username] = len(self._spent) - 1

    def _next_serial(self) -> int:
        self._spent.append(0)
        return len(self._spent) - 1

    def _seal(self, content: bytes) -> bytes:
        return hashlib.blake2b(content, key=self._key, digest_size=_MAC).digest()

    def _sign(self, content: str) -> bytes:
        return hmac.digest(self._key, content.encode("utf-8", "replace"), hashlib.sha256)


def check_username(username: object) -> str:
    """Return the username. Raises ValueError for one that Cognito forbids."""
    if not isinstance(username, str) or not 1 <= len(username) <= 128:
        raise ValueError(f"a username is text of 1 to 128 characters, not {username!a}")
    return username


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _encoded(claims: dict[str, Any]) -> str:
    return _base64url(json.dumps(claims, separators=(",", ":")).encode())


def _head(key: str) -> str:
    return _encoded({"kid": key, "alg": "HS256"}) + "."


ID_TOKEN_HEAD = _head("rehearsal-id")
REFRESH_TOKEN_HEAD = _encoded({"cty": "JWT", "enc": "A256GCM", "alg": "RSA-OAEP"}) + "."
"""How every ID token and every refresh token begins, so that tests can look for them."""
