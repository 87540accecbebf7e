"""The settings of the file channel."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from worker.settings.stores import ChannelSettings
from worker.settings.types import File


class FileSettings(ChannelSettings):
    """Which file."""

    path: File = Field(default=Path("enrolments.jsonl"), description="the file that sealed secrets are appended to")
