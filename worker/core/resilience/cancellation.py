"""One user on the way, as the loop sees it: when it may be stopped, and at what price.

Stopping is a cancellation that is only ever delivered where it costs nothing, or, in a hurry, where it costs a
doubt. It is never delivered between a reply and its durable outcome, so nothing there needs a shield.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto

from worker.core.model import Enrolment


class _Phase(Enum):
    WAITING = auto()
    CALLING = auto()
    WRITING = auto()


class CancellationScope:
    """``on_sent`` is called whenever a request leaves; who starts it sets ``task``."""

    __slots__ = ("_hurry", "_on_sent", "_phase", "_stopped", "claim", "task")

    def __init__(self, on_sent: Callable[[], None] = lambda: None) -> None:
        self.claim: Enrolment | None = None
        """The claim as it was last written."""
        self.task: asyncio.Task[None] | None = None
        self._on_sent = on_sent
        self._phase = _Phase.WRITING
        self._stopped = False
        self._hurry = False

    @property
    def was_calling(self) -> bool:
        """Whether a request was on the wire when the cancellation came."""
        return self._phase is _Phase.CALLING

    def may_stop(self) -> None:
        """From here on nothing is at stake. Raises ``CancelledError`` if told to stop before."""
        if self._stopped:
            raise asyncio.CancelledError
        self._phase = _Phase.WAITING

    def calls(self) -> None:
        """A request leaves: until its reply is here, stopping costs a doubt. Raises ``CancelledError`` in a hurry."""
        if self._hurry:
            raise asyncio.CancelledError
        self._phase = _Phase.CALLING
        self._on_sent()

    def must_finish(self) -> None:
        """From here on a guarantee is at stake."""
        self._phase = _Phase.WRITING

    def stop(self, *, hurry: bool) -> None:
        """Stop at the next moment that costs nothing; in a ``hurry`` also in a call."""
        self._stopped = True
        self._hurry |= hurry
        due = self._phase is _Phase.WAITING or (self._hurry and self._phase is _Phase.CALLING)
        if due and self.task is not None and not self.task.cancelling():
            self.task.cancel()
