"""What may stand in ``seal.recipients``: public keys as text, of which kind each is, and what else people write there.

Only the text is looked at; ``sealing.recipients`` makes keys of it. So every command can judge the settings without the
library that seals. No error repeats what was written: it may be a secret that lost its place.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """The kinds of public keys that the library reads; the value is what people are told."""

    X25519 = "an age key"
    SSH_ED25519 = "an SSH key (ed25519)"
    SSH_RSA = "an SSH key (RSA)"
    TAG = "a hardware key (age1tag)"
    TAG_PQ = "a post-quantum hardware key (age1tagpq)"
    PLUGIN = "a key of an age plugin"


@dataclass(frozen=True, slots=True)
class Recipient:
    """One public key."""

    text: str
    """As it is compared and stored: bech32 in small letters, an SSH key without its comment."""
    kind: Kind
    plugin: str = ""
    """The name of the plugin that alone can seal to it: its program is ``age-plugin-NAME``."""
    largest: int = 0
    """The most bytes of its stanza in an age file; 0: nobody knows, for it is a plugin's."""

    @property
    def is_post_quantum(self) -> bool:
        """Whether what is sealed to it alone stays closed to a quantum computer. Of plugins only age's own is known."""
        return self.kind is Kind.TAG_PQ or self.plugin == _POST_QUANTUM_PLUGIN

    @property
    def short(self) -> str:
        """Enough of it to know it by."""
        if self.kind in (Kind.SSH_ED25519, Kind.SSH_RSA):
            name, _, key = self.text.partition(" ")
            return f"{name} …{key.rstrip('=')[-8:]}"
        return self.text if len(self.text) <= _SHORT else f"{self.text[:16]}…{self.text[-6:]}"

    @property
    def words(self) -> str:
        """What it is."""
        return f"a key of the age plugin {self.plugin}" if self.plugin else self.kind.value


class NoRecipientError(ValueError):
    """A text that is no public key to seal to. ``cure``: what to write instead."""

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(what)
        self.cure = cure


_SHORT = 24
"""Characters of a public key that are shown without being shortened."""
_POST_QUANTUM_PLUGIN = "pq"
"""The plugin of age's own post-quantum keys (``age1pq1…``), which age reads without one since its version 1.3."""
_BECH32 = re.compile(r"age(?:1([a-z0-9+._-]{1,40}))?1[02-9ac-hj-np-z]{6,4096}")
"""An age public key: age1 and its data, or age1NAME1 and its data (age specification, and that of its plugins)."""
_X25519_CHARACTERS = 62
"""The length of an X25519 public key as text: 32 bytes in bech32."""
_TAGGED = {"tag": Kind.TAG, "tagpq": Kind.TAG_PQ}
"""Names that are kinds of their own and need no plugin (age specification, "The tagged recipient types")."""
_STANZA = {Kind.X25519: 98, Kind.SSH_ED25519: 110, Kind.TAG: 150, Kind.TAG_PQ: 1609}
"""Bytes of a stanza: its name, its arguments in base64, and 43 characters for the file key (age specification)."""
_SSH_RSA_LINE = len("-> ssh-rsa AAAAAA\n")
"""Bytes of the first line of an RSA key's stanza: its name, and four bytes of a digest in base64."""
_LINE = 64
"""Characters of a whole line of a stanza's body; a shorter one ends it (age specification)."""
_FEWEST_BITS = 2048
"""Bits that an RSA key must have: age's own rule."""
_MOST_BITS = 4096
"""Bits that an RSA key may have: the most that the library takes (measured)."""
_SSH = re.compile(r"(?:^|\s)((?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+)[ \t]+([A-Za-z0-9+/]{20,}={0,2})(?=\s|$)")
"""An SSH public key in a line of ``authorized_keys``, ``known_hosts`` or a ``.pub`` file."""
_KEY_BEHIND = re.compile(r"[\s,;](?:age1|ssh-(?:ed25519|rsa))", re.IGNORECASE)
"""A public key behind another one. As a comment of that it would be sealed to nobody, and nobody would notice."""
_BLOCK = ("-----begin", "---- begin")
"""How public keys begin that take several lines."""
_FIXED_BY = "mfa-worker keygen -o FILE prints one that begins with age1"
_LOST = f"make a new pair, write its public key there, and throw the old key away: {_FIXED_BY}"
_UNUSABLE_SSH = (
    (re.compile(r"sk-"), "an SSH key on a FIDO token, which can sign and not decrypt", "an age plugin for that token"),
    (re.compile(r"ecdsa-"), "an SSH key of the kind ECDSA, which age does not read", "ssh-ed25519"),
    (re.compile(r"ssh-dss"), "an SSH key of the kind DSA, which age does not read and nobody trusts", "ssh-ed25519"),
    (re.compile(r".*-cert-"), "an SSH certificate and no key", "the key that it was made for (ssh-keygen -L shows it)"),
)
"""Kinds of SSH keys by how they begin: what they are, and what can be named instead."""
_PRIVATE = ("AGE-SECRET-KEY-", "PRIVATE KEY-----", "AGE-PLUGIN-")
"""What private keys hold, in capital letters."""


