"""The call for one claimed user: counted against the quota, under a valid claim, repeated, and never made too late.

The claim alone grants the right to call. No request leaves unless the claim, measured by monotonic time from before it
was written, outlasts the longest that a call can take.
"""

from __future__ import annotations

import asyncio

from worker.core import rules
from worker.core.config import WorkerConfig
from worker.core.model import Again, Enrolment, Lost, Reply, Request, Trouble
from worker.core.ports import Clock, Pacer, Provider
from worker.core.resilience.breaker import CircuitBreaker
from worker.core.resilience.cancellation import CancellationScope
from worker.core.resilience.retry import until_decided
from worker.core.resilience.writer import LedgerWriter
from worker.core.stats import RunStats


class TooLate:
    """The credential dies before another call could be made."""


class Overtaken:
    """The claim is lost: another worker has claimed the user."""


CallResult = Reply | TooLate | Overtaken


class Claim:
    """The right to call for one user, and what was done with it."""

    __slots__ = ("doubt", "expires", "may_act_until", "row", "sent_at", "spent_calling", "troubles")

    def __init__(self, row: Enrolment, expires: float) -> None:
        self.row = row
        """The row that holds the claim."""
        self.expires = expires
        """Monotonic seconds, counted from before the claim was written."""
        self.doubt = False
        """One of our calls may have issued a secret that nobody has."""
        self.may_act_until = 0.0
        """Monotonic seconds until which a call without an answer may still take effect."""
        self.sent_at = 0.0
        """UTC seconds at which the last request left; what it brought lives from then on, at the least."""
        self.spent_calling = 0.0
        """Seconds that counted attempts took."""
        self.troubles: set[Trouble] = set()
        """Why attempts had to be made again."""


class Caller:
    """Makes the calls."""

    def __init__(
        self,
        *,
        provider: Provider,
        pacer: Pacer,
        breaker: CircuitBreaker,
        ledger: LedgerWriter,
        clock: Clock,
        stats: RunStats,
        config: WorkerConfig,
    ) -> None:
        self._provider = provider
        self._pacer = pacer
        self._breaker = breaker
        self._ledger = ledger
        self._clock = clock
        self._stats = stats
        self._config = config

    @property
    def call_timeout(self) -> float:
        """Seconds after which a call is given up; it may still take effect for as long again."""
        return self._config.retry.call_timeout

    async def call(self, request: Request, claim: Claim, scope: CancellationScope) -> CallResult:
        """What Cognito decides, ``TooLate``, ``Overtaken``, or the last ``Again`` when the attempts are used up.

        Raises ``CancelledError`` where the scope is stopped; ``was_cut_off`` must then be told of a call on the wire.
        """
        first = await self._attempt(request, claim, scope)
        if not isinstance(first, Again):
            return first
        known = iter([first])  # the retry policy costs time, so it begins only now; the first attempt counts for it too

        async def attempt() -> CallResult:
            return next(known, None) or await self._attempt(request, claim, scope)

        async def sleep(seconds: float) -> None:
            scope.may_stop()
            await asyncio.sleep(min(seconds, max(0.0, request.expires_at - self._clock.utc())))
            scope.must_finish()

        return await until_decided(attempt, self._config.retry, spent_calling=lambda: claim.spent_calling, sleep=sleep)

    async def _attempt(self, request: Request, claim: Claim, scope: CancellationScope) -> CallResult:
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
                if not await self._claim_outlasts_call(claim, scope):
                    return Overtaken()
                return await self._send(request, claim, scope)

    async def _claim_outlasts_call(self, claim: Claim, scope: CancellationScope) -> bool:
        """Renew a claim that would expire during a call; ``False`` where it is lost."""
        while claim.expires - self._clock.monotonic() <= self.call_timeout:
            started = self._clock.monotonic()
            lease_until = self._clock.utc() + self._config.lease
            result = await self._ledger.put(rules.renewed(claim.row, lease_until), claim.row)
            if isinstance(result, Lost):
                return False
            claim.row = scope.claim = result.row
            claim.expires = started + self._config.lease
        return True

    async def _send(self, request: Request, claim: Claim, scope: CancellationScope) -> Reply:
        sent_at, claim.sent_at = self._clock.monotonic(), self._clock.utc()
        self._stats.sent()
        scope.call_begins()
        reply = await self._provider.associate(request)
        scope.must_finish()
        self._stats.waiting_for = ""
        self._breaker.record_reply(request.username, reply)
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
        """A call got no answer: it may have issued a secret, and may still take effect."""
        claim.doubt = True
        claim.may_act_until = self._clock.monotonic() + self.call_timeout

    def may_act_for(self, claim: Claim) -> float:
        """Seconds for which a call without an answer may still take effect; 0 or less where there is none."""
        return claim.may_act_until - self._clock.monotonic()
