"""What ``check`` checks for the file channel: whether its file can be written, and whether it is on a lasting disk."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from worker.adapters.channels.file.settings import FileSettings
from worker.adapters.channels.kind import ChannelChecks
from worker.adapters.checks.files import VOLATILE, file_system, writable
from worker.adapters.checks.findings import Finding, advice, not_checked, ok

PATIENCE = 3.0
"""Seconds for which lines are counted: some gigabytes."""


class FileChecks(ChannelChecks[FileSettings]):
    """See ``ChannelChecks``."""

    def folders(self, channel: FileSettings) -> Sequence[Path]:
        """See ``ChannelChecks``."""
        return [channel.path.parent]

    def look_at_delivered(self, channel: FileSettings, delivered: int) -> Sequence[Finding]:
        """See ``ChannelChecks``: counts the lines of the file, of which each delivered user has at least one."""
        path = channel.path
        cure = (
            "put it back before the next run, or name the right file in channel.path. If its records were fetched "
            "on purpose, nothing is missing"
        )
        try:
            with path.open("rb") as file:
                lines, is_cut = _count(file, delivered)
        except FileNotFoundError:
            return [advice("channel", f"{path} is gone, and the ledger says that {delivered:,} users are in it", cure)]
        except OSError as error:
            said = f"whether {path} holds what was delivered: {error.strerror}"
            return [not_checked("channel", said, "let this user read it")]
        if lines >= delivered:
            return [ok("channel", f"{path} has at least as many lines as users are delivered ({delivered:,})")]
        if is_cut:
            return [not_checked("channel", f"{path} is too large to be counted; it has at least {lines:,} lines")]
        said = (
            f"{path} has {lines:,} lines, and the ledger says that {delivered:,} users are in it: records are missing"
        )
        return [advice("channel", said, cure)]

    def look_at_host(self, channel: FileSettings, mounts: Path) -> Sequence[Finding]:
        """See ``ChannelChecks``: the file, which need not exist."""
        path = channel.path
        found = writable("channel", path)
        if found.fails or (kind := file_system(path.parent, mounts)) not in VOLATILE:
            return [found]
        said = f"{path} is on {kind}: delivered secrets are gone with the container or the machine"
        return [found, advice("channel", said, "keep channel.path on a disk or a volume that outlives them")]


def _count(file: BinaryIO, enough: int) -> tuple[int, bool]:
    """Count lines until there are enough; and whether time was up before that."""
    lines, end = 0, time.monotonic() + PATIENCE
    while lines < enough and (piece := file.read(1 << 20)):
        lines += piece.count(b"\n")
        if time.monotonic() > end:
            return lines, True
    return lines, False
