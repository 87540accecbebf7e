"""The call for one claimed user: paced, fenced, retried, and never made when it no longer makes sense.

The claim alone grants the right to call. No request leaves unless the claim, measured by monotonic time from before
it was written, outlasts the longest that a call can take.
"""

from __future__ import annotations

import asyncio

from worker.core import rules
from worker.core.model import Again, Answer, Enrolment, Reply, Request, Trouble
from worker.core.ports import Clock, Pacer, Provider
from worker.core.resilience.breaker import CircuitBreaker
from worker.core.resilience.cancellation import CancellationScope
from worker.core.resilience.retry import RetryPolicy, until_decided
from worker.core.resilience.writer import LedgerWriter
from worker.core.stats import RunStats


class TooLate:
    """The credential dies before another call could be made."""


class Overtaken:
    """The claim is lost: another worker holds the user now."""


Answered = Reply | TooLate | Overtaken


class Claim:
    """The right to call for one user, and what was done with it."""

    __slots__ = ("acting_until", "doubt", "expires", "row", "sent_at", "spent_calling", "troubles")

    def __init__(self, row: Enrolment, expires: float) -> None:
        self.row = row
        self.expires = expires
        """Monotonic seconds, counted from before the claim was written."""
        self.doubt = False
        """One of our calls may have issued a secret that nobody has."""
        self.acting_until = 0.0
        """Monotonic seconds up to which a call without an answer may still act."""
        self.sent_at = 0.0
        """UTC seconds at which the last request left; what it brought lives from then on, at the least."""
        self.spent_calling = 0.0
        self.troubles: set[Trouble] = set()


class Caller:
    """Makes the calls; ``lease``: seconds for which a renewed claim holds."""

    def __init__(
        self,
        *,
        provider: Provider,
        pacer: Pacer,
        breaker: CircuitBreaker,
        ledger: LedgerWriter,
        clock: Clock,
        stats: RunStats,
        retry: RetryPolicy,
        lease: float,
    ) -> None:
        self._provider = provider
        self._pacer = pacer
        self._breaker = breaker
        self._ledger = ledger
        self._clock = clock
        self._stats = stats
        self._retry = retry
        self._lease = lease

    @property
    def call_timeout(self) -> float:
        """Seconds after which a call is given up; it may act for as long again."""
        return self._retry.call_timeout

    async def ask(self, request: Request, claim: Claim, scope: CancellationScope) -> Answered:
        """What Cognito decides, ``TooLate``, ``Overtaken``, or the last ``Again`` when the attempts are used up.

        Raises ``CancelledError`` where the flight is stopped; ``was_cut_off`` must then be told of a call on the wire.
        """
        first = await self._attempt(request, claim, scope)
        if not isinstance(first, Again):
            return first
        known = iter([first])  # only now is a retry policy worth its cost; it judges the first attempt like the others

        async def attempt() -> Answered:
            return next(known, None) or await self._attempt(request, claim, scope)

        async def sleep(seconds: float) -> None:
            scope.may_stop()
            await asyncio.sleep(min(seconds, max(0.0, request.expires_at - self._clock.utc())))
            scope.must_finish()

        return await until_decided(attempt, self._retry, spent_calling=lambda: claim.spent_calling, sleep=sleep)

    async def _attempt(self, request: Request, claim: Claim, scope: CancellationScope) -> Answered:
        """At most one request on the wire, if it still makes sense and is still ours to make."""
        while True:
            if rules.too_late(request, self._clock.utc()):
                return TooLate()
            scope.may_stop()
            async with self._breaker.permit() as permit:
                await self._pacer.acquire()
                scope.must_finish()
                if not permit.still_valid:
                    continue
                if rules.too_late(request, self._clock.utc()):
                    return TooLate()
                if not await self._still_ours(claim, scope):
                    return Overtaken()
                return await self._send(request, claim, scope)

    async def _still_ours(self, claim: Claim, scope: CancellationScope) -> bool:
        """A call may start only while the claim outlasts it; renews one that does not."""
        while claim.expires - self._clock.monotonic() <= self._retry.call_timeout:
            started = self._clock.monotonic()
            put = await self._ledger.put(rules.renewed(claim.row, self._clock.utc() + self._lease), claim.row)
            if put.answer is Answer.LOST or put.row is None:
                return False
            claim.row = scope.claim = put.row
            claim.expires = started + self._lease
        return True

    async def _send(self, request: Request, claim: Claim, scope: CancellationScope) -> Reply:
        sent_at, claim.sent_at = self._clock.monotonic(), self._clock.utc()
        self._stats.sent()
        scope.calls()
        reply = await self._provider.associate(request)
        scope.must_finish()
        self._stats.waiting_for = ""
        self._breaker.heard(request.username, reply)
        if isinstance(reply, Again):
            self._stats.trouble(reply.trouble)
            claim.troubles.add(reply.trouble)
            claim.doubt |= reply.ambiguous
            if reply.trouble is Trouble.NO_ANSWER:
                self.was_cut_off(claim)
            if reply.counts:
                claim.spent_calling += self._clock.monotonic() - sent_at
            if reply.trouble is Trouble.THROTTLED:
                self._pacer.throttled(sent_at)
        return reply

    def was_cut_off(self, claim: Claim) -> None:
        """A call got no answer: it may have issued a secret, and may act yet."""
        claim.doubt = True
        claim.acting_until = self._clock.monotonic() + self._retry.call_timeout

    def acting(self, claim: Claim) -> float:
        """Seconds for which a call without an answer may act yet; 0 or less where there is none."""
        return claim.acting_until - self._clock.monotonic()
