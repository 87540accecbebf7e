"""Watches a file that is in use: nobody may remove, move, replace or empty it while the worker writes to it.

The system lets that happen without a word: what is written then goes into a file without a name, and is gone when the
worker ends. So whoever wrote looks whether the file at that path is still the same one (device and inode), and
``app.watching`` looks from time to time besides. The writer keeps the file open, so no other file can get its inode.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol, runtime_checkable

from worker.core.errors import PersonMustAct


@runtime_checkable
class Watched(Protocol):
    """Something in use that others could take away."""

    def check(self) -> None:
        """Raises ``PersonMustAct`` where that has happened, ``OSError`` where it cannot be seen."""


class WatchedFile:
    """One file; ``what``: the words for it, such as "the ledger", ``cure``: what to do once it is gone."""

    def __init__(self, path: Path, what: str, cure: str, *, least: int = 0) -> None:
        self.path = path
        self._what = what
        self._cure = cure
        self._name = os.fspath(path)
        self._known: tuple[int, int] | None = None
        """Device and inode."""
        self.least = least
        """The fewest bytes that the file has, unless somebody cut it."""

    def begin(self, known: os.stat_result) -> None:
        """Watch the file of which ``stat`` said this. Nothing is seen before."""
        self._known = known.st_dev, known.st_ino

    def check(self) -> None:
        """See ``Watched``."""
        if self._known is None:
            return
        least = self.least  # before the look: another thread that writes just now raises it
        try:
            found = os.lstat(self._name)
        except (FileNotFoundError, NotADirectoryError):
            raise self.gone("was removed or moved away") from None
        if (found.st_dev, found.st_ino) != self._known:
            raise self.gone("was replaced by another file")
        if found.st_size < least:
            raise self.gone(f"was cut to {found.st_size:,} of at least {least:,} bytes")

    def gone(self, happened: str) -> PersonMustAct:
        """The error to raise once that has happened to the file."""
        return PersonMustAct(f"{self._what}, {self.path}, {happened} while this worker used it", self._cure)
