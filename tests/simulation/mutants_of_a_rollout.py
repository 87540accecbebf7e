"""Workers that sign in or activate users and break one rule each, like those in ``mutants``."""

from __future__ import annotations

from typing import Any

from tests.simulation.mutants import Apply, Patched, made_of
from worker.core import activation, pipeline, rules
from worker.core.activation import Activator
from worker.core.call import Claim
from worker.core.model import Activation, Done, Enrolment, Issued, Request, Secret, State, Verdict, WrongCode
from worker.core.pipeline import Pipeline
from worker.core.resilience.cancellation import CancellationScope
from worker.core.resilience.sign_in_refusals import SignInRefusals
from worker.core.sign_in import SignIn

active, not_activated, recorded = rules.active, rules.not_activated, rules.recorded


class VerifiesFirst(Pipeline):
    async def _deliver(self, claim: Claim, scope: CancellationScope) -> Verdict | None:
        activator, held = self._activator, claim.row.activation
        if activator is not None and held is not None:
            opened = activator._opened(claim.row)
            usable = Request(claim.row.username, held.kind, opened.credential, "r0", held.expires_at)
            code = activator._totp(opened.secret_code.reveal()).at(int(self._clock.utc()))
            await activator._provider.verify(usable, Secret(code))
        return await super()._deliver(claim, scope)


class ErasesFirst(Pipeline):
    async def _settle(self, outcome: Enrolment, claim: Claim) -> Verdict:
        if outcome.state is State.ACTIVE:
            erased = await self._ledger.put(claim.row._replace(activation=None), claim.row)
            assert erased.row is not None
            claim.row = erased.row
        return await super()._settle(outcome, claim)


class SaysItIsDoneOnceDelivered(Pipeline):
    async def _activate(self, claim: Claim, scope: CancellationScope) -> Verdict:
        return Done(State.DELIVERED)


class SignsInFirst(Pipeline):
    async def enrol(self, request: Request, scope: CancellationScope) -> Verdict:
        if self._sign_in is not None:
            await self._sign_in._sign_ins.begin(request)
        return await super().enrol(request, scope)


class DoesNotLook(SignIn):
    async def sign_in(self, request: Request, claim: Claim, scope: CancellationScope, *, looks: bool) -> Any:
        return await super().sign_in(request, claim, scope, looks=False)


class KeepsTheFirstSecret(Activator):
    def prepared(
        self, request: Request, issued: Issued, session_expires_at: float | None, *, replaces: bool
    ) -> Activation:
        prepared = super().prepared(request, issued, session_expires_at, replaces=replaces)
        first: dict[str, Activation] = self.__dict__.setdefault("first", {})
        return first.setdefault(request.username, prepared)


class UsesTheOldSession(Activator):
    async def _decided(self, *arguments: Any) -> Any:
        result = await super()._decided(*arguments)
        return WrongCode(None) if isinstance(result, WrongCode) else result


class DoesNotWriteTheNewSession(Activator):
    async def _rewrite(self, *arguments: Any) -> bool:
        return True


class KnowsNoDoubt(Activator):
    def is_in_doubt(self, claim: Claim) -> bool:
        return False


class ForgetsWhatWasRefused(SignInRefusals):
    def note(self, request: Request, detail: str | None) -> bool:
        is_outcome = super().note(request, detail)
        self.forget(request)
        return is_outcome


def active_with_its_blob(row: Enrolment, now: float) -> Enrolment:
    return active(row, now)._replace(activation=row.activation)


def left_with_its_blob(row: Enrolment, *arguments: Any, **options: Any) -> Enrolment:
    return not_activated(row, *arguments, **options)._replace(activation=row.activation)


MUTANTS: dict[str, Apply] = {
    "verifies before it delivers": made_of(Pipeline=VerifiesFirst),
    "erases before it settles": made_of(Pipeline=ErasesFirst),
    "acknowledges before the user is active": made_of(Pipeline=SaysItIsDoneOnceDelivered),
    "signs in before it claims": made_of(Pipeline=SignsInFirst),
    "does not look before it calls": made_of(SignIn=DoesNotLook),
    "verifies an older secret": made_of(Activator=KeepsTheFirstSecret),
    "verifies with the Session that the wrong code spent": made_of(Activator=UsesTheOldSession),
    "keeps a new Session to itself": made_of(Activator=DoesNotWriteTheNewSession),
    "prefers before it has recorded the verification": Patched(rules, {"verified": lambda row, _now: row}),
    "forgets at a takeover what may have been sent": Patched(
        rules, {"_doubted": lambda row: row._replace(doubt=True) if row.state is State.IN_PROGRESS else row}
    ),
    "takes a lost verification for none": made_of(Activator=KnowsNoDoubt),
    "leaves the blob with who is active": Patched(rules, {"active": active_with_its_blob}),
    "leaves the blob of a dead secret": Patched(rules, {"not_activated": left_with_its_blob}),
    "sends the same wrong code again": Patched(activation._Verification, {"use_up": lambda self: None}),
    "tries codes for ever": Patched(activation, {"MOST_WRONG": 10}),
    "signs in for ever": Patched(pipeline, {"MOST_AGAIN": 10**6}),
    "sends a refused credential again": made_of(SignInRefusals=ForgetsWhatWasRefused),
}
