"""Usernames in the names of S3 objects and of secrets: any text becomes one safe segment, and mostly comes back.

A username is written as it is where it may be, and as ``=`` and two hexadecimal digits a byte (UTF-8) where not:
``ana@example.org``, ``O=27Hara``, ``=C3=A9mile``. That is percent-encoding with ``=`` for ``%``, which the S3 user
guide lists among the characters to avoid and Secrets Manager forbids. What begins with ``_`` is written another way:
``_base64.…`` (the same bytes, base64url without padding) where the first would be too long, and ``_sha256.…``.

A hash hides a username from a glance, not from somebody who has a list of usernames to try.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Literal

Names = Literal["username", "hash"]

LONGEST_SEGMENT = 800
"""Bytes of a user's segment in an S3 key of at most 1,024, which leaves 128 for a prefix and 96 for the rest."""
LONGEST_SECRET_SEGMENT = 383
"""Characters of a user's segment in a secret's name of at most 512, which leaves 128 for a prefix and its slash."""

_UNSAFE = re.compile(rb"[^0-9A-Za-z@._-]|^[._-]")
"""Bytes that are escaped; one of ``._-`` at the beginning too, so that no segment is a dot or two or begins with ``_``.
"""
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")
"""An escaped byte."""
_LOOKS_LIKE_AN_ARNS_END = re.compile(r"-(?=.{6}$)")
"""A hyphen and six characters at the end, as Secrets Manager adds them to a secret's name to make its ARN."""
_BASE64 = "_base64."
"""What a segment begins with that is the username's bytes as base64url."""
_SHA256 = "_sha256."
"""What a segment begins with that is a hash of the username."""


def segment(username: str, names: Names) -> str:
    """The user's part of an S3 key: of ``A-Za-z0-9=@._-`` only, at most 800 long, never a dot or two."""
    if names == "hash":
        return hashed(username)
    plain = _escaped(username)
    if len(plain) <= LONGEST_SEGMENT:
        return plain
    return _BASE64 + base64.urlsafe_b64encode(username.encode()).rstrip(b"=").decode("ascii")


def username_of(name: str) -> str | None:
    """The username that ``segment`` wrote so, ``None`` for a hash. Raises ``ValueError`` for what it never writes."""
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
    """The digest in a segment that is a hash (hexadecimal). Raises ``ValueError`` where it is none."""
    if not name.startswith(_SHA256):
        return None
    found = name.removeprefix(_SHA256)
    if not re.fullmatch("[0-9a-f]{64}", found):
        raise ValueError("no user is called so")
    return found


def secret_segment(username: str, names: Names) -> str:
    """The user's part of a secret's name: the username where it fits, its hash where not.

    No name ends in a hyphen and six characters, as the ends of secrets' ARNs do (CreateSecret, API reference).
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
