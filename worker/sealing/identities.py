"""Reads identity files (secret keys), and says in words what else is in them.

People keep other keys in such files, comments in any language and encoding, and sometimes hand over the wrong file. The
usable identities are used: age's own, those of plugins, and SSH keys. Of everything else the kind is named, and no key
is ever repeated. A file that is protected by a passphrase is opened with it, where a person can be asked. A file that
every user of the host can read is refused.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyrage

from worker.core.age_format import AGE, ARMOR_BEGINS, as_binary
from worker.core.errors import UsageError
from worker.core.file_kinds import foreign
from worker.core.key_files import READ_BY_OTHERS, how_to_close
from worker.core.text import escape, shortened
from worker.sealing.person import Person
from worker.sealing.recipients import PREFIX, program

STANDARD_INPUT = Path("-")
"""The name that stands for standard input."""
LARGEST = 1 << 20
"""The most bytes (1 MiB) of an identity file: some ten thousand identities."""

_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----")
"""The first line of a key in a form that other tools use."""
_SCRYPT = re.compile(rb"age-encryption\.org/v1\n-> scrypt \S+ (\d{1,9})\n")
"""How a file begins that is protected by a passphrase; the number is the work factor (age specification)."""
MOST_WORK = 22
"""The highest work factor of a passphrase's file that is tried: age's own limit, which takes half a minute and 4 GB. It
writes 18, for a second and 256 MB."""
PASSPHRASES = 3
"""How often a passphrase is asked for."""
_KINDS = (
    ("AGE-SECRET-KEY-PQ-1", "a post-quantum age identity"),
    ("AGE-SECRET-KEY-1", "an age identity that is cut off or mistyped"),
    ("AGE-PLUGIN-", "an identity of an age plugin that is cut off or mistyped"),
    ("AGE1", "a recipient (public key)"),
    ("SSH-", "an SSH public key"),
    ("ECDSA-SHA2-", "an SSH public key"),
    ("{", "JSON, perhaps a file of sealed records"),
)
"""How lines begin that are no identity for us, in upper case, and what they are; the first that fits counts."""
_PUBLIC = re.compile(rb"(?:ssh-|ecdsa-|sk-|age1)[^\r\n]*")
"""A file that holds one public key and nothing else, which everybody may read."""
_CURE = "name the file that keygen (or age-keygen) wrote: an identity line begins with AGE-SECRET-KEY-1"
_PRIVATE = "name the private key, which ssh-keygen wrote beside it, without .pub"
_OPEN_SSH = ("OPENSSH PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY")
"""What stands in the first line of an SSH private key."""
_ENCRYPTED_SSH = (
    "age asks for it, record by record: age -d -i FILE; for many records take it off a copy that you delete "
    "afterwards: cp FILE COPY && ssh-keygen -p -f COPY, with an empty new passphrase"
)
_CONVERTED = (
    "convert it for the plugin of age 1.3, with age-plugin-pq on the PATH: age-plugin-pq -identity -o NEW FILE, and "
    "name NEW here"
)
_CURES = (("AGE-SECRET-KEY-PQ-1", _CONVERTED), *((kind, _PRIVATE) for kind in ("SSH-", "ECDSA-SHA2-")))
"""What to do about such lines; about all others: ``_CURE``."""
_OTHER_FORM = "let ssh-keygen write a copy in its own form: cp FILE COPY && ssh-keygen -p -f COPY"
_SSH_CURES = {
    "must be decrypted": ("an SSH private key with a passphrase, for which nobody asks here", _ENCRYPTED_SSH),
    "EncryptedPem": ("an SSH private key with a passphrase, for which nobody asks here", _ENCRYPTED_SSH),
    "Type(": ("an SSH private key of a kind that age does not read: it reads ed25519 and RSA", _CURE),
}
"""What the library says of an SSH key that it does not take, what it is, and what to do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One secret key."""

    key: Any
    """The library's."""
    file: str
    """Where it was found, for people."""
    words: str
    """What it is."""
    recipient: str = ""
    """The public key of one of age's own; empty for all others, which do not tell it."""
    plugin: str = ""
    """The name of the plugin that alone opens with it."""
    text: str = field(default="", repr=False)
    """What it is compared by: itself, as it stands in its file."""


