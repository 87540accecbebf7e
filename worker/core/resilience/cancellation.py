"""When the task of one user may be cancelled, and what is lost by it.

A run that is told to stop cancels tasks, but only where nothing can be lost: while a user waits. In a hurry it also
cancels whoever waits to be activated, whose credential may die before another run; and a call that is on the wire,
which leaves a doubt whether Cognito issued a secret that the ledger then records.
A task is never cancelled between Cognito's reply and the write that records it, so nothing there needs
``asyncio.shield``. After that write it may be cancelled while a delivery waits for its next try: the secret is safe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto

from worker.core.model import Enrolment
from worker.core.ports import Way


class _Phase(Enum):
    WAITING = auto()
    WAITING_AS_LAST = auto()
    CALLING = auto()
    FINISHING = auto()


class _Nobody:
    """``Way`` of a user whom nobody watches."""

    __slots__ = ()

    def passed(self, step: str, began: float, answer: str = "") -> None:
        """Nobody is told."""

    def ended(self, outcome: str) -> None:
        """Nobody is told."""


UNWATCHED: Way = _Nobody()
"""One for all of them: whoever is not watched costs nothing."""


class CancellationScope:
    """Controls the cancellation of one user's task. Whoever starts that task must set ``task``.

    ``on_call`` is called whenever a request to Cognito leaves that is no sign-in.
    """

    __slots__ = ("_hurry", "_on_call", "_phase", "_stop", "claim", "task", "way")

    def __init__(self, on_call: Callable[[], None] = lambda: None) -> None:
        self.claim: Enrolment | None = None
        """The last row written with our claim to call, once there is one."""
        self.task: asyncio.Task[None] | None = None
        self.way: Way = UNWATCHED
        """Who watches this user's way."""
        self._on_call = on_call
        self._phase = _Phase.FINISHING
        self._stop = False
        self._hurry = False

    # --- said by the task ---------------------------------------------------------------------------------------------

    def allow_stop(self, *, only_in_hurry: bool = False) -> None:
        """From here on the task may be cancelled. Raises ``CancelledError`` where it was told to stop before.

        ``only_in_hurry``: the user is almost done, and would have to be taken over with a credential that dies soon.
        """
        if self._hurry or (self._stop and not only_in_hurry):
            raise asyncio.CancelledError
        self._phase = _Phase.WAITING_AS_LAST if only_in_hurry else _Phase.WAITING

    def call_begins(self, *, signs_in: bool = False) -> None:
        """A request is sent: until its reply is here, only a hurry cancels. Raises ``CancelledError`` in a hurry.

        ``signs_in``: it is none of the calls that the user waits for, but goes before it.
        """
        if self._hurry:
            raise asyncio.CancelledError
        self._phase = _Phase.CALLING
        if not signs_in:
            self._on_call()

    def forbid_stop(self) -> None:
        """From here on a cancellation could break a promise: it waits until ``allow_stop``."""
        self._phase = _Phase.FINISHING

    @property
    def was_calling(self) -> bool:
        """Whether a request was on the wire when the task was cancelled."""
        return self._phase is _Phase.CALLING

    # --- said by the loop ---------------------------------------------------------------------------------------------

    def stop(self, *, hurry: bool) -> None:
        """Cancel the task as soon as nothing can be lost by it; in a ``hurry`` also during a call."""
        self._stop = True
        self._hurry |= hurry
        in_hurry = (_Phase.CALLING, _Phase.WAITING_AS_LAST)
        may_cancel = self._phase is _Phase.WAITING or (self._hurry and self._phase in in_hurry)
        if may_cancel and self.task is not None and not self.task.cancelling():
            self.task.cancel()
