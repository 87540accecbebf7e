"""The requests to Cognito for one claimed user: counted against a quota, made under a valid claim, repeated if useful.

The claim alone grants the right to send one. A request is sent only if the claim will still be valid after its
time-out. The claim's age is measured by the monotonic clock, from just before the claim was written.

An ``Operation`` is one kind of request: the enrolment and what follows it (``Caller.call``, ``activation``) have one
quota, and wait for one ``Lane``; sign-ins have another (``sign_in``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from worker.core import rules
from worker.core.answers import answer
from worker.core.config import WorkerConfig
from worker.core.model import (
    Enrolment,
    Issued,
    Lost,
    PoolFault,
    Reply,
    Request,
    Trouble,
    TryAgain,
)
from worker.core.ports import Clock, Pacer, Provider
from worker.core.resilience.breaker import CircuitBreaker
from worker.core.resilience.call_attempts import until_decided
from worker.core.resilience.cancellation import CancellationScope
from worker.core.resilience.deliveries import Deliveries
from worker.core.resilience.refusals import Refusals
from worker.core.resilience.throttling import Throttling
from worker.core.resilience.writer import LedgerWriter
from worker.core.stats import RunStats
from worker.core.turn import Turn

Answer = TypeVar("Answer")
"""What one wire attempt of an operation brings."""


class Effect(Enum):
    """What a request may have done whose answer was lost."""

    ISSUES = auto()
    """A secret that nobody has may have been issued."""
    VERIFIES = auto()
    """The delivered secret may be verified."""
    NONE = auto()
    """Nothing that matters: it is simply made again."""


class TooLate:
    """The credential expires before another call could be made."""


class Overtaken:
    """The claim is lost: another worker has claimed the user."""


class ThrottledAlone:
    """The user is throttled while others get through; ``refusals`` knows what follows."""


Prevented = TooLate | Overtaken | ThrottledAlone
"""Why a request was not made, or is not made again now."""
CallResult = Reply | Prevented


class Claim:
    """The right to call for one user, and what was done with it."""

    __slots__ = (
        "again",
        "doubt",
        "effect",
        "expires",
        "late_effect_until",
        "leaves_to_message",
        "lost_verification",
        "number",
        "request",
        "row",
        "sent_at",
        "spent_calling",
        "troubles",
        "used_up",
        "wrong_codes",
    )

    def __init__(self, row: Enrolment, expires: float, request: Request | None = None, again: int = 0) -> None:
        self.row = row
        """The row that holds the claim."""
        self.expires = expires
        """Monotonic seconds, counted from before the claim was written."""
        self.request = request
        """The request that the row is worked on for, as it came; ``None`` where its message is not at hand."""
        self.leaves_to_message = False
        """Whether that message may still come, and do better than an outcome without it."""
        self.doubt = False
        """Whether one of our calls may have issued a secret that nobody has."""
        self.lost_verification = False
        """Whether one of our verifications may have succeeded although nobody saw its answer."""
        self.late_effect_until = 0.0
        """Monotonic seconds until which a request without an answer may still take effect."""
        self.sent_at = 0.0
        """When (UTC seconds) the last request was sent: a Session in its reply cannot be older than that."""
        self.number = 0
        """Its place in the order of all requests (``Refusals.sent``)."""
        self.effect = Effect.NONE
        """What that request may do."""
        self.spent_calling = 0.0
        """Seconds for which counted attempts waited for their replies."""
        self.troubles: set[Trouble] = set()
        """Why calls had to be made again."""
        self.wrong_codes = 0
        """How many codes of this secret were refused as wrong, whatever credential came with them."""
        self.used_up = -1
        """The latest time step whose code may not be sent again (``activation.TIME_STEP``)."""
        self.again = again
        """How often the user was signed in again, because a reply or a Session was lost."""


class Lane:
    """Where requests of one quota wait for their turn, one at a time. ``pacer``: ``None`` where they need not wait."""

    __slots__ = ("pacer", "throttling", "turn")

    def __init__(self, pacer: Pacer | None, refusals: Refusals) -> None:
        self.pacer = pacer
        self.throttling = Throttling(pacer, refusals)
        self.turn = Turn()
        """Held by the one user who waits for the pacer."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[Answer]):
    """One kind of request."""

    name: str
    """AWS's name for it; its signed variant (``Admin…``) has the same."""
    send: Callable[[Request], Awaitable[Answer]]
    """Makes exactly one wire attempt."""
    lane: Lane
    count: Callable[[], None] = lambda: None
    """Counts one that has the quota of enrolments (``RunStats``)."""
    effect: Effect = Effect.NONE
    awaits_channel: bool = False
    """Whether it waits while the channel takes no secrets: it brings one, or leads to one at once."""
    goes_first: bool = False
    """Whether it goes before what others only begin: it is for a user who was delivered, or ends a sign-in."""
    signs_in: bool = False
    """Whether it is a sign-in or belongs to one, whose success says nothing of the calls."""


