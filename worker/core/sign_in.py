"""Signs a user in when it is their turn: with a ticket or a password, for the Session or token that the call needs.

::

    slot ─ claim ─ sign in (InitiateAuth, and with a ticket its answer) ─ look (GetUser, with a token only) ─ call

Nobody is signed in before the claim is written, so that no two workers do it at once; and not while circuit breaker or
channel would hold the call up, so that no Session ages here. A sign-in issues nothing that could be lost: where a reply
is, the sign-in begins again from the beginning, after one call time-out. Its requests have a lane of their own, and the
looks another, since Cognito counts them against other quotas than the calls.

What a sign-in brings is used at once and kept nowhere.
"""

from __future__ import annotations

from worker.core.call import Caller, Claim, Lane, Operation, Prevented
from worker.core.model import (
    AlreadyEnrolled,
    CredentialKind,
    CustomChallenge,
    LookReply,
    NotEnrolled,
    PoolFault,
    Reason,
    Refused,
    Request,
    SignedIn,
    SignInReply,
    State,
    Trouble,
    TryAgain,
)
from worker.core.ports import Pacer, SignIns
from worker.core.resilience.cancellation import CancellationScope
from worker.core.resilience.refusals import Later, Refusals
from worker.core.resilience.sign_in_refusals import REFUSED_PAUSE, SignInRefusals

MOST_AGAIN = 3
"""How often a user is signed in again, at most, because a reply, a Session or the time to verify was lost."""
_CHALLENGE_DIED = frozenset({Reason.SESSION_EXPIRED, Reason.SESSION_SPENT, Reason.SESSION_INVALID})
"""What a refused answer may say of the challenge's own Session, and not of the ticket."""

SignInResult = Request | AlreadyEnrolled | Refused | TryAgain | PoolFault | Prevented | Later
"""The request with a Session or a token for the call; or why there is none."""


class SignIn:
    """Signs users in.

    ``pacer``: of the quota of sign-ins, of which each wire attempt is one. ``look_first``: see ``WorkerConfig``.
    """

    def __init__(
        self,
        *,
        sign_ins: SignIns,
        pacer: Pacer,
        caller: Caller,
        refusals: Refusals,
        refused: SignInRefusals,
        look_first: bool,
    ) -> None:
        self._sign_ins = sign_ins
        self._caller = caller
        self._look_first = look_first
        self.refused = refused
        """What is known of those who were refused."""
        self._lane = Lane(pacer, refusals)
        self._begin = Operation("InitiateAuth", sign_ins.begin, self._lane, awaits_channel=True, signs_in=True)
        self._look = Operation("GetUser", sign_ins.look, Lane(None, refusals), signs_in=True)

    async def sign_in(self, request: Request, claim: Claim, scope: CancellationScope, *, looks: bool) -> SignInResult:
        """Sign the user in with the request's ticket or password.

        ``looks``: whether to look, where that brings a token, if the user has TOTP already. Raises ``CancelledError``
        where the task is stopped; if a request was on the wire then, the caller must call ``note_unanswered``.
        """
        result: SignInReply | Prevented | Later
        result = await self._caller.decide(lambda: self._once(request, claim, scope), request, claim, scope)
        if isinstance(result, TryAgain) and result.fault is not None:
            self._caller.blame(result.fault, request, claim)
            return result.fault
        if isinstance(result, CustomChallenge):  # the triggers ask once more: they did not take the ticket
            result = Refused(State.NEEDS_SESSION, Reason.SIGN_IN_REFUSED)
        match result:
            case SignedIn(kind, credential, lives):
                self.refused.got_in()
                usable = request.signed_in(kind, credential, claim.sent_at + lives)
                if looks and self._look_first and kind is CredentialKind.ACCESS_TOKEN:
                    return await self._looked(usable, claim, scope)
                return usable
            case AlreadyEnrolled():
                self.refused.got_in()
            case Refused(_, Reason.CHALLENGE_UNANSWERABLE) if request.kind is CredentialKind.PASSWORD:
                self.refused.got_in()  # only a right password leads to a challenge
            case Refused(_, Reason.SIGN_IN_REFUSED, detail) if not self.refused.note(request, detail):
                return Later(REFUSED_PAUSE)
        return result

    async def _once(self, request: Request, claim: Claim, scope: CancellationScope) -> SignInReply | Prevented | Later:
        """One sign-in from its beginning. ``Later``: the user is locked out."""
        reply = await self._caller.attempt(self._begin, request, claim, scope)
        if isinstance(challenge := reply, CustomChallenge):

            async def send(request: Request) -> SignInReply:
                return await self._sign_ins.answer(request, challenge)

            answer = Operation("RespondToAuthChallenge", send, self._lane, goes_first=True, signs_in=True)
            reply = await self._caller.attempt(answer, request, claim, scope)
        if isinstance(reply, TryAgain) and reply.trouble is Trouble.LOCKED:
            return Later(self.refused.locked(request.username))
        if isinstance(reply, Refused) and reply.reason in _CHALLENGE_DIED:
            return TryAgain(Trouble.CONFLICT)
        return reply

    async def _looked(self, usable: Request, claim: Claim, scope: CancellationScope) -> SignInResult:
        result: LookReply | Prevented = await self._caller.decide(
            lambda: self._caller.attempt(self._look, usable, claim, scope), usable, claim, scope
        )
        return usable if isinstance(result, NotEnrolled) else result
