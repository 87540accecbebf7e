"""Tickets: a sign-in permission for one user in one app client, which lives as long as the rollout; and their key.

A script or ``push --usernames`` makes them, the pool's trigger checks them, and the worker only carries them: it has no
key. Whoever has the key can sign in as anybody through that app client, so nothing here repeats it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import os
import re
import secrets
import stat
import sys
from pathlib import Path

from worker.core.errors import UsageError
from worker.core.file_kinds import foreign
from worker.core.key_files import READ_BY_OTHERS, how_to_close
from worker.core.model import NEVER
from worker.core.text import escape
from worker.requests.usernames import is_username

KEY_BYTES = 32
"""Bytes of a key, as many as the digest has that it makes (HMAC-SHA256)."""
LENGTH = 54
"""Characters of a ticket: eight bytes of time and 32 of HMAC, in base64url without padding."""

_SCHEME = "mfa-worker ticket v1"
_BASE64URL = re.compile("[A-Za-z0-9_-]+", re.ASCII)
_STANDARD_INPUT = Path("-")
_LARGEST = 1 << 16
"""The most bytes that are read of a key file; a key has 43 characters."""
_CURE = "mfa-worker keygen --ticket -o FILE makes one; the pool's trigger needs the same key"


def make_ticket(key: bytes, *, user_pool_id: str, client_id: str, username: str, not_after: float) -> str:
    """Return the ticket with which this user can sign in through that app client until ``not_after``.

    ``key``: the 32 bytes that ``read_key`` returns; ``not_after``: UTC seconds since the epoch, rounded down to whole
    ones. Raises ``ValueError``, which repeats no key, for what can be no ticket.
    """
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise ValueError("the key of tickets is 32 bytes: worker.ticket_key(path) reads them from their file")
    if not is_username(username):
        raise ValueError("a username is text of 1 to 128 characters")
    for name, value in (("user_pool_id", user_pool_id), ("client_id", client_id)):
        if not value or not value.isprintable():  # in a line of its own each, so that no two texts are the same
            raise ValueError(f"{name} is empty, or holds what no id does")
    if not math.isfinite(not_after) or not 0 <= not_after <= NEVER:
        raise ValueError("not_after is in seconds since the epoch (not milliseconds), up to the year 9999")
    moment = int(not_after)
    text = "\n".join((_SCHEME, user_pool_id, client_id, username, str(moment)))
    return _encoded(moment.to_bytes(8, "big") + hmac.digest(key, text.encode(), hashlib.sha256))


def read_not_after(ticket: str) -> float | None:
    """Return until when a ticket is valid (UTC seconds, at most ``NEVER``); ``None``: it is no ticket.

    Only the one way to write these bytes is a ticket, so that none comes in two forms. Whose it is, and whether it is
    genuine, shows only to who has the key.
    """
    found = _decoded(ticket, LENGTH)
    return None if found is None else min(float(int.from_bytes(found[:8], "big")), NEVER)


def is_genuine(ticket: str, key: bytes, *, user_pool_id: str, client_id: str, username: str) -> bool:
    """Whether a well-formed ticket was made with this key, for this user in this app client."""
    moment = int.from_bytes((_decoded(ticket, LENGTH) or b"")[:8], "big")
    if moment > NEVER:
        return False
    wanted = make_ticket(key, user_pool_id=user_pool_id, client_id=client_id, username=username, not_after=moment)
    return hmac.compare_digest(wanted.encode(), ticket.encode())


def new_key() -> str:
    """Return the text of a key file: a new key, on one line."""
    return _encoded(secrets.token_bytes(KEY_BYTES)) + "\n"


def read_key(file: str | Path) -> bytes:
    """Return the key in a file (``-``: standard input).

    Raises ``UsageError`` where it cannot be read, every user of this host can read it, or it holds no key.
    """
    name = _named(Path(file))
    content = _content(Path(file), name)
    if (other := foreign(content)) and other.codec:
        raise UsageError(f"{name} {other.what}", other.cure)
    text = content.decode("utf-8-sig", errors="replace").strip()
    if (key := _decoded(text, 43)) is not None:
        return key
    is_binary = len(content) == KEY_BYTES and not content.isascii()
    kind = "it is 32 bytes as they are, and a key is those in base64url" if is_binary else _kind(text)
    raise UsageError(f"{name} holds no key for tickets: {kind}", _CURE)


def _named(file: Path) -> str:
    """The file for people. Raises ``UsageError``, which repeats nothing, where the key itself was given instead."""
    text = str(file)
    if "AGE-SECRET-KEY-" in text.upper() or (re.fullmatch(r"[A-Za-z0-9+/_-]{40,88}={0,2}", text) and not file.exists()):
        raise UsageError(
            "a key was given in place of its file: every user of this host can read arguments, and the shell's history "
            "keeps them",
            "put it into a file of mode 0600 and name that; where others use this host, make a new key "
            "(mfa-worker keygen --ticket -o FILE)",
        )
    return "standard input" if file == _STANDARD_INPUT else escape(text)


def _content(file: Path, name: str) -> bytes:
    try:
        if file == _STANDARD_INPUT:
            return sys.stdin.buffer.read(_LARGEST)
        with file.open("rb") as stream:
            found, content = os.fstat(stream.fileno()), stream.read(_LARGEST)
    except IsADirectoryError:
        raise UsageError(f"the ticket key {name} is a folder", "name the key file in it") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else "it is no name of a file"
        raise UsageError(f"cannot read the ticket key {name}: {why}", _CURE) from None
    if stat.S_ISREG(found.st_mode) and found.st_mode & READ_BY_OTHERS:
        raise UsageError(
            f"the ticket key {name} can be read or changed by every user of this host "
            f"(mode {stat.S_IMODE(found.st_mode):04o})",
            how_to_close(name),
        )
    return content


_KINDS = (
    ("", "it is empty"),
    ("(?s).*AGE-SECRET-KEY-.*", "it is an age identity, which opens sealed records; a key for tickets is another file"),
    ("(?s)age1.*", "it is a recipient (public key) of age"),
    ("(?s).*-----BEGIN .*", "it is a key or certificate in PEM"),
    ('(?s)[{"].*', "it is JSON, and a key stands alone, without quotes"),
    (r"(?s).*[\r\n].*", "it has several lines, and a key is one"),
    ("[0-9a-f]{64}", "it is written in hexadecimal, and a key is 43 characters of base64url"),
    ("[a-z0-9+/_-]{42,43}={1,2}", "it ends with padding, and base64url here has none: leave out ="),
    ("[a-z0-9+/]{43}", "it is base64 of the standard alphabet: write - for +, and _ for /"),
    ("[a-z0-9_-]{54}", "it is as long as a ticket"),
)
"""What a whole file looks like (small letters and capitals alike) that is no key, and what it is."""


def _kind(text: str) -> str:
    """What stands in place of a key, in words that repeat nothing of it."""
    for pattern, words in _KINDS:
        if re.fullmatch(pattern, text, re.IGNORECASE):
            return words
    return f"it has {len(text):,} characters, and a key is 43 of A-Z, a-z, 0-9, - and _ (32 bytes in base64url)"


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decoded(text: str, length: int) -> bytes | None:
    """The bytes that so many characters of base64url without padding stand for; ``None``: they are no such text."""
    if len(text) != length or not _BASE64URL.fullmatch(text):
        return None
    content = base64.urlsafe_b64decode(text + "=" * (-length % 4))
    return content if _encoded(content) == text else None
