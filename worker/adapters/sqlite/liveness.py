"""Which workers of this host are alive: each one has a lock on a file of its own for as long as it runs.

The operating system releases the lock at the moment the process ends, for whatever reason, so a dead worker is noticed
at once. A suspended process (SIGSTOP) keeps its lock, because it may go on.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path

from worker.core.errors import LedgerUnavailable

_WORKER = re.compile(r"[0-9a-z]{1,64}\Z")
"""A worker's identity, which is also the name of its lock file; other files in the folder are ignored."""


class Liveness:
    """The lock files beside a ledger file. ``worker`` must consist of ``0-9a-z``."""

    def __init__(self, ledger: Path, worker: str) -> None:
        self._folder = ledger.with_name(f"{ledger.name}.workers")
        self._worker = worker
        self._dead: set[str] = set()
        self._lock: int | None = None

    def __enter__(self) -> None:
        """Take the lock, which shows that this worker is alive. Raises ``LedgerUnavailable``."""
        try:
            self._take_lock()
        except OSError as error:
            raise LedgerUnavailable(
                f"{self._folder}: {error.strerror}", "make the folder of the ledger writable, then run again"
            ) from None

    def _take_lock(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        temporary = self._folder / f".{self._worker}"
        self._lock = os.open(temporary, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        temporary.rename(self._file(self._worker))  # so the file is locked before any other worker can see it
        for other in self._folder.iterdir():
            self.is_dead(other.name)  # removes the files of dead workers

    def __exit__(self, *_: object) -> None:
        """Release the lock: other workers now treat this one as dead. Its claims must have been given back before."""
        if self._lock is not None:
            self._file(self._worker).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

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

    def _may_be_locked(self, worker: str) -> bool:
        try:
            other = os.open(self._file(worker), os.O_RDWR)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        try:
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
