"""The files of one SQLite database: itself, and those that SQLite keeps beside it, under names made of its own.

They must all be ours, as everything that is written (``private_files``), and the database must have one name: the files
beside it are found by its name, so under a second one SQLite would not see what was written under the first.
"""

from __future__ import annotations

from pathlib import Path

from worker.adapters.private_files import OTHERS_WRITE, look_private
from worker.core.errors import UsageError

WAL, SHM, JOURNAL = "-wal", "-shm", "-journal"
"""What SQLite appends to the name of a database for its write-ahead log, the index of that, and a rollback journal
(SQLite, "Temporary Files Used By SQLite")."""


def beside(path: Path) -> list[Path]:
    """Return the paths of the files that SQLite may keep beside this database."""
    return [path.with_name(path.name + suffix) for suffix in (WAL, SHM, JOURNAL)]


def look(path: Path, what: str) -> None:
    """Look at a database, which need not exist, and at the files beside it; opens nothing.

    ``what``: the words for it in an error. Raises ``UsageError`` where it must not be used, ``OSError`` where that
    cannot be seen.
    """
    found = look_private(path, what=what, forbidden=OTHERS_WRITE)
    wal, *_ = [look_private(each, what=f"a file of {what}", forbidden=OTHERS_WRITE) for each in beside(path)]
    if found is None and wal is not None and wal.st_size and not path.exists():
        raise UsageError(
            f"{what}, {path}, is missing, but its write-ahead log is there: somebody removed or moved it",
            "put it back beside the log, or restore both from a backup: it knows who was delivered",
        )
    if found is not None and found.st_nlink > 1:
        raise UsageError(
            f"{what}, {path}, has {found.st_nlink} names (hard links): SQLite and other workers could not know that "
            "they are one file",
            "keep one name and remove the others (find -samefile shows them); to copy it, stop the workers and use cp",
        )
