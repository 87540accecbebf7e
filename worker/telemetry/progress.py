"""SKELETON."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TextIO

from worker.telemetry.tally import Tally


@asynccontextmanager
async def show(
    tally: Tally,
    waiting: Callable[[], Awaitable[int | None]],
    *,
    quota: float,
    interval: float,
    stream: TextIO | None = None,
) -> AsyncIterator[None]:
    """``waiting()``: messages that wait, leased ones included; ``None`` where nobody knows (a pipe)."""
    yield
