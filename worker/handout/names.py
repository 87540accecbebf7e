"""File names for usernames, which may be anything: safe on every file system, never two users under one name.

A plain username (small letters, digits, and ``. _ @ + -``) is its own file name. Any other becomes what can be read of
it, ``~``, and 16 hex digits of its SHA-256. No plain username has a ``~``, so the two kinds never meet, and none has
a capital letter, so file systems that ignore case keep them apart.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

_PLAIN = re.compile(r"[a-z0-9_][a-z0-9._@+-]{0,99}", re.ASCII)
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.ASCII)
"""Names of devices on Windows, with any ending too."""
_READABLE = 40
"""The most characters that are kept of a username that is not plain."""


def file_name(username: str, ending: str) -> str:
    """Return the file name for a user; ``ending``: such as ``.svg``."""
    if _PLAIN.fullmatch(username) and not _RESERVED.fullmatch(username):
        return username + ending
    plain = unicodedata.normalize("NFKD", username).encode("ascii", "ignore").decode("ascii").lower()
    readable = re.sub(r"[^a-z0-9@-]+", "_", plain).strip("_-")[:_READABLE] or "user"
    return f"{readable}~{hashlib.sha256(username.encode()).hexdigest()[:16]}{ending}"
