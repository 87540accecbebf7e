"""The way of one user through the pipeline, from a leased request to a durable outcome.

::

    claim ─ pace ─ associate ─ seal ─ record ─ deliver ─ settle

The guarantee rests on the order of the writes: never call before the claim is written, never deliver before the ledger
holds the sealed record, never report an outcome before the ledger holds it. ``rules`` decides what may follow from a
row; this module does it. ``engine.loop`` runs it for many users at once, and acknowledges their messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from worker.core import rules
from worker.core.call import Caller, Claim, Overtaken, ThrottledAlone, TooLate
from worker.core.config import WorkerConfig
from worker.core.errors import ChannelUnavailable, RecordRefused
from worker.core.model import (
    EXPIRED,
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
    State,
    Trouble,
    TryAgain,
    Verdict,
    Written,
)
from worker.core.ports import Channel, Clock, Sealer
from worker.core.record import seal_record
from worker.core.record_size import RecordSize
from worker.core.resilience.backoff import Backoff, retry
from worker.core.resilience.cancellation import CancellationScope
from worker.core.resilience.claim_expiry import ClaimExpiry
from worker.core.resilience.deliveries import Deliveries
from worker.core.resilience.refusals import Concluded, Later, Refusals
from worker.core.resilience.writer import LedgerWriter
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
    ) -> None:
        self._ledger = ledger
        self._channel = channel
        self._sealer = sealer
        self._record_size = record_size
        self._caller = caller
        self._deliveries = deliveries
        self._claim_expiry = claim_expiry
        self._refusals = refusals
        self._clock = clock
        self._stats = stats
        self._config = config

    async def enrol(self, request: Request, scope: CancellationScope) -> Verdict:
        """Bring the user of ``request`` to an outcome, or say when to try again.

        Raises ``LedgerUnavailable`` or ``ChannelUnavailable`` when patience is over; a later run then finishes the row.
        """
        if isinstance(instead := self._after_refusals(request), Later):
            return Postpone(instead.seconds)
        return await self._enrol(request, instead, scope)

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
            if isinstance(result, Lost):
                row = result.row
                continue
            match step:
                case rules.Call():
                    return await self._call(request, Claim(result.row, started + self._config.lease), scope)
                case rules.Conclude():
                    return self._done(result.row)
                case rules.Deliver():
                    row = await self._deliver(result.row, scope)
                    if row.state is State.SEALED:
                        return GiveBack(LOOK_AGAIN_AFTER)
                    if result.row.request_id == request.id:
                        return Done(row.state, row.reason)

    def _next_step(self, request: Request, row: Enrolment | None, instead: Concluded | None) -> rules.Step:
        """What to do for the request; ``instead``: the outcome of a user who is refused alone, in place of a call.

        Whose record the channel or the ledger would not take is not called for either.
        """
        step = rules.next_step(request, row, self._me(), self._claim_expiry.seconds_left)
        if not isinstance(step, rules.Call):
            return step
        now = self._clock.utc()
        if instead is not None:
            return rules.Conclude(rules.conclude(step.row, State.FAILED, instead.reason, now, detail=instead.code))
        if self._record_size.is_too_large(request):
            return rules.Conclude(rules.conclude(step.row, State.FAILED, Reason.RECORD_TOO_LARGE, now))
        return step

    async def duplicates(self, requests: Sequence[Request]) -> Sequence[bool]:
        """Which of these requests of one user change nothing, going by the user's row now.

        Raises ``LedgerUnavailable`` when patience is over.
        """
        row = await self._ledger.read(requests[0].username)
        now = self._me().now
        return [row is not None and rules.is_duplicate(request, row, now) for request in requests]

    def is_free(self, row: Enrolment) -> bool:
        """Whether the row may be claimed now."""
        return self._claim_expiry.seconds_left(row) <= 0

    async def finish(self, row: Enrolment, scope: CancellationScope) -> None:
        """Finish a row that no waiting message will finish: deliver its secret, or record that a sign-in is needed."""
        step = rules.without_request(row, self._me(), self._claim_expiry.seconds_left)
        if isinstance(step, rules.Wait):
            return
        result = await self._ledger.put(step.row, row)
        if isinstance(result, Lost):
            return
        if isinstance(step, rules.Deliver):
            await self._deliver(result.row, scope)
        else:
            self._done(result.row)

    async def crashed(self, scope: CancellationScope) -> None:
        """A bug interrupted the work on this user: it counts like a worker's death, so that it ends some day."""
        if scope.claim is not None:
            late_effect_for = self._caller.call_timeout
            row = rules.released(
                scope.claim, self._clock.utc(), doubt=True, crashed=True, late_effect_for=late_effect_for
            )
            await self._ledger.put(row, scope.claim)

    # --- claimed: obtain a secret -------------------------------------------------------------------------------------

    async def _call(self, request: Request, claim: Claim, scope: CancellationScope) -> Verdict:
        scope.claim = claim.row
        try:
            result = await self._caller.call(request, claim, scope)
        except asyncio.CancelledError:
            if scope.was_calling:
                self._caller.note_unanswered(claim)
            scope.forbid_stop()
            return await self._release(claim)
        match result:
            case Issued():
                try:
                    return await self._seal_and_deliver(request, result, claim, scope)
                finally:
                    self._deliveries.ends(request.username)
            case Refused(state, reason):
                return await self._conclude(claim, state, reason)
            case TooLate():
                return await self._too_late(request, claim)
            case Overtaken():
                return await self._overtaken(claim)
            case PoolFault() | ThrottledAlone():
                return await self._refused(request, claim)
            case TryAgain():
                if request.kind is CredentialKind.SESSION and Trouble.NO_ANSWER in claim.troubles:
                    return await self._conclude(claim, State.NEEDS_SESSION, Reason.REPLY_LOST)
                return await self._conclude(claim, State.FAILED, Reason.RETRIES_EXHAUSTED)

    # --- issued: until the secret is recorded, a cancellation would lose it -------------------------------------------

    async def _seal_and_deliver(
        self, request: Request, issued: Issued, claim: Claim, scope: CancellationScope
    ) -> Verdict:
        sealed = seal_record(request, issued, claim.row.generation, claim.sent_at, self._config.record, self._sealer)
        try:
            result = await self._ledger.put(rules.recorded(claim.row, sealed, self._clock.utc()), claim.row)
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
        row = await self._deliver(result.row, scope)
        if row.state is State.SEALED:
            return GiveBack()
        return Done(row.state, row.reason)

    async def _deliver(self, row: Enrolment, scope: CancellationScope) -> Enrolment:
        """Deliver the row's secret and record the outcome. Returns the row then: still sealed, if told to stop.

        Raises ``ChannelUnavailable`` when patience is over, or when the channel refuses one user's record after the
        other.
        """
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
            self._deliveries.failed(row.username, error)

        async def pause(seconds: float) -> None:
            try:
                scope.allow_stop()
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                raise _Stopped from None

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
        except RecordRefused as refused:
            self._stats.waiting_for = ""
            self._deliveries.refused(row.username, refused.code)
            return await self._settle(rules.refused_delivery(row, refused.code, self._clock.utc()), row)
        except _WindowLost:
            self._stats.waiting_for = ""
            return await self._settle(rules.voided(row, self._clock.utc()), row)
        except _Stopped:
            self._stats.waiting_for = ""
            scope.forbid_stop()
            result = await self._ledger.put(rules.released(row, self._clock.utc(), doubt=False), row)
            return result.row or row
        finally:
            self._deliveries.ends(row.username)
        self._stats.waiting_for = ""
        outcome = rules.delivered(row, self._clock.utc(), keep_sealed=self._config.keep_sealed)
        return await self._settle(outcome, row)

    async def _settle(self, outcome: Enrolment, row: Enrolment) -> Enrolment:
        result = await self._ledger.put(outcome, row)
        if isinstance(result, Written):
            self._done(result.row)
        assert result.row is not None, "a user's row is never deleted"
        return result.row

    # --- no secret ----------------------------------------------------------------------------------------------------

    def _after_refusals(self, request: Request) -> Concluded | Later | None:
        """What follows from earlier refusals of this user, if there were any, in place of a call."""
        return self._refusals.next_step(request.username, request.expires_at - self._clock.utc())

    async def _refused(self, request: Request, claim: Claim) -> Verdict:
        match self._after_refusals(request):
            case Concluded(reason, code):
                return await self._conclude(claim, State.FAILED, reason, code)
            case Later(seconds):
                verdict = await self._release(claim)
                return Postpone(seconds) if verdict == GiveBack() else verdict
            case None:
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
        return await self._release(claim, delay=left)

    async def _release(self, claim: Claim, *, delay: float = 0.0) -> Verdict:
        late_effect_for = self._caller.late_effect_for(claim)
        row = rules.released(claim.row, self._clock.utc(), doubt=claim.doubt, late_effect_for=late_effect_for)
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

    def _done(self, row: Enrolment) -> Done:
        self._refusals.forget(row.username)
        self._stats.settled(row.state, row.reason)
        return Done(row.state, row.reason)

    def _me(self) -> rules.Claimant:
        return rules.Claimant(self._config.worker, self._clock.utc(), self._config.lease)
