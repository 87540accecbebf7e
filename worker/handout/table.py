"""The CSV file of ``--csv``: a row a user, and a column for each attribute that anybody has."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

from worker.core.record import Record
from worker.handout.cells import Rows
from worker.handout.staged import Staged

COLUMNS = ("username", "secret_code", "otpauth_uri", "associated_at")
"""The first columns."""


class Table:
    """Takes records. Which columns there are is known after the last one, so the rows go into a hidden file first."""

    def __init__(self, path: Path, staged: Staged) -> None:
        self._path = path
        self._staged = staged
        self._rows, file = staged.file(path.parent)
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="\n")
        self._names: set[str] = set()
        self.count = 0

    def add(self, record: Record) -> None:
        """Take one more record."""
        attributes = attributes_of(record)
        self._names.update(attributes)
        row = [[str(record.get(column) or "") for column in COLUMNS], attributes]
        self._text.write(json.dumps(row) + "\n")
        self.count += 1

    def finish(self) -> None:
        """Write the file: the columns of every record, then the attributes' names in the order of the alphabet."""
        hidden, file = self._staged.file(self._path.parent)
        names = sorted(self._names)
        with self._text, io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="") as out:
            rows = Rows(out)
            rows.write([*COLUMNS, *(f"attributes.{name}" if name in COLUMNS else name for name in names)])
            self._text.seek(0)
            for line in self._text:
                fixed, attributes = json.loads(line)
                rows.write([*fixed, *(attributes.get(name, "") for name in names)])
        self._staged.place(hidden, self._path)


def attributes_of(record: Record) -> Mapping[str, str]:
    """Return a record's attributes, those that are texts."""
    found = record.get("attributes")
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}
