"""Sealing with age to public keys, and opening with an identity."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyrage

from worker.core.errors import UsageError
from worker.sealing.identities import read_identities

_HEADER = 22 + 48 + 16
"""Bytes of an age file beside recipients and content: the first line, the header's MAC and the nonce (age's
specification)."""
_STANZA = 98
"""Bytes for an X25519 recipient: a line with its share, and one with the file key."""
_GREASE = 256
"""The most bytes of the random stanza that the library adds, which no reader knows: up to 190 in 10,000 files."""
_CHUNK = 65_536
"""Bytes of content that are encrypted together."""
_TAG = 16
"""Bytes by which a chunk grows."""


class AgeSealer:
    """Seals to all recipients (``age1…``) at once, in age's binary format.

    Raises ``UsageError`` if there is no recipient, or for a text that is none.
    """

    def __init__(self, recipients: Sequence[str]) -> None:
        if not recipients:
            raise UsageError(
                "nobody could open what the worker seals: seal.recipients is empty",
                'make an identity with "mfa-worker keygen -o FILE", keep it away from the worker, '
                "and put the recipient that it prints into seal.recipients",
            )
        self._recipients = [_recipient(number, text) for number, text in enumerate(recipients, 1)]

    def seal(self, plaintext: bytes) -> bytes:
        """See ``ports.Sealer``."""
        sealed: bytes = pyrage.encrypt(plaintext, self._recipients)
        return sealed

    def sealed_size(self, plaintext: int) -> int:
        """See ``ports.Sealer``."""
        chunks = max(1, -(-plaintext // _CHUNK))
        return _HEADER + len(self._recipients) * _STANZA + _GREASE + plaintext + chunks * _TAG


def _recipient(number: int, text: str) -> pyrage.x25519.Recipient:
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:  # the text may be a secret key, so no message repeats it
        if "AGE-SECRET-KEY" in text.upper():
            raise UsageError(
                "a secret key stands in seal.recipients, where everybody who reads the settings sees it",
                "make a new pair (mfa-worker keygen -o FILE), write the public key that it prints (age1…) there, and "
                "throw the old key away",
            ) from None
        raise UsageError(
            f"number {number} of seal.recipients is no age recipient",
            "write a public key there, which begins with age1: mfa-worker keygen -o FILE prints it",
        ) from None


class AgeOpener:
    """Opens with any of the identities in the key files. Raises ``UsageError`` as ``read_identities`` does."""

    def __init__(self, keyfiles: Sequence[Path]) -> None:
        found = read_identities(keyfiles)
        self._identities = found.usable
        self.unused = found.unused
        """What the key files hold beside the identities, in words."""

    def open(self, sealed: bytes) -> bytes:
        """Return the plaintext. Raises ``ValueError`` if no identity fits, or the sealed bytes are damaged."""
        try:
            plaintext: bytes = pyrage.decrypt(sealed, self._identities)
        except pyrage.DecryptError as error:
            raise ValueError(_WHY.get(str(error), "damaged")) from None
        return plaintext


_WHY = {"No matching keys found": "sealed to another identity"}
"""What pyrage says, and our words for it."""


def keygen(created: str) -> tuple[str, str]:
    """Make a new identity; return the text of its identity file (``created``: the date in it), and its recipient."""
    identity = pyrage.x25519.Identity.generate()
    recipient = str(identity.to_public())
    return f"# created: {created}\n# public key: {recipient}\n{identity}\n", recipient


def write_identity(file: Path, text: str, what: str = "an identity") -> None:
    """Write a key file (``what``) with mode 0600. Raises ``UsageError``, also if the file exists."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"{file} exists, and {what} is never overwritten", "choose another name: -o FILE") from None
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}", "choose a folder that exists and is yours") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(descriptor)
