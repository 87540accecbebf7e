"""Usernames in the names of S3 objects and secrets: any text becomes one safe segment, from which it can be read back.

Safe characters stay as they are; every other byte (UTF-8) becomes ``=`` and two hexadecimal digits:
``ana@example.org``, ``O=27Hara``, ``=C3=A9mile``. This is percent-encoding with ``=`` instead of ``%``, because the S3
user guide advises against ``%`` and Secrets Manager forbids it. A segment that begins with ``_`` is written in another
way: ``_base64.…`` (the same bytes in base64url without padding) if the usual form would be too long, and ``_sha256.…``
for a hash, from which the username cannot be read back.

A hash hides a username from a casual look, but not from somebody who can try a list of usernames.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Literal

Names = Literal["username", "hash"]

LONGEST_SEGMENT = 800
"""The most bytes of a user's segment in an S3 key: of 1,024 (S3 user guide), 128 are for the prefix and 96 for the
rest."""
LONGEST_SECRET_SEGMENT = 383
"""The most characters of a user's segment in a secret's name: of 512 (API reference, CreateSecret), 129 are for the
prefix and its slash."""

_UNSAFE = re.compile(rb"[^0-9A-Za-z@._-]|^[._-]")
"""Bytes that are escaped. ``._-`` are escaped at the beginning only, so that no segment is ``.`` or ``..`` or begins
with ``_``."""
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")
"""An escaped byte."""
_LOOKS_LIKE_AN_ARNS_END = re.compile(r"-(?=.{6}$)")
"""A hyphen with six characters after it at the end: Secrets Manager adds such an ending to a name to make the ARN."""
_BASE64 = "_base64."
"""Prefix of a segment with the username's bytes in base64url."""
_SHA256 = "_sha256."
"""Prefix of a segment with a hash of the username."""


def segment(username: str, names: Names) -> str:
    """The user's segment of an S3 key: at most 800 characters of ``A-Za-z0-9=@._-``, and never ``.`` or ``..``."""
    if names == "hash":
        return hashed(username)
    plain = _escaped(username)
    if len(plain) <= LONGEST_SEGMENT:
        return plain
    return _BASE64 + base64.urlsafe_b64encode(username.encode()).rstrip(b"=").decode("ascii")


def username_of(name: str) -> str | None:
    """The username from a segment; ``None`` for a hash. Raises ``ValueError`` if ``segment`` cannot have written it."""
    if name.startswith(_SHA256):
        return None
    if name.startswith(_BASE64):
        text = name.removeprefix(_BASE64)
        username = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode()
    else:
        username = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), name.encode()).decode()
    if not username or segment(username, "username") != name:
        raise ValueError("no user is called so")
    return username


def digest_of(name: str) -> str | None:
    """The hexadecimal digest in a segment; ``None`` if it has none. Raises ``ValueError`` for a malformed one."""
    if not name.startswith(_SHA256):
        return None
    found = name.removeprefix(_SHA256)
    if not re.fullmatch("[0-9a-f]{64}", found):
        raise ValueError("no user is called so")
    return found


def secret_segment(username: str, names: Names) -> str:
    """The user's segment of a secret's name: the username, or its hash if the username is too long.

    The name never ends in a hyphen and six characters, because secrets' ARNs do (API reference, CreateSecret).
    """
    plain = _LOOKS_LIKE_AN_ARNS_END.sub("=2D", _escaped(username))
    if names == "hash" or len(plain) > LONGEST_SECRET_SEGMENT:
        return hashed(username)
    return plain


def hashed(username: str) -> str:
    """The user's segment as a hash."""
    return _SHA256 + digest(username)


def digest(username: str) -> str:
    """SHA-256 of the username in UTF-8, hexadecimal."""
    return hashlib.sha256(username.encode()).hexdigest()


def _escaped(username: str) -> str:
    return _UNSAFE.sub(lambda found: b"=%02X" % found[0][0], username.encode()).decode("ascii")
