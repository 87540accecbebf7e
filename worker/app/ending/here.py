"""The files of a rollout on this host that are erased at its end: the activation identity, and the ledger as the last.

The database itself goes last of all: as long as it is there, it says whose rollout the other files belong to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from worker.adapters.erased_files import being_erased, erase
from worker.adapters.ledgers.found import RECIPIENT
from worker.adapters.queues.sqlite.ending import holds_more
from worker.adapters.sqlite.files import beside
from worker.adapters.sqlite.liveness import folder_of_locks
from worker.app.stores import mark_path
from worker.core.errors import DependencyUnavailable, UsageError
from worker.core.ports import Found
from worker.core.text import escape
from worker.sealing.own import read_own
from worker.settings import Settings

NAMED = 3
"""Tables that are named of a file that holds more than a queue."""


def queue_files(settings: Settings) -> Sequence[Path]:
    """The files of an embedded queue that is not in the ledger's file."""
    queue, ledger = settings.queue, settings.ledger
    if queue.kind != "sqlite" or (ledger.kind == "sqlite" and ledger.path == queue.path):
        return ()
    return [*beside(queue.path), queue.path]


async def not_the_queue(settings: Settings) -> list[tuple[str, str]]:
    """What forbids to erase the file of an embedded queue, with the cure: it holds more than a queue.

    Raises ``QueueUnavailable``, ``PersonMustAct``.
    """
    if not queue_files(settings) or not (more := await holds_more(settings.queue.path)):
        return []
    said = f"{settings.queue.path} holds more than a queue (tables: {escape(', '.join(more[:NAMED]))})"
    return [(said, "correct queue.path; if that file once was a ledger too, move it away by hand")]


def ledger_files(settings: Settings) -> Sequence[Path]:
    """The files of an embedded ledger, in the order in which they are erased."""
    path = settings.ledger.path
    return [mark_path(settings), *beside(path), path] if settings.ledger.kind == "sqlite" else ()


def own_identity(settings: Settings, found: Found) -> Path | None:
    """The file of the worker's own identity, if a worker made it for this rollout; never one that opens secrets."""
    path = settings.activation.identity
    if path is None or not settings.makes_identity:
        return None
    if being_erased(path).exists():
        return path
    with suppress(UsageError, OSError):
        own = read_own(path)
        if own.recipient == found.stamp.get(RECIPIENT) and own.recipient not in settings.seal.recipients:
            return path
    return None


def are_there(files: Sequence[Path]) -> list[Path]:
    """Those that exist, or are half erased."""
    return [path for path in files if path.exists() or path.is_symlink() or being_erased(path).exists()]


async def erase_all(files: Sequence[Path]) -> None:
    """Erase these files. Raises ``UsageError``, ``DependencyUnavailable``."""
    for path in files:
        try:
            await asyncio.to_thread(erase, path, "a file of this rollout")
        except OSError as error:
            raise DependencyUnavailable(
                f"cannot erase {path}: {error.strerror}",
                "make file and folder writable for this user, and run it again",
            ) from None


def remove_locks(path: Path) -> None:
    """Remove the folder of the lock files beside a database, if nothing is in it but empty files of dead workers."""
    folder = folder_of_locks(path)
    with suppress(OSError):
        for file in folder.iterdir():
            if file.is_file() and not file.is_symlink() and not file.stat().st_size:
                file.unlink()
        folder.rmdir()