def recipient(text: str) -> Recipient:
    """Return the public key that this text is, with blanks around it and a comment behind it. Raises
    ``NoRecipientError``.
    """
    given = text.strip().lstrip("\ufeff").strip("\"', \t\r\n")
    if any(each in given.upper() for each in _PRIVATE):
        raise NoRecipientError("a private key, which everybody who reads the settings sees", _LOST)
    if len(given.splitlines()) > 1 and not given.lower().startswith(_BLOCK):
        raise NoRecipientError("several lines", "write each public key as an entry of its own")
    if given.lower().startswith("age1"):
        _refuse_another(given)
    elif _SSH.search(given):
        return _ssh(given)
    first = given.partition(" ")[0]
    first = first.lower() if first.isupper() else first
    if found := _BECH32.fullmatch(first):
        return _of_age(first, found[1])
    raise NoRecipientError(*_what_else(given))


def recipients(texts: Iterable[str]) -> tuple[Recipient, ...]:
    """Return these public keys, each once. Raises ``NoRecipientError``; ``number`` says which."""
    found: dict[str, Recipient] = {}
    for number, text in enumerate(texts, 1):
        try:
            each = recipient(text)
        except NoRecipientError as error:
            error.args = (f"entry {number} is {error}",)
            raise
        found.setdefault(each.text, each)
    refuse_mixed(tuple(found.values()))
    return tuple(found.values())


def refuse_mixed(found: Sequence[Recipient]) -> None:
    """Raise ``NoRecipientError`` where post-quantum keys stand beside others."""
    quantum = [each.short for each in found if each.is_post_quantum]
    if quantum and len(quantum) < len(found):
        others = [each.short for each in found if not each.is_post_quantum]
        raise NoRecipientError(
            f"post-quantum keys ({', '.join(quantum)}) stand beside others ({', '.join(others)}): whoever records "
            "what is sealed today, and can break one of the others some day, reads everything",
            "name post-quantum keys alone, or none",
        )


def _of_age(text: str, name: str | None) -> Recipient:
    if name is None:
        if len(text) != _X25519_CHARACTERS:
            raise NoRecipientError(*_what_else(text))
        return Recipient(text, Kind.X25519, largest=_STANZA[Kind.X25519])
    if kind := _TAGGED.get(name):
        return Recipient(text, kind, largest=_STANZA[kind])
    return Recipient(text, Kind.PLUGIN, plugin=name)


def _refuse_another(line: str) -> None:
    """Raise ``NoRecipientError`` if another key stands behind the one that this line begins with."""
    if _SSH.search(line, 1) or _KEY_BEHIND.search(line):
        raise NoRecipientError("several keys", "write each public key as an entry of its own")


