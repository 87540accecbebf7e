"""The Key URI that an authenticator application reads from a QR code, and what its labels may say.

The format: google-authenticator's wiki, "Key Uri Format". Its label is ISSUER:ACCOUNT, and some applications take even
an encoded colon for the one between them, so neither may hold any.
"""

from __future__ import annotations

from urllib.parse import quote

MAX_BYTES = 2_953
"""Bytes that the largest QR code holds: version 40, error correction L, byte mode (ISO/IEC 18004)."""

MAX_ISSUER_BYTES = 1_300
"""Bytes of an issuer, percent-encoded. A URI holds it twice: then it leaves room for a secret code of 52 characters and
128 bytes of an account, as many as a username of ASCII has at most."""


def label(text: str) -> str:
    """Return the text without colons; empty if nothing of it can be seen (blanks, control characters)."""
    plain = _without_colons(text)
    return plain if any(char.isprintable() and not char.isspace() for char in plain) else ""


def _without_colons(text: str) -> str:
    """Everything else is left as it is: percent-encoding carries any character."""
    return text.replace(":", "")


def issuer_fits(issuer: str) -> bool:
    """Whether a QR code can hold the URIs with this issuer. Raises ``UnicodeEncodeError`` for half a surrogate pair."""
    return len(_quoted(_without_colons(issuer))) <= MAX_ISSUER_BYTES


def otpauth_uri(issuer: str, account: str, secret_code: str) -> str:
    """Return the URI. An account that no QR code could hold is cut, at the end of a character.

    Where the account is nothing but colons, the issuer stands for it.
    """
    issuer = _quoted(_without_colons(issuer))
    secret = secret_code.upper().rstrip("=")
    end = f"?secret={secret}&issuer={issuer}&algorithm=SHA1&digits=6&period=30"
    begin = f"otpauth://totp/{issuer}:"
    shown = _cut(_without_colons(account), MAX_BYTES - len(begin) - len(end))
    return begin + (shown or issuer) + end


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _cut(text: str, most: int) -> str:
    """Return the text, percent-encoded, without the characters that would not fit into so many bytes."""
    whole = _quoted(text)
    if len(whole) <= most:
        return whole
    kept: list[str] = []
    for char in text:
        most -= len(encoded := _quoted(char))
        if most < 0:
            break
        kept.append(encoded)
    return "".join(kept)