class Caller:
    """Makes the calls, and every other request."""

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
        self._breaker = breaker
        self._refusals = refusals
        self.lane = Lane(pacer, refusals)
        """Where all wait whose requests count against the quota of enrolments."""
        self._deliveries = deliveries
        self._ledger = ledger
        self._clock = clock
        self._stats = stats
        self._config = config
        self._associate = Operation(
            "AssociateSoftwareToken", provider.associate, self.lane, stats.sent, Effect.ISSUES, awaits_channel=True
        )

    @property
    def call_timeout(self) -> float:
        """Seconds after which a call is given up; it may still take effect for as long again (``docs/design.md``)."""
        return self._config.retry.call_timeout

    async def call(self, request: Request, claim: Claim, scope: CancellationScope) -> CallResult:
        """What Cognito decides, ``TooLate``, ``Overtaken``, or the last ``TryAgain`` when the attempts are used up.

        Raises ``CancelledError`` where the task is stopped; if a request was on the wire then, the caller must call
        ``note_unanswered``.
        """
        return await self.decide(lambda: self.attempt(self._associate, request, claim, scope), request, claim, scope)

    async def decide(
        self,
        attempt: Callable[[], Awaitable[Answer | TryAgain]],
        request: Request,
        claim: Claim,
        scope: CancellationScope,
    ) -> Answer | TryAgain:
        """What ``attempt`` brings once it is anything but ``TryAgain``, or the last of these (see ``call``)."""
        claim.spent_calling = 0.0
        first = await attempt()
        if not isinstance(first, TryAgain):
            return first
        known = iter([first])  # setting up retries takes time, which most users do without; the first attempt counts

        async def again() -> Answer | TryAgain:
            return next(known, None) or await attempt()

        async def sleep(seconds: float) -> None:
            await self.pause(min(seconds, max(0.0, request.expires_at - self._clock.utc())), scope)

        return await until_decided(again, self._config.retry, spent_calling=lambda: claim.spent_calling, sleep=sleep)

    def blame(self, fault: PoolFault, request: Request, claim: Claim) -> None:
        """What had to be tried again stayed so: the last request's answer counts as this fault."""
        self._breaker.record_reply(request.username, fault, claim.number)

    async def pause(self, seconds: float, scope: CancellationScope) -> None:
        """Wait; raises ``CancelledError`` where the task is stopped. The next request renews the claim."""
        scope.allow_stop()
        await asyncio.sleep(seconds)
        scope.forbid_stop()

    async def hold(self, seconds: float, claim: Claim, scope: CancellationScope) -> bool:
        """The same, with the claim renewed where that takes long; ``False`` where it is lost. 0 or less: no pause."""
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > 0:
            if not await self._claim_outlasts_call(claim, scope):
                return False
            await self.pause(min(left, claim.expires - self._clock.monotonic() - self.call_timeout), scope)
        return True

    async def attempt(
        self, operation: Operation[Answer], request: Request, claim: Claim, scope: CancellationScope
    ) -> Answer | Prevented:
        """Send one request, where credential, claim, channel and circuit breaker still allow it when its turn comes."""
        lane = operation.lane
        while True:
            if rules.too_late(request, self._clock.utc()):
                return TooLate()
            scope.allow_stop(only_in_hurry=operation.goes_first)
            if operation.awaits_channel and not self._deliveries.admits(request.kind):
                await self._deliveries.wait(self._may_wait(request, claim))
                scope.forbid_stop()
                if not await self._claim_outlasts_call(claim, scope):
                    return Overtaken()
                continue
            async with self._breaker.permit(request.username) as permit:
                if lane.pacer is not None:
                    await lane.turn.take(goes_first=operation.goes_first)
                    try:
                        if permit.has_lapsed():  # else all who wait would use up a turn each, before the probe
                            continue
                        await lane.pacer.acquire()
                    finally:
                        lane.turn.give()
                scope.forbid_stop()
                if not await self._claim_outlasts_call(claim, scope):
                    return Overtaken()
                if permit.has_lapsed() or (operation.awaits_channel and not self._deliveries.admits(request.kind)):
                    continue  # the renewal of the claim may have taken long
                if rules.too_late(request, self._clock.utc()):
                    return TooLate()
                return await self._send(operation, request, claim, scope)

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

    async def _send(
        self, operation: Operation[Answer], request: Request, claim: Claim, scope: CancellationScope
    ) -> Answer | ThrottledAlone:
        sent_at, claim.sent_at, claim.effect = self._clock.monotonic(), self._clock.utc(), operation.effect
        scope.call_begins(signs_in=operation.signs_in)
        operation.count()
        number = claim.number = self._refusals.sent(request.username, signs_in=operation.signs_in)
        if operation.effect is Effect.ISSUES:
            self._deliveries.call_leaves(request.username, request.kind)
        issued = False
        try:
            reply = await operation.send(request)
            issued = isinstance(reply, Issued)
        finally:
            if operation.effect is Effect.ISSUES:
                self._deliveries.call_ends(request.username, issued=issued)
        scope.forbid_stop()
        self._stats.waiting_for = ""
        label = answer(reply)
        self._stats.answered(operation.name, label, self._clock.monotonic() - sent_at)
        scope.way.passed(operation.name, sent_at, label)
        told_as = "" if operation.effect is Effect.ISSUES else operation.name
        claim.row = rules.answered(claim.row, told_as, reply, self._clock.utc())
        self._breaker.record_reply(request.username, reply, number, signs_in=operation.signs_in)
        is_throttled_alone = operation.lane.throttling.record_reply(request.username, reply, number, sent_at)
        if isinstance(reply, TryAgain):
            self._stats.trouble(reply.trouble)
            if operation.effect is Effect.ISSUES:
                claim.troubles.add(reply.trouble)
            if reply.trouble is Trouble.NO_ANSWER:
                self.note_unanswered(claim)
            elif reply.ambiguous:
                self._note_doubt(claim)
            if reply.counts:
                claim.spent_calling += self._clock.monotonic() - sent_at
        return ThrottledAlone() if is_throttled_alone else reply

    def note_unanswered(self, claim: Claim) -> None:
        """Record that the last request got no answer: it may have taken effect, and may still."""
        self._note_doubt(claim)
        claim.late_effect_until = self._clock.monotonic() + self.call_timeout

    def _note_doubt(self, claim: Claim) -> None:
        claim.doubt |= claim.effect is Effect.ISSUES
        claim.lost_verification |= claim.effect is Effect.VERIFIES

    def late_effect_for(self, claim: Claim) -> float:
        """Seconds for which a request without an answer may still take effect; 0 or less where there is none."""
        return claim.late_effect_until - self._clock.monotonic()
