"""The call for one claimed user: counted against the quota, made only under a valid claim, and repeated where useful.

The claim alone grants the right to call. A request is sent only if the claim will still be valid after the call's
time-out. The claim's age is measured by the monotonic clock, from just before the claim was written.
"""

from __future__ import annotations

import asyncio

from worker.core import rules
from worker.core.config import WorkerConfig
from worker.core.model import Enrolment, Issued, Lost, Reply, Request, Trouble, TryAgain
from worker.core.ports import Clock, Pacer, Provider
from worker.core.resilience.breaker import CircuitBreaker
from worker.core.resilience.call_attempts import until_decided
from worker.core.resilience.cancellation import CancellationScope
from worker.core.resilience.deliveries import Deliveries
from worker.core.resilience.refusals import Refusals
from worker.core.resilience.throttling import Throttling
from worker.core.resilience.writer import LedgerWriter
from worker.core.stats import RunStats


class TooLate:
    """The credential expires before another call could be made."""


class Overtaken:
    """The claim is lost: another worker has claimed the user."""


class ThrottledAlone:
    """The user is throttled while others get through; ``refusals`` knows what follows."""


CallResult = Reply | TooLate | Overtaken | ThrottledAlone


class Claim:
    """The right to call for one user, and what was done with it."""

    __slots__ = ("doubt", "expires", "late_effect_until", "row", "sent_at", "spent_calling", "troubles")

    def __init__(self, row: Enrolment, expires: float) -> None:
        self.row = row
        """The row that holds the claim."""
        self.expires = expires
        """Monotonic seconds, counted from before the claim was written."""
        self.doubt = False
        """Whether one of our calls may have issued a secret that nobody has."""
        self.late_effect_until = 0.0
        """Monotonic seconds until which a call without an answer may still take effect."""
        self.sent_at = 0.0
        """When (UTC seconds) the last request was sent: a Session in its reply cannot be older than that."""
        self.spent_calling = 0.0
        """Seconds for which counted attempts waited for their replies."""
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
        refusals: Refusals,
        deliveries: Deliveries,
        ledger: LedgerWriter,
        clock: Clock,
        stats: RunStats,
        config: WorkerConfig,
    ) -> None:
        self._provider = provider
        self._pacer = pacer
        self._breaker = breaker
        self._refusals = refusals
        self._throttling = Throttling(pacer, refusals)
        self._turn = asyncio.Lock()
        """Held by the one user who waits for the pacer."""
        self._deliveries = deliveries
        self._ledger = ledger
        self._clock = clock
        self._stats = stats
        self._config = config

    @property
    def call_timeout(self) -> float:
        """Seconds after which a call is given up; it may still take effect for as long again (``docs/design.md``)."""
        return self._config.retry.call_timeout

    async def call(self, request: Request, claim: Claim, scope: CancellationScope) -> CallResult:
        """What Cognito decides, ``TooLate``, ``Overtaken``, or the last ``TryAgain`` when the attempts are used up.

        Raises ``CancelledError`` where the task is stopped; if a request was on the wire then, the caller must call
        ``note_unanswered``.
        """
        first = await self._attempt(request, claim, scope)
        if not isinstance(first, TryAgain):
            return first
        known = iter([first])  # setting up retries takes time, which most users do without; the first attempt counts

        async def attempt() -> CallResult:
            return next(known, None) or await self._attempt(request, claim, scope)

        async def sleep(seconds: float) -> None:
            scope.allow_stop()
            await asyncio.sleep(min(seconds, max(0.0, request.expires_at - self._clock.utc())))
            scope.forbid_stop()

        return await until_decided(attempt, self._config.retry, spent_calling=lambda: claim.spent_calling, sleep=sleep)

    async def _attempt(self, request: Request, claim: Claim, scope: CancellationScope) -> CallResult:
        """Send one request, where credential, claim, channel and circuit breaker still allow it when its turn comes."""
        while True:
            if rules.too_late(request, self._clock.utc()):
                return TooLate()
            scope.allow_stop()
            if not self._deliveries.admits(request.kind):
                await self._deliveries.wait(self._may_wait(request, claim))
                scope.forbid_stop()
                if not await self._claim_outlasts_call(claim, scope):
                    return Overtaken()
                continue
            async with self._breaker.permit(request.username) as permit:
                async with self._turn:
                    if permit.has_lapsed():  # else all who wait would use up a turn at the pacer each, before the probe
                        continue
                    await self._pacer.acquire()
                scope.forbid_stop()
                if not await self._claim_outlasts_call(claim, scope):
                    return Overtaken()
                if permit.has_lapsed() or not self._deliveries.admits(request.kind):
                    continue  # the renewal of the claim may have taken long
                if rules.too_late(request, self._clock.utc()):
                    return TooLate()
                return await self._send(request, claim, scope)

    def _may_wait(self, request: Request, claim: Claim) -> float:
        """Seconds after which the credential is too old, or the claim must be renewed."""
        credential = request.expires_at - self._clock.utc() - rules.DEADLINE_MARGIN
        return max(0.0, min(credential, claim.expires - self._clock.monotonic() - self.call_timeout))

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

    async def _send(self, request: Request, claim: Claim, scope: CancellationScope) -> Reply | ThrottledAlone:
        sent_at, claim.sent_at = self._clock.monotonic(), self._clock.utc()
        scope.call_begins()
        self._stats.sent()
        number = self._refusals.sent(request.username)
        self._deliveries.call_leaves(request.username, request.kind)
        issued = False
        try:
            reply = await self._provider.associate(request)
            issued = isinstance(reply, Issued)
        finally:
            self._deliveries.call_ends(request.username, issued=issued)
        scope.forbid_stop()
        self._stats.waiting_for = ""
        self._breaker.record_reply(request.username, reply, number)
        is_throttled_alone = self._throttling.record_reply(request.username, reply, number, sent_at)
        if isinstance(reply, TryAgain):
            self._stats.trouble(reply.trouble)
            claim.troubles.add(reply.trouble)
            claim.doubt |= reply.ambiguous
            if reply.trouble is Trouble.NO_ANSWER:
                self.note_unanswered(claim)
            if reply.counts:
                claim.spent_calling += self._clock.monotonic() - sent_at
        return ThrottledAlone() if is_throttled_alone else reply

    def note_unanswered(self, claim: Claim) -> None:
        """Record that a call got no answer: it may have issued a secret, and may still take effect."""
        claim.doubt = True
        claim.late_effect_until = self._clock.monotonic() + self.call_timeout

    def late_effect_for(self, claim: Claim) -> float:
        """Seconds for which a call without an answer may still take effect; 0 or less where there is none."""
        return claim.late_effect_until - self._clock.monotonic()
