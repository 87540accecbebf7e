"""Why a run ends before its work does: a signal, a fault that stops everybody, a dependency that is away."""

from __future__ import annotations

import asyncio

from worker.core.errors import WorkerError


class Shutdown:
    """Why the run shall end, if it shall. The first reason counts; a second signal makes it hurry."""

    def __init__(self) -> None:
        self.reason: WorkerError | None = None
        self.hurry = asyncio.Event()
        self.wake = asyncio.Event()
        """Set whenever the loop should look again."""

    def request(self, reason: WorkerError) -> None:
        """End the run for ``reason``."""
        if self.reason is None:
            self.reason = reason
            self.wake.set()

    def interrupt(self, reason: WorkerError) -> None:
        """A signal: the first one drains, the second hurries."""
        if self.reason is not None:
            self.hurry.set()
        self.request(reason)
