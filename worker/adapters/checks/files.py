"""Checks of files on this host: whether they can be written, and what kind of file system they are on.

Nothing is created, and nothing is opened for writing.
"""

from __future__ import annotations

import os
from pathlib import Path

from worker.adapters.checks.findings import Finding, fails, ok

MOUNTS = Path("/proc/self/mounts")
"""Where Linux lists the mounted file systems; on other systems the kind stays unknown."""

VOLATILE = frozenset({"tmpfs", "ramfs", "overlay", "aufs"})
"""Kinds of file systems whose contents are lost when the machine or the container ends."""


def writable(about: str, path: Path) -> Finding:
    """Check whether a file, which need not exist, can be written; ``about``: the settings section with its path."""
    folder = path.parent
    if not folder.is_dir():
        return fails(about, f"there is no folder {folder}", f"create it, or correct {about}.path")
    target = path if path.exists() else folder
    if target.is_dir() and target is path:
        return fails(about, f"{path} is a folder", f"name a file in {about}.path")
    if not os.access(target, os.W_OK):
        return fails(about, f"{target} cannot be written", "change its owner, or choose another place")
    return ok(about, f"{path} can be written")


def file_system(folder: Path, mounts: Path = MOUNTS) -> str:
    """The kind of the file system that a folder is on, such as ``tmpfs``; empty if it is unknown."""
    try:
        table = mounts.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    folder, best, kind = folder.resolve(), "", ""
    for fields in map(str.split, table.splitlines()):
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        if folder.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind
