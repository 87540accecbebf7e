"""Which workers of this host are alive: each one has a lock on a file of its own for as long as it runs.

The operating system releases the lock at the moment the process ends, for whatever reason, so a dead worker is noticed
at once. A suspended process (SIGSTOP) keeps its lock, because it may go on.

The folder of these files must be ours and no link, and of the files in it only empty ones of ours with a worker's name
are locked or removed: nothing of anybody else's.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from worker.adapters.private_files import OTHERS_WRITE, is_ours
from worker.core.errors import LedgerUnavailable, PersonMustAct, UsageError

_WORKER = re.compile(r"[0-9a-z]{1,64}\Z")
"""A worker's identity, which is also the name of its lock file; other files in the folder are ignored."""


def folder_of_locks(ledger: Path) -> Path:
    """Return the folder of the lock files beside a ledger."""
    return ledger.with_name(f"{ledger.name}.workers")


def look(ledger: Path) -> None:
    """Look at the folder of the lock files, which need not exist.

    Raises ``UsageError`` where it must not be used, ``OSError`` where that cannot be seen.
    """
    folder = folder_of_locks(ledger)
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no folder"
        raise UsageError(
            f"{folder}, where the workers' lock files are kept, is {kind}", "move it away; the worker makes the folder"
        )
    if not is_ours(found, folder.parent):
        raise UsageError(
            f"{folder}, where the workers' lock files are kept, belongs to another user (uid {found.st_uid})",
            f"run as that user, or give it to this one: chown -R {os.geteuid()} {folder}",
        )
    if found.st_mode & OTHERS_WRITE:
        raise UsageError(
            f"{folder}, where the workers' lock files are kept, can be written by every user of this host",
            f"close it to them: chmod 700 {folder}",
        )


class Liveness:
    """The lock files beside a ledger file. ``worker`` must consist of ``0-9a-z``."""

    def __init__(self, ledger: Path, worker: str) -> None:
        self._ledger = ledger
        self._folder = folder_of_locks(ledger)
        self._worker = worker
        self._dead: set[str] = set()
        self._lock: int | None = None

    def __enter__(self) -> None:
        """Take the lock, which shows that this worker is alive. Raises ``UsageError``, ``LedgerUnavailable``."""
        try:
            look(self._ledger)
            self._take_lock()
        except OSError as error:
            raise LedgerUnavailable(
                f"{self._folder}: {error.strerror}", "make the folder of the ledger writable, then run again"
            ) from None

    def _take_lock(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        temporary = self._folder / f".{self._worker}"
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        self._lock = os.open(temporary, flags, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        temporary.rename(self._file(self._worker))  # so the file is locked before any other worker can see it
        for other in self._folder.iterdir():
            self.is_dead(other.name)  # removes the files of dead workers

    def __exit__(self, *_: object) -> None:
        """Release the lock: other workers now treat this one as dead. Its claims must have been given back before."""
        if self._lock is not None:
            with suppress(OSError):  # somebody may have taken the folder away
                self._file(self._worker).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def check(self) -> None:
        """See ``watched_file.Watched``: without its lock file, other workers take this one for dead."""
        if self._lock is None:
            return
        path = self._file(self._worker)
        try:
            is_there = os.path.samestat(path.lstat(), os.fstat(self._lock))
        except (FileNotFoundError, NotADirectoryError):
            is_there = False
        if not is_there:
            raise PersonMustAct(
                f"the lock file that shows that this worker is alive, {path}, was removed while it ran",
                f"leave {self._folder} alone while workers run, then run again",
            )

    def is_dead(self, worker: str) -> bool:
        """Whether that worker is certainly dead; ``False`` also if that cannot be known.

        A worker that was found dead stays dead, because every process start has a new identity.
        """
        if worker == self._worker:
            return False
        if worker in self._dead:
            return True
        if not _WORKER.match(worker) or self._may_be_locked(worker):
            return False
        self._dead.add(worker)
        return True

    def others_live(self) -> bool:
        """Whether another worker may be alive."""
        if not self._folder.is_dir():
            return False
        names = [file.name for file in self._folder.iterdir() if _WORKER.match(file.name)]
        return any(name != self._worker and not self.is_dead(name) for name in names)

    def alive(self) -> int:
        """How many workers are alive, this one included if it has its lock."""
        if not self._folder.is_dir():
            return 0
        names = [file.name for file in self._folder.iterdir() if _WORKER.match(file.name)]
        return sum(self._lock is not None if name == self._worker else not self.is_dead(name) for name in names)

    def _may_be_locked(self, worker: str) -> bool:
        try:
            other = os.open(self._file(worker), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        try:
            found = os.fstat(other)
            if not stat.S_ISREG(found.st_mode) or found.st_size or not is_ours(found, self._folder):
                return True  # no lock file of a worker
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        else:
            with suppress(OSError):
                self._file(worker).unlink()
            return False
        finally:
            os.close(other)

    def _file(self, worker: str) -> Path:
        return self._folder / worker
