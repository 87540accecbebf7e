"""What ``check`` checks for the file channel: whether its file can be written, and whether it is on a lasting disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from worker.adapters.channels.file.settings import FileSettings
from worker.adapters.channels.kind import ChannelChecks
from worker.adapters.checks.files import VOLATILE, file_system, writable
from worker.adapters.checks.findings import Finding, advice


class FileChecks(ChannelChecks[FileSettings]):
    """See ``ChannelChecks``."""

    def folders(self, channel: FileSettings) -> Sequence[Path]:
        """See ``ChannelChecks``."""
        return [channel.path.parent]

    def look_at_host(self, channel: FileSettings, mounts: Path) -> Sequence[Finding]:
        """See ``ChannelChecks``: the file, which need not exist."""
        path = channel.path
        found = writable("channel", path)
        if found.fails or (kind := file_system(path.parent, mounts)) not in VOLATILE:
            return [found]
        said = f"{path} is on {kind}: delivered secrets are gone with the container or the machine"
        return [found, advice("channel", said, "keep channel.path on a disk or a volume that outlives them")]
