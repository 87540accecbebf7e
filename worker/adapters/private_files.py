"""Opens and writes files on this host so that nobody else gets at them, and so that no other file is hit by mistake.

What is written here holds credentials, sealed secrets or names. So its path must lead to a regular file of our own that
others cannot open, or to nothing yet: never to a link, a folder, a device or a pipe. Parent folders may be links. The
group may have access: Kubernetes gives it to the group of a volume (``fsGroup``), and ``check`` advises against it
elsewhere. Two kinds of files are taken where others can only read them: a database, which is closed to them before
anything is written to it, and the file of a channel, whose secrets are sealed.
"""

from __future__ import annotations

import os
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from worker.core.errors import UsageError

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
"""The words for what is no regular file, by the type in ``st_mode``."""


HIDDEN = ".mfa-worker-"
"""How the hidden name of a file that is not in its place yet begins."""
_OPEN_FILES = Path("/proc/self/fd")
"""Where a file without a name can be found, to give it one (open(2), ``O_TMPFILE``)."""
OTHERS = 0o007
"""The bits of a mode that let others open a file."""
OTHERS_WRITE = 0o002
"""The bit that lets others change it."""


def look_private(path: Path, *, what: str, forbidden: int = OTHERS) -> os.stat_result | None:
    """Return what ``stat`` says of the file, or ``None`` if there is none; opens nothing.

    ``what``: the words for the file in an error, such as "the ledger"; ``forbidden``: the bits that its mode must not
    have, 0 for a file that will be replaced as a whole. Raises ``UsageError`` for what must not be written (see the top
    of this file), ``OSError`` where that cannot be seen.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    _refuse(path, found, what, forbidden)
    return found


def open_private(path: Path, flags: int, *, what: str, forbidden: int = OTHERS) -> int:
    """Open a file that will be written, and return its descriptor; with ``os.O_CREAT`` it is made with mode 0600.

    ``what`` and ``forbidden``: see ``look_private``. Raises ``UsageError`` for what must not be written, otherwise
    ``OSError``.
    """
    look_private(path, what=what, forbidden=forbidden)  # a device or a pipe must not even be opened
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    try:
        _refuse(path, os.fstat(descriptor), what, forbidden)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write_private(path: Path, data: bytes, *, what: str) -> None:
    """Write a file with mode 0600, whole or not at all; it is durable on return, and takes the place of an older one.

    An older one may have another mode, but must be a regular file of our own. Raises ``UsageError`` and ``OSError`` as
    ``open_private`` does; then the older file is as it was.
    """
    with writing_private(path, what=what) as file:
        file.write(data)


@contextmanager
def writing_private(path: Path, *, what: str) -> Iterator[BinaryIO]:
    """Yield a file to write to, which takes its place at ``path`` at the end, as ``write_private`` does it.

    Nothing is written there if the block raises. Until then the file has no name, where the file system can do that, so
    a process that is killed leaves nothing; elsewhere it has a hidden one in the same folder.
    """
    look_private(path, what=what, forbidden=0)
    handle, name = _begun(path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            name = name or _named(file.fileno(), path.parent)
        name.replace(path)
    except BaseException:
        if name is not None:
            with suppress(OSError):
                name.unlink()
        raise
    sync_folder(path.parent)


def _begun(folder: Path) -> tuple[int, Path | None]:
    """A new private file in this folder, open for writing, and its name, if it has one. Raises ``OSError``."""
    if _OPEN_FILES.is_dir():
        with suppress(OSError):  # such as EOPNOTSUPP of NFS (open(2)); what else is wrong, the other way says too
            return os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600), None
    handle, name = tempfile.mkstemp(prefix=HIDDEN, dir=folder)
    return handle, Path(name)


def _named(handle: int, folder: Path) -> Path:
    """Give a file without a name a hidden one (open(2), ``O_TMPFILE``), which no other has. Raises ``OSError``."""
    name = folder / f"{HIDDEN}{uuid.uuid4().hex}"
    within = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(_OPEN_FILES / str(handle), name.name, dst_dir_fd=within, follow_symlinks=True)
    finally:
        os.close(within)
    return name


def close_to_others(path: Path) -> bool:
    """Take from others what access they have to a file of ours; whether they had any. Raises ``OSError``."""
    mode = stat.S_IMODE(path.lstat().st_mode)
    if mode & OTHERS:
        path.chmod(mode & ~OTHERS)
    return bool(mode & OTHERS)


def sync_folder(folder: Path) -> None:
    """Make durable that a file in this folder was made or replaced. Raises ``OSError``."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_ours(found: os.stat_result, folder: Path) -> bool:
    """Whether a file or folder belongs to this user. To root also what belongs to the owner of the folder it is in."""
    me = os.geteuid()
    return found.st_uid == me or (me == 0 and found.st_uid == folder.stat().st_uid)


def swappable(folder: Path) -> tuple[str, str] | None:
    """Return what is wrong with a folder in which others can remove and replace our files, and the cure; else ``None``.

    It is no reason to refuse it: Kubernetes makes an ``emptyDir`` so, for a pod that has no other users, and whoever is
    swapped out while a run uses the file is noticed (``watched_file``).
    """
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
    except OSError:
        return None  # whoever writes there says so
    if not mode & OTHERS_WRITE or mode & stat.S_ISVTX:
        return None
    return (
        f"every user of this host can replace files in {folder} (mode {mode:04o}, no sticky bit)",
        f"chmod o-w {folder}; where others must write there too: chmod +t {folder}",
    )


def refuse_foreign_folder(path: Path, *, what: str, cure: str) -> None:
    """Raise ``UsageError`` where secrets would be written into a folder that is a link, no folder, or another user's.

    One that does not exist is fine. ``what``: the option that names it. Raises ``OSError``.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no folder"
        raise UsageError(f"{what}: {path} is {kind}", cure)
    if not is_ours(found, path.parent):
        raise UsageError(f"{what}: {path} belongs to another user (uid {found.st_uid})", cure)


def _refuse(path: Path, found: os.stat_result, what: str, forbidden: int) -> None:
    """Raise ``UsageError`` unless this is a regular file of ours with none of the ``forbidden`` bits in its mode."""
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no file")
        cure = "name the file itself" if stat.S_ISLNK(found.st_mode) else "name a file, which need not exist yet"
        raise UsageError(f"{what} would be written to {path}, which is {kind}", cure)
    if not is_ours(found, path.parent):
        raise UsageError(
            f"{what}, {path}, belongs to another user (uid {found.st_uid}; this one is {os.geteuid()})",
            f"run as that user, give it to this one (chown {os.geteuid()} {path}), or name another file",
        )
    if found.st_mode & forbidden:
        can = "changed" if found.st_mode & OTHERS_WRITE else "opened"
        raise UsageError(
            f"{what}, {path}, can be {can} by every user of this host (mode {stat.S_IMODE(found.st_mode):04o})",
            f"close it to them: chmod 600 {path}; where its file system keeps no modes, name a file on another one",
        )
