"""The gate before every call: it closes while something that everybody depends on is away, and lets one probe through.

Pool-wide refusals end the run once a few distinct users agree; an unreachable endpoint ends it when patience is over. A
write that the ledger has not confirmed keeps it closed too: nobody is issued a secret that could not be recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from worker.core.errors import EndpointUnavailable, PersonMustAct, WorkerError
from worker.core.model import Again, PoolFault, Reply, Trouble
from worker.core.ports import Clock

AGREEING_USERS = 3
AGREEING_ANSWERS = 6
"""Where fewer users are left than must agree, so many answers with nothing else in between will do."""
LONGEST_PAUSE = 10.0
UNCONFIRMED_AFTER = 2.0
"""Seconds after which a write that is not confirmed closes the gate for new calls."""
SLOW_HALF_LIFE = 1.0
"""Seconds after which a slow answer of the ledger counts half."""


class CircuitBreaker:
    """Open, or closed with single probes at growing intervals.

    ``patience``: seconds an unreachable endpoint is probed; ``refusal_patience``: seconds a refusal that may pass
    (WAF) is. ``stop`` is called once with the error that ends the run.
    """

    def __init__(
        self,
        clock: Clock,
        stop: Callable[[WorkerError], None],
        *,
        patience: float,
        refusal_patience: float,
        first_pause: float = 0.5,
    ) -> None:
        self._clock = clock
        self._stop = stop
        self._patience = patience
        self._refusal_patience = refusal_patience
        self._first_pause = first_pause
        self._changed = asyncio.Event()
        self._writing: dict[object, float] = {}
        self._unconfirmed: dict[object, str] = {}
        self._slowest, self._slowest_at = 0.0, clock.monotonic()
        self._probing = False
        self._open()

    @property
    def waiting_for(self) -> str | None:
        """What keeps the gate closed, in words; ``None`` when it is open."""
        if self._unconfirmed:
            return next(iter(self._unconfirmed.values()))
        if self._write_is_overdue():
            return "the ledger to confirm a write"
        return self._cause if self._closed else None

    def writing(self, key: object) -> None:
        """A write to the ledger begins; unless ``written(key)`` follows soon, the gate closes until it does."""
        self._writing[key] = self._clock.monotonic()

    def unconfirmed(self, key: object, why: str) -> None:
        """The ledger did not confirm: the gate closes at once."""
        self._unconfirmed[key] = why

    def written(self, key: object) -> None:
        """What became of the write is known."""
        self._slowest, self._slowest_at = self.ledger_takes, self._clock.monotonic()
        del self._writing[key]
        self._unconfirmed.pop(key, None)
        if not self._changed.is_set():
            self._wake()

    @property
    def ledger_takes(self) -> float:
        """Seconds that the ledger needs for an answer, lately; none longer than those for which the gate stays open."""
        remembered: float = self._slowest * 2.0 ** -((self._clock.monotonic() - self._slowest_at) / SLOW_HALF_LIFE)
        return min(max(remembered, self._oldest_write()), UNCONFIRMED_AFTER)

    def _oldest_write(self) -> float:
        """For how many seconds it has not been confirmed."""
        for began in self._writing.values():  # the first one is the oldest
            return self._clock.monotonic() - began
        return 0.0

    def _write_is_overdue(self) -> bool:
        return self._oldest_write() >= UNCONFIRMED_AFTER

    def open_for(self, *, probe: bool) -> bool:
        """Whether a request may leave now; a probe may while others may not."""
        return (probe or not self._closed) and not self._unconfirmed and not self._write_is_overdue()

    def permit(self) -> Permit:
        """``async with`` it: waits until one attempt may be made; while the gate is closed, only one at a time is."""
        return Permit(self)

    async def _enter(self) -> bool:
        """Wait to be admitted; whether as the probe."""
        while not self.open_for(probe=False):
            probe_in = None
            if self.open_for(probe=True) and not self._probing:
                probe_in = self._next_probe - self._clock.monotonic()
                if probe_in <= 0:
                    self._probing = True
                    return True
            await self._wait_for_change(probe_in)
        return False

    def _leave_probe(self) -> None:
        self._probing = False
        self._wake()

    async def _wait_for_change(self, seconds: float | None) -> None:
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def heard(self, username: str, reply: Reply) -> None:
        """Learn from the reply to one attempt."""
        match reply:
            case PoolFault():
                self._refused(username, reply)
            case Again(trouble=Trouble.UNSENT | Trouble.NO_ANSWER):
                self._unanswered(username, reply)
            case Again(trouble=Trouble.THROTTLED):
                if self._cause_is_reach:
                    self._open()
            case _:
                if self._closed or self._users:
                    self._open()

    def _open(self) -> None:
        self._closed = False
        self._cause = ""
        self._cause_is_reach = False
        self._since = 0.0
        self._pause = self._first_pause
        self._next_probe = 0.0
        self._users: set[str] = set()
        self._answers = 0
        self._wake()

    def _wake(self) -> None:
        self._changed.set()

    def _agree(self, username: str, *, cause: str, reach: bool) -> float:
        """One more in a row; seconds since the first."""
        now = self._clock.monotonic()
        if not self._users or reach != self._cause_is_reach:
            self._open()
            self._since = now
        self._cause, self._cause_is_reach = cause, reach
        if len(self._users) < AGREEING_USERS:
            self._users.add(username)
        self._answers += 1
        return now - self._since

    def _close(self) -> None:
        now = self._clock.monotonic()
        if self._closed and now < self._next_probe:
            return  # an answer to something sent before the gate closed
        self._closed = True
        self._next_probe = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _enough(self) -> bool:
        return len(self._users) >= AGREEING_USERS or self._answers >= AGREEING_ANSWERS

    def _refused(self, username: str, fault: PoolFault) -> None:
        lasted = self._agree(username, cause=f"Cognito refuses everybody ({fault.code})", reach=False)
        self._close()
        if self._enough() and (not fault.may_pass or lasted >= self._refusal_patience):
            self._stop(PersonMustAct(f"Cognito refuses every user with {fault.code}", fault.cure))

    def _unanswered(self, username: str, again: Again) -> None:
        lasted = self._agree(username, cause=f"Cognito's endpoint does not answer ({again.detail})", reach=True)
        if again.trouble is Trouble.UNSENT or self._enough():
            self._close()
        if self._closed and lasted >= self._patience:
            self._stop(
                EndpointUnavailable(
                    f"Cognito's endpoint has not answered for {lasted:.0f} s ({again.detail})",
                    "check the network, proxy and cognito.endpoint_url, then run again: nothing is lost",
                )
            )


class Permit:
    """One attempt's way through the gate."""

    __slots__ = ("_breaker", "_probe")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._probe = False

    @property
    def still_valid(self) -> bool:
        """Whether the gate did not close since: to be looked at again just before the request leaves."""
        return self._breaker.open_for(probe=self._probe)

    async def __aenter__(self) -> Permit:
        self._probe = await self._breaker._enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._probe:
            self._breaker._leave_probe()
