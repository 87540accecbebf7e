"""The channels under test: whoever adds one adds a way to open it here, and the suite does the rest."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from worker.channels.file import FileChannel
from worker.ports import Channel


@dataclass
class ChannelUnderTest:
    """A channel, and what has arrived on the other side: username, generation, attempt id and the sealed bytes."""

    channel: Channel
    arrived: Callable[[], Awaitable[list[tuple[str, int, str, bytes]]]]


@pytest.fixture(params=["file"])
async def channel(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ChannelUnderTest]:
    path = tmp_path / "secrets.jsonl"
    file = FileChannel(path)

    async def arrived() -> list[tuple[str, int, str, bytes]]:
        return delivered_lines(path) if path.exists() else []

    yield ChannelUnderTest(file, arrived)
    await file.close()


def delivered_lines(path: Path) -> list[tuple[str, int, str, bytes]]:
    """The whole lines of a file that a file channel wrote."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines() if line]
    return [(a["username"], a["generation"], a["attempt_id"], base64.b64decode(a["sealed"])) for a in lines]
