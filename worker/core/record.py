"""The record that is delivered to a user: how it is written and sealed, and how a line with one is read again.

The record is JSON, sealed to the recipients before it is stored anywhere. A *line* is the same for channels that hold
text: who it is for and its generation in the clear, the record sealed in it.

What is no such record or line raises ``ValueError``, ``KeyError`` or ``TypeError`` when it is read.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

from worker.core.key_uri import otpauth_uri
from worker.core.model import Issued, Request, Sealed, digest_of
from worker.core.ports import Sealer

MOST_GENERATION = 2**63 - 1
"""The highest generation: as a ledger keeps it, in 64 bits. Whoever may write to a channel can write any number."""


@dataclass(frozen=True, slots=True)
class RecordFormat:
    """How records name the service (``issuer``) and the user (``account``: ``username`` or an attribute's name).

    ``session_validity``: seconds that the Session in Cognito's reply lives.
    """

    issuer: str
    account: str = "username"
    session_validity: float = 180.0


def seal_record(
    request: Request,
    issued: Issued,
    generation: int,
    sent_at: float,
    record_format: RecordFormat,
    sealer: Sealer,
    *,
    hands_over_session: bool = True,
) -> Sealed:
    """One record, sealed; ``sent_at`` (UTC seconds): when the call was sent. A Session in its reply cannot be older.

    ``hands_over_session``: whether the record holds it for whoever verifies, and the worker does not spend it itself.
    """
    attempt_id = str(uuid.uuid4())
    associated_at = rfc3339(sent_at)
    account = request.username
    if record_format.account != "username":
        account = request.attributes.get(record_format.account) or account
    secret_code = issued.secret_code.reveal()
    record: dict[str, object] = {
        "username": request.username,
        "generation": generation,
        "attempt_id": attempt_id,
        "secret_code": secret_code,
        "otpauth_uri": otpauth_uri(record_format.issuer, account, secret_code),
        "associated_at": associated_at,
        "request_id": issued.request_id,
        "attributes": dict(request.attributes),
    }
    expires = None
    if issued.session is not None:
        expires = sent_at + record_format.session_validity
        if hands_over_session:
            record["session"] = issued.session.reveal()
            record["session_expires_at"] = rfc3339(expires)
    blob = sealer.seal(to_json(record))
    return Sealed(generation, attempt_id, associated_at, blob, expires, digest_of(blob))


def record_line(username: str, sealed: Sealed) -> bytes:
    """One delivered record as a line (without its end): username and generation in the clear, the rest sealed.

    It is what the file channel appends, the SQS channel sends, and a secret in Secrets Manager holds.
    """
    record = {
        "username": username,
        "generation": sealed.generation,
        "attempt_id": sealed.attempt_id,
        "associated_at": sealed.associated_at,
        "sealed": base64.b64encode(sealed.blob).decode("ascii"),
    }
    return json.dumps(record).encode("ascii")


def rfc3339(at: float) -> str:
    """UTC seconds since the epoch as RFC 3339, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


# --- reading: what a line says before it is opened ------------------------------------------------------------------

Record = dict[str, Any]
Address = tuple[bytes, int]
"""Whose record (SHA-256 of the username, since some sources know only that) and which generation."""


def is_line(text: str) -> bool:
    """Whether this is one line with a record's address and something sealed."""
    try:
        found = parse_object(text.encode())
        line_address(found)
    except (ValueError, KeyError, TypeError):
        return False
    return "\n" not in text and isinstance(found.get("sealed"), str)


def line_address(line: Record) -> Address:
    """The address that a line gives its record. A line fetched by the hash of a username holds that hash instead."""
    if "username" in line:
        return record_address(line)
    digest = line["username_sha256"]
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise TypeError("no hash of a username")
    return bytes.fromhex(digest), _generation(line)


def record_address(record: Record) -> Address:
    """Whose record this is, and which generation."""
    username = record["username"]
    if not isinstance(username, str):
        raise TypeError("no username")
    return user_of(username), _generation(record)


def user_of(username: str) -> bytes:
    """By what sources that do not tell usernames know a user: the SHA-256 of the name."""
    return hashlib.sha256(username.encode()).digest()


def _generation(record: Record) -> int:
    generation = record["generation"]
    if type(generation) is not int or not 0 <= generation <= MOST_GENERATION:
        raise TypeError("no generation")
    return generation


def require_address(record: Record, expected: Address) -> Record:
    """The record, if it has the expected address; else raises ``ValueError``."""
    if record_address(record) != expected:
        raise ValueError("the line says something else than the record within")
    return record


def parse_object(text: bytes) -> Record:
    """One JSON object."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise TypeError("not a JSON object")
    return found
