"""Why a run ends before its work is done: a signal, a fault that concerns everybody, an unavailable dependency."""

from __future__ import annotations

import asyncio

from worker.core.errors import WorkerError


class Shutdown:
    """Whether, and why, the run is to end. The first reason counts."""

    def __init__(self) -> None:
        self.reason: WorkerError | None = None
        self.hurry = asyncio.Event()
        """Set when a second signal came: calls on the wire are cut off too."""
        self.wake = asyncio.Event()
        """Set whenever the loop should check again what there is to do."""

    def request(self, reason: WorkerError) -> None:
        """End the run for ``reason``, unless it is ending for another one already."""
        if self.reason is None:
            self.reason = reason
            self.wake.set()

    def interrupt(self, reason: WorkerError) -> None:
        """Note a signal: the first one lets users who were begun finish, the second one cuts off calls too."""
        if self.reason is not None:
            self.hurry.set()
        self.request(reason)
