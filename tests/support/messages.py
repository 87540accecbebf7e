"""Messages as producers send them, over a queue or a pipe."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.rows import version
from worker.core.model import CredentialKind, Request, Secret
from worker.core.ports import Producer
from worker.requests.message import Parser

POOL = "eu-central-1_AbCdEfGhI"
PARSER = Parser(POOL, session_validity=180.0)


async def push_raw(queue: Producer, bodies: Sequence[bytes]) -> None:
    """Put bodies on the queue as somebody would who does not look at them."""
    for body in bodies:
        await queue.push(
            [(Request(f"somebody {version()}", CredentialKind.SESSION, Secret("-"), version(), 4e9), body)]
        )


def body(
    username: str | None = None,
    id: str | None = None,  # noqa: A002
    *,
    expires_in: float = 60.0,
    **keys: Any,
) -> bytes:
    """A message whose credential expires in so many seconds, of a user of its own unless one is named."""
    username = username or f"ana {id or ''}".strip()
    expires = datetime.fromtimestamp(time.time() + expires_in, UTC).isoformat()
    return json.dumps(
        {"username": username, "session": "s" * 40, "id": id or username, "expires_at": expires} | keys
    ).encode()


def pushed(*bodies: bytes) -> list[tuple[Request, bytes]]:
    """As a producer pushes them."""
    return [(PARSER.parse(body, time.time()), body) for body in bodies]


class Pipe:
    """A named pipe with its writing end, which never blocks."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)

    def opened(self) -> None:
        """Somebody else reads now."""
        os.close(self._reader)
        self._reader = -1

    def write(self, data: bytes) -> int:
        """How many bytes the pipe took."""
        try:
            return os.write(self._writer, data)
        except BlockingIOError:
            return 0

    def end(self) -> None:
        """No more lines."""
        for end in (self._reader, self._writer):
            if end >= 0:
                os.close(end)
        self._reader = self._writer = -1


async def until(happened: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Look until it happened; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not await happened():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.01)
