"""The requests of one user that reached an outcome, remembered for ever in a bounded space.

An id that reached an outcome is never worked on again, whenever its message comes again. Most users have one request,
but a producer that repeats itself can make thousands, and each write of a user's row writes them all. So the newest ids
are remembered as digests, and the older ones in a Bloom filter of fixed size: it never says "new" of an id that it was
given, so the promise holds without knowing when a message expires or whose clock is right.

The price: the filter may take a new id for an old one. Then a fresh request counts as a duplicate, and the user keeps
the outcome that they have. That cannot happen before a user has more than ``NEWEST`` outcomes. After 5,000 it is one
request in 500, and after 40,000 nearly every one: each outcome took a call, so such a producer runs in circles.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

NEWEST = 64
"""How many ids are remembered exactly: far more than the requests that one person needs, and 1.6 KB in a row."""
_DIGEST = 16
"""Bytes of SHA-256 that stand for an id; nobody meets two ids with the same 128 bits by chance."""
_FILTER = 8_192
"""Bytes of the filter before it is compressed: 65,536 bits, so that two bytes of a digest name one of them. All eight
pairs of a digest are used. As text at most 11 KB, where DynamoDB allows 400 KB for an item (developer guide)."""


_IS_DIGEST = re.compile("[A-Za-z0-9+/]{22}").fullmatch
"""Whether a text is a digest as it is stored."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A set of request ids that only grows. ``id in settled`` is never ``False`` for an id that was added."""

    newest: tuple[str, ...] = ()
    """Digests of the newest ids, oldest first."""
    older: str = ""
    """The Bloom filter of all ids before them, as ``dump`` writes it; empty where there are none."""

    def __contains__(self, id_: str) -> bool:
        """Whether the id was added, or is one of the few that cannot be told from those."""
        if not self.newest:
            return False
        digest = _digest(id_)
        if digest in self.newest:
            return True
        if not self.older:
            return False
        bits = _unpacked(self.older)
        return all(bits[position >> 3] & 1 << (position & 7) for position in _positions(digest))

    def add(self, id_: str) -> Settled:
        """These ids and one more."""
        digest = _digest(id_)
        return self if digest in self.newest else _bounded((*self.newest, digest), self.older)

    def dump(self) -> list[Any]:
        """What a ledger stores as JSON; ``load`` reads it."""
        if not self.newest:
            return []
        return [{"newest": list(self.newest), **({"older": self.older} if self.older else {})}]


NOTHING_SETTLED = Settled()
"""No id at all."""


def load(stored: Iterable[Any]) -> Settled:
    """Read what a ledger stored. Texts in the list are plain ids: earlier versions stored nothing else.

    What is damaged raises ``ValueError``, ``KeyError``, ``TypeError`` or ``AttributeError``.
    """
    digests, older = list[str](), ""
    for part in stored:
        if isinstance(part, str):
            digests.append(_digest(part))
        else:
            digests += part["newest"]
            older = part.get("older", "")
            if not all(map(_IS_DIGEST, digests)) or (older and len(_unpacked(older)) != _FILTER):
                raise ValueError("no ids")
    return _bounded(digests, older)


def _bounded(digests: Sequence[str], older: str) -> Settled:
    """The newest digests, and a filter of ``older`` and of all that are too many."""
    if too_many := digests[:-NEWEST]:
        bits = _unpacked(older) if older else bytearray(_FILTER)
        for digest in too_many:
            for position in _positions(digest):
                bits[position >> 3] |= 1 << (position & 7)
        older = base64.b64encode(zlib.compress(bits)).decode()
    return Settled(tuple(digests[-NEWEST:]), older)


def _unpacked(older: str) -> bytearray:
    """The bits of a filter, and no more than one more byte: what is damaged may be short, or have no end."""
    try:
        return bytearray(zlib.decompressobj().decompress(base64.b64decode(older), _FILTER + 1))
    except zlib.error as error:
        raise ValueError("no filter") from error


def _digest(id_: str) -> str:
    digest = hashlib.sha256(id_.encode("utf-8", "surrogatepass")).digest()[:_DIGEST]
    return base64.b64encode(digest)[:-2].decode()  # without the padding, which is always "=="


def _positions(digest: str) -> Sequence[int]:
    """The bits that stand for this digest."""
    return struct.unpack(">8H", base64.b64decode(digest + "=="))
