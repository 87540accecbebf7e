"""How an age file looks from outside (age specification, v1), binary or armored: to tell one from what is none.

Nothing is opened here, and nobody's key is needed.
"""

from __future__ import annotations

import base64
import re

AGE = b"age-encryption.org/v1"
"""The first bytes of every binary age file."""
ARMOR_BEGINS = b"-----BEGIN AGE ENCRYPTED FILE-----"
"""The first line of an armored age file."""
ARMOR_ENDS = b"-----END AGE ENCRYPTED FILE-----"
"""The last line of an armored age file."""

_STANZA = re.compile(rb"-> ([!-~]+)(?: [!-~]+)*\n(?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,63}\n")
"""What stands in a header for one recipient; it begins with the name of its kind."""
LONGEST_HEADER = 1 << 14
"""The most bytes (16 KiB) of a header: 9 post-quantum recipients, or 150 of X25519. The library that opens age files
takes a time that grows with the square of a header's length (measured: 0.4 s for 16 KiB, half an hour for 1 MiB), and
hears no Ctrl-C meanwhile; and anybody who may write to a channel can write such a file."""

_HEADER = re.compile(
    rb"age-encryption\.org/v1\n"
    rb"(?:-> [!-~]+(?: [!-~]+)*\n(?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,63}\n)+"  # for each recipient
    rb"--- [A-Za-z0-9+/]{43}\n"
)
"""A whole header: who can open the file, and the authentication of that."""


def as_binary(data: bytes) -> bytes | None:
    """Return the binary form of this age file, whichever form it has; ``None`` if it is no age file at all.

    One whose header is longer than ``LONGEST_HEADER`` is none. Only the header is looked at: what is sealed may still
    be damaged, or sealed to others.
    """
    if (text := data.lstrip()).startswith(ARMOR_BEGINS):
        body, end, _ = text[len(ARMOR_BEGINS) :].partition(ARMOR_ENDS)
        try:
            data = base64.b64decode(b"".join(body.split()), validate=True) if end else b""
        except ValueError:
            return None
    return data if _HEADER.match(data, 0, LONGEST_HEADER) else None


def stanzas(data: bytes) -> list[tuple[str, int]]:
    """Return the name and the bytes of each stanza of a binary age file; none if it is no age file."""
    header = _HEADER.match(data)
    end = header.end() if header else 0
    return [(each[1].decode("ascii"), len(each[0])) for each in _STANZA.finditer(data, len(AGE) + 1, end)]
