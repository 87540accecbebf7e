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
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, StringConstraints, ValidationError
from pydantic_core import from_json, to_json

from worker.core.errors import Malformed
from worker.core.file_kinds import HEAD, foreign
from worker.core.key_uri import label
from worker.core.model import NEVER, CredentialKind, Request, Secret
from worker.requests import envelopes
from worker.requests.lines import MAX_MESSAGE, NOT_UTF8, digest, is_utf8, stripped
from worker.requests.ticket import read_not_after
from worker.requests.times import epoch, is_plain, plain

_IGNORED = {"state", "reason", "since", "detail"}
"""Keys that ``export`` adds. They are allowed, so that its lines can be pushed again, and they are not sent on."""

_SHOWN_NAME = re.compile("[a-z_]{1,32}")
"""An unknown key whose name a reason repeats: it looks like a misspelt one. Any other may be a secret that lost its
place."""

_Time = Annotated[float | None, BeforeValidator(lambda value: None if value is None else epoch(value))]


class _Message(BaseModel):
    """The shape of a message. ``null`` for an optional key is its absence; a text that is present is never empty."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    username: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    session: Annotated[str, StringConstraints(min_length=20, max_length=8_192)] | None = None
    access_token: Annotated[str, StringConstraints(min_length=1, max_length=16_384)] | None = None
    id: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    issued_at: _Time = None
    expires_at: _Time = None
    attributes: dict[str, str] | None = None
    replace: bool | None = None
    ticket: str | None = None
    password: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    state: Any = None
    reason: Any = None
    since: Any = None
    detail: Any = None


_CREDENTIALS = ("session", "access_token", "ticket", "password")
"""The keys of which a message has exactly one (``CredentialKind``)."""

_RULES = {
    "username": "text of 1 to 128 characters",
    "session": "text of 20 to 8,192 characters",
    "access_token": "text of 1 to 16,384 characters",
    "ticket": "text of 54 characters",
    "password": "text of 1 to 256 characters",
    "id": "text of 1 to 256 characters",
    "issued_at": "a time as in RFC 3339 with its zone, such as 2025-01-31T12:00:00Z",
    "expires_at": "a time as in RFC 3339 with its zone, such as 2025-01-31T12:00:00Z",
    "attributes": "an object of text, 16 KiB together",
    "replace": "true or false",
}
"""What the value of each key should be. A reason says this instead of repeating the wrong value."""

_FLOWS = {"ticket": ("custom_auth",), "password": ("user_password", "admin_user_password")}
"""The values of ``sign_in.flow`` in which each of the credentials that sign a user in can be used."""

_NO_TICKET = (
    "ticket is no ticket, which is 54 characters of base64url without padding: mfa-worker push --usernames, or "
    "worker.ticket in Python, makes them"
)


class _Claims(BaseModel):
    """The claims of an access token that are read here. The signature is not checked: Cognito checks it in the call."""

    model_config = ConfigDict(strict=True, hide_input_in_errors=True)

    exp: Annotated[FiniteFloat, Field(gt=-1e11, lt=1e11)]
    username: str = ""
    iss: str = ""
    token_use: str = "access"  # noqa: S105 - a word


class Parser:
    """Reads the messages of one rollout.

    ``session_validity`` is how many seconds a Session lives from the moment it was issued. ``account``: ``username``,
    or the attribute that every request needs because authenticator applications show it (``otp.account``). ``flow``:
    how users are signed in (``sign_in.flow``), which says what credentials fit.
    """

    def __init__(
        self, user_pool_id: str, session_validity: float, account: str = "username", *, flow: str = "none"
    ) -> None:
        self._pool = user_pool_id
        self._validity = session_validity
        self._account = account
        self._flow = flow

    @property
    def signs_in(self) -> bool:
        """Whether requests may bring what signs their user in when it is their turn."""
        return self._flow != "none"

    def parse(self, raw: bytes, now: float, *, latest: float | None = None, origin: str = "") -> Request:
        """Return the request in one message. A session without times counts as issued at ``now`` (UTC seconds).

        ``latest``: when the message was sent, by a clock that is right (SQS); no session was issued later, even if it
        says so. ``origin``: what tells this message from all others, without its content; it becomes the id of a
        request with a password that has none. Without it, such a request gets a new id each time it is parsed.

        Raises ``Malformed``, and nothing else, whatever the bytes are.
        """
        return self._request(self._read(raw), now, latest, origin)

    def to_push(self, raw: bytes, now: float, *, origin: str = "") -> tuple[Request, bytes]:
        """Return the request in one message, and the message to put on a queue; see ``parse`` and ``body``.

        Both have the same id, also where it is a new one. Raises ``Malformed``.
        """
        message = self._read(raw)
        if message.password is not None and message.id is None:
            message = message.model_copy(update={"id": origin or _new_id()})
        return self._request(message, now, None, ""), self._body(message, raw, now)

    def body(self, raw: bytes, now: float) -> bytes:
        """Return the message to put on a queue: the same keys without those that are ignored or null, on one line.

        A session without times gets ``now`` as ``issued_at``, so that its age is known after it has waited, and a
        password without an id a random one, since nothing is ever derived from a password. Times are written so that
        workers of earlier versions read them. Raises ``Malformed``.
        """
        return self.to_push(raw, now)[1]

    def digest(self, raw: bytes) -> str:
        """Return what may be stored of a malformed message; see ``lines.digest``.

        Where requests bring passwords, whatever is malformed may hold one, under any key or none.
        """
        return "withheld" if self._flow in _FLOWS["password"] else digest(raw)

    def _request(self, message: _Message, now: float, latest: float | None, origin: str) -> Request:
        mismatch = ""
        id_, expires_at = message.id, message.expires_at
        if message.session:
            kind, credential = CredentialKind.SESSION, message.session
            issued = now if message.issued_at is None else message.issued_at
            issued = issued if latest is None else min(issued, latest)
            deadline = issued + self._validity
        elif message.access_token:
            kind, credential = CredentialKind.ACCESS_TOKEN, message.access_token
            deadline, mismatch = self._read_token(credential, message.username, now)
        elif message.ticket:
            kind, credential = CredentialKind.TICKET, message.ticket
            deadline = read_not_after(credential) or 0.0
            expires_at = None if expires_at is None else min(expires_at, deadline)  # it does not outlive the ticket
        else:
            kind, credential, deadline = CredentialKind.PASSWORD, message.password or "", NEVER
            id_ = id_ or origin or _new_id()
        return Request(
            username=message.username,
            kind=kind,
            credential=Secret(credential),
            id=id_ or hashlib.sha256(credential.encode()).hexdigest(),
            expires_at=deadline if expires_at is None else expires_at,
            attributes=message.attributes or {},
            replace=bool(message.replace),
            mismatch=mismatch,
        )

    def _body(self, message: _Message, raw: bytes, now: float) -> bytes:
        content = from_json(stripped(raw))
        fields = {key: value for key, value in content.items() if key not in _IGNORED and value is not None}
        for key, at in (("issued_at", message.issued_at), ("expires_at", message.expires_at)):
            if at is not None and not is_plain(fields[key]):
                fields[key] = plain(at)
        if message.session and message.issued_at is None and message.expires_at is None:
            fields["issued_at"] = plain(now)
        if message.password is not None:
            fields["id"] = message.id
        return to_json(fields)

    def _read(self, raw: bytes) -> _Message:
        if len(raw) > MAX_MESSAGE:
            by_cr = "; has it lines that end with CR alone? tr '\\r' '\\n'" if b"\r" in raw.strip() else ""
            raise Malformed(f"is longer than 256 KiB{by_cr}")
        message = _validated(raw, self._flow)
        self._refuse_other_than_one(message)
        if (key := _key_twice(raw, message)) is not None:
            raise Malformed(f"has two values for one {_named(key, raw)}; keep one")
        attributes = message.attributes or {}
        most = 16 * 1024  # bytes of all attributes together, because each user's sealed record contains them
        if len(raw) > most < sum(len(text.encode()) for pair in attributes.items() for text in pair):
            raise Malformed(f"attributes should be {_RULES['attributes']}")
        if self._account != "username" and not label(attributes.get(self._account, "")):
            raise Malformed(f"has no attribute {self._account}, which otp.account names as what people see")
        return message

    def _refuse_other_than_one(self, message: _Message) -> None:
        """Raise ``Malformed`` unless there is exactly one credential, and it fits the flow."""
        if message.ticket is message.password is None and (message.session is None) != (message.access_token is None):
            return
        given = [key for key in _CREDENTIALS if getattr(message, key) is not None]
        if misfit := next((key for key in given if not _fits(key, self._flow)), None):
            raise Malformed(_misfit(misfit, self._flow))
        if len(given) > 1:
            raise Malformed(f"has both {given[0]} and {given[1]}; keep one")
        if not given:
            raise Malformed(f"has no credential; add {_fitting(self._flow)}")
        if message.ticket is not None and read_not_after(message.ticket) is None:
            raise Malformed(_NO_TICKET)

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


def _new_id() -> str:
    return uuid.uuid4().hex


def _fits(key: str, flow: str) -> bool:
    """Whether a credential under this key, if it is one, can be used in that flow."""
    return key not in _FLOWS or flow in _FLOWS[key]


def _fitting(flow: str) -> str:
    """The credentials that fit this flow, as words."""
    return " or ".join(key for key in _CREDENTIALS if _fits(key, flow))


def _misfit(key: str, flow: str) -> str:
    """What to say of a credential that does not fit this flow."""
    return f"{key} fits only sign_in.flow {' or '.join(_FLOWS[key])}, and it is {flow}, which takes {_fitting(flow)}"


def _validated(raw: bytes, flow: str) -> _Message:
    try:
        return _Message.model_validate_json(raw)
    except ValidationError as error:
        if (text := stripped(raw)) != raw:
            return _validated(text, flow)
        raise Malformed(_reason(raw, error, flow)) from None


def _key_twice(raw: bytes, message: _Message) -> str | None:
    """Return a key that has two values in one object, of which a parser sees only the last; ``None``: there is none.

    A message without one has a certain number of quotes, except where texts contain some, or a key is null or ignored.
    So few messages are read a second time.
    """
    keys = message.model_fields_set
    quotes = 4 * len(keys) - 2 * ("replace" in keys)
    if message.attributes is not None:
        quotes += 4 * len(message.attributes) - 2
    return None if raw.count(b'"') == quotes and b"null" not in raw else _repeated_key(raw)


def _repeated_key(raw: bytes) -> str | None:
    repeated: list[str] = []

    def look(pairs: list[tuple[str, object]]) -> None:
        keys: set[str] = set()
        for key, _ in pairs:
            if key in keys:
                repeated.append(key)
            keys.add(key)

    with suppress(ValueError, RecursionError):  # pydantic has read it, so it is JSON
        json.loads(stripped(raw), object_pairs_hook=look, parse_int=str, parse_float=str, parse_constant=str)
    return repeated[0] if repeated else None


def _reason(raw: bytes, error: ValidationError, flow: str) -> str:
    """Return the first problem in words. Of the message it repeats nothing but a key that looks misspelt."""
    found = error.errors(include_input=False, include_url=False)[0]
    kind, key = found["type"], str(found["loc"][0]) if found["loc"] else ""
    if kind == "json_invalid":
        return _not_json(raw, str(found.get("ctx", {}).get("error")))
    if envelope := envelopes.named(raw):
        return envelope
    if not found["loc"]:
        return "is not a JSON object"
    if kind == "missing":
        return f"has no {key}"
    if not _fits(key, flow):
        return _misfit(key, flow)
    if kind != "extra_forbidden":
        return f"{key} should be {_RULES[key]}"
    near = difflib.get_close_matches(key[:32].lower(), [name for name in _RULES if _fits(name, flow)], 1)
    return f"has the unknown {_named(key, raw)}" + (f"; did you mean {near[0]}?" if near else "")


def _named(key: str, raw: bytes) -> str:
    """Return ``key "name"`` where the name looks misspelt, else its length: it may be a secret that lost its place.

    A part of the message's credential is never repeated; of a password, which is short, nothing that has to do with it.
    """
    message = from_json(stripped(raw))
    secrets = [text for name in _CREDENTIALS if isinstance(text := message.get(name), str)]
    password = message.get("password")
    is_part = any(key in text for text in secrets if len(key) >= 8)
    if isinstance(password, str) and key != "password":
        is_part = is_part or key in password or password in key
    if _SHOWN_NAME.fullmatch(key) and not is_part:
        return f'key "{key}"'
    return f"key of {len(key):,} characters"


_JSON_TROUBLES = (
    ("EOF", "it ends too early"),
    ("trailing characters", "something follows it on the line"),
    ("hex escape", "half of a surrogate pair is no character"),
    ("surrogate", "half of a surrogate pair is no character"),
    ("control character", "a text contains a control character, such as a line break"),
    ("recursion", "it is nested too deeply"),
    ("out of range", "a number has too many digits"),
)
"""What the JSON parser (jiter) says of a mistake contains the first text; a reason says the second one."""


def _not_json(raw: bytes, trouble: str) -> str:
    if not raw:
        return "is empty"
    if other := foreign(raw[:HEAD]):
        return other.flaw
    if b"\0" in raw:
        return "contains NUL bytes"
    if not is_utf8(raw):
        return NOT_UTF8
    if b"\r" in raw:
        return "has lines that end with CR alone: tr '\\r' '\\n'"
    return envelopes.not_json(raw) or next(
        (f"is not JSON: {said}" for sign, said in _JSON_TROUBLES if sign in trouble), "is not JSON"
    )


def line_of(request: Mapping[str, object]) -> bytes:
    """Return the request as one line of JSON; empty, and so malformed, if it cannot be written as JSON."""
    try:
        return json.dumps(dict(request)).encode()
    except (TypeError, ValueError, RecursionError):
        return b""
