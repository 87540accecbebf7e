"""The circuit breaker before every call: it stops calls that cannot succeed, or whose secret could not be recorded.

While the breaker is *closed*, calls pass. It *opens* on answers that concern everybody: Cognito refuses one user after
the other (``refusals`` judges whether the pool is to blame), or its endpoint does not answer. While it is open, one
call at a time passes as a *probe*. Where the pool is doubted, users from elsewhere in the queue are probed first, and
without a pause between the first ones, because they tell soonest whether only some users are refused. Then probes
follow twice a second as long as each asks another user and not enough agree yet, else at growing intervals. A secret
closes the breaker. So does any other answer that blames nobody else, but then the next refusal opens it again.

The pool is blamed, which ends the run, once enough users agree: users from elsewhere in the queue too, where it has
any. A refusal that may pass by itself is given some time before. An endpoint that stays unreachable for longer than the
configured patience ends the run too; neither kind of answer puts the other's end off.

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
from worker.core.model import Issued, PoolFault, Preferred, Trouble, TryAgain, Verified
from worker.core.ports import Clock
from worker.core.resilience.refusals import AGREEING_ANSWERS, AGREEING_USERS, Refusals

FIRST_PROBE_PAUSE = 0.5
"""Seconds from opening to the first probe: a fault that lasts a moment costs no more."""
LONGEST_PROBE_PAUSE = 10.0
"""Seconds between two probes at most; the pauses double up to it. So work goes on soon after a long fault is over."""
JUDGED_FOR = 0.25
"""Seconds that refusals of everybody must last before they end a run: a switch that somebody is just changing takes
less, and a run that has to stop should do so at once."""
NOBODY_FOR = 1.0
"""Seconds for which nobody else must be found on the queue before nobody counts as left. A message that is on its way
from the queue takes less."""
UNCONFIRMED_AFTER = 2.0
"""Seconds after which a write that the ledger has not confirmed keeps new calls from starting: far more than the
milliseconds that a healthy ledger takes, and little of a Session's three minutes."""
LATENCY_HALF_LIFE = 1.0
"""Seconds in which the memory of a slow ledger halves: long compared with one write, short compared with a run."""


