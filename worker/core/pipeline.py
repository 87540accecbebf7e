"""The way of one user through the pipeline, from a leased request to a durable outcome.

::

    claim ─ (sign in) ─ pace ─ associate ─ seal ─ record ─ deliver ─ (activate) ─ settle

The guarantee rests on the order of the writes: never sign in or call before the claim is written, never deliver before
the ledger holds the sealed record, never verify before it holds the delivery, never report an outcome before the ledger
holds it. ``rules`` decides what may follow from a row; this module does it. ``engine.loop`` runs it for many users at
once, and acknowledges their messages.

Where the request brings a ticket or a password that still lives, a reply, a Session or a window to verify that was lost
is no outcome: the user is signed in again, ``sign_in.MOST_AGAIN`` times at most.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress

from worker.core import rules
from worker.core.activation import DEAD, Activator, NotActivated
from worker.core.call import Caller, CallResult, Claim, Overtaken, ThrottledAlone, TooLate
from worker.core.config import WorkerConfig
from worker.core.errors import ChannelUnavailable, PersonMustAct, RecordRefused
from worker.core.model import (
    EXPIRED,
    SIGNS_IN,
    STATE_OF,
    AlreadyEnrolled,
    CredentialKind,
    Done,
    Duplicate,
    Enrolment,
    GiveBack,
    Issued,
    Lost,
    PoolFault,
    Postpone,
    Reason,
    Refused,
    Request,
    Sealed,
    State,
    Trouble,
    TryAgain,
    Verdict,
    Written,
)
from worker.core.ports import Channel, Clock, Sealer, SlowSealer
from worker.core.record import seal_record
from worker.core.record_size import RecordSize
from worker.core.resilience.backoff import Backoff, retry
from worker.core.resilience.cancellation import CancellationScope
from worker.core.resilience.claim_expiry import ClaimExpiry
from worker.core.resilience.deliveries import Deliveries
from worker.core.resilience.refusals import Concluded, Later, Refusals
from worker.core.resilience.writer import LedgerWriter
from worker.core.sign_in import MOST_AGAIN, SignIn, SignInResult
from worker.core.stats import RunStats

LOOK_AGAIN_AFTER = 2.0
"""Seconds until a user whom another worker has claimed is looked at again: seldom enough to cost little, often enough
that a claim which is given back early does not cost a Session much of its three minutes."""
OVERTAKEN_PAUSE = 1.0
"""Seconds until the message is visible again after another worker took the user over: that one is at work just now."""
DELIVERY_BACKOFF = Backoff(first=0.2, longest=10.0)
"""How a delivery that failed is tried again: soon at first, and at least every ten seconds, because a
Session lasts only minutes."""


class _WindowLost(Exception):  # noqa: N818 - it names what happened
    """The Session that would verify the secret expires too soon for a delivery to make sense."""


class _Stopped(Exception):  # noqa: N818
    """The run is told to stop while a delivery waits for its next try."""


class Pipeline:
    """Brings one user at a time to an outcome, and keeps nothing between users."""

    def __init__(
        self,
        *,
        ledger: LedgerWriter,
        channel: Channel,
        sealer: Sealer,
        record_size: RecordSize,
        caller: Caller,
        deliveries: Deliveries,
        claim_expiry: ClaimExpiry,
        refusals: Refusals,
        clock: Clock,
        stats: RunStats,
        config: WorkerConfig,
        sign_in: SignIn | None = None,
        activator: Activator | None = None,
    ) -> None:
        self._ledger = ledger
        self._channel = channel
        self._sealer = sealer
        self._slow_sealer = sealer if isinstance(sealer, SlowSealer) else None
        self._record_size = record_size
        self._caller = caller
        self._deliveries = deliveries
        self._claim_expiry = claim_expiry
        self._refusals = refusals
        self._clock = clock
        self._stats = stats
        self._config = config
        self._sign_in = sign_in
        self._activator = activator

    async def enrol(self, request: Request, scope: CancellationScope) -> Verdict:
        """Bring the user of ``request`` to an outcome, or say when to try again.

        Raises ``LedgerUnavailable`` or ``ChannelUnavailable`` when patience is over; a later run then finishes the row.
        """
        if isinstance(instead := self._after_refusals(request), Later):
            return Postpone(instead.seconds)
        verdict = await self._enrol(request, instead, scope)
        if self._sign_in is not None and isinstance(verdict, Done | Duplicate):
            self._sign_in.refused.forget(request)
        return verdict

    async def _enrol(self, request: Request, instead: Concluded | None, scope: CancellationScope) -> Verdict:
        row: Enrolment | None = None
        while True:
            started = self._clock.monotonic()
            step = self._next_step(request, row, instead)
            if isinstance(step, rules.Skip):
                return Duplicate()
            if isinstance(step, rules.Wait):
                return GiveBack(min(step.seconds, LOOK_AGAIN_AFTER))
            result = await self._ledger.put(step.row, row)
            scope.way.passed("claim", started, "lost" if isinstance(result, Lost) else "")
            if isinstance(result, Lost):
                row = result.row
                continue
            expires = started + self._config.lease
            match step:
                case rules.Call():
                    return await self._obtain(request, Claim(result.row, expires, request), scope)
                case rules.Conclude():  # perhaps the outcome of another request, which this one may better
                    is_own = request.id in result.row.settled
                    verdict: Verdict = self._done(result.row)
                case rules.Deliver() | rules.Activate():
                    is_own = result.row.request_id == request.id
                    verdict = await self._resume(Claim(result.row, expires, request if is_own else None), scope)
            if isinstance(verdict, GiveBack):
                return GiveBack(max(verdict.delay, LOOK_AGAIN_AFTER))
            if is_own or not isinstance(verdict, Done):
                return verdict
            row = await self._ledger.read(request.username)

    def _next_step(self, request: Request, row: Enrolment | None, instead: Concluded | None) -> rules.Step:
        """What to do for the request; ``instead``: the outcome of a user who is refused alone, in place of a call.

        Whose record the channel or the ledger would not take is not called for either.
        """
        step = rules.next_step(request, row, self._me(), self._claim_expiry.seconds_left)
        if isinstance(step, rules.Activate):
            return self._instead_of_activation(step, row, instead)
        if not isinstance(step, rules.Call):
            self._refuse_to_deliver_only(step)
            return step
        now = self._clock.utc()
        if instead is not None:
            state = STATE_OF[instead.reason]
            return rules.Conclude(rules.conclude(step.row, state, instead.reason, now, detail=instead.code or None))
        if self._record_size.is_too_large(request):
            return rules.Conclude(rules.conclude(step.row, State.FAILED, Reason.RECORD_TOO_LARGE, now))
        return step

    def _refuse_to_deliver_only(self, step: rules.Step) -> None:
        """A worker that does not activate delivers no secret which another one was to verify.

        The record holds no Session then, so nobody else could.
        """
        if isinstance(step, rules.Deliver) and self._activator is None and step.row.activation is not None:
            raise _cannot_activate()

    def _instead_of_activation(
        self, step: rules.Activate, row: Enrolment | None, instead: Concluded | None
    ) -> rules.Activate | rules.Conclude:
        """The same where the user was delivered.

        A worker that does not activate leaves nobody who is under way; whoever was given up is finished for it.
        """
        assert row is not None
        now = self._clock.utc()
        if self._activator is None:
            if row.is_unfinished:
                raise _cannot_activate()
            return rules.Conclude(rules.left_to_the_user(step.row, now))
        if instead is None:
            return step
        if instead.reason is Reason.SIGN_IN_REFUSED and step.row.before_reason is not None:
            return rules.Conclude(rules.not_activated(step.row, step.row.before_reason, now))
        return rules.Conclude(rules.given_up(step.row, now, detail=instead.code or None))

    async def duplicates(self, requests: Sequence[Request]) -> Sequence[bool]:
        """Which of these requests of one user change nothing, going by the user's row now.

        Raises ``LedgerUnavailable`` when patience is over.
        """
        row = await self._ledger.read(requests[0].username)
        now = self._me().now
        return [row is not None and rules.is_duplicate(request, row, now) for request in requests]

    def is_free(self, row: Enrolment) -> bool:
        """Whether the row may be claimed now."""
        return self.free_in(row) <= 0

    def free_in(self, row: Enrolment) -> float:
        """Seconds until the row may be claimed, unless its worker finishes it before."""
        return self._claim_expiry.seconds_left(row)

    def waits_for_message(self, row: Enrolment) -> bool:
        """Whether an unfinished row is better left to its message, while that may still come."""
        return rules.waits_for_message(row, self._config.min_validity, self._clock.utc())

    async def finish(self, row: Enrolment, scope: CancellationScope, *, may_come: bool = False) -> None:
        """Finish a row without its message: deliver its secret, activate it, or record that a sign-in is needed.

        ``may_come``: whether the message may still come. What only a new sign-in can decide is left to it then.
        """
        step = rules.without_request(row, self._me(), self._claim_expiry.seconds_left)
        if isinstance(step, rules.Wait):
            return
        self._refuse_to_deliver_only(step)
        if isinstance(step, rules.Activate):
            if self._activator is None:
                raise _cannot_activate()
            match self._refusals.next_step(row.username, math.inf):
                case Later(seconds):
                    with suppress(asyncio.CancelledError):
                        await self._caller.pause(seconds, scope)
                    scope.forbid_stop()
                    return
                case Concluded(_, code):
                    step = rules.Conclude(rules.given_up(step.row, self._clock.utc(), detail=code or None))
        started = self._clock.monotonic()
        result = await self._ledger.put(step.row, row)
        scope.way.passed("claim", started, "lost" if isinstance(result, Lost) else "")
        if isinstance(result, Lost):
            return
        if isinstance(step, rules.Conclude):
            self._done(result.row)
            return
        claim = Claim(result.row, started + self._config.lease)
        claim.leaves_to_message = may_come and row.kind in SIGNS_IN
        await self._resume(claim, scope)

    async def crashed(self, scope: CancellationScope) -> None:
        """A bug interrupted the work on this user: it counts like a worker's death, so that it ends some day."""
        if scope.claim is not None:
            late_effect_for = self._caller.call_timeout
            row = rules.released(
                scope.claim, self._clock.utc(), doubt=True, crashed=True, late_effect_for=late_effect_for
            )
            await self._ledger.put(row, scope.claim)

    # --- claimed: obtain a secret -------------------------------------------------------------------------------------

    async def _obtain(
        self, request: Request, claim: Claim, scope: CancellationScope, signed_in: Request | None = None
    ) -> Verdict:
        """Obtain a secret under a claim to call, and do the rest. ``signed_in``: what a sign-in brought already."""
        scope.claim = claim.row
        try:
            usable, result = await self._called(request, claim, scope, signed_in)
        except asyncio.CancelledError:
            return await self._stopped(claim, scope)
        match result:
            case Issued():
                try:
                    return await self._seal_and_deliver(usable, result, claim, scope)
                finally:
                    self._deliveries.ends(request.username)
            case AlreadyEnrolled():
                return await self._enrolled_already(request, claim)
            case Refused(state, reason, detail):
                return await self._conclude(claim, state, reason, detail)
            case TryAgain():
                if usable.kind is CredentialKind.SESSION and Trouble.NO_ANSWER in claim.troubles:
                    return await self._conclude(claim, State.NEEDS_SESSION, Reason.REPLY_LOST)
                return await self._conclude(claim, State.FAILED, Reason.RETRIES_EXHAUSTED)
            case TooLate():
                return await self._too_late(usable, claim)
            case Overtaken():
                return await self._overtaken(claim)
            case _:
                return await self._not_now(result, request.expires_at, claim)

    async def _called(
        self, request: Request, claim: Claim, scope: CancellationScope, signed_in: Request | None
    ) -> tuple[Request, CallResult | AlreadyEnrolled | Later]:
        """What the call for the request brings, or the sign-in before it, and with which credential.

        What a new sign-in can mend is no result while the request allows one.
        """
        if request.kind not in SIGNS_IN:
            return request, await self._caller.call(request, claim, scope)
        result: CallResult | AlreadyEnrolled | Later
        while True:
            found = signed_in or await self._signed_in(request, claim, scope, looks=not request.replace)
            signed_in = None
            if isinstance(found, Request):
                usable, result = found, await self._caller.call(found, claim, scope)
            else:
                usable, result = request, found
            if not _is_lost(usable, result, claim):
                return usable, result
            if not self._may_sign_in_again(claim):
                break
            if not await self._waits_to_sign_in_again(claim, scope):
                return usable, Overtaken()
        if isinstance(result, TooLate):
            if usable is request or rules.too_late(request, self._clock.utc()):
                return request, result
            await self._caller.pause(usable.expires_at - self._clock.utc(), scope)
        return usable, result

    def _may_sign_in_again(self, claim: Claim) -> bool:
        """Whether the message is at hand, holds a ticket or a password that lives, and that was not done too often."""
        request = claim.request
        if request is None or request.kind not in SIGNS_IN or claim.again >= MOST_AGAIN:
            return False
        return not rules.too_late(request, self._clock.utc())

    async def _waits_to_sign_in_again(self, claim: Claim, scope: CancellationScope) -> bool:
        """What was sent may still take effect for a call time-out. ``False`` where the claim is lost meanwhile."""
        claim.again += 1
        return await self._caller.hold(self._caller.call_timeout, claim, scope)

    async def _signed_in(
        self, request: Request, claim: Claim, scope: CancellationScope, *, looks: bool
    ) -> SignInResult:
        """The request with what a sign-in brings; or why there is nothing."""
        assert self._sign_in is not None, "requests that need a sign-in are malformed where there is none"
        return await self._sign_in.sign_in(request, claim, scope, looks=looks)

    async def _enrolled_already(self, request: Request, claim: Claim) -> Verdict:
        row = claim.row._replace(doubt=claim.row.doubt or claim.doubt)
        outcome = rules.enrolled_already(row, self._clock.utc(), replace=request.replace)
        result = await self._ledger.put(outcome, claim.row)
        if isinstance(result, Lost):
            return await self._overtaken(claim)
        if not request.replace:
            return self._done(result.row)
        self._forget(request.username)  # the user is as before, and the request is what ended
        self._stats.settled(State.NEEDS_SESSION, Reason.CHALLENGE_UNANSWERABLE)
        return Done(State.NEEDS_SESSION, Reason.CHALLENGE_UNANSWERABLE)

    # --- issued: until the secret is recorded, a cancellation would lose it -------------------------------------------

    async def _seal_and_deliver(
        self, request: Request, issued: Issued, claim: Claim, scope: CancellationScope
    ) -> Verdict:
        config, activator = self._config, self._activator
        generation, hands_over, started = claim.row.generation, activator is None, self._clock.monotonic()

        def seal() -> Sealed:
            sent_at, form = claim.sent_at, config.record
            return seal_record(request, issued, generation, sent_at, form, self._sealer, hands_over_session=hands_over)

        sealed = seal() if self._slow_sealer is None else await self._slow_sealer.aside(seal)
        activation = None
        if activator is not None:
            replaces = rules.may_have_a_factor(claim.row, request)
            activation = activator.prepared(request, issued, sealed.session_expires_at, replaces=replaces)
        row = rules.recorded(claim.row, sealed, self._clock.utc(), activation)
        scope.way.passed("seal", started)
        started = self._clock.monotonic()
        try:
            result = await self._ledger.put(row, claim.row)
        except RecordRefused as refused:
            row = rules.unrecordable(claim.row, refused.code, self._clock.utc())
            result = await self._ledger.put(row, claim.row)
            if isinstance(result, Written):
                return self._done(result.row)
        if isinstance(result, Lost):
            if result.row and result.row.sealed and result.row.sealed.attempt_id == sealed.attempt_id:
                # An earlier try to write it was not confirmed, and another worker went on from it.
                return GiveBack(LOOK_AGAIN_AFTER)
            claim.doubt = True
            return await self._overtaken(claim)
        scope.way.passed("record", started)
        claim.row, claim.doubt = result.row, False
        return await self._go_on(claim, scope)

    async def _resume(self, claim: Claim, scope: CancellationScope) -> Verdict:
        """Go on with a row that was read from the ledger, unless what is sealed in it was damaged there.

        The opener would be the first to notice it, when the user has a letter in their hands already.
        """
        sealed = claim.row.sealed
        if claim.row.state is State.SEALED and sealed is not None and not rules.is_whole(sealed):
            return await self._settle_or_sign_in_again(rules.damaged(claim.row, self._clock.utc()), claim, scope)
        return await self._go_on(claim, scope)

    async def _go_on(self, claim: Claim, scope: CancellationScope) -> Verdict:
        """Deliver the secret of the claimed row, if it is not delivered yet, and activate it."""
        if claim.row.state is State.SEALED:
            verdict = await self._deliver(claim, scope)
            if verdict is not None:
                return verdict
        return await self._activate(claim, scope)

    async def _deliver(self, claim: Claim, scope: CancellationScope) -> Verdict | None:
        """Deliver the row's secret and record that. ``None``: what is left to do is the activation.

        Raises ``ChannelUnavailable`` when patience is over, or when the channel refuses one user's record after the
        other.
        """
        row = claim.row
        sealed = row.sealed
        assert sealed is not None

        async def deliver() -> None:
            scope.forbid_stop()
            if rules.too_late_to_verify(row, self._config.min_validity, self._clock.utc()):
                raise _WindowLost
            self._deliveries.begins(row.username)
            await self._channel.deliver(row.username, sealed)
            self._deliveries.delivered(row.username)

        def waits_for_channel(error: BaseException) -> None:
            self._stats.waiting_for = f"the channel: {error}"
            claim.row = rules.not_delivered(claim.row, self._clock.utc())
            self._deliveries.failed(row.username, error)

        async def pause(seconds: float) -> None:
            try:
                scope.allow_stop()
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                raise _Stopped from None

        started, answer = self._clock.monotonic(), "not_delivered"
        try:
            await retry(
                deliver,
                on=ChannelUnavailable,
                backoff=DELIVERY_BACKOFF,
                patience=self._config.channel_patience,
                stop_for_person=False,
                monotonic=self._clock.monotonic,
                before_pause=waits_for_channel,
                sleep=pause,
            )
            answer = "delivered"
        except RecordRefused as refused:
            answer = "refused"
            self._stats.waiting_for = ""
            self._deliveries.refused(row.username, refused.code)
            return await self._settle(rules.refused_delivery(claim.row, refused.code, self._clock.utc()), claim)
        except _WindowLost:
            self._stats.waiting_for = ""
            return await self._settle_or_sign_in_again(rules.voided(claim.row, self._clock.utc()), claim, scope)
        except _Stopped:
            self._stats.waiting_for = ""
            return await self._stopped(claim, scope)
        finally:
            self._deliveries.ends(row.username)
            scope.way.passed("deliver", started, answer)
        self._stats.waiting_for = ""
        started = self._clock.monotonic()
        verdict = await self._delivered(claim)
        scope.way.passed("settle", started)
        return verdict

    async def _delivered(self, claim: Claim) -> Verdict | None:
        row, keeps, activates = claim.row, self._config.keep_sealed, self._activator is not None
        outcome = rules.delivered(row, self._clock.utc(), keep_sealed=keeps, activates=activates)
        if not outcome.is_unfinished:
            return await self._settle(outcome, claim)
        result = await self._ledger.put(outcome, row)
        if isinstance(result, Lost):
            return _as_another_left_it(result.row)
        claim.row = result.row
        return None

    async def _settle(self, outcome: Enrolment, claim: Claim) -> Verdict:
        result = await self._ledger.put(outcome, claim.row)
        return self._done(result.row) if isinstance(result, Written) else _as_another_left_it(result.row)

    async def _settle_or_sign_in_again(self, outcome: Enrolment, claim: Claim, scope: CancellationScope) -> Verdict:
        """The outcome, unless a new sign-in may get the user another secret, or the message may still come that can."""
        if claim.leaves_to_message:
            return await self._release(claim)
        if not self._may_sign_in_again(claim):
            return await self._settle(outcome, claim)
        self._deliveries.ends(claim.row.username)
        try:
            if not await self._waits_to_sign_in_again(claim, scope):
                return GiveBack(OVERTAKEN_PAUSE)
        except asyncio.CancelledError:
            return await self._stopped(claim, scope)
        return await self._obtain_instead(outcome, claim, scope)

    async def _obtain_instead(
        self, outcome: Enrolment, claim: Claim, scope: CancellationScope, signed_in: Request | None = None
    ) -> Verdict:
        """Obtain another secret in place of the outcome, which stands if that is no longer possible."""
        request, started = claim.request, self._clock.monotonic()
        assert request is not None
        step = rules.call_instead(outcome, claim.row, request, self._me())
        if not isinstance(step, rules.Call):
            return await self._settle(outcome, claim)
        result = await self._ledger.put(step.row, claim.row)
        if isinstance(result, Lost):
            return _as_another_left_it(result.row)
        claim = Claim(result.row, started + self._config.lease, request, claim.again)
        return await self._obtain(request, claim, scope, signed_in)

    # --- delivered: activate ------------------------------------------------------------------------------------------

    async def _activate(self, claim: Claim, scope: CancellationScope) -> Verdict:
        scope.claim, started = claim.row, self._clock.monotonic()
        try:
            return await self._activated(claim, scope)
        except asyncio.CancelledError:
            return await self._stopped(claim, scope)
        finally:
            scope.way.passed("activate", started)

    async def _activated(self, claim: Claim, scope: CancellationScope) -> Verdict:
        assert self._activator is not None
        usable = await self._other_token(claim, scope)
        while usable is None or isinstance(usable, Request):
            match await self._activator.activate(claim, usable, scope):
                case Overtaken():
                    return GiveBack(OVERTAKEN_PAUSE)
                case PoolFault() | ThrottledAlone() as prevented:
                    held = claim.row.activation
                    assert held is not None
                    return await self._not_now(prevented, held.expires_at, claim)
                case NotActivated(outcome, is_lost):
                    if not is_lost:
                        return await self._settle(outcome, claim)
                    if not _is_with_token(claim.row) or not self._may_sign_in_again(claim):
                        return await self._settle_or_sign_in_again(outcome, claim, scope)
                    if not await self._waits_to_sign_in_again(claim, scope):
                        return GiveBack(OVERTAKEN_PAUSE)
                    usable = await self._signed_in_to_activate(outcome, claim, scope)
                case outcome:
                    return await self._settle(outcome, claim)
        return usable

    async def _other_token(self, claim: Claim, scope: CancellationScope) -> Request | Verdict | None:
        """The request with another token than the row holds, if it brings one; or what followed instead.

        With a ticket or a password, whoever was not activated before is signed in first: they may have TOTP by now.
        """
        request, row = claim.request, claim.row
        if request is None or not _is_with_token(row):
            return None
        if request.kind is CredentialKind.ACCESS_TOKEN:
            return None if rules.too_late(request, self._clock.utc()) else request
        if request.kind in SIGNS_IN and row.before_reason is not None:
            as_before = rules.not_activated(row, row.before_reason, self._clock.utc())
            return await self._signed_in_to_activate(as_before, claim, scope)
        return None

    async def _signed_in_to_activate(
        self, otherwise: Enrolment, claim: Claim, scope: CancellationScope
    ) -> Request | Verdict:
        """The request with a new token, to go on with the secret that was delivered; or what followed instead.

        ``otherwise``: the outcome where the sign-in brings nothing. Where an earlier secret may be the user's active
        TOTP factor, nothing is to be seen by looking; and once this one is verified, only the preference is left.
        """
        request, held = claim.request, claim.row.activation
        assert request is not None
        assert held is not None
        match await self._signed_in(request, claim, scope, looks=not (held.verified or held.replaces)):
            case Request(kind=CredentialKind.ACCESS_TOKEN) as usable:
                return usable
            case Request() as usable:  # MFA has to be set up by a Session, so that the delivered secret is dead
                return await self._obtain_instead(otherwise, claim, scope, usable)
            case AlreadyEnrolled() if held.verified or not held.replaces:
                return await self._settle(rules.active(claim.row, self._clock.utc()), claim)
            case Overtaken():
                return GiveBack(OVERTAKEN_PAUSE)
            case (Later() | PoolFault() | ThrottledAlone()) as prevented:
                return await self._not_now(prevented, request.expires_at, claim)
            case _:
                return await self._settle(otherwise, claim)

    # --- no outcome, or none with a secret ----------------------------------------------------------------------------

    def _after_refusals(self, request: Request) -> Concluded | Later | None:
        """What follows from earlier refusals of this user or sign-in, if there were any, in place of a call."""
        if self._sign_in is not None and (instead := self._sign_in.refused.next_step(request)) is not None:
            return instead
        return self._refusals.next_step(request.username, request.expires_at - self._clock.utc())

    async def _not_now(self, prevented: Later | PoolFault | ThrottledAlone, expires_at: float, claim: Claim) -> Verdict:
        """What follows where the user alone may be refused for now; ``expires_at``: when the credential expires."""
        if isinstance(prevented, Later):
            return await self._postponed(claim, prevented.seconds)
        match self._refusals.next_step(claim.row.username, expires_at - self._clock.utc()):
            case Concluded(reason, code):
                if claim.row.state is State.IN_PROGRESS:
                    return await self._conclude(claim, State.FAILED, reason, code)
                doubt, late = claim.lost_verification, self._caller.late_effect_for(claim)
                now, detail = self._clock.utc(), code or None
                return await self._settle(
                    rules.given_up(claim.row, now, doubt=doubt, late_effect_for=late, detail=detail), claim
                )
            case Later(seconds):
                return await self._postponed(claim, seconds)
            case None:
                return await self._release(claim)

    async def _postponed(self, claim: Claim, seconds: float) -> Verdict:
        verdict = await self._release(claim)
        return Postpone(seconds) if verdict == GiveBack() else verdict

    async def _stopped(self, claim: Claim, scope: CancellationScope) -> Verdict:
        """The task is told to stop: the user is given back as they are."""
        if scope.was_calling:
            self._caller.note_unanswered(claim)
        scope.forbid_stop()
        return await self._release(claim)

    async def _conclude(self, claim: Claim, state: State, reason: Reason, code: str | None = None) -> Verdict:
        row = claim.row._replace(doubt=claim.row.doubt or claim.doubt)
        late_effect_for = self._caller.late_effect_for(claim)
        row = rules.conclude(row, state, reason, self._clock.utc(), late_effect_for=late_effect_for, detail=code)
        result = await self._ledger.put(row, claim.row)
        if isinstance(result, Lost):
            return await self._overtaken(claim)
        return self._done(result.row)

    async def _too_late(self, request: Request, claim: Claim) -> Verdict:
        """Not worth a call any more. The outcome has to wait until the credential has surely expired."""
        if (left := request.expires_at - self._clock.utc()) <= 0:
            return await self._conclude(claim, State.NEEDS_SESSION, EXPIRED[request.kind])
        return await self._release(claim, delay=min(left, rules.DEADLINE_MARGIN))

    async def _release(self, claim: Claim, *, delay: float = 0.0) -> Verdict:
        late_effect_for = self._caller.late_effect_for(claim)
        doubt = claim.doubt if claim.row.state is State.IN_PROGRESS else claim.lost_verification
        row = rules.released(claim.row, self._clock.utc(), doubt=doubt, late_effect_for=late_effect_for)
        if isinstance(await self._ledger.put(row, claim.row), Lost):
            return await self._overtaken(claim)
        return GiveBack(delay)

    async def _overtaken(self, claim: Claim) -> Verdict:
        """Another worker took over. If a call of ours may have issued a secret, nobody knows which one is valid."""
        if not claim.doubt:
            return GiveBack(OVERTAKEN_PAUSE)
        while (row := await self._ledger.read(claim.row.username)) is not None:
            late_effect_for = self._config.lease + self._caller.call_timeout
            doubted = rules.in_doubt(row, claim.row.request_id, self._clock.utc(), late_effect_for=late_effect_for)
            if isinstance(await self._ledger.put(doubted, row), Written):
                break
        self._stats.settled(State.NEEDS_SESSION, Reason.REPLY_LOST)
        return Done(State.NEEDS_SESSION, Reason.REPLY_LOST)

    def _forget(self, username: str) -> None:
        """The user has an outcome."""
        self._refusals.forget(username)
        if self._sign_in is not None:
            self._sign_in.refused.not_locked(username)

    def _done(self, row: Enrolment) -> Done:
        self._forget(row.username)
        self._stats.settled(row.state, row.reason)
        return Done(row.state, row.reason)

    def _me(self) -> rules.Claimant:
        return rules.Claimant(self._config.worker, self._clock.utc(), self._config.lease)


def _is_lost(usable: Request, result: CallResult | AlreadyEnrolled | Later, claim: Claim) -> bool:
    """Whether a reply or a Session was lost, so that a new sign-in can mend it."""
    match result:
        case Refused(_, reason):
            return reason in DEAD
        case TryAgain():
            return usable.kind is CredentialKind.SESSION and Trouble.NO_ANSWER in claim.troubles
        case _:
            return isinstance(result, TooLate)


def _is_with_token(row: Enrolment) -> bool:
    """Whether the delivered secret is verified with a token, and any token of the user's will do."""
    return row.activation is not None and row.activation.kind is CredentialKind.ACCESS_TOKEN


def _as_another_left_it(row: Enrolment | None) -> Verdict:
    """What became of a request whose sealed or delivered row another worker took over."""
    assert row is not None, "a user's row is never deleted"
    return GiveBack(LOOK_AGAIN_AFTER) if row.is_unfinished else Done(row.state, row.reason)


def _cannot_activate() -> PersonMustAct:
    return PersonMustAct(
        "the activation of users is under way, and this worker does not activate",
        "run with the activation.mode and the identity with which it was begun",
    )
