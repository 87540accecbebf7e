"""The worker's own identity, to which it seals what activation needs after a crash, and with which it opens that.

It is not the identity that opens delivered secrets: that one stays away from the worker. Where the ledger is a file on
this host and nobody names an identity, one is made beside it. With the ledger it opens the secrets of the users whose
activation is under way, so it is as secret as the queue.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import pyrage

from worker.adapters.private_files import HIDDEN, sync_folder
from worker.core.errors import UsageError
from worker.core.text import escape
from worker.sealing.age import keygen, write_identity
from worker.sealing.identities import read_identities


class OwnAgeSealer:
    """``ports.OwnSealer`` with the one identity in this text (``AGE-SECRET-KEY-1…``). Raises ``ValueError``."""

    def __init__(self, identity_text: str) -> None:
        try:
            self._identity = pyrage.x25519.Identity.from_str(identity_text.strip())
        except pyrage.IdentityError:
            raise ValueError("no age identity") from None
        self._recipient = self._identity.to_public()
        self.recipient = str(self._recipient)
        """The public key of the identity (``age1…``)."""

    def __repr__(self) -> str:
        return f"OwnAgeSealer({self.recipient})"

    def seal(self, plaintext: bytes) -> bytes:
        """See ``ports.OwnSealer``."""
        sealed: bytes = pyrage.encrypt(plaintext, [self._recipient])
        return sealed

    def open(self, blob: bytes) -> bytes:
        """See ``ports.OwnSealer``."""
        try:
            plaintext: bytes = pyrage.decrypt(blob, [self._identity])
        except pyrage.DecryptError:
            raise ValueError("sealed to another identity, or damaged") from None
        return plaintext


def read_own(file: Path) -> OwnAgeSealer:
    """Return the sealer with the identity in this file.

    Raises ``UsageError`` for a file that cannot be read or that others can, and unless there is exactly one identity in
    it, and nothing else but comments.
    """
    found = read_identities([file])
    (first, *others), what = found.usable, ""
    if others or found.unused:
        what = f"{len(found.usable)} identities" if others else f"more: {found.unused[0]}"
    elif not first.recipient:
        what = f"{first.words}, which is none of age's own"
    if what:
        raise UsageError(
            f"activation.identity is to hold one age identity, and {escape(str(file))} holds {what}",
            f"name a file of its own for it: mfa-worker keygen -o {escape(str(file.with_name('activation.key')))}",
        )
    return OwnAgeSealer(first.text)


def make_own(file: Path, created: str) -> None:
    """Make the identity file, mode 0600, whole, and durable on return; one that exists is left as it is.

    ``created``: the date in it. Raises ``UsageError``.
    """
    text, _ = keygen(created)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=HIDDEN, dir=file.parent)
        temporary = Path(name)
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(handle)
        with suppress(FileExistsError):
            _link(temporary, file, text)
        sync_folder(file.parent)
    except OSError as error:
        raise UsageError(
            f"cannot write the activation identity {escape(str(file))}: {error.strerror}",
            "make that folder writable for this user, or name another file: activation.identity",
        ) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _link(temporary: Path, file: Path, text: str) -> None:
    """Give the whole file its name, unless that is taken (``FileExistsError``)."""
    try:
        os.link(temporary, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if file.exists():
            raise FileExistsError from None
        write_identity(file, text)
