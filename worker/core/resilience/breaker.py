"""The circuit breaker before every call: it stops calls that cannot succeed, or whose secret could not be recorded.

While the breaker is *closed*, calls pass. It *opens* on answers that concern everybody: Cognito refuses the whole pool,
or its endpoint does not answer. While it is open, one call at a time passes as a *probe*, at growing intervals; any
answer that does not blame the pool or the endpoint closes it again. A refusal of the pool ends the run once three
users, or six answers in a row, agree on it; one that may pass by itself only after some time. An endpoint that stays
unreachable for longer than the configured patience ends the run too.

Independent of that, no call passes while the ledger is unavailable: at once when an operation on it failed, or when one
has been under way for too long. A secret that Cognito issues and the ledger cannot record would be lost.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from worker.core.errors import EndpointUnavailable, PersonMustAct, WorkerError
from worker.core.model import PoolFault, Reply, Trouble, TryAgain
from worker.core.ports import Clock

AGREEING_USERS = 3
"""Distinct users whose answers must agree before the pool is blamed: one or two may have troubles of their own."""
AGREEING_ANSWERS = 6
"""So many agreeing answers in a row suffice too, from however few users: near the end only one or two may be left."""
FIRST_PROBE_PAUSE = 0.5
"""Seconds from opening to the first probe: a fault that lasts a moment costs no more."""
LONGEST_PROBE_PAUSE = 10.0
"""Seconds between two probes at most; the pauses double up to it. So work goes on soon after a long fault is over."""
UNCONFIRMED_AFTER = 2.0
"""Seconds after which a write that the ledger has not confirmed keeps new calls from starting: far more than the
milliseconds that a healthy ledger takes, and little of a Session's three minutes."""
LATENCY_HALF_LIFE = 1.0
"""Seconds in which the memory of a slow ledger halves: long compared with one write, short compared with a run."""


