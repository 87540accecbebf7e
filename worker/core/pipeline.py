"""The way of one user, from a leased request to a durable outcome.

::

    claim ─ pace ─ associate ─ seal ─ record ─ deliver ─ settle

The order of the writes is the whole guarantee: never call before the claim is written, never deliver before the ledger
holds the sealed record, never say done before the ledger says so. What may follow from a row is decided in ``rules``;
here it is done. ``drain`` runs many of these at once and acknowledges.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from worker.core import rules
from worker.core.call import Caller, Claim, Overtaken, TooLate
from worker.core.errors import ChannelUnavailable
from worker.core.model import (
    EXPIRED,
    Again,
    Answer,
    CredentialKind,
    Done,
    Duplicate,
    Enrolment,
    GiveBack,
    Issued,
    PoolFault,
    Reason,
    Refused,
    Request,
    State,
    Trouble,
    Verdict,
)
from worker.core.ports import Channel, Clock, Sealer
from worker.core.record import RecordFormat, seal_record
from worker.core.resilience.cancellation import CancellationScope
from worker.core.resilience.claim_expiry import ClaimExpiry
from worker.core.resilience.writer import LedgerWriter
from worker.core.stats import RunStats

LOOK_AGAIN = 2.0
"""Seconds after which a user whom somebody else holds is looked at again."""
OVERTAKEN_PAUSE = 1.0
FIRST_DELIVERY_PAUSE, LONGEST_DELIVERY_PAUSE = 0.2, 10.0


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """What the run promises itself; durations in seconds."""

    worker: str
    """This worker's identity, new at every start."""
    lease: float = 60.0
    """How long a claim holds."""
    min_validity: float = 30.0
    """What a Session must still live for its secret to be worth delivering."""
    channel_patience: float = 300.0


