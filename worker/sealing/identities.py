"""Reads identity files (age secret keys), and says in words what else is in them.

People keep other keys in such files, comments in any language and encoding, and sometimes hand over the wrong file. The
usable identities are used; of everything else the kind is named, and no key is ever repeated. A file that every user of
the host can read is refused.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyrage

from worker.core.age_format import AGE, ARMOR_BEGINS
from worker.core.errors import UsageError
from worker.core.file_kinds import foreign
from worker.core.key_files import READ_BY_OTHERS, close_to_others
from worker.core.text import escape, shortened

STANDARD_INPUT = Path("-")
"""The name that stands for standard input."""
LARGEST = 1 << 20
"""The most bytes (1 MiB) of an identity file: some ten thousand identities."""

_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----")
"""The first line of a key in a form that other tools use."""
_KINDS = (
    ("AGE-SECRET-KEY-PQ-1", "a post-quantum age identity"),
    ("AGE-SECRET-KEY-1", "an age identity that is cut off or mistyped"),
    ("AGE1", "a recipient (public key)"),
    ("SSH-", "an SSH public key"),
    ("ECDSA-SHA2-", "an SSH public key"),
    ("{", "JSON, perhaps a file of sealed records"),
)
"""How lines begin that are no identity for us, in upper case, and what they are; the first that fits counts."""
_CURE = "name the file that keygen (or age-keygen) wrote: an identity line begins with AGE-SECRET-KEY-1"


@dataclass(slots=True)
class Identities:
    """What was found in the identity files."""

    usable: list[pyrage.x25519.Identity] = field(default_factory=list)
    """Without repetitions."""
    unused: list[str] = field(default_factory=list)
    """In words and without any key: what else is there, and where."""


def read_identities(files: Sequence[Path]) -> Identities:
    """Read these files; ``-`` is standard input.

    Raises ``UsageError`` for a file that cannot be read or that others can, and where no file has a usable identity.
    """
    found, known = Identities(), set[str]()
    for file in dict.fromkeys(files):
        refuse_key(file)
        name = "standard input" if file == STANDARD_INPUT else escape(str(file))
        content = _content(file, name)
        empty = True
        for what, identity in _keys(content):
            empty = False
            if identity is None:
                found.unused.append(f"{name}{what}")
            elif str(identity) not in known:
                known.add(str(identity))
                found.usable.append(identity)
        if empty:
            found.unused.append(f"{name} is empty" if not content.strip() else f"{name} has only comments")
    if not found.usable:
        raise UsageError(f"there is no age identity that can be used: {'; '.join(shortened(found.unused, 5))}", _CURE)
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


def _content(file: Path, name: str) -> bytes:
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
        tool = "age -d" if file == STANDARD_INPUT else f"age -d {name}"
        with_what = "with a passphrase" if content.startswith(AGE + b"\n-> scrypt ") else "itself"
        raise UsageError(
            f"{name} is an identity file that is encrypted {with_what}",
            f"decrypt it on the way: {tool} | mfa-worker … -i -",
        )
    if (other := foreign(content)) and other.codec:
        raise UsageError(f"{name} {other.what}", other.cure)
    if status is not None:
        _refuse_readable(status, name)
    return content


def _refuse_readable(found: os.stat_result, name: str) -> None:
    if stat.S_ISREG(found.st_mode) and found.st_mode & READ_BY_OTHERS:
        raise UsageError(
            f"the identity file {name} can be read or changed by every user of this host "
            f"(mode {stat.S_IMODE(found.st_mode):04o})",
            close_to_others(name),
        )


def _keys(content: bytes) -> Iterator[tuple[str, pyrage.x25519.Identity | None]]:
    """Every usable identity, and for everything else ``None`` with words for what it is and where."""
    text = content.decode("utf-8-sig", errors="replace")  # only comments may be anything else than ASCII
    inside = ""  # the kind of a PEM block, of which we are in the middle
    for number, line in enumerate(re.split("\r\n|\n|\r", text), 1):
        line = line.strip()
        if inside:
            inside = "" if line == f"-----END {inside}-----" else inside
        elif pem := _PEM.match(line):
            inside = pem[1]
            yield f":{number} is {_pem(inside)}", None
        elif line and not line.startswith("#"):
            try:
                yield "", pyrage.x25519.Identity.from_str(line)
            except pyrage.IdentityError:
                yield f":{number} is {_kind(line)}", None


def _pem(kind: str) -> str:
    return "an SSH private key" if kind == "OPENSSH PRIVATE KEY" else f"a key or certificate in PEM ({kind.lower()})"


def _kind(line: str) -> str:
    upper = line.upper()
    if plugin := re.match(r"AGE-PLUGIN-([A-Z0-9+._-]{1,40})-1", upper):
        return f"an identity of the age plugin {plugin[1].lower()}"
    return next((kind for begins, kind in _KINDS if upper.startswith(begins)), "no age identity")
