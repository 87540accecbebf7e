"""Activates a user who was delivered: verifies the secret with its code, and makes TOTP the preferred factor.

::

    delivered ─ pace ─ verify ─ (recorded as verified) ─ pace ─ prefer ─ active

What it needs after a crash, the secret and the Session or token, lies in the user's row, sealed to the worker's own
identity alone. It was written with the sealed record, and is erased with the outcome; with a token it is kept where a
person has to help first, because the same secret can be verified later.

Both calls go the way of the enrolment (``Caller``): the same pacer, circuit breaker, refusals and retries. What each
answer to a verification means:

- success: verified.
- wrong code, or ``Status: ERROR``: once more in the next time step, with the Session that the answer brought, else the
  old one; then ``verify_refused`` (with a Session in doubt ``verify_unknown``).
- throttled, not sent, conflict: again. A server error: again, in doubt.
- no answer: in doubt. After a call time-out again, with a fresh code; with a Session only once.
- the credential is dead: with a token ``verify_token_expired``; with a Session ``verify_refused``, or where no
  verification was sent ``verify_window_lost``: the secret is dead. In doubt ``verify_unknown``.
- another refusal, attempts used up, refused alone: ``verify_refused``; in doubt ``verify_unknown``.

*In doubt*: a verification was sent whose answer nobody saw, by this worker or by one from which the row was taken over.
A Session may be spent by it, so that every refusal may mean that it succeeded. Where TOTP is to be preferred, that is
tried first then: Cognito allows it only to a user whose secret is verified. Where it ends with a dead credential or
in doubt, a ticket or a password that still lives decides instead, by a new sign-in (``pipeline``).

The preference has no doubt: to set it twice is harmless. Its refusals are ``preference_refused``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from worker.core import rules
from worker.core.call import Caller, Claim, Effect, Operation, Overtaken, Prevented, ThrottledAlone, TooLate
from worker.core.config import ActivationMode, WorkerConfig
from worker.core.errors import PersonMustAct
from worker.core.model import (
    NEVER,
    Activation,
    CredentialKind,
    Enrolment,
    Issued,
    Lost,
    PoolFault,
    Preferred,
    PreferReply,
    Reason,
    Refused,
    Request,
    Secret,
    Trouble,
    TryAgain,
    Verified,
    VerifyReply,
    WrongCode,
)
from worker.core.ports import Clock, OwnSealer, Provider
from worker.core.resilience.cancellation import CancellationScope
from worker.core.resilience.writer import LedgerWriter
from worker.core.stats import RunStats

if TYPE_CHECKING:
    import pyotp

TIME_STEP = 30
"""Seconds for which a code is that of the present (RFC 6238, 5.2; Cognito's are the same)."""
MOST_WRONG = 2
"""Codes that may be refused as wrong: the second is of another time step, so a code at a step's end is no chance."""
MOST_UNANSWERED = 2
"""Verifications with a Session that may stay without an answer: the second shows whether the first arrived."""
DEAD = frozenset(
    {
        Reason.SESSION_EXPIRED,
        Reason.SESSION_SPENT,
        Reason.SESSION_INVALID,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_REVOKED,
    }
)
"""Refusals of a credential that nothing can be done with any more."""


@dataclass(frozen=True, slots=True)
class NotActivated:
    """The activation did not get through."""

    row: Enrolment
    """The outcome that follows, to be written."""
    is_lost: bool
    """Whether a new sign-in decides instead, where the request allows one."""


Result = Enrolment | NotActivated | Overtaken | PoolFault | ThrottledAlone
"""The user's outcome, to be written: active, or not. Or why the work on the user cannot go on now."""


class _Opened(NamedTuple):
    """What the row holds, opened."""

    secret_code: Secret
    credential: Secret


class _Unanswered:
    """Too many verifications stayed without an answer."""


class Activator:
    """Activates claimed users. ``own``: seals and opens what a worker needs again after a crash."""

    def __init__(
        self,
        *,
        provider: Provider,
        own: OwnSealer,
        caller: Caller,
        ledger: LedgerWriter,
        clock: Clock,
        stats: RunStats,
        config: WorkerConfig,
    ) -> None:
        import pyotp  # here, so that only who activates pays for it

        class AnyLength(pyotp.TOTP):
            """Cognito promises no more than 16 characters of a secret, which pyotp finds too short."""

            min_secret_length_bits = 0

        self._totp = AnyLength
        self._provider = provider
        self._own = own
        self._caller = caller
        self._ledger = ledger
        self._clock = clock
        self._stats = stats
        self._config = config
        self._prefer = Operation("SetUserMFAPreference", provider.prefer, caller.lane, stats.sent, goes_first=True)

    def prepared(
        self, request: Request, issued: Issued, session_expires_at: float | None, *, replaces: bool
    ) -> Activation:
        """What the row must hold of a secret that was issued just now, before it is delivered.

        ``replaces``: whether the user may have an active TOTP factor.
        """
        if issued.session is not None:
            expires_at = request.expires_at if session_expires_at is None else session_expires_at
            request = request.signed_in(CredentialKind.SESSION, issued.session, expires_at)
        return self._sealed(issued.secret_code, request)._replace(replaces=replaces)

    def _sealed(self, secret_code: Secret, usable: Request) -> Activation:
        held = {"secret_code": secret_code.reveal(), "credential": usable.credential.reveal()}
        return Activation(self._own.seal(json.dumps(held).encode()), usable.kind, usable.expires_at)

    def _opened(self, row: Enrolment) -> _Opened:
        assert row.activation is not None
        try:
            held = json.loads(self._own.open(row.activation.blob))
            return _Opened(Secret(held["secret_code"]), Secret(held["credential"]))
        except (ValueError, KeyError, TypeError):
            raise PersonMustAct(
                f"what the activation of {row.username!r} needs cannot be opened with this worker's identity",
                "let activation.identity name the identity with which the rollout was begun, then run again",
            ) from None

    async def activate(self, claim: Claim, usable: Request | None, scope: CancellationScope) -> Result:
        """Go on with the activation of the claimed user, whose row is ``activation_pending``.

        ``usable``: the request with a token that was not used yet; ``None``: what the row holds is used. Raises
        ``CancelledError`` where the task is stopped; if a request was on the wire then, the caller must call
        ``note_unanswered``. Raises ``PersonMustAct`` where the row was sealed to another identity.
        """
        held = claim.row.activation
        assert held is not None
        opened = self._opened(claim.row)
        if usable is None:
            row = claim.row
            usable = Request(row.username, held.kind, opened.credential, row.request_id or "", held.expires_at)
        elif usable.credential != opened.credential and not await self._rewrite(opened, usable, claim, scope):
            return Overtaken()
        if not held.verified:
            found = await self._verify(opened, usable, claim, scope)
            if found is not None:
                return found
        if self._config.activation is not ActivationMode.PREFER:
            return rules.active(claim.row, self._clock.utc())
        if not held.verified and not await self._put(rules.verified(claim.row, self._clock.utc()), claim, scope):
            return Overtaken()
        return await self._set_preference(usable, claim, scope)

    async def _rewrite(self, opened: _Opened, usable: Request, claim: Claim, scope: CancellationScope) -> bool:
        """Let the row hold this credential instead; ``False`` where the claim is lost."""
        held = claim.row.activation
        assert held is not None
        new = self._sealed(opened.secret_code, usable)
        new = new._replace(verified=held.verified, doubt=held.doubt, replaces=held.replaces)
        return await self._put(claim.row._replace(activation=new), claim, scope)

    async def _put(self, row: Enrolment, claim: Claim, scope: CancellationScope) -> bool:
        result = await self._ledger.put(row, claim.row)
        if isinstance(result, Lost):
            return False
        claim.row = scope.claim = result.row
        return True

    # --- verify -------------------------------------------------------------------------------------------------------

    async def _verify(self, opened: _Opened, usable: Request, claim: Claim, scope: CancellationScope) -> Result | None:
        """``None`` once the secret is verified."""
        try:
            verification = _Verification(self._totp(opened.secret_code.reveal()), claim)
            verification.code(0)
        except ValueError:
            return self._gave_up(Reason.VERIFY_REFUSED, claim, "the secret is no base32")
        detail = ""
        while claim.wrong_codes < MOST_WRONG:
            result = await self._decided(verification, usable, claim, scope)
            if not isinstance(result, WrongCode):
                return await self._follows(result, usable, claim, scope)
            claim.wrong_codes, detail = claim.wrong_codes + 1, result.detail
            if result.session is not None:
                expires_at = claim.sent_at + self._config.record.session_validity
                usable = usable.signed_in(CredentialKind.SESSION, result.session, expires_at)
                if not await self._rewrite(opened, usable, claim, scope):
                    return Overtaken()
        return await self._refused(usable, claim, scope, detail, is_sure=True)

    async def _follows(
        self, result: VerifyReply | Prevented | _Unanswered, usable: Request, claim: Claim, scope: CancellationScope
    ) -> Result | None:
        """What follows from any answer but a wrong code."""
        match result:
            case Verified():
                return None
            case Overtaken() | PoolFault() | ThrottledAlone():
                return result
            case TooLate():
                return await self._died(usable, claim, scope)
            case Refused(_, reason, detail):
                if reason in DEAD:
                    return await self._died(usable, claim, scope, detail or reason)
                return await self._refused(usable, claim, scope, detail or reason)
            case TryAgain(_, detail):
                return await self._refused(usable, claim, scope, detail)
            case _:
                return await self._refused(usable, claim, scope, None)

    async def _decided(
        self, verification: _Verification, usable: Request, claim: Claim, scope: CancellationScope
    ) -> VerifyReply | Prevented | _Unanswered:
        result: VerifyReply | Prevented | _Unanswered = await self._caller.decide(
            lambda: self._attempt(verification, usable, claim, scope), usable, claim, scope
        )
        return result

    async def _attempt(
        self, verification: _Verification, usable: Request, claim: Claim, scope: CancellationScope
    ) -> VerifyReply | Prevented | _Unanswered:
        """One verification, with a code that no earlier one used up."""
        now = self._clock.utc()
        wait = min(verification.seconds_until_fresh(now), usable.expires_at - now)
        if not await self._caller.hold(wait, claim, scope):
            return Overtaken()

        async def send(request: Request) -> VerifyReply:
            return await self._provider.verify(request, Secret(verification.code(self._clock.utc())))

        operation = Operation(
            "VerifySoftwareToken",
            send,
            self._caller.lane,
            self._stats.sent,
            Effect.VERIFIES,
            goes_first=True,
        )
        reply = await self._caller.attempt(operation, usable, claim, scope)
        trouble = reply.trouble if isinstance(reply, TryAgain) else None
        was_sent = trouble is not Trouble.UNSENT and not isinstance(reply, TooLate | Overtaken)
        if isinstance(reply, WrongCode) or (was_sent and usable.kind is CredentialKind.SESSION):
            claim.row = rules.code_sent(claim.row)  # in memory until the row is written again
        unanswered = trouble is Trouble.NO_ANSWER
        if isinstance(reply, WrongCode) or unanswered:
            verification.use_up()
        verification.unanswered += unanswered
        if usable.kind is CredentialKind.SESSION and unanswered and verification.unanswered >= MOST_UNANSWERED:
            return _Unanswered()
        return reply

    def is_in_doubt(self, claim: Claim) -> bool:
        """Whether a verification may have succeeded whose answer nobody saw."""
        held = claim.row.activation
        return claim.lost_verification or (held is not None and held.doubt and not held.verified)

    async def _refused(
        self, usable: Request, claim: Claim, scope: CancellationScope, detail: str | None, *, is_sure: bool = False
    ) -> Result:
        """``is_sure``: the answer tells of this secret, whatever became of an earlier verification with a token."""
        if not self.is_in_doubt(claim) or (is_sure and usable.kind is CredentialKind.ACCESS_TOKEN):
            return self._gave_up(Reason.VERIFY_REFUSED, claim, detail)
        return await self._unknown(usable, claim, scope)

    async def _died(self, usable: Request, claim: Claim, scope: CancellationScope, detail: str | None = None) -> Result:
        """The credential is dead."""
        if self.is_in_doubt(claim):
            return await self._unknown(usable, claim, scope)
        reason = claim.row.before_reason
        if reason is None and usable.kind is CredentialKind.SESSION:
            return NotActivated(rules.voided(claim.row, self._clock.utc()), is_lost=True)
        return self._gave_up(reason or Reason.VERIFY_TOKEN_EXPIRED, claim, detail, is_lost=True)

    async def _unknown(self, usable: Request, claim: Claim, scope: CancellationScope) -> Result:
        """Nobody knows whether the secret is verified. With a Session, a preference that can be set proves it.

        Unless an earlier secret may be the active factor, for which it can be set as well.
        """
        held = claim.row.activation
        proves = usable.kind is CredentialKind.SESSION and held is not None and not held.replaces
        if self._config.activation is ActivationMode.PREFER and proves:
            if not await self._caller.hold(self._caller.late_effect_for(claim), claim, scope):
                return Overtaken()
            match await self._try_to_prefer(usable, claim, scope):
                case Preferred():
                    return rules.active(claim.row, self._clock.utc())
                case Overtaken() | PoolFault() | ThrottledAlone() as prevented:
                    return prevented
        return self._gave_up(Reason.VERIFY_UNKNOWN, claim, is_lost=True)

    def _gave_up(
        self, reason: Reason, claim: Claim, detail: str | None = None, *, is_lost: bool = False
    ) -> NotActivated:
        late_effect_for = self._caller.late_effect_for(claim)
        now = self._clock.utc()
        row = rules.not_activated(claim.row, reason, now, late_effect_for=late_effect_for, detail=detail)
        return NotActivated(row, is_lost)

    # --- prefer -------------------------------------------------------------------------------------------------------

    async def _set_preference(self, usable: Request, claim: Claim, scope: CancellationScope) -> Result:
        match await self._try_to_prefer(usable, claim, scope):
            case Preferred():
                return rules.active(claim.row, self._clock.utc())
            case Overtaken() | PoolFault() | ThrottledAlone() as prevented:
                return prevented
            case Refused(_, reason, detail):
                return self._gave_up(Reason.PREFERENCE_REFUSED, claim, detail or reason, is_lost=reason in DEAD)
            case TryAgain(_, detail):
                return self._gave_up(Reason.PREFERENCE_REFUSED, claim, detail)
            case _:
                return self._gave_up(Reason.PREFERENCE_REFUSED, claim, Reason.TOKEN_EXPIRED, is_lost=True)

    async def _try_to_prefer(self, usable: Request, claim: Claim, scope: CancellationScope) -> PreferReply | Prevented:
        """With a Session this needs no credential of the user's, so nothing of it can be too late."""
        if usable.kind is CredentialKind.SESSION:
            usable = usable.signed_in(usable.kind, usable.credential, NEVER)
        result: PreferReply | Prevented = await self._caller.decide(
            lambda: self._caller.attempt(self._prefer, usable, claim, scope), usable, claim, scope
        )
        return result


class _Verification:
    """The codes of one secret. Which time steps were used up, the claim knows, for whatever credential comes next."""

    def __init__(self, totp: pyotp.TOTP, claim: Claim) -> None:
        self._totp = totp
        self._claim = claim
        self._sent = -1
        self.unanswered = 0

    def code(self, now: float) -> str:
        """The code of that moment (UTC seconds), which is sent now."""
        self._sent = int(now) // TIME_STEP
        return self._totp.at(int(now))

    def use_up(self) -> None:
        """The last code may not be taken again."""
        self._claim.used_up = self._sent

    def seconds_until_fresh(self, now: float) -> float:
        """Seconds until there is a code that was not used up; 0 or less: now."""
        return (self._claim.used_up + 1) * TIME_STEP - now