class Pipeline:
    """Brings one user at a time to an outcome; keeps nothing between users."""

    def __init__(
        self,
        *,
        ledger: LedgerWriter,
        channel: Channel,
        sealer: Sealer,
        caller: Caller,
        claim_expiry: ClaimExpiry,
        clock: Clock,
        stats: RunStats,
        terms: PipelineConfig,
        record_format: RecordFormat,
    ) -> None:
        self._ledger = ledger
        self._channel = channel
        self._sealer = sealer
        self._caller = caller
        self._claim_expiry = claim_expiry
        self._clock = clock
        self._stats = stats
        self._terms = terms
        self._format = record_format

    async def enrol(self, request: Request, scope: CancellationScope) -> Verdict:
        """Bring the user of ``request`` to an outcome, or say when to try again.

        Raises ``LedgerUnavailable`` or ``ChannelUnavailable`` when patience is over; the row then waits for a later
        run to finish it.
        """
        row: Enrolment | None = None
        while True:
            step = rules.next_step(request, row, self._me(), self._claim_expiry.left)
            if isinstance(step, rules.Skip):
                return Duplicate()
            if isinstance(step, rules.Wait):
                return GiveBack(min(step.seconds, LOOK_AGAIN))
            started = self._clock.monotonic()
            put = await self._ledger.put(step.row, row)
            if put.answer is Answer.LOST:
                row = put.row
                continue
            assert put.row is not None
            match step:
                case rules.Call():
                    return await self._obtain(request, Claim(put.row, started + self._terms.lease), scope)
                case rules.Conclude():
                    return self._done(put.row)
                case rules.Deliver():
                    row = await self._deliver(put.row, scope)
                    if row.state is State.SEALED:
                        return GiveBack(LOOK_AGAIN)
                    if put.row.request_id == request.id:
                        return Done(row.state, row.reason)

    def is_free(self, row: Enrolment) -> bool:
        """Whether nobody's hold on the row must be respected any more."""
        return self._claim_expiry.left(row) <= 0

    async def finish(self, row: Enrolment, scope: CancellationScope) -> None:
        """Finish a row that no message will finish: deliver what it holds, or say that the user must sign in again."""
        step = rules.without_request(row, self._me(), self._claim_expiry.left)
        if isinstance(step, rules.Wait):
            return
        put = await self._ledger.put(step.row, row)
        if put.answer is Answer.LOST or put.row is None:
            return
        if isinstance(step, rules.Deliver):
            await self._deliver(put.row, scope)
        else:
            self._done(put.row)

    async def crashed(self, scope: CancellationScope) -> None:
        """A bug broke the way of this user: counted like a worker that died over it, so that it cannot go on."""
        if scope.claim is not None:
            acting = self._caller.call_timeout
            row = rules.released(scope.claim, self._clock.utc(), doubt=True, crashed=True, acting=acting)
            await self._ledger.put(row, scope.claim)

    # --- claimed: obtain a secret -------------------------------------------------------------------------------------

    async def _obtain(self, request: Request, claim: Claim, scope: CancellationScope) -> Verdict:
        scope.claim = claim.row
        try:
            answered = await self._caller.ask(request, claim, scope)
        except asyncio.CancelledError:
            if scope.was_calling:
                self._caller.was_cut_off(claim)
            scope.must_finish()
            return await self._release(claim)
        match answered:
            case Issued():
                return await self._secure(request, answered, claim, scope)
            case Refused(state, reason):
                return await self._conclude(claim, state, reason)
            case TooLate():
                return await self._conclude(claim, State.NEEDS_SESSION, EXPIRED[request.kind])
            case Overtaken():
                return await self._overtaken(claim)
            case PoolFault():
                return await self._release(claim)
            case Again():
                if request.kind is CredentialKind.SESSION and Trouble.NO_ANSWER in claim.troubles:
                    return await self._conclude(claim, State.NEEDS_SESSION, Reason.REPLY_LOST)
                return await self._conclude(claim, State.FAILED, Reason.RETRIES_EXHAUSTED)

    # --- issued: nothing may be lost from here on ---------------------------------------------------------------------

    async def _secure(self, request: Request, issued: Issued, claim: Claim, scope: CancellationScope) -> Verdict:
        sealed = seal_record(request, issued, claim.row.generation, claim.sent_at, self._format, self._sealer)
        put = await self._ledger.put(rules.recorded(claim.row, sealed, self._clock.utc()), claim.row)
        if put.answer is Answer.LOST or put.row is None:
            if put.row is not None and put.row.sealed is not None and put.row.sealed.attempt_id == sealed.attempt_id:
                return GiveBack(LOOK_AGAIN)  # an earlier try was not confirmed, and somebody went on from there
            claim.doubt = True
            return await self._overtaken(claim)
        row = await self._deliver(put.row, scope)
        if row.state is State.SEALED:
            return GiveBack()
        return Done(row.state, row.reason)

    async def _deliver(self, row: Enrolment, scope: CancellationScope) -> Enrolment:
        """Deliver what the row holds, and settle it. Gives the row that stands then: sealed, if we were stopped."""
        assert row.sealed is not None
        tried_since = self._clock.monotonic()
        pause = FIRST_DELIVERY_PAUSE
        while not rules.window_lost(row, self._terms.min_validity, self._clock.utc()):
            scope.must_finish()
            try:
                await self._channel.deliver(row.username, row.sealed)
            except ChannelUnavailable as unavailable:
                if self._clock.monotonic() - tried_since >= self._terms.channel_patience:
                    raise
                self._stats.waiting_for = f"the channel: {unavailable}"
            else:
                self._stats.waiting_for = ""
                return await self._settle(rules.delivered(row, self._clock.utc()), row)
            try:
                scope.may_stop()
                await asyncio.sleep(pause)
            except asyncio.CancelledError:
                scope.must_finish()
                put = await self._ledger.put(rules.released(row, self._clock.utc(), doubt=False), row)
                return put.row or row
            pause = min(pause * 2, LONGEST_DELIVERY_PAUSE)
        scope.must_finish()
        return await self._settle(rules.void(row, self._clock.utc()), row)

    async def _settle(self, outcome: Enrolment, row: Enrolment) -> Enrolment:
        put = await self._ledger.put(outcome, row)
        assert put.row is not None, "a user's row is never deleted"
        if put.answer is not Answer.LOST:
            self._done(put.row)
        return put.row

    # --- no secret ----------------------------------------------------------------------------------------------------

    async def _conclude(self, claim: Claim, state: State, reason: Reason) -> Verdict:
        row = claim.row._replace(doubt=claim.row.doubt or claim.doubt)
        row = rules.conclude(row, state, reason, self._clock.utc(), acting=self._caller.acting(claim))
        put = await self._ledger.put(row, claim.row)
        if put.answer is Answer.LOST or put.row is None:
            return await self._overtaken(claim)
        return self._done(put.row)

    async def _release(self, claim: Claim) -> Verdict:
        row = rules.released(claim.row, self._clock.utc(), doubt=claim.doubt, acting=self._caller.acting(claim))
        put = await self._ledger.put(row, claim.row)
        if put.answer is Answer.LOST:
            return await self._overtaken(claim)
        return GiveBack()

    async def _overtaken(self, claim: Claim) -> Verdict:
        """Another worker took the user. If a call of ours may have issued a secret, nobody knows which is valid."""
        if not claim.doubt:
            return GiveBack(OVERTAKEN_PAUSE)
        while (row := await self._ledger.read(claim.row.username)) is not None:
            acting = self._terms.lease + self._caller.call_timeout
            doubted = rules.in_doubt(row, claim.row.request_id, self._clock.utc(), acting=acting)
            put = await self._ledger.put(doubted, row)
            if put.answer is not Answer.LOST:
                break
        self._stats.settled(State.NEEDS_SESSION, Reason.REPLY_LOST)
        return Done(State.NEEDS_SESSION, Reason.REPLY_LOST)

    def _done(self, row: Enrolment) -> Done:
        self._stats.settled(row.state, row.reason)
        return Done(row.state, row.reason)

    def _me(self) -> rules.Holder:
        return rules.Holder(self._terms.worker, self._clock.utc(), self._terms.lease)