class CircuitBreaker:
    """Decides before every wire attempt whether it may be made now.

    ``patience``: seconds for which an unreachable endpoint is probed before the run ends; ``refusal_patience``: the
    same for a refusal that may pass by itself (WAF). ``stop`` is called with the error that ends the run.
    """

    def __init__(
        self, clock: Clock, stop: Callable[[WorkerError], None], *, patience: float, refusal_patience: float
    ) -> None:
        self._clock = clock
        self._stop = stop
        self._patience = patience
        self._refusal_patience = refusal_patience
        self._changed = asyncio.Event()
        self._ledger_calls: dict[object, float] = {}
        """Since when (monotonic seconds), the oldest first."""
        self._ledger_failures: dict[object, str] = {}
        """Why ledger calls failed that are being repeated."""
        self._slowest_ledger_call, self._slowest_seen_at = 0.0, clock.monotonic()
        self._probing = False
        self.held_up_until = -math.inf
        """When a call that had to wait here went on, the last time (monotonic seconds)."""
        self._close()

    # --- asked before a call ------------------------------------------------------------------------------------------

    @property
    def waiting_for(self) -> str | None:
        """What keeps calls from starting, in words; ``None`` where nothing does."""
        if self._ledger_failures:
            return next(iter(self._ledger_failures.values()))
        if self._ledger_is_overdue():
            return "the ledger to confirm a write"
        return self._cause if self._is_open else None

    def admits(self, *, probe: bool) -> bool:
        """Whether a call may leave now; a probe may while the breaker is open."""
        return (probe or not self._is_open) and not self._ledger_failures and not self._ledger_is_overdue()

    def permit(self) -> Permit:
        """For ``async with``: waits until one wire attempt may be made."""
        return Permit(self)

    async def _enter(self) -> bool:
        """Wait to be admitted. Returns whether this call is the probe."""
        while not self.admits(probe=False):
            probe_in = None
            if self.admits(probe=True) and not self._probing:
                probe_in = self._next_probe - self._clock.monotonic()
                if probe_in <= 0:
                    self._probing = True
                    return True
            await self._wait_for_change(probe_in)
            self.held_up_until = self._clock.monotonic()
        return False

    def _leave_probe(self) -> None:
        self._probing = False
        self._changed.set()

    async def _wait_for_change(self, seconds: float | None) -> None:
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    # --- told of answers ----------------------------------------------------------------------------------------------

    def record_reply(self, username: str, reply: Reply) -> None:
        """Learn from the reply to one wire attempt."""
        match reply:
            case PoolFault():
                self._refused(username, reply)
            case TryAgain(trouble=Trouble.UNSENT | Trouble.NO_ANSWER):
                self._unanswered(username, reply)
            case TryAgain(trouble=Trouble.THROTTLED):
                if self._endpoint_is_the_cause:  # it can be reached
                    self._close()
                elif self._is_open:  # whether the pool serves is not known yet
                    self._open()
            case _:
                if self._is_open or self._agreeing_users:
                    self._close()

    def _close(self) -> None:
        """Let everybody pass, and forget what agreed so far."""
        self._is_open = False
        self._cause = ""
        self._endpoint_is_the_cause = False
        self._since = 0.0
        self._probe_pause = FIRST_PROBE_PAUSE
        self._next_probe = 0.0
        self._agreeing_users: set[str] = set()
        self._agreeing_answers = 0
        self._changed.set()

    def _open(self) -> None:
        """Let nobody pass but the next probe."""
        now = self._clock.monotonic()
        if self._is_open and now < self._next_probe:
            return  # an answer to something sent before the breaker opened
        self._is_open = True
        self._next_probe = now + self._probe_pause
        self._probe_pause = min(self._probe_pause * 2, LONGEST_PROBE_PAUSE)

    def _add_answer(self, username: str, *, cause: str, endpoint: bool) -> float:
        """Count one more answer of the same kind in a row. Returns the seconds since the first."""
        now = self._clock.monotonic()
        if not self._agreeing_users or endpoint != self._endpoint_is_the_cause:
            self._agreeing_users, self._agreeing_answers, self._since = set(), 0, now
        self._cause, self._endpoint_is_the_cause = cause, endpoint
        if len(self._agreeing_users) < AGREEING_USERS:
            self._agreeing_users.add(username)
        self._agreeing_answers += 1
        return now - self._since

    def _enough_agree(self) -> bool:
        return len(self._agreeing_users) >= AGREEING_USERS or self._agreeing_answers >= AGREEING_ANSWERS

    def _refused(self, username: str, fault: PoolFault) -> None:
        lasted = self._add_answer(username, cause=f"Cognito refuses everybody ({fault.code})", endpoint=False)
        self._open()
        if self._enough_agree() and (not fault.may_pass or lasted >= self._refusal_patience):
            self._stop(PersonMustAct(f"Cognito refuses every user with {fault.code}", fault.cure))

    def _unanswered(self, username: str, again: TryAgain) -> None:
        lasted = self._add_answer(username, cause=f"Cognito's endpoint does not answer ({again.detail})", endpoint=True)
        if again.trouble is Trouble.UNSENT or self._is_open or self._enough_agree():
            self._open()
        if self._is_open and lasted >= self._patience:
            self._stop(
                EndpointUnavailable(
                    f"Cognito's endpoint has not answered for {lasted:.0f} s ({again.detail})",
                    "check the network, proxy and cognito.endpoint_url, then run again: nothing is lost",
                )
            )

    # --- told of the ledger -------------------------------------------------------------------------------------------

    def ledger_call_begins(self, key: object) -> None:
        """A read or write of the ledger begins; if it takes too long, no call to Cognito starts until it ends."""
        self._ledger_calls[key] = self._clock.monotonic()

    def ledger_call_failed(self, key: object, why: str) -> None:
        """It failed and will be repeated: no call to Cognito starts until it ends."""
        self._ledger_failures[key] = why

    def ledger_call_ends(self, key: object) -> None:
        """It is answered, or given up."""
        self._slowest_ledger_call, self._slowest_seen_at = self.ledger_latency, self._clock.monotonic()
        del self._ledger_calls[key]
        self._ledger_failures.pop(key, None)
        if not self._changed.is_set():
            self._changed.set()

    @property
    def ledger_latency(self) -> float:
        """Seconds that the ledger needed for an answer lately; never more than ``UNCONFIRMED_AFTER``."""
        halvings = (self._clock.monotonic() - self._slowest_seen_at) / LATENCY_HALF_LIFE
        remembered: float = self._slowest_ledger_call * 2.0**-halvings
        return min(max(remembered, self._oldest_ledger_call()), UNCONFIRMED_AFTER)

    def _oldest_ledger_call(self) -> float:
        """Seconds for which the oldest ledger call has been under way; 0 where there is none."""
        for began in self._ledger_calls.values():  # the first one is the oldest
            return self._clock.monotonic() - began
        return 0.0

    def _ledger_is_overdue(self) -> bool:
        return self._oldest_ledger_call() >= UNCONFIRMED_AFTER


class Permit:
    """The permission for one wire attempt, for ``async with``."""

    __slots__ = ("_breaker", "_probe")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._probe = False

    @property
    def still_valid(self) -> bool:
        """Whether the attempt may still be made: to be asked again just before the request leaves."""
        return self._breaker.admits(probe=self._probe)

    async def __aenter__(self) -> Permit:
        self._probe = await self._breaker._enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._probe:
            self._breaker._leave_probe()
