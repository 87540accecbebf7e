"""What a block is: whose record by what stands around it, and the record itself once it is opened."""

from __future__ import annotations

import base64
import json
import re

from worker.core.age_format import as_binary
from worker.core.record import Address, Record, line_address, parse_object, record_address, require_address
from worker.core.text import escape
from worker.sealing.age import AgeOpener
from worker.sealing.blocks import Source

_TORN = re.compile(rb'\{"username": ("(?:[^"\\]|\\.){1,1600}"), "generation": ([0-9]{1,18}), "attempt_id": "')
"""How a line of ours begins (``core.record.record_line``) of which the rest may be missing."""


class NoRecord(Exception):  # noqa: N818 - it is what was found
    """What the worker cannot have made, so that an older record of the same user counts. ``str``: why."""


class Unopened(Exception):  # noqa: N818
    """What may be a record of the worker, but cannot be opened. ``str``: why."""


class Reader:
    """Opens the records in blocks."""

    def __init__(self, opener: AgeOpener) -> None:
        self._opener = opener
        self.unused = opener.unused
        """What the key files hold that is not used, in words."""

    def address(self, content: bytes) -> Address:
        """Whose record a block is by what stands around it, and which generation; an age file alone is opened for it.

        Raises ``NoRecord``, ``Unopened``.
        """
        address, sealed = sealed_in(content)
        return address or record_address(self._opened(sealed))

    def record(self, content: bytes, address: Address) -> Record:
        """Return the record in a block. Raises ``NoRecord``, ``Unopened``."""
        return self.record_in(sealed_in(content)[1], address)

    def record_in(self, sealed: bytes, address: Address) -> Record:
        """The same, of an age file in binary format."""
        record = self._opened(sealed)
        try:
            return require_address(record, address)
        except ValueError:
            raise NoRecord("the line names another user or generation than the record in it") from None

    def _opened(self, sealed: bytes) -> Record:
        """Return the record in an age file. Raises ``NoRecord``, ``Unopened``."""
        try:
            inside = self._opener.open(sealed)
        except ValueError as error:
            raise Unopened(str(error)) from None
        try:
            record = parse_object(inside)
            record_address(record)
            record["secret_code"].encode()
        except (ValueError, KeyError, TypeError, AttributeError):
            raise NoRecord("what is sealed in it is no record") from None
        return record


def sealed_in(content: bytes) -> tuple[Address | None, bytes]:
    """The address that a block names (``None``: it is an age file alone), and the age file in it, in binary format.

    Raises ``NoRecord``, ``Unopened``.
    """
    address, found = found_in(content)
    return address, binary(found, address)


def binary(found: bytes, address: Address | None) -> bytes:
    """What ``found_in`` returned, in binary format. Raises ``NoRecord`` for what is no age file."""
    if (sealed := as_binary(found)) is None:
        raise NoRecord("neither a record nor an age file" if address is None else "what it calls sealed is no age file")
    return sealed


def found_in(content: bytes) -> tuple[Address | None, bytes]:
    """The same, with the bytes of the age file as they are there: it may be armored, or no age file at all."""
    if not content:
        raise NoRecord("too large for a record, or gone since")
    if content.lstrip()[:1] != b"{":
        return None, content if as_binary(content) else _from_base64(content)
    try:
        line = parse_object(content)
    except ValueError:
        if torn_address(content):
            raise Unopened("the line is torn") from None
        raise NoRecord("no record, or a torn line") from None
    except TypeError:
        raise NoRecord("no record") from None
    try:
        address, text = line_address(line), line["sealed"].encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NoRecord("no record") from None
    return address, _from_base64(text) or text


def _from_base64(text: bytes) -> bytes:
    """What this is the base64 of; empty if it is none."""
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except ValueError:
        return b""


def torn_address(content: bytes) -> Address | None:
    """Whose record a torn line of ours was, and which generation; ``None`` if that is not there any more."""
    found = _named_in_torn(content)
    return record_address(found) if found else None


def _named_in_torn(content: bytes) -> Record:
    if (found := _TORN.match(content)) is None:
        return {}
    try:
        return {"username": json.loads(found[1]).encode().decode(), "generation": int(found[2])}
    except ValueError:
        return {}


def place(source: Source, number: int, content: bytes) -> str:
    """Words for where a block is, and for what it names: an object of a channel, a user, a generation."""
    try:
        line = parse_object(content)
    except (ValueError, TypeError):
        line = _named_in_torn(content)
    words = [escape(line[key][:256]) for key in ("object", "username") if isinstance(line.get(key), str)]
    if type(generation := line.get("generation")) is int and abs(generation) < 10**18:
        words.append(f"generation {generation}")
    return ", ".join([f"{source.name}:{number}" if number else source.name, *words])
