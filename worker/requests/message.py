"""Parses the bytes of a message into a ``Request``, and makes the bytes that are put on a queue.

A message comes from outside: it may be anything, and it may contain a credential. So no bytes raise anything but
``Malformed``, and its reason names keys and rules, never values.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, StringConstraints, ValidationError
from pydantic_core import from_json, to_json

from worker.core.errors import Malformed
from worker.core.model import CredentialKind, Request, Secret
from worker.core.text import escape
from worker.requests.lines import MAX_MESSAGE

_IGNORED = {"state", "reason", "since", "detail"}
"""Keys that ``export`` adds. They are allowed, so that its lines can be pushed again, and they are not sent on."""

_MAX_NAME = 40
"""The most characters of an unknown key that a reason repeats: enough to recognise a misspelt one."""


def _epoch(value: object) -> float:
    """Return the UTC seconds of an RFC 3339 time. Raises ``ValueError`` for anything else, as pydantic requires."""
    text = value.upper() if isinstance(value, str) else ""
    rfc3339 = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)"
    if not re.fullmatch(rfc3339, text, re.ASCII):
        raise ValueError("no time")
    return datetime.fromisoformat(text).timestamp()


_Time = Annotated[float | None, BeforeValidator(_epoch)]


class _Message(BaseModel):
    """The shape of a message. An absent text is ``""`` here; a text that is present is never empty."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    username: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    session: Annotated[str, StringConstraints(min_length=20, max_length=2_048)] = ""
    access_token: Annotated[str, StringConstraints(min_length=1, max_length=16_384)] = ""
    id: Annotated[str, StringConstraints(min_length=1, max_length=256)] = ""
    issued_at: _Time = None
    expires_at: _Time = None
    attributes: dict[str, str] = Field(default_factory=dict)
    replace: bool = False
    state: Any = None
    reason: Any = None
    since: Any = None


_RULES = {
    "username": "text of 1 to 128 characters",
    "session": "text of 20 to 2,048 characters",
    "access_token": "text of 1 to 16,384 characters",
    "id": "text of 1 to 256 characters",
    "issued_at": "a time as in RFC 3339 with its zone, such as 2025-01-31T12:00:00Z",
    "expires_at": "a time as in RFC 3339 with its zone, such as 2025-01-31T12:00:00Z",
    "attributes": "an object of text, 16 KiB together",
    "replace": "true or false",
}
"""What the value of each key should be. A reason says this instead of repeating the wrong value."""


class _Claims(BaseModel):
    """The claims of an access token that are read here. The signature is not checked: Cognito checks it in the call."""

    model_config = ConfigDict(strict=True, hide_input_in_errors=True)

    exp: Annotated[FiniteFloat, Field(gt=-1e11, lt=1e11)]
    username: str = ""
    iss: str = ""
    token_use: str = "access"  # noqa: S105 - a word


