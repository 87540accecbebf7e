"""Sealing with age to public keys, and opening with an identity."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pyrage

from worker.core.errors import PersonMustAct, UsageError
from worker.core.recipients import Recipient
from worker.sealing.identities import Identity, read_identities
from worker.sealing.person import Person
from worker.sealing.recipients import PREFIX, Callbacks, NoAnswers, keys, one_line, readable

_HEADER = 22 + 48 + 16
"""Bytes of an age file beside recipients and content: the first line, the header's MAC and the nonce (age's
specification)."""
_UNKNOWN = 4_096
"""Bytes for a recipient of a plugin before its stanza was measured: that of a post-quantum key has 1,600."""
_GREASE = 256
"""The most bytes of the random stanza that the library adds, which no reader knows: up to 190 in 10,000 files."""
_CHUNK = 65_536
"""Bytes of content that are encrypted together."""
_TAG = 16
"""Bytes by which a chunk grows."""


class AgeSealer:
    """Seals to all recipients at once, in age's binary format. Raises ``UsageError`` as ``keys`` does.

    A plugin is a child process, in which the library waits with the interpreter's lock: a worker with such recipients
    uses ``in_children``.
    """

    def __init__(self, recipients: Sequence[str], callbacks: Callbacks | None = None) -> None:
        self.recipients = readable(recipients)
        self.room = _UNKNOWN * sum(not each.largest for each in self.recipients)
        """Bytes that the stanzas of plugins may take; ``trial`` measures it."""
        self._keys = keys(self.recipients, callbacks or NoAnswers())

    def close(self) -> None:
        """Nothing is to be closed."""

    def seal(self, plaintext: bytes) -> bytes:
        """See ``ports.Sealer``. Raises ``PersonMustAct`` where the library cannot."""
        try:
            sealed: bytes = pyrage.encrypt(plaintext, self._keys)
        except pyrage.EncryptError as error:
            raise PersonMustAct(
                f"age does not seal to seal.recipients: {one_line(str(error))}",
                "take the key that it names out, or all but one at a time, until mfa-worker check is content",
            ) from None
        return sealed

    def sealed_size(self, plaintext: int) -> int:
        """See ``ports.Sealer``."""
        return most_bytes(self.recipients, self.room, plaintext)


def most_bytes(recipients: Sequence[Recipient], room: int, plaintext: int) -> int:
    """The most bytes of an age file with so many bytes of content. ``room``: what the stanzas of plugins may take."""
    chunks = max(1, -(-plaintext // _CHUNK))
    stanzas = sum(each.largest for each in recipients) + room
    return _HEADER + stanzas + _GREASE + plaintext + chunks * _TAG


class AgeOpener:
    """Opens with any of the identities in the key files. Raises ``UsageError`` as ``read_identities`` does.

    ``person``: who can be asked for a passphrase or a PIN.
    """

    def __init__(self, keyfiles: Sequence[Path], person: Person | None = None) -> None:
        found = read_identities(keyfiles, person or Person())
        self.identities = found.usable
        self.unused = found.unused
        """What the key files hold beside the identities, in words."""
        self._native = [each for each in found.usable if not each.plugin]
        self._plugins = [each for each in found.usable if each.plugin]
        """The one that opened last comes first: each costs a process."""
        self._troubles = 0
        """How often in a row a plugin could not even try."""

    def open(self, sealed: bytes) -> bytes:
        """Return the plaintext. Raises ``ValueError`` if no identity fits, or the sealed bytes are damaged.

        Raises ``UsageError`` where a plugin has trouble again and again: its hardware is not there.
        """
        if self._native:
            with suppress(OthersError):
                return opened_with(sealed, self._native)
        trouble: ValueError = OthersError("sealed to another identity")
        for identity in self._plugins:
            try:
                plaintext = opened_with(sealed, [identity])
            except PluginTroubleError as error:
                trouble = error
                continue
            except OthersError:
                continue
            self._plugins.remove(identity)
            self._plugins.insert(0, identity)
            self._troubles = 0
            return plaintext
        if isinstance(trouble, PluginTroubleError):
            self._troubles += 1
            if self._troubles >= MOST_TROUBLES:
                raise UsageError(str(trouble), "put the hardware in, unlock it, and begin again")
        raise trouble


MOST_TROUBLES = 3
"""How many records in a row a plugin may have trouble with, until nobody asks for PINs and touches any more."""


class OthersError(ValueError):
    """It is sealed to others."""


class PluginTroubleError(ValueError):
    """A plugin could not tell whether it opens a record."""


def opened_with(sealed: bytes, identities: Sequence[Identity]) -> bytes:
    """Return the plaintext. Raises ``ValueError``, and which one where it is not just damaged."""
    try:
        plaintext: bytes = pyrage.decrypt(sealed, [each.key for each in identities])
    except pyrage.DecryptError as error:
        if str(error) == "No matching keys found":
            raise OthersError("sealed to another identity") from None
        if PREFIX in str(error):
            raise PluginTroubleError(one_line(str(error))) from None
        raise ValueError("damaged") from None
    return plaintext


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
