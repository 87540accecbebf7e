"""What a file is that is no text in UTF-8, by its first bytes, and what to do with it."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

HEAD = 4
"""Bytes that tell what a file is."""

_UNICODE = (
    (codecs.BOM_UTF32_BE, "UTF-32", "utf-32-be"),
    (codecs.BOM_UTF32_LE, "UTF-32", "utf-32-le"),
    (codecs.BOM_UTF16_BE, "UTF-16", "utf-16-be"),
    (codecs.BOM_UTF16_LE, "UTF-16", "utf-16-le"),
)
"""A byte order mark, what ``iconv`` calls such a file, and what Python does. The longer ones come first: that of UTF-32
begins like that of UTF-16."""

_WITHOUT_MARK: dict[tuple[bool, ...], tuple[str, str]] = {
    (False, True, False, True): ("UTF-16LE", "utf-16-le"),
    (True, False, True, False): ("UTF-16BE", "utf-16-be"),
    (False, True, True, True): ("UTF-32LE", "utf-32-le"),
    (True, True, True, False): ("UTF-32BE", "utf-32-be"),
}
"""Which of the first four bytes are zero where two characters of ASCII are written without a byte order mark."""

_AS_TEXT = "save it as text, one JSON object a line"
_NO_TEXT = (
    (b"\x1f\x8b", "is gzip", "unpack it first (gunzip)"),
    (b"PK\x03\x04", "is a ZIP archive or a spreadsheet (xlsx)", "unpack it, or " + _AS_TEXT),
    (b"BZh", "is bzip2", "unpack it first (bunzip2)"),
    (b"\xfd7zX", "is xz", "unpack it first (unxz)"),
    (b"\x28\xb5\x2f\xfd", "is zstd", "unpack it first (unzstd)"),
    (b"\xd0\xcf\x11\xe0", "is an old Office file (xls)", _AS_TEXT),
    (b"%PDF", "is a PDF file", _AS_TEXT),
    (b"PAR1", "is a Parquet file", _AS_TEXT),
    (b"SQLi", "is an SQLite file, perhaps the queue or the ledger itself", "one JSON object a line is needed"),
    (b"age-", "is sealed with age", "open it first (age --decrypt)"),
)
"""How files begin that hold no text, what they are, and what to do with them."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """What a file is that is no text in UTF-8."""

    what: str
    """As the rest of a sentence about it or one of its lines."""
    cure: str
    codec: str | None = None
    """Python's name of the encoding; ``None``: it is no text."""

    @property
    def flaw(self) -> str:
        """What it is, and what to do."""
        return f"{self.what}: {self.cure}"


def foreign(head: bytes) -> Foreign | None:
    """Return what a file is that begins with these bytes (``HEAD`` of them, or all); ``None``: text in UTF-8."""
    for mark, name, codec in _UNICODE:
        if head.startswith(mark):
            return _encoded(name, name, codec)
    for beginning, what, cure in _NO_TEXT:
        if head.startswith(beginning):
            return Foreign(what, cure)
    name, codec = _WITHOUT_MARK.get(tuple(byte == 0 for byte in head[:HEAD]), ("", ""))
    return _encoded(name[:6], name, codec) if name else None


def _encoded(name: str, called: str, codec: str) -> Foreign:
    return Foreign(f"is {name}, not UTF-8", f"convert the file (iconv -f {called} -t UTF-8)", codec)