class Parser:
    """Reads the messages of one rollout.

    ``session_validity`` is how many seconds a Session lives from the moment it was issued.
    """

    def __init__(self, user_pool_id: str, session_validity: float) -> None:
        self._pool = user_pool_id
        self._validity = session_validity

    def parse(self, raw: bytes, now: float, *, latest: float | None = None) -> Request:
        """Return the request in one message. A session without times counts as issued at ``now`` (UTC seconds).

        ``latest``: when the message was sent, by a clock that is right (SQS); no session was issued later, even if it
        says so.

        Raises ``Malformed``, and nothing else, whatever the bytes are.
        """
        message = _read(raw)
        if message.session:
            kind, credential = CredentialKind.SESSION, message.session
            issued = now if message.issued_at is None else message.issued_at
            issued = issued if latest is None else min(issued, latest)
            deadline, mismatch = issued + self._validity, ""
        else:
            kind, credential = CredentialKind.ACCESS_TOKEN, message.access_token
            deadline, mismatch = self._read_token(credential, message.username, now)
        return Request(
            username=message.username,
            kind=kind,
            credential=Secret(credential),
            id=message.id or hashlib.sha256(credential.encode()).hexdigest(),
            expires_at=deadline if message.expires_at is None else message.expires_at,
            attributes=message.attributes,
            replace=message.replace,
            mismatch=mismatch,
        )

    def body(self, raw: bytes, now: float) -> bytes:
        """Return the message to put on a queue: the same keys without those that are ignored, on one line.

        A session without times gets ``now`` as ``issued_at``, so that its age is known after it has waited. Raises
        ``Malformed``.
        """
        message = _read(raw)
        fields = {key: value for key, value in from_json(raw).items() if key not in _IGNORED}
        if message.session and message.issued_at is None and message.expires_at is None:
            fields["issued_at"] = datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")
        return to_json(fields)

    def _read_token(self, token: str, username: str, now: float) -> tuple[float, str]:
        """Return when the token expires (UTC seconds), and what does not fit the request (``model.MISMATCHES``).

        Tokens of any app client of the pool fit.
        """
        parts = token.split(".")
        try:
            payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
            claims = _Claims.model_validate_json(payload)
        except (IndexError, ValueError):  # a ValidationError is a ValueError, and so are binascii's
            a_day = 86_400.0  # seconds: an access token lives no longer ("AccessTokenValidity", Cognito API reference)
            return now + a_day, "unreadable"
        if claims.iss.rstrip("/").rpartition("/")[2] != self._pool:
            return claims.exp, "pool"
        if claims.token_use != "access":  # noqa: S105 - a word
            return claims.exp, "id_token"
        return claims.exp, "" if claims.username == username else "user"


def _read(raw: bytes) -> _Message:
    if len(raw) > MAX_MESSAGE:
        raise Malformed("is longer than 256 KiB")
    try:
        message = _Message.model_validate_json(raw)
    except ValidationError as error:
        raise Malformed(_reason(raw, error)) from None
    if message.session and message.access_token:
        raise Malformed("has both session and access_token; keep one")
    if not (message.session or message.access_token):
        raise Malformed("has no credential; add session or access_token")
    most = 16 * 1024  # bytes of all attributes together, because each user's sealed record contains them
    if len(raw) > most < sum(len(text.encode()) for pair in message.attributes.items() for text in pair):
        raise Malformed(f"attributes should be {_RULES['attributes']}")
    return message


def _reason(raw: bytes, error: ValidationError) -> str:
    """Return the first problem in words. Of the message it repeats nothing but the names of its keys."""
    found = error.errors(include_input=False, include_url=False, include_context=False)[0]
    kind, key = found["type"], str(found["loc"][0]) if found["loc"] else ""
    if kind == "json_invalid":
        return "is not JSON" if _is_utf8(raw) else "is not UTF-8"
    if not key:
        return "is not a JSON object"
    if kind == "missing":
        return f"has no {key}"
    if kind != "extra_forbidden":
        return f"{key} should be {_RULES[key]}"
    near = difflib.get_close_matches(key[:_MAX_NAME].lower(), _RULES, 1)
    return f"has the unknown key {_name(key, raw)}" + (f"; did you mean {near[0]}?" if near else "")


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _name(key: str, raw: bytes) -> str:
    """Return a key's name in quotes, safe for a terminal; ``***`` if it repeats eight characters of the credential."""
    name = key if len(key) <= _MAX_NAME else f"{key[:_MAX_NAME]}…"
    shown = escape(name)
    message = from_json(raw)
    secrets = [text for text in (message.get("session"), message.get("access_token")) if isinstance(text, str)]
    if any(shown[at : at + 8] in text for text in secrets for at in range(len(shown) - 7)):
        return "***"
    return f'"{shown}"'


def line_of(request: Mapping[str, object]) -> bytes:
    """Return the request as one line of JSON; empty, and so malformed, if it cannot be written as JSON."""
    try:
        return json.dumps(dict(request)).encode()
    except (TypeError, ValueError, RecursionError):
        return b""