@dataclass(slots=True)
class Identities:
    """What was found in the identity files."""

    usable: list[Identity] = field(default_factory=list)
    """Without repetitions."""
    unused: list[str] = field(default_factory=list)
    """In words and without any key: what else is there, and where."""
    cure: str = _CURE
    """What to do about the last of these for which there is more to say than which file to name."""


class _UnusableError(Exception):
    """A key that cannot be used; why, and what to do."""

    def __init__(self, what: str, cure: str = _CURE) -> None:
        super().__init__(what)
        self.cure = cure


def read_identities(files: Sequence[Path], person: Person | None = None) -> Identities:
    """Read these files; ``-`` is standard input. ``person``: who can be asked for passphrases and PINs.

    Raises ``UsageError`` for a file that cannot be read or that others can, and where no file has a usable identity.
    """
    found, known = Identities(), set[str]()
    for file in dict.fromkeys(files):
        refuse_key(file)
        name = "standard input" if file == STANDARD_INPUT else escape(str(file))
        content = _content(file, name, person)
        empty = True
        for what, identity in _keys(content, name, person):
            empty = False
            if isinstance(identity, _UnusableError):
                found.unused.append(f"{name}{what} is {identity}")
                if identity.cure is not _CURE:
                    found.cure = identity.cure.replace("FILE", name)
            elif identity.text not in known:
                known.add(identity.text)
                found.usable.append(identity)
        if empty:
            found.unused.append(f"{name} is empty" if not content.strip() else f"{name} has only comments")
    if not found.usable:
        said = "; ".join(shortened(found.unused, 5))
        raise UsageError(f"there is no age identity that can be used: {said}", found.cure)
    return found


def refuse_key(file: str | Path) -> None:
    """Raise ``UsageError``, which repeats nothing, where somebody gave the key itself in place of its file."""
    if "AGE-SECRET-KEY-" in str(file).upper():
        raise UsageError(
            "a secret key was given in place of a file: every user of this host can read arguments, and the shell's "
            "history keeps them",
            "put it into a file of mode 0600 and name that with -i, or give it to -i -; where others use this host, "
            "make a new key (keygen)",
        )


def _content(file: Path, name: str, person: Person | None) -> bytes:
    status: os.stat_result | None = None
    try:
        if file == STANDARD_INPUT:
            content = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with file.open("rb") as stream:
                status, content = os.fstat(stream.fileno()), stream.read(LARGEST + 1)
    except IsADirectoryError:
        raise UsageError(f"the identity file {name} is a folder", "name the key file in it") from None
    except OSError as error:
        raise UsageError(f"cannot read the identity file {name}: {error.strerror}", _CURE) from None
    if len(content) > LARGEST:
        raise UsageError(f"{name} is too large for an identity file", _CURE)
    if content.lstrip().startswith((AGE, ARMOR_BEGINS)):
        return _decrypted(content, name, person)
    if (other := foreign(content)) and other.codec:
        raise UsageError(f"{name} {other.what}", other.cure)
    if status is not None and not _PUBLIC.fullmatch(content.strip()):
        _refuse_readable(status, name, is_ssh=b"PRIVATE KEY-----" in content)
    return content


def _decrypted(content: bytes, name: str, person: Person | None) -> bytes:
    """What is in an identity file that is itself an age file, with the passphrase that a person types."""
    tool = "age -d" if name == "standard input" else f"age -d {name}"
    cure = f"decrypt it on the way: {tool} | mfa-worker … -i -"
    binary = as_binary(content) or b""
    scrypt = _SCRYPT.match(binary or content)
    if scrypt is None:
        raise UsageError(f"{name} is an identity file that is encrypted itself", cure)
    what = f"{name} is an identity file that is encrypted with a passphrase"
    if int(scrypt[1]) > MOST_WORK:
        raise UsageError(f"{what}, with more work (2^{int(scrypt[1])}) than a key file needs", cure)
    if person is None or not person.is_there():
        raise UsageError(f"{what}, and there is no terminal to ask for it", cure)
    for _ in range(PASSPHRASES):
        passphrase = person.passphrase(f"Passphrase of {name}")
        if passphrase is None:
            break
        try:
            opened: bytes = pyrage.passphrase.decrypt(binary, passphrase)
        except pyrage.DecryptError as error:
            if "Excessive work" in str(error):
                raise UsageError(f"{what}, with more work than this machine does in a short time", cure) from None
            person.display_message("this passphrase does not open it")
        else:
            return opened
    raise UsageError(f"{what}, and was not opened", f"type the passphrase with which it was made; or {cure}")