class CircuitBreaker:
    """Decides before every wire attempt whether it may be made now.

    ``patience``: seconds for which an unreachable endpoint is probed before the run ends; ``refusal_patience``: the
    same for a refusal that may pass by itself (WAF). ``stop`` is called with the error that ends the run,
    ``on_open`` whenever the breaker opens: users from elsewhere in the queue may be wanted at once.
    """

    def __init__(
        self,
        clock: Clock,
        stop: Callable[[WorkerError], None],
        refusals: Refusals,
        *,
        patience: float,
        refusal_patience: float,
        on_open: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._on_open = on_open
        self._refusals = refusals
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
        self._probers_from_elsewhere = 0
        """Users from elsewhere in the queue who wait for being the probe."""
        self._nobody_elsewhere_since: float | None = None
        """Since when (monotonic seconds) no such user is found on the queue; ``None``: there are some."""
        self._fault: PoolFault | None = None
        """The last refusal that opened the breaker or kept it open."""
        self._unanswered_users: set[str] = set()
        """Distinct users whose calls had no answer, in a row."""
        self._unanswered_calls = 0
        self._unanswered_since = 0.0
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

    @property
    def doubts_pool(self) -> bool:
        """Whether the breaker is open because users are refused."""
        return self._is_open and not self._endpoint_is_the_cause

    @property
    def probes_wanted(self) -> int:
        """How many users from elsewhere in the queue should be leased now, so that they can be probed."""
        if not self.doubts_pool:
            return 0
        return max(0, AGREEING_USERS - self._refusals.from_elsewhere)

    def found_elsewhere(self, number: int) -> None:
        """So many users were found elsewhere in the queue, now that they were looked for."""
        if number:
            self._nobody_elsewhere_since = None
        elif self._nobody_elsewhere_since is None:
            self._nobody_elsewhere_since = self._clock.monotonic()
        elif self.doubts_pool and self._fault is not None and self._lasted() >= JUDGED_FOR:
            self._judge_those_left(self._fault)

    def _judge_those_left(self, fault: PoolFault) -> None:
        """Close the breaker where nobody is left to ask, and those who are left are refused alone."""
        agree = self._is_nobody_elsewhere and self._refusals.enough_agree(nobody_elsewhere=True)
        if agree and self._refusals.concern_users(fault):
            self._close()

    def _lasted(self) -> float:
        """Seconds since the first of the refusals in a row."""
        return self._clock.monotonic() - self._refusals.streak.since

    def permit(self, username: str) -> Permit:
        """For ``async with``: waits until one wire attempt for that user may be made."""
        return Permit(self, username)

    async def _enter(self, username: str) -> bool:
        """Wait to be admitted. Returns whether this call is the probe."""
        from_elsewhere = self._refusals.is_from_elsewhere(username)
        self._probers_from_elsewhere += from_elsewhere
        try:
            while not self.admits(probe=False):
                probe_in = None
                if self.admits(probe=True) and not self._probing:
                    probe_in = self._seconds_to_probe(from_elsewhere=from_elsewhere)
                    if probe_in <= 0:
                        self._probing = True
                        return True
                await self._wait_for_change(probe_in)
                self.held_up_until = self._clock.monotonic()
            return False
        finally:
            self._probers_from_elsewhere -= from_elsewhere

    def _seconds_to_probe(self, *, from_elsewhere: bool) -> float:
        """Seconds until this user may be the next probe."""
        pause = self._next_probe - self._clock.monotonic()
        if from_elsewhere and self.doubts_pool and self._refusals.streak.from_elsewhere < AGREEING_USERS:
            return 0.0
        if self._probers_from_elsewhere and not from_elsewhere:
            return max(pause, FIRST_PROBE_PAUSE)  # they go first
        return pause

    def _leave_probe(self) -> None:
        self._probing = False
        self._changed.set()

    async def _wait_for_change(self, seconds: float | None) -> None:
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    # --- told of answers ----------------------------------------------------------------------------------------------

    def record_reply(self, username: str, reply: object, number: int, *, signs_in: bool = False) -> None:
        """Learn from the reply to one wire attempt, the one with that number (``Refusals.sent``).

        ``signs_in``: it was no call, but a sign-in. Whether the pool serves only a call can show.
        """
        unanswered = isinstance(reply, TryAgain) and reply.trouble in (Trouble.UNSENT, Trouble.NO_ANSWER)
        if self._unanswered_calls and not unanswered:
            self._unanswered_users, self._unanswered_calls = set(), 0
        match reply:
            case Issued() | Verified() | Preferred():
                self._refusals.served(username, number)
                self._nobody_elsewhere_since = None
                if self._is_open and (self._endpoint_is_the_cause or not self._refusals.streak.answers):
                    self._close()
            case PoolFault():
                self._refused(username, number, reply)
            case TryAgain() if unanswered:
                self._unanswered(username, reply)
            case _ if self._endpoint_is_the_cause:  # it can be reached
                self._close()
            case TryAgain(trouble=Trouble.THROTTLED):
                if self._is_open:  # whether the pool serves is not known yet
                    self._open()
            case _ if self._is_open and not signs_in:
                self._close()  # one user's own answer: it says nothing of the pool, but others need not wait

    def _close(self) -> None:
        """Let everybody pass."""
        self._is_open = False
        self._cause = ""
        self._endpoint_is_the_cause = False
        self._probe_pause = FIRST_PROBE_PAUSE
        self._next_probe = 0.0
        self._nobody_elsewhere_since = None
        self._refusals.pool_is_doubted = False
        self._changed.set()

    def _open(self, cause: str = "", *, endpoint: bool = False, asks_others: bool = False) -> None:
        """Let nobody pass but the next probe. ``cause``: what is waited for, in words; empty: as before.

        ``asks_others``: whether one user after the other is asked whether the pool refuses; then the next probe follows
        after ``FIRST_PROBE_PAUSE``.
        """
        now = self._clock.monotonic()
        if cause:
            self._cause, self._endpoint_is_the_cause = cause, endpoint
        was_open, self._is_open = self._is_open, True
        self._refusals.pool_is_doubted = self.doubts_pool
        self._refusals.streak.doubted |= self.doubts_pool
        if not was_open:
            self._on_open()
        elif now < self._next_probe:
            return  # an answer to something sent before the breaker opened
        self._next_probe = now + (FIRST_PROBE_PAUSE if asks_others else self._probe_pause)
        self._probe_pause = min(self._probe_pause * 2, LONGEST_PROBE_PAUSE)

    def _refused(self, username: str, number: int, fault: PoolFault) -> None:
        refusals = self._refusals
        is_another = username not in refusals.streak.users
        refusals.refused(username, number, fault)
        if not refusals.streak.answers:  # it is known of all who were refused that they are refused alone
            if self._is_open:  # the pool serves the others, and the endpoint can be reached
                self._close()
            return
        nobody_elsewhere = self._is_nobody_elsewhere
        agree = refusals.enough_agree(nobody_elsewhere=nobody_elsewhere)
        if not (agree or refusals.is_doubtful or self.doubts_pool):
            return
        self._fault = fault
        # A refusal that may pass is given its time anyway, and the users who are tried meanwhile need not be called.
        asks_others = is_another and not agree and not fault.may_pass
        self._open(f"Cognito to stop refusing everybody ({fault.code})", asks_others=asks_others)
        if not agree or self._lasted() < JUDGED_FOR:
            return
        if self._nobody_elsewhere_since is not None and refusals.concern_users(fault):
            self._close()
        elif not fault.may_pass or self._lasted() >= self._refusal_patience:
            self._stop(PersonMustAct(f"Cognito refuses every user with {fault.code}", fault.cure))

    @property
    def _is_nobody_elsewhere(self) -> bool:
        since = self._nobody_elsewhere_since
        return since is not None and self._clock.monotonic() - since >= NOBODY_FOR

    def _unanswered(self, username: str, again: TryAgain) -> None:
        now = self._clock.monotonic()
        if not self._unanswered_calls:
            self._unanswered_since = now
        if len(self._unanswered_users) < AGREEING_USERS:
            self._unanswered_users.add(username)
        self._unanswered_calls += 1
        lasted = now - self._unanswered_since
        agree = len(self._unanswered_users) >= AGREEING_USERS or self._unanswered_calls >= AGREEING_ANSWERS
        if again.trouble is Trouble.UNSENT or self._is_open or agree:
            if self.doubts_pool:
                self._open()
            else:
                self._open(f"Cognito's endpoint to answer ({again.detail})", endpoint=True)
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

    __slots__ = ("_breaker", "_probe", "_username")

    def __init__(self, breaker: CircuitBreaker, username: str) -> None:
        self._breaker = breaker
        self._username = username
        self._probe = False

    def has_lapsed(self) -> bool:
        """Whether the attempt may not be made any more: to be asked again just before the request leaves."""
        return not self._breaker.admits(probe=self._probe)

    async def __aenter__(self) -> Permit:
        self._probe = await self._breaker._enter(self._username)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._probe:
            self._breaker._leave_probe()
