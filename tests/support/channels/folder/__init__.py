"""A channel that is not the worker's: a file for every record, in a folder that somebody else empties.

It is all that has to be written for a channel. Put beside the worker's own channels (see ``folder_channel``), it is one
of them: nothing else in the project names it.
"""
# ruff: noqa: ASYNC240 - an example may wait for a disk

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import Field, ValidationInfo, field_validator

from worker.adapters.channels.kind import ChannelChecks, ChannelKind
from worker.adapters.checks.findings import Finding, fails, ok
from worker.core.errors import ChannelUnavailable, UsageError
from worker.core.model import Sealed
from worker.core.record import line_address, parse_object, record_line
from worker.settings.stores import ChannelSettings
from worker.settings.types import Optional, required_with


class FolderSettings(ChannelSettings):
    """Its own keys."""

    folder: Optional = Field(default=None, validate_default=True, description="the folder that records are put into")

    @field_validator("folder")
    @classmethod
    def _is_there(cls, value: str | None, info: ValidationInfo) -> str | None:
        return required_with("folder", value, info)


class FolderChannel:
    """How it delivers: a record is written under another name, and moved to where readers look once it is whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def open(self) -> None:
        if not self._folder.is_dir():
            raise UsageError(f"there is no folder {self._folder}", "make it, or correct channel.folder")

    async def holds_records(self) -> bool:
        return any(self._folder.glob("*.json"))

    async def deliver(self, username: str, sealed: Sealed) -> None:
        unfinished = self._folder / f"{sealed.attempt_id}.unfinished"
        try:
            unfinished.write_bytes(record_line(username, sealed))
            unfinished.replace(self._folder / f"{sealed.attempt_id}.json")
        except OSError as error:
            raise ChannelUnavailable(f"{self._folder}: {error.strerror}", "make room there") from None

    async def close(self) -> None:
        pass


class FolderKind(ChannelKind[FolderSettings]):
    """What the worker asks of it."""

    settings = FolderSettings
    summary = "a file a record"
    scheme = "folder:"
    source_form = "folder:PATH"

    async def make(self, channel: FolderSettings, aws: Any) -> FolderChannel:
        return FolderChannel(_path(channel))

    def source(self, channel: FolderSettings) -> str:
        return f"folder:{channel.folder}"

    async def copy_records(self, where: str, aws: Any, file: BinaryIO, *, every: bool = False) -> int:
        newest: dict[bytes, tuple[int, bytes]] = {}
        for path in Path(where).glob("*.json"):
            user, generation = line_address(parse_object(text := path.read_bytes()))
            newest[user] = max(newest.get(user, (0, b"")), (generation, text))
        file.writelines(text + b"\n" for _, text in newest.values())
        return len(newest)

    def checks(self) -> FolderChecks:
        return FolderChecks()


class FolderChecks(ChannelChecks[FolderSettings]):
    """What ``check`` asks of it."""

    def folders(self, channel: FolderSettings) -> Sequence[Path]:
        return [_path(channel)] if channel.folder else []

    def look_at_host(self, channel: FolderSettings, mounts: Path) -> Sequence[Finding]:
        folder = _path(channel)
        if not folder.is_dir():
            return [fails("channel", f"there is no folder {folder}", "make it, or correct channel.folder")]
        return [ok("channel", f"{folder} is there")]


def _path(channel: FolderSettings) -> Path:
    return Path(channel.folder or "")


KIND = FolderKind()
