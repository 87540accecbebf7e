"""Files and folders with secrets in the clear: private, and whole or not at all.

Each is made under a hidden name beside its place (0600, folders 0700) and takes that place when everything is written.
What a signal or an error ends is removed. What SIGKILL leaves is removed by the next command that writes there: a lock
tells that its process has ended.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from worker.adapters.private_files import is_ours, look_private, sync_folder
from worker.core.errors import UsageError
from worker.core.text import escape

PREFIX = ".mfa-worker-handout-"
"""How the hidden names begin."""
INDEX = "index.csv"
"""The file that every folder of ours holds."""
INDEX_BEGINS = b'"username","file"\r\n'
"""Its first line, by which a folder of ours is known."""
_EXCHANGE = 2
"""The flag RENAME_EXCHANGE of renameat2(2)."""
_AT_FDCWD = -100
"""The file descriptor that stands for the working directory (openat(2), Linux)."""


class Staged:
    """What one command writes; use ``staging``. Paths are given once, at ``file`` and ``folder`` or at ``place``."""

    def __init__(self) -> None:
        self._hidden: dict[Path, int] = {}
        """What was made, with the descriptor that holds its lock."""
        self._places: dict[Path, Path] = {}
        self._files: list[BinaryIO] = []

    def file(self, folder: Path) -> tuple[Path, BinaryIO]:
        """Make a private file under a hidden name in ``folder``; ``place`` says what becomes of it."""
        handle, name = tempfile.mkstemp(prefix=PREFIX, dir=folder)
        path = Path(name)
        self._hold(path, os.dup(handle))
        file = os.fdopen(handle, "w+b")
        self._files.append(file)
        return path, file

    def folder(self, place: Path) -> Path:
        """Make a private folder under a hidden name, which takes the place of ``place`` at the end."""
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place.parent))
        self._hold(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        self.place(path, place)
        return path

    def place(self, hidden: Path, place: Path) -> None:
        """Let what was made take this place at the end."""
        self._places[hidden] = place

    def commit(self) -> None:
        """Let everything take its place. Raises ``OSError``."""
        for hidden, place in self._places.items():
            if hidden.is_dir():
                _swap_folder(hidden, place)
            else:
                hidden.replace(place)
        for folder in {place.parent for place in self._places.values()}:
            sync_folder(folder)

    def close(self) -> None:
        """Close all files, and remove what did not take a place and what was replaced."""
        for file in self._files:
            with suppress(OSError):  # a full disk: what was not written yet is not wanted any more
                file.close()
        for path, lock in self._hidden.items():
            _remove(path)
            os.close(lock)
        self._hidden.clear()

    def _hold(self, path: Path, descriptor: int) -> None:
        self._hidden[path] = descriptor
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def staging(folders: Sequence[Path]) -> Iterator[Staged]:
    """Yield a ``Staged`` for these folders. What is not committed in the body is removed.

    First it removes what earlier commands left there that were killed. An ``OSError`` in the body, such as a full disk,
    passes through.
    """
    for folder in dict.fromkeys(folders):
        _remove_leftovers(folder)
    staged = Staged()
    try:
        yield staged
    finally:
        staged.close()


def look_at_file(path: Path, option: str) -> None:
    """Raise ``UsageError`` unless a private file can be made here, new or in place of an older one of ours."""
    with _explained(path, option):
        _look_at_parent(path, option)
        look_private(path, what=f"the file of {option}", forbidden=0)


def look_at_folder(path: Path, option: str) -> None:
    """Raise ``UsageError`` unless the folder is missing or empty, or was made by this command before."""
    with _explained(path, option):
        _look_at_parent(path, option)
        try:
            found = path.lstat()
        except FileNotFoundError:
            return
        cure = f"name a folder with {option} that does not exist yet, or one that this command made"
        if not stat.S_ISDIR(found.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no folder"
            raise UsageError(f"{escape(str(path))} is {kind}", cure)
        if not is_ours(found, path.parent):
            raise UsageError(f"{escape(str(path))} belongs to another user (uid {found.st_uid})", cure)
        if stranger := _stranger_in(path):
            raise UsageError(
                f"{escape(str(path))} holds what this command did not make ({escape(stranger)}), "
                "and would be replaced as a whole",
                cure,
            )
        if path.resolve() == Path.cwd() or os.path.ismount(path):
            raise UsageError(f"{escape(str(path))} is in use and cannot be replaced as a whole", cure)


def warn_if_open(paths: Sequence[Path]) -> None:
    """Say on standard error which folders, that files are written into, others can look into or change."""
    for folder in dict.fromkeys(path.parent for path in paths):
        with suppress(OSError):
            mode = stat.S_IMODE(folder.stat().st_mode)
            if mode & 0o077:
                can = "put files into" if mode & 0o022 else "look into"
                sys.stderr.write(
                    f"warning: others can {can} the folder {escape(str(folder.resolve()))} (mode {mode:04o}); "
                    "what is written there is yours alone, but a folder of your own is better: "
                    "mkdir -m 700 FOLDER\n"
                )


def _look_at_parent(path: Path, option: str) -> None:
    if not path.parent.is_dir():
        raise UsageError(
            f"{option}: there is no folder {escape(str(path.parent))}", f"make it: mkdir -m 700 {path.parent}"
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(
            f"{option}: nothing can be written into the folder {escape(str(path.parent))}",
            "choose a folder that exists and is yours",
        )


@contextmanager
def _explained(path: Path, option: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL
        why = error.strerror if isinstance(error, OSError) else "no path"
        raise UsageError(
            f"{option}: cannot write {escape(str(path))}: {why}", "choose a folder that exists and is yours"
        ) from None


def _stranger_in(folder: Path) -> str:
    """Return the name of something in the folder that is not ours; empty if there is nothing such."""
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    if not entries:
        return ""
    if not _is_our_index(folder / INDEX):
        return next((entry.name for entry in entries if entry.name != INDEX), INDEX)
    for entry in entries:
        image = entry.name.endswith((".svg", ".png")) and entry.is_file(follow_symlinks=False)
        if entry.name != INDEX and not image:
            return entry.name
    return ""


def _is_our_index(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return not path.is_symlink() and file.read(len(INDEX_BEGINS)) == INDEX_BEGINS
    return False


def _swap_folder(hidden: Path, place: Path) -> None:
    """Let the hidden folder take its place in one step; an older one gets the hidden name, and is removed later."""
    try:
        hidden.rename(place)  # nothing there yet, or an empty folder
    except OSError:
        if not _exchanged(hidden, place):
            aside = hidden.with_name(f"{hidden.name}-old")
            place.rename(aside)
            try:
                hidden.rename(place)
            except BaseException:
                aside.rename(place)
                raise
            aside.rename(hidden)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; whether this system can."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return False
    done: int = library.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE)
    return done == 0


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _remove_leftovers(folder: Path) -> None:
    """Remove what commands left here that were killed: nobody holds its lock."""
    for path in folder.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if path.is_symlink() or not is_ours(path.lstat(), folder):
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
                sys.stderr.write(f"removed {escape(str(path))}, which a command left that was killed\n")
            finally:
                os.close(descriptor)
