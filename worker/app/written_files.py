"""Refuses to begin where a file on this host is not the one meant; nothing is touched before.

Whatever a command writes must be a private file of ours (``adapters.private_files``), and no two of these files may be
the same, nor one of them and a file that the command reads: by their paths, or as one file with two names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from worker.adapters import channels
from worker.adapters.private_files import OTHERS_WRITE, look_private
from worker.adapters.sqlite import files, liveness
from worker.core.errors import UsageError
from worker.report import file as pages
from worker.settings import Settings
from worker.settings.paths import placed
from worker.telemetry import report as reports

STREAMS = {1: "standard output", 2: "standard error"}
"""The descriptors that a shell may have sent into a file."""


def mark_beside(path: Path) -> Path:
    """Return where a ledger's mark is: beside the channel's file, or beside the ledger."""
    return path.with_name(f"{path.name}.mark")


def written(settings: Settings) -> Mapping[Path, str]:
    """Return the files that a run writes, with the settings that name them: databases, and the channel's file."""
    return {**dict(_stores(settings)), **dict(_channel(settings))}


def refuse_wrong_files(
    settings: Settings,
    *,
    delivers: bool = False,
    report: Path | None = None,
    page: Path | None = None,
    read: Mapping[str, str | Path | None] | None = None,
) -> None:
    """Raise ``UsageError`` for the first file that is not the one meant.

    ``delivers``: whether the command writes to the channel; ``report``: the file of ``--report``; ``page``: that of
    ``--html``; ``read``: the files that the command only reads, by the options that name them (``None`` and ``-`` are
    no files).
    """
    stores, channel = dict(_stores(settings)), dict(_channel(settings))
    _refuse_those_moved(settings, {**stores, **channel})
    inputs = {placed(path, Path()): f"{name} {path}" for name, path in (read or {}).items() if path not in (None, "-")}
    if settings.file is not None:
        inputs[settings.file] = "the settings file"
    if settings.activation.mode != "none" and settings.activation.identity is not None:
        inputs[settings.activation.identity] = "activation.identity"
    written = [*stores.items(), *channel.items()]
    beside = list(_beside(stores, channel))
    if report is not None:
        written.append((placed(report, Path()), "--report"))
    if page is not None:
        written.append((placed(page, Path()), "--html"))
    _refuse_one_for_two([*written, *beside], inputs)
    for path, key in stores.items():
        _look_at_store(path, key)
    if delivers:
        for path, key in channel.items():
            _look(path, key)
        channels.kind_of(settings.channel).refuse_other_files(settings.channel)
    if report is not None:
        reports.refuse_other_files(report)
    if page is not None:
        pages.refuse_other_files(page)
    _refuse_streams([*written, *beside])


def _stores(settings: Settings) -> Iterator[tuple[Path, str]]:
    """Yield the databases. Ledger and queue may be one."""
    if settings.queue.kind == "sqlite":
        yield settings.queue.path, "queue.path"
    if settings.ledger.kind == "sqlite":
        yield settings.ledger.path, "ledger.path"


def _channel(settings: Settings) -> Iterator[tuple[Path, str]]:
    if (path := channels.kind_of(settings.channel).file(settings.channel)) is not None:
        yield path, "channel.path"


def _beside(stores: Mapping[Path, str], channel: Mapping[Path, str]) -> Iterator[tuple[Path, str]]:
    """Yield the files that are made under names of their own beside those that the settings name."""
    for path, key in stores.items():
        for each in (*files.beside(path), liveness.folder_of_locks(path)):
            yield each, f"a file that belongs to {key}"
    for path, key in {**stores, **channel}.items():
        yield mark_beside(path), f"a file that belongs to {key}"


def _refuse_one_for_two(written: list[tuple[Path, str]], inputs: Mapping[Path, str]) -> None:
    """Raise ``UsageError`` where a file that is written is also another one, written or read."""
    seen: dict[object, str] = {}
    for path, name in written:
        for identity in _identities(path):
            if identity in seen:
                raise _same(seen[identity], name, path)
        seen.update(dict.fromkeys(_identities(path), name))
    for path, name in inputs.items():
        for identity in _identities(path):
            if identity in seen:
                raise _same(seen[identity], name, path)


def _refuse_streams(written: list[tuple[Path, str]]) -> None:
    """Raise ``UsageError`` where what the command says goes into a file that is written."""
    keys = {identity: key for path, key in written for identity in _identities(path)}
    for descriptor, name in STREAMS.items():
        with suppress(OSError):  # closed
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and (key := keys.get((found.st_dev, found.st_ino))):
                raise UsageError(
                    f"{name} goes into {key}",
                    "send it to another file. What the shell emptied (`>`, not `>>`) must be restored from its backup",
                )


def _same(one: str, other: str, path: Path) -> UsageError:
    return UsageError(f"{one} and {other} are the same file, {path}", "name another file for one of them")


def _identities(path: Path) -> Iterator[object]:
    """Yield what tells a file: its path, and where it exists device and inode, the same under all its names."""
    yield path
    try:
        found = path.stat()
    except OSError:
        return
    yield found.st_dev, found.st_ino


def _look_at_store(path: Path, key: str) -> None:
    with _explained(path, key):
        files.look(path, key)
        liveness.look(path)


def _look(path: Path, key: str) -> None:
    with _explained(path, key):
        look_private(path, what=key, forbidden=OTHERS_WRITE)


@contextmanager
def _explained(path: Path, key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{key} is {path}: {error.strerror}", f"correct {key}; mfa-worker config show says where it is set"
        ) from None


def _refuse_those_moved(settings: Settings, in_use: Mapping[Path, str]) -> None:
    """Raise ``UsageError`` where earlier versions meant a file in the working directory that may be the one in use."""
    for key, earlier in settings.moved.items():
        section, _, name = key.partition(".")
        path = getattr(getattr(settings, section), name)
        if path in in_use:
            raise UsageError(
                f"{key} is {path}, which does not exist, but {earlier} does, which earlier versions meant by it",
                f'if that is this rollout\'s, write {key} = "{earlier}", or move it there with its -wal; '
                "else run from another folder",
            )