def _refuse_readable(found: os.stat_result, name: str, *, is_ssh: bool) -> None:
    if not stat.S_ISREG(found.st_mode):
        return
    mode = f"(mode {stat.S_IMODE(found.st_mode):04o})"
    if found.st_mode & READ_BY_OTHERS:
        raise UsageError(
            f"the identity file {name} can be read or changed by every user of this host {mode}",
            how_to_close(name),
        )
    if is_ssh and found.st_uid == os.geteuid() and found.st_mode & 0o077:
        raise UsageError(
            f"the SSH key {name} can be read by others {mode}: ssh would not use it either", f"chmod 600 {name}"
        )


def _keys(content: bytes, name: str, person: Person | None) -> Iterator[tuple[str, Identity | _UnusableError]]:
    """Every key, or why it cannot be used, each with words for where it stands."""
    text = content.decode("utf-8-sig", errors="replace")  # only comments may be anything else than ASCII
    kind, block, began = "", list[str](), 0  # a PEM block, in the middle of which we are
    for number, line in enumerate(re.split("\r\n|\n|\r", text), 1):
        line = line.strip()
        if kind:
            block.append(line)
            if line == f"-----END {kind}-----":
                yield f":{began}", _from_pem(kind, block, name)
                kind = ""
        elif pem := _PEM.match(line):
            kind, block, began = pem[1], [line], number
        elif line and not line.startswith("#"):
            yield f":{number}", _from_line(line, name, person)
    if kind:
        yield f":{began}", _UnusableError(f"{_pem(kind)} that is cut off", "copy the whole file")


def _from_line(line: str, name: str, person: Person | None) -> Identity | _UnusableError:
    if not line.isascii():
        return _UnusableError(_kind(line))
    upper = line.upper() if line.isupper() or line.islower() else line
    if re.match(r"AGE-PLUGIN-[A-Z0-9+._-]{1,40}-1", upper):
        return _of_plugin(upper, name, person)
    try:
        key = pyrage.x25519.Identity.from_str(line)
    except pyrage.IdentityError:
        return _UnusableError(
            _kind(line), next((cure for begins, cure in _CURES if line.upper().startswith(begins)), _CURE)
        )
    return Identity(key, name, "an age identity", recipient=str(key.to_public()), text=str(key))


def _of_plugin(line: str, name: str, person: Person | None) -> Identity | _UnusableError:
    plugin = line.removeprefix("AGE-PLUGIN-").rpartition("-1")[0].lower()
    words = f"an identity of the age plugin {plugin}"
    try:
        key = pyrage.plugin.Identity.from_str(line)
    except pyrage.IdentityError:
        return _UnusableError(f"{words} that is cut off or mistyped", "copy the whole line that the plugin printed")
    if person is None:
        return _UnusableError(words)
    if not program(plugin):
        return _UnusableError(
            f"{words}, whose program {PREFIX}{plugin} is not on the PATH",
            f"install {PREFIX}{plugin} here, so that this prints its path: command -v {PREFIX}{plugin}",
        )
    return Identity(pyrage.plugin.IdentityPluginV1(plugin, [key], person), name, words, plugin=plugin, text=line)


def _from_pem(kind: str, block: Sequence[str], name: str) -> Identity | _UnusableError:
    text = "\n".join(block) + "\n"
    if kind not in _OPEN_SSH:
        return _UnusableError(_pem(kind), _OTHER_FORM if "PRIVATE KEY" in kind else _CURE)
    try:
        key = pyrage.ssh.Identity.from_buffer(text.encode())
    except pyrage.IdentityError as error:
        for said, (what, cure) in _SSH_CURES.items():
            if said in str(error):
                return _UnusableError(what, cure)
        return _UnusableError(f"{_pem(kind)} that is damaged", _OTHER_FORM)
    return Identity(key, name, "an SSH private key", text=text)


def _pem(kind: str) -> str:
    return "an SSH private key" if kind == "OPENSSH PRIVATE KEY" else f"a key or certificate in PEM ({kind.lower()})"


def _kind(line: str) -> str:
    upper = line.upper()
    return next((kind for begins, kind in _KINDS if upper.startswith(begins)), "no age identity")
