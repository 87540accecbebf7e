"""Commands as they are typed into a shell, whatever the names in them contain."""

from __future__ import annotations

import re
import shlex

_PLAIN = re.compile(rb"[ -&(-\[\]-~]")
"""Bytes that stand for themselves between ``$'`` and ``'``."""


def command_line(*words: str) -> str:
    """Return the words, each quoted, as one line."""
    return " ".join(map(quoted, words))


def quoted(word: str) -> str:
    """Quoted for the shell, and printable: what is not printable is written as bash, zsh and ksh read it."""
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(_byte(byte) for byte in word.encode("utf-8", errors="surrogateescape")) + "'"


def _byte(number: int) -> str:
    one = bytes([number])
    return one.decode() if _PLAIN.fullmatch(one) else f"\\x{number:02x}"
