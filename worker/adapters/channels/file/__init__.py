"""The file channel: sealed lines in one file on this host, for example to print letters from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from worker.adapters.channels.file.settings import FileSettings
from worker.adapters.channels.kind import ChannelKind
from worker.adapters.sealed_lines import refuse_other_files
from worker.core.errors import UsageError

if TYPE_CHECKING:
    from worker.adapters.aws.session import Aws
    from worker.adapters.channels.file.channel import FileChannel
    from worker.adapters.channels.file.checks import FileChecks
    from worker.adapters.channels.file.ending import FileEnding


class FileKind(ChannelKind[FileSettings]):
    """See ``ChannelKind``. It has no scheme: every source of ``open`` without a scheme is such a file."""

    settings = FileSettings
    summary = "one line a user"

    async def make(self, channel: FileSettings, aws: Aws) -> FileChannel:
        """See ``ChannelKind``."""
        from worker.adapters.channels.file.channel import FileChannel

        del aws
        return FileChannel(channel.path)

    def source(self, channel: FileSettings) -> str:
        """See ``ChannelKind``."""
        return str(channel.path)

    def file(self, channel: FileSettings) -> Path:
        """See ``ChannelKind``."""
        return channel.path

    def refuse_other_files(self, channel: FileSettings) -> None:
        """See ``ChannelKind``."""
        try:
            refuse_other_files(channel.path, "channel.path")
        except OSError as error:
            raise UsageError(
                f"channel.path is {channel.path}: {error.strerror}", "make the file readable and writable for this user"
            ) from None

    def checks(self) -> FileChecks:
        """See ``ChannelKind``."""
        from worker.adapters.channels.file.checks import FileChecks

        return FileChecks()

    def ending(self) -> FileEnding:
        """See ``ChannelKind``."""
        from worker.adapters.channels.file.ending import FileEnding

        return FileEnding()


KIND = FileKind()
