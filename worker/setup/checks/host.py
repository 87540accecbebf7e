"""What ``check`` finds on this host: files must be writable, file systems must last, secret keys must not be here."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from worker.adapters import channels, limits
from worker.adapters.checks.files import MOUNTS, VOLATILE, file_system, writable
from worker.adapters.checks.findings import Finding, advice, fails, merged, not_checked, ok
from worker.adapters.private_files import swappable
from worker.app.written_files import refuse_wrong_files, written
from worker.core.errors import UsageError
from worker.core.text import shortened
from worker.settings import Settings

# fmt: off
REMOTE = frozenset({
    "nfs", "nfs4", "efs", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "glusterfs", "gfs2", "ocfs2",
    "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.goofys", "fuse.mount-s3", "fuse.mountpoint-s3",
})
# fmt: on
"""File systems whose locks and syncs are not reliable enough for SQLite ("How To Corrupt An SQLite Database File",
2.1)."""

_LARGEST_KEY_FILE = 64 * 1024
"""The largest file, in bytes, that is searched for an age identity; an identity has about 200."""
_MOST_FILES = 2_000
"""The most entries of one folder that are searched, so that a huge one does not take long."""


def look(settings: Settings, mounts: Path = MOUNTS) -> list[Finding]:
    """Check everything on this host. Opens files for reading only, and creates nothing."""
    databases = list(_databases(settings))
    findings: list[Finding] = list(_not_meant(settings))
    findings += [advice("files", said, cure) for said, cure in settings.exposed.values()]
    findings += _surroundings(settings)
    for about, path in databases:
        findings.append(writable(about, path))
        if not findings[-1].fails:
            findings += [_lasting(about, path, mounts), *_private(about, path)]
    findings += channels.kind_of(settings.channel).checks().look_at_host(settings.channel, mounts)
    beside = [folder for kind in channels.kinds().values() for folder in kind.checks().folders(settings.channel)]
    own = settings.activation.identity
    folders = [*(path.parent for _, path in databases), *beside, Path()]
    return merged([*findings, *_identities(folders, own.resolve() if own else None)])


def _surroundings(settings: Settings) -> Iterator[Finding]:
    """The limits of this process, and folders in which others could swap what the worker writes."""
    folders = {path.parent for path in written(settings)}
    concurrency = settings.run.concurrency
    limits.allow_files(concurrency)
    low = list(limits.too_low(concurrency, writes_files=bool(folders)))
    yield from (advice("limits", said, cure) for said, cure in low)
    if not low:
        yield ok("limits", f"{limits.files_needed(concurrency):,} files may be open, and no other limit is too low")
    yield from (advice("files", said, cure) for said, cure in filter(None, map(swappable, sorted(folders))))


def _not_meant(settings: Settings) -> Iterator[Finding]:
    try:
        refuse_wrong_files(settings, delivers=True)
    except UsageError as refused:
        yield fails("files", str(refused), refused.hint)


def _databases(settings: Settings) -> Iterator[tuple[str, Path]]:
    ledger, queue = settings.ledger, settings.queue
    if ledger.kind == "sqlite":
        yield "ledger", ledger.path
    if queue.kind == "sqlite" and (ledger.kind != "sqlite" or queue.path != ledger.path):
        yield "queue", queue.path


def _lasting(about: str, path: Path, mounts: Path) -> Finding:
    kind = file_system(path.parent, mounts)
    if kind in VOLATILE:
        return fails(
            about,
            f"{path} is on {kind}: it is gone with the container or the machine, and nobody knows who has a secret",
            f"keep {about}.path on a local disk or a volume that outlives them",
        )
    if kind in REMOTE:
        return fails(
            about,
            f"{path} is on {kind}: SQLite needs a local disk's locks and syncs, or the file is damaged one day",
            f"keep {about}.path on a local disk, or use queue.kind sqs and ledger.kind dynamodb",
        )
    if not kind:
        return not_checked(about, f"the kind of file system that {path} is on is unknown: it must be a local disk")
    return ok(about, f"on {kind}")


def _private(about: str, path: Path) -> list[Finding]:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return []
    if not mode & 0o077:
        return []
    return [
        advice(about, f"{path} can be read by others (mode {mode:04o}), and requests hold credentials", "chmod 600")
    ]


def _identities(folders: Iterable[Path], own: Path | None) -> Iterator[Finding]:
    """Search these folders for age identities: with one, whoever gets the worker's machine could open the secrets.

    ``own``: the worker's own, which is to be here: no delivered secret is sealed to it.
    """
    found, unseen = False, list[str]()
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        for path in _small_files(folder, unseen):
            if path.resolve() != own and _has_a_key(path, unseen):
                found = True
                yield advice(
                    "identity",
                    f"{path} HOLDS A SECRET KEY beside the worker: whoever takes this machine opens what it sealed",
                    "move it to where secrets are opened, and make sure that no copy or backup stays here",
                )
    if unseen:
        yield not_checked("identity", f"not searched for age secret keys: {', '.join(shortened(unseen, 3))}")
    elif not found:
        yield ok("identity", "no age secret key lies beside ledger, channel or working directory")


def _small_files(folder: Path, unseen: list[str]) -> Iterator[Path]:
    """The files that may be identity files; what is not searched is added to ``unseen``."""
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, _MOST_FILES):
                if entry.is_file(follow_symlinks=True) and entry.stat().st_size <= _LARGEST_KEY_FILE:
                    yield Path(entry.path)
            if next(entries, None) is not None:
                unseen.append(f"all but {_MOST_FILES:,} files of {folder}")
    except OSError:
        if folder.exists():
            unseen.append(str(folder))


def _has_a_key(path: Path, unseen: list[str]) -> bool:
    try:
        with path.open("rb") as file:
            lines = file.read(_LARGEST_KEY_FILE).splitlines()
            return any(line.strip().upper().startswith(b"AGE-SECRET-KEY-") for line in lines)
    except OSError:
        unseen.append(str(path))
        return False
