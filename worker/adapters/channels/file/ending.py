"""The file channel at the end of a rollout: its file."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from worker.adapters.channels.file.settings import FileSettings
from worker.adapters.channels.kind import ChannelEnding, Content
from worker.adapters.erased_files import being_erased, erase
from worker.core.errors import ChannelUnavailable
from worker.core.words import several

if TYPE_CHECKING:
    from worker.adapters.aws.session import Aws


class FileEnding(ChannelEnding[FileSettings]):
    """See ``ChannelEnding``."""

    async def look(self, channel: FileSettings, aws: Aws) -> Content:  # noqa: ARG002
        """See ``ChannelEnding``."""
        path = channel.path
        try:
            lines = await asyncio.to_thread(_lines, path)
        except FileNotFoundError:
            there = being_erased(path).exists()
            return Content("the rest of the file of sealed secrets" if there else "", str(path))
        except OSError as error:
            raise ChannelUnavailable(f"cannot read {path}: {error.strerror}", "look at its owner and mode") from None
        return Content(f"the file of {several(lines, 'sealed secret')}", str(path), "copies of it stay where they are")

    async def remove(self, channel: FileSettings, aws: Aws) -> Sequence[tuple[str, str]]:  # noqa: ARG002
        """See ``ChannelEnding``."""
        try:
            await asyncio.to_thread(erase, channel.path, "channel.path")
        except OSError as error:
            raise ChannelUnavailable(
                f"cannot erase {channel.path}: {error.strerror}", "make file and folder writable for this user"
            ) from None
        return ()


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
