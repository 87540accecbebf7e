"""The file channel: sealed lines in one file on this host, for whoever prints letters from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from worker.adapters.channels.file.settings import FileSettings
from worker.adapters.channels.kind import ChannelKind

if TYPE_CHECKING:
    from worker.adapters.aws.session import Aws
    from worker.adapters.channels.file.channel import FileChannel
    from worker.adapters.checks.findings import Finding


class FileKind(ChannelKind[FileSettings]):
    """See ``ChannelKind``. A source of ``open`` without any channel's scheme is such a file, so it needs none."""

    settings = FileSettings
    summary = "one line a user"
    on_aws = False

    async def make(self, channel: FileSettings, aws: Aws) -> FileChannel:
        """See ``ChannelKind``."""
        from worker.adapters.channels.file.channel import FileChannel

        del aws
        return FileChannel(channel.path)

    def source(self, channel: FileSettings) -> str:
        """See ``ChannelKind``."""
        return str(channel.path)

    def folders(self, channel: FileSettings) -> Sequence[Path]:
        """See ``ChannelKind``."""
        return [channel.path.parent]

    def look_at_host(self, channel: FileSettings, mounts: Path) -> Sequence[Finding]:
        """See ``ChannelKind``."""
        from worker.adapters.channels.file.checks import look_at_file

        return look_at_file(channel.path, mounts)


KIND = FileKind()
