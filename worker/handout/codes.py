"""The folder of ``--qr``: an image of each user's QR code, and ``index.csv``, which says whose is which."""

from __future__ import annotations

import io
import os
from pathlib import Path

from worker.handout.cells import Rows
from worker.handout.names import file_name
from worker.handout.staged import INDEX, Staged


class Codes:
    """Takes images, as the bytes of a file; ``ending``: ``.svg`` or ``.png``."""

    def __init__(self, place: Path, ending: str, staged: Staged) -> None:
        self._folder = staged.folder(place)
        self._ending = ending
        self._text = io.TextIOWrapper(
            os.fdopen(_make(self._folder / INDEX), "wb"), encoding="utf-8", errors="backslashreplace", newline=""
        )
        self._index = Rows(self._text)
        self._index.write(["username", "file"])
        self.count = 0

    def add(self, username: str, image: bytes) -> None:
        """Write one image."""
        name = file_name(username, self._ending)
        with os.fdopen(_make(self._folder / name), "wb") as file:
            file.write(image)
        self._index.write([username, name])
        self.count += 1

    def finish(self) -> None:
        """Write what of the index is not written yet."""
        self._text.close()

    def close(self) -> None:
        """Close the index, whatever was written."""
        self._text.close()


def _make(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