def _ssh(line: str) -> Recipient:
    found = _SSH.search(line)
    assert found is not None
    name, data = found[1], found[2]
    for begins, what, instead in _UNUSABLE_SSH:
        if begins.match(name):
            raise NoRecipientError(what, f"name another key of that person: {instead}, or age's own: {_FIXED_BY}")
    if found.start(1):
        raise NoRecipientError(
            "an SSH key behind something else: options of authorized_keys, which have no effect here, or a host of "
            "known_hosts, whose key no person has",
            "write only the two words of the key, such as ssh-ed25519 AAAA…",
        )
    _refuse_another(line)
    torn = NoRecipientError(
        "an SSH key that is cut off or mistyped", "copy the whole line of the .pub file, or of ssh-add -L"
    )
    try:
        blob = base64.b64decode(data)
        fields = _fields(blob)
    except ValueError:
        raise torn from None
    if base64.b64encode(blob).decode() != data:  # such as with padding that is too long: the same key, written twice
        raise torn
    if len(fields) != {"ssh-ed25519": 2, "ssh-rsa": 3}.get(name) or fields[0] != name.encode():
        raise torn
    text = f"{name} {data}"
    if name == "ssh-ed25519":
        return Recipient(text, Kind.SSH_ED25519, largest=_STANZA[Kind.SSH_ED25519])
    modulus = fields[2].lstrip(b"\0")
    bits = int.from_bytes(modulus, "big").bit_length()
    if not _FEWEST_BITS <= bits <= _MOST_BITS:
        said = f"fewer than {_FEWEST_BITS}" if bits < _FEWEST_BITS else f"more than {_MOST_BITS}"
        raise NoRecipientError(
            f"an RSA key of {bits} bits: age refuses {said}", f"name an ssh-ed25519 key; {_FIXED_BY}"
        )
    body = -(-len(modulus) * 4 // 3)
    return Recipient(text, Kind.SSH_RSA, largest=_SSH_RSA_LINE + body + body // _LINE + 1)


def _fields(blob: bytes) -> list[bytes]:
    """The fields of an SSH public key, each with its length before it (RFC 4251). Raises ``ValueError``."""
    fields, at = [], 0
    while at < len(blob):
        length = int.from_bytes(blob[at : at + 4], "big")
        field = blob[at + 4 : at + 4 + length]
        if len(field) != length:
            raise ValueError("it ends early")
        fields.append(field)
        at += 4 + length
    return fields


def _what_else(given: str) -> tuple[str, str]:
    """What a text is that is no public key, and what to do."""
    lower = given.lower()
    if not given:
        return "empty", f"write a public key there: {_FIXED_BY}"
    if lower.startswith(("http://", "https://", "github:", "gitlab:")):
        return (
            "an address, and keys are not fetched: whoever answers there could read everything",
            "look at what is there, be sure whose it is, and write each line ssh-ed25519 … or ssh-rsa … as an entry",
        )
    if lower.startswith(_BLOCK):
        return (
            "a public key in a form that age does not read",
            "write it in one line: ssh-keygen -i -m PKCS8 -f FILE (or -m RFC4716) prints that for an SSH key",
        )
    if lower.startswith(("ssh-", "ecdsa-", "sk-")):
        return "an SSH key that is cut off or mistyped", "copy the whole line of the .pub file, or of ssh-add -L"
    if lower.startswith("age1"):
        return (
            "an age public key that is cut off or mistyped",
            "copy it again: age1 and 58 more small letters and digits; or age1NAME1 and more, of hardware or a plugin",
        )
    if lower.startswith(("/", "~", "./", "../")) or lower.endswith((".pub", ".txt", ".key")):
        return "the name of a file", "write the public key that stands in it: age1…, ssh-ed25519 … or ssh-rsa …"
    return "no public key", f"it should be a public key: age1…, ssh-ed25519 … or ssh-rsa …; {_FIXED_BY}"
