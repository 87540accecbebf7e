"""Workers that break one rule each, for ``test_the_simulation_bites``.

Every mutant is the real worker with one line of thought left out: a subclass of one part, or one rule patched for the
time of a test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.simulation.history import Violation
from tests.simulation.ports import SimulatedLedger
from tests.simulation.process import Process
from tests.simulation.scenario import Scenario
from tests.simulation.stores import QueueStore
from tests.simulation.story import check
from tests.simulation.world import World
from worker.core import clock, history, older, rules, settled
from worker.core.call import Caller, Claim
from worker.core.model import (
    EXPIRED,
    CredentialKind,
    Enrolment,
    Event,
    GiveBack,
    Issued,
    Lost,
    Reason,
    Request,
    State,
    TryAgain,
    Verdict,
    WriteResult,
    Written,
)
from worker.core.older import Shown
from worker.core.outlook import UNJUDGED, Outlook
from worker.core.pipeline import Pipeline
from worker.core.ports import Lease
from worker.core.record import RecordFormat, seal_record
from worker.core.resilience import call_attempts
from worker.core.resilience.cancellation import CancellationScope
from worker.core.resilience.claim_expiry import ClaimExpiry
from worker.core.resilience.deliveries import Deliveries
from worker.core.resilience.refusals import Concluded, Later, Refusals
from worker.core.resilience.writer import LedgerWriter
from worker.core.rules import Claimant, Step
from worker.core.settled import NOTHING_SETTLED, Settled
from worker.engine import assembly, loop
from worker.engine.endpoint_time import EndpointTime
from worker.engine.expired import ExpiredRequests
from worker.engine.lead_time import LeadTime
from worker.engine.loop import WorkerLoop
from worker.engine.takeover import Takeover

Apply = Callable[[pytest.MonkeyPatch], None]
lease = QueueStore.lease
next_step, conclude, released, in_doubt = rules.next_step, rules.conclude, rules.released, rules.in_doubt
is_duplicate, delivered, claimed = rules.is_duplicate, rules.delivered, rules._claimed
put = SimulatedLedger.put
note, recovered = older.note, older.recovered


@dataclass(frozen=True)
class Patched:
    """A mutant: these names of a module or class are replaced."""

    target: object
    names: dict[str, Any]

    def __call__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in self.names.items():
            monkeypatch.setattr(self.target, name, value)


def made_of(**parts: type) -> Apply:
    """A mutant: the worker is put together from these parts."""
    return Patched(assembly, dict(parts))


class AcknowledgesFirst(WorkerLoop):
    async def _work_on(self, lease: Lease, scope: CancellationScope) -> None:
        await self._queue.acknowledge(lease)
        await super()._work_on(lease, scope)


class LeavesTheUnfinished(Takeover):
    async def _sweep(self, states: Collection[State]) -> int:
        return 0


class MayTakeOverFromItself(WorkerLoop):
    def _must_wait(self, username: str) -> bool:
        return False


class CallsFirst(Pipeline):
    async def enrol(self, request: Request, scope: CancellationScope) -> Verdict:
        await self._caller._provider.associate(request)
        return await super().enrol(request, scope)


class DeliversFirst(Pipeline):
    async def _seal_and_deliver(
        self, request: Request, issued: Issued, claim: Claim, scope: CancellationScope
    ) -> Verdict:
        form = RecordFormat("Example")
        sealed = seal_record(request, issued, claim.row.generation, claim.sent_at, form, self._sealer)
        await self._channel.deliver(request.username, sealed)
        return await super()._seal_and_deliver(request, issued, claim, scope)


class SaysNothingWhenOvertaken(Pipeline):
    async def _overtaken(self, claim: Claim) -> Verdict:
        return GiveBack(1.0)


class CallsUnderAnyClaim(Caller):
    async def _claim_outlasts_call(self, claim: Claim, scope: CancellationScope) -> bool:
        return True


class TakesOverAtOnce(ClaimExpiry):
    def seconds_left(self, row: Enrolment) -> float:
        return 0.0


class TakesOverFromTheDeadAtOnce(ClaimExpiry):
    def seconds_left(self, row: Enrolment) -> float:
        return 0.0 if row.worker is not None and self._is_dead(row.worker) else super().seconds_left(row)


class CountsFromBeforeTheDeath(ClaimExpiry):
    def seconds_left(self, row: Enrolment) -> float:
        seen = self._first_seen.get(row.version)
        if row.worker is not None and self._is_dead(row.worker) and seen is not None:
            return max(0.0, self._call_timeout - (self._clock.monotonic() - seen))
        return super().seconds_left(row)


class TrustsEveryClock(ClaimExpiry):
    def seconds_left(self, row: Enrolment) -> float:
        return max(0.0, row.lease_until - self._clock.utc()) if row.worker is not None else super().seconds_left(row)


class ForgetsWhatIsOnTheWire(ClaimExpiry):
    def seconds_left(self, row: Enrolment) -> float:
        return super().seconds_left(row) if row.worker is not None else 0.0


class RecordsUnconditionally(LedgerWriter):
    async def put(self, row: Enrolment, replaces: Enrolment | None) -> WriteResult:
        if row.state is State.SEALED and replaces is not None and replaces.state is State.IN_PROGRESS:
            replaces = await self.read(row.username)
        return await super().put(row, replaces)


class DoesNotKnowItsOwnHand(LedgerWriter):
    async def put(self, row: Enrolment, replaces: Enrolment | None) -> WriteResult:
        result = await super().put(row, replaces)
        return Lost(result.row) if isinstance(result, Written) and result.repeated else result


def deadline_first(
    request: Request, row: Enrolment | None, me: Claimant, seconds_until_free: Callable[[Enrolment], float]
) -> Step:
    if rules.too_late(request, me.now):
        row = row or Enrolment(request.username, State.IN_PROGRESS, me.now, 0)
        row = row._replace(request_id=request.id)
        return rules.Conclude(conclude(row, State.NEEDS_SESSION, EXPIRED[request.kind], me.now))
    return next_step(request, row, me, seconds_until_free)


def settled_ignored(
    request: Request, row: Enrolment | None, me: Claimant, seconds_until_free: Callable[[Enrolment], float]
) -> Step:
    if row is None or request.id not in row.settled:
        return next_step(request, row, me, seconds_until_free)
    step = next_step(request, row._replace(settled=NOTHING_SETTLED), me, seconds_until_free)
    if isinstance(step, rules.Call | rules.Deliver | rules.Conclude):
        return type(step)(step.row._replace(settled=row.settled))
    return step


def forgotten_too_early(digests: Sequence[str], older: str) -> Settled:
    return Settled(tuple(digests[-1:]), "")


def live_ones_taken_for_duplicates(request: Request, row: Enrolment, now: float) -> bool:
    return is_duplicate(request, row, now) or row.state is State.NEEDS_SESSION


def generation_stands(
    request: Request, row: Enrolment | None, me: Claimant, seconds_until_free: Callable[[Enrolment], float]
) -> Step:
    step = next_step(request, row, me, seconds_until_free)
    return rules.Call(step.row._replace(generation=1)) if isinstance(step, rules.Call) else step


def restored_in_doubt(row: Enrolment, *arguments: Any, **options: Any) -> Enrolment:
    return conclude(row._replace(doubt=False) if row.before else row, *arguments, **options)


def released_without_doubt(row: Enrolment, now: float, **options: Any) -> Enrolment:
    return released(row, now, **{**options, "doubt": False}) if row.before else released(row, now, **options)


def doubted_but_not_settled(row: Enrolment, _: str | None, now: float, *, late_effect_for: float) -> Enrolment:
    return in_doubt(row, None, now, late_effect_for=late_effect_for)


def retried_at_once(self: Any, state: Any) -> float:
    again = state.outcome.result()
    assert isinstance(again, TryAgain)
    return 0.1


class EarliestDeadlineFirst(LeadTime):
    def outlook(self) -> Outlook:
        return UNJUDGED


class SettlesTheDeadInTheWay(ExpiredRequests):
    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()


def only_who_can_make_it(
    self: QueueStore, process: Process, most: int, outlook: Outlook, *, elsewhere: bool = False
) -> list[Lease]:
    return lease(self, process, most, Outlook(outlook.now + outlook.lead), elsewhere=elsewhere)


class JudgesBeforeItKnowsTheTime(EndpointTime):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.known = self.has_asked = True


class KnowsNoBound(Deliveries):
    def admits(self, kind: CredentialKind) -> bool:
        return bool(self._failing) <= (kind is not CredentialKind.SESSION)


class CallsForSessionsIntoAnAbsentChannel(Deliveries):
    def admits(self, kind: CredentialKind) -> bool:
        return super().admits(CredentialKind.ACCESS_TOKEN)


def concluded_at_once(self: Refusals, username: str, seconds_left: float) -> Any:
    user = self._users.get(username)
    return None if user is None else Concluded(user.reason, user.code)


def tried_for_ever(self: Refusals, username: str, seconds_left: float) -> Any:
    user = self._users.get(username)
    return Later(0.1) if user is not None and self._clock.monotonic() - user.at < 0.1 else None


async def marked_first(self: SimulatedLedger, row: Enrolment, replaces: str | None) -> WriteResult:
    self._world.mark.write(self._world.ledger.number + 1, row)
    return await put(self, row, replaces)


def named_with_the_outcome(names: dict[str, int], row: Enrolment) -> bool | None:
    return None if row.state is State.IN_PROGRESS else note(names, row)


def forgotten_with_the_outcome(names: dict[str, int], row: Enrolment) -> bool | None:
    if row.state is State.NEEDS_SESSION:
        return names.pop(row.username, None) is not None
    return note(names, row)


def as_named(row: Enrolment | None, unsure: int | None) -> Enrolment | None:
    """The row as it is, but not behind the name in the mark, which would show at once."""
    return row._replace(generation=max(row.generation, unsure or 0)) if row else None


def recovered_by_the_channel_alone(
    username: str, row: Enrolment | None, shown: Shown | None, unsure: int | None, now: float
) -> Enrolment | None:
    return as_named(recovered(username, row, shown, None, now) or row, unsure)


def recovered_by_the_names_alone(
    username: str, row: Enrolment | None, shown: Shown | None, unsure: int | None, now: float
) -> Enrolment | None:
    after = recovered(username, row, shown, unsure, now)
    return after if after and after.state is State.NEEDS_SESSION else as_named(row, unsure)


def skipped_in_doubt(row: Enrolment, state: State, reason: Reason | None, now: float, **more: Any) -> Enrolment:
    return conclude(row._replace(doubt=row.doubt and state is not State.SKIPPED), state, reason, now, **more)


def delivered_before_all_the_same(row: Enrolment, code: str, now: float) -> Enrolment:
    return rules.delivered(row, now)


def told_by_its_own_clock(events: tuple[Event, ...], now: float, what: str, detail: str = "") -> tuple[Event, ...]:
    return (*events[1 - history.MOST :], Event(now, what, detail))


def delivered_without_telling(row: Enrolment, now: float, **options: Any) -> Enrolment:
    return delivered(row, now, **options)._replace(events=row.events)


def begun_anew(row: Enrolment, me: Claimant, why: str) -> Enrolment:
    return claimed(row._replace(events=()), me, why)


def erased_with_its_digest(row: Enrolment) -> Enrolment:
    return row._replace(sealed=row.sealed._replace(blob=b"", digest="")) if row.sealed else row


MUTANTS: dict[str, Apply] = {
    "delivers what the ledger damaged": Patched(rules, {"is_whole": lambda _: True}),
    "erases the digest with the record": Patched(rules, {"_erased": erased_with_its_digest}),
    "tells of events by its own clock": Patched(rules, {"and_then": told_by_its_own_clock}),
    "does not tell of the delivery": Patched(rules, {"delivered": delivered_without_telling}),
    "forgets what happened when it takes over a secret": Patched(rules, {"_claimed": begun_anew}),
    "skips a user in doubt": Patched(rules, {"conclude": skipped_in_doubt}),
    "calls a user delivered whose record was refused": Patched(
        rules, {"refused_delivery": delivered_before_all_the_same}
    ),
    "calls for whoever dies first": Patched(
        loop, {"LeadTime": EarliestDeadlineFirst, "ExpiredRequests": SettlesTheDeadInTheWay}
    ),
    "never uses whom it passed over": Patched(QueueStore, {"lease": only_who_can_make_it}),
    "acknowledges before it settles": made_of(WorkerLoop=AcknowledgesFirst),
    "delivers before it records": made_of(Pipeline=DeliversFirst),
    "calls before it claims": made_of(Pipeline=CallsFirst),
    "may be cancelled while it writes": Patched(CancellationScope, {"forbid_stop": lambda self: None}),
    "records without the version condition": made_of(LedgerWriter=RecordsUnconditionally),
    "takes over without waiting": made_of(ClaimExpiry=TakesOverAtOnce),
    "takes over from the dead without waiting": made_of(ClaimExpiry=TakesOverFromTheDeadAtOnce),
    "counts the wait from before the death": made_of(ClaimExpiry=CountsFromBeforeTheDeath),
    "trusts every clock": made_of(ClaimExpiry=TrustsEveryClock),
    "forgets what was left on the wire": made_of(ClaimExpiry=ForgetsWhatIsOnTheWire),
    "looks at the deadline before the ledger": Patched(rules, {"next_step": deadline_first}),
    "takes its own write for another's": made_of(LedgerWriter=DoesNotKnowItsOwnHand),
    "calls under any claim": made_of(Caller=CallsUnderAnyClaim),
    "says nothing when overtaken": made_of(Pipeline=SaysNothingWhenOvertaken),
    "honours a replacement twice": Patched(rules, {"next_step": settled_ignored}),
    "honours a replacement that another carried on": Patched(
        rules, {"_settle_interrupted_replacement": lambda row, request: row}
    ),
    "does not raise the generation": Patched(rules, {"next_step": generation_stands}),
    "restores a replacement in doubt": Patched(
        rules, {"conclude": restored_in_doubt, "released": released_without_doubt}
    ),
    "leaves unfinished rows": Patched(loop, {"Takeover": LeavesTheUnfinished}),
    "delivers dead sessions": Patched(rules, {"too_late_to_verify": lambda row, min_validity, now: False}),
    "tries a deadly user for ever": Patched(rules, {"MAX_CRASHES": 10**9}),
    "forgets the request that it doubts": Patched(rules, {"in_doubt": doubted_but_not_settled}),
    "retries while the last attempt may act": Patched(call_attempts._Budget, {"pause": retried_at_once}),
    "forgets settled requests too early": Patched(settled, {"_bounded": forgotten_too_early}),
    "takes a live request for a duplicate": Patched(rules, {"is_duplicate": live_ones_taken_for_duplicates}),
    "believes its own clock": Patched(clock.EndpointClock, {"utc": lambda self: self._own.utc()}),
    "judges before it knows the time": Patched(loop, {"EndpointTime": JudgesBeforeItKnowsTheTime}),
    "issues without bound": made_of(Deliveries=KnowsNoBound),
    "calls for Sessions into an absent channel": made_of(Deliveries=CallsForSessionsIntoAnAbsentChannel),
    "blames a user before others got through": Patched(Refusals, {"next_step": concluded_at_once}),
    "tries a refused user for ever": Patched(Refusals, {"next_step": tried_for_ever}),
    "writes the mark before the ledger": Patched(SimulatedLedger, {"put": marked_first}),
    "names who is replaced after the call": Patched(older, {"note": named_with_the_outcome}),
    "forgets whose replacement was lost": Patched(older, {"note": forgotten_with_the_outcome}),
    "recovers without the names": Patched(older, {"recovered": recovered_by_the_channel_alone}),
    "recovers without the channel": Patched(older, {"recovered": recovered_by_the_names_alone}),
    "takes over from itself": made_of(WorkerLoop=MayTakeOverFromItself),
}


def must_be_caught(mutant: Apply, scenarios: Iterable[Scenario], broken: str) -> None:
    """Some scenario shows that the mutant breaks one of these rules; the worker itself keeps all of them there."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        mutant(monkeypatch)
        scenario, violation = _hunt(scenarios)
    assert violation.partition(":")[0] in broken.split(), violation
    check(scenario)


def _hunt(scenarios: Iterable[Scenario]) -> tuple[Scenario, str]:
    for scenario in scenarios:
        try:
            World(scenario).run()
        except Violation as violation:
            return scenario, str(violation)
    pytest.fail("nothing catches this mutant")
