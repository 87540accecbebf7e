"""What a line of sealed records tells without being opened: whose record it is, and which generation.

Whoever reads one that is none gets ``ValueError``, ``KeyError`` or ``TypeError``.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

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
