"""The record that is delivered to a user: how it is written and sealed, and how a line with one is read again.

The record is JSON, sealed to the recipients before it is stored anywhere. A *line* is the same for channels that hold
text: who it is for and its generation in the clear, the record sealed in it.

Whoever reads a line that is none gets ``ValueError``, ``KeyError`` or ``TypeError``.
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
from urllib.parse import quote

from pydantic_core import to_json

from worker.core.model import Issued, Request, Sealed
from worker.core.ports import Sealer


@dataclass(frozen=True, slots=True)
class RecordFormat:
    """How records name the service (``issuer``) and the user (``account``: ``username`` or an attribute's name).

    ``session_validity``: seconds that the Session in Cognito's reply lives.
    """

    issuer: str
    account: str = "username"
    session_validity: float = 180.0


def seal_record(
    request: Request, issued: Issued, generation: int, now: float, form: RecordFormat, sealer: Sealer
) -> Sealed:
    """One delivered record, sealed; ``now`` in UTC seconds is when Cognito answered."""
    attempt_id = str(uuid.uuid4())
    associated_at = rfc3339(now)
    account = request.username
    if form.account != "username":
        account = request.attributes.get(form.account) or account
    secret_code = issued.secret_code.reveal()
    record: dict[str, object] = {
        "username": request.username,
        "generation": generation,
        "attempt_id": attempt_id,
        "secret_code": secret_code,
        "otpauth_uri": otpauth_uri(form.issuer, account, secret_code),
        "associated_at": associated_at,
        "request_id": issued.request_id,
        "attributes": dict(request.attributes),
    }
    expires = None
    if issued.session is not None:
        expires = now + form.session_validity
        record["session"] = issued.session.reveal()
        record["session_expires_at"] = rfc3339(expires)
    blob = sealer.seal(to_json(record))
    return Sealed(generation, attempt_id, associated_at, blob, expires)


def line(username: str, sealed: Sealed) -> bytes:
    """One delivered record as a line (without its end): its address and order in the clear, the rest sealed.

    What the file channel appends, the SQS channel sends, and a secret in Secrets Manager holds.
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


def otpauth_uri(issuer: str, account: str, secret_code: str) -> str:
    """The Key URI that authenticator applications read from a QR code.

    A colon ends the issuer there, even an encoded one, so the issuer may hold none.
    """
    issuer, account = quote(issuer.replace(":", ""), safe=""), quote(account, safe="")
    return f"otpauth://totp/{issuer}:{account}?secret={secret_code}&issuer={issuer}&algorithm=SHA1&digits=6&period=30"


# --- reading: what a line tells without being opened ------------------------------------------------------------------

Record = dict[str, Any]
Address = tuple[bytes, int]
"""Who (SHA-256 of the username, which is all that some sources say) and which generation."""


def is_line(text: str) -> bool:
    """Whether this is one line with a record's address and something sealed."""
    try:
        found = parsed(text.encode())
        outer_address(found)
    except (ValueError, KeyError, TypeError):
        return False
    return "\n" not in text and isinstance(found.get("sealed"), str)


def outer_address(line: Record) -> Address:
    """What a line says of the record in it; one that was fetched from under a hash names its user by that."""
    if "username" in line:
        return address(line)
    digest = line["username_sha256"]
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise TypeError("no hash of a username")
    return bytes.fromhex(digest), _generation(line)


def address(record: Record) -> Address:
    """Whose record this is, and which generation."""
    username = record["username"]
    if not isinstance(username, str):
        raise TypeError("no username")
    return hashlib.sha256(username.encode()).digest(), _generation(record)


def _generation(record: Record) -> int:
    generation = record["generation"]
    if type(generation) is not int:
        raise TypeError("no generation")
    return generation


def checked(record: Record, told: Address) -> Record:
    """The record itself, where it is the one that its line told of."""
    if address(record) != told:
        raise ValueError("the line says something else than the record within")
    return record


def parsed(text: bytes) -> Record:
    """One JSON object."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise TypeError("not a JSON object")
    return found
