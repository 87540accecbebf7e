"""Cognito as it really is: single-use Sessions that expire, tokens, a new secret every time, and a wire that lies.

``accounts`` says what a wire attempt does that has arrived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation.accounts import Accounts
from tests.simulation.history import Call
from tests.simulation.scenario import CALL_TIMEOUT, Wrong
from worker.core.model import PoolFault, Reason, Refused, State, Trouble, TryAgain

if TYPE_CHECKING:
    from tests.simulation.world import World
    from worker.core.model import Request

JUST_UNDER = 0.98
"""What was sent can act no later than one call time-out after its caller gave up or died: so late, nearly."""

WITHOUT_EFFECT: dict[Wrong, Refused | TryAgain | PoolFault] = {
    Wrong.UNSENT: TryAgain(Trouble.UNSENT, "unsent"),
    Wrong.CONFLICT: TryAgain(Trouble.CONFLICT, "conflict"),
    Wrong.INTERNAL: TryAgain(Trouble.SERVER_ERROR, "internal"),
    Wrong.THROTTLED: TryAgain(Trouble.THROTTLED, "throttled"),
    Wrong.FORBIDDEN: PoolFault("ForbiddenException", "ask", may_pass=True, may_be_own=True),
    Wrong.INVALID: Refused(State.FAILED, Reason.INVALID_PARAMETER),
    Wrong.DISABLED: Refused(State.SKIPPED, Reason.DISABLED),
    Wrong.SIGN_IN_REFUSED: Refused(State.NEEDS_SESSION, Reason.SIGN_IN_REFUSED),
    Wrong.LOCKED: TryAgain(Trouble.LOCKED, "locked"),
    Wrong.CHALLENGE: Refused(State.NEEDS_SESSION, Reason.CHALLENGE_UNANSWERABLE, "SMS_MFA"),
    Wrong.TRIGGER_FAILS: PoolFault("UnexpectedLambdaException", "look", may_pass=True, may_be_own=True),
}
NO_ANSWER = TryAgain(Trouble.NO_ANSWER, "no answer")


@dataclass(frozen=True, slots=True)
class Course:
    """When a call acts (``None``: never), when its caller hears of it, and what instead of the real answer."""

    acts_after: float | None
    heard_after: float
    instead: Refused | TryAgain | PoolFault | None = None


class CognitoClient:
    """The user pool behind its wire. Its list of issued and of verified secrets is the truth."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.accounts = Accounts(world)
        self._wrong: dict[Call, Wrong | None] = {}
        self.open_calls: list[Call] = []

    def grant(self, request: Request, dies_at: float) -> None:
        self.accounts.grant(request, dies_at)

    def receive(self, call: Call, wrong: Wrong | None) -> Call:
        """A request leaves."""
        user = self._world.users[call.request.username]
        (user.calls if call.operation == "associate" else user.others).append(call)
        self.open_calls.append(call)
        self._wrong[call] = wrong
        self._world.turns.used()
        self._world.happened(call)
        return call

    def course(self, wrong: Wrong | None, username: str | None) -> Course:
        """``username``: whose own troubles count."""
        if wrong is None and username is not None:
            wrong = self._world.always_wrong.get(username)
        dice = self._world.dice
        if self._world.scenario.is_quick and wrong is None:
            return Course(0.03, 0.05)
        there, back = dice.choice((0.01, 0.05, 0.3, 2.0)), dice.choice((0.0, 0.05, 0.3, 2.0))
        later = CALL_TIMEOUT * dice.choice((0.1, 0.5, JUST_UNDER))
        match wrong:
            case None | Wrong.WRONG_CODE:
                return Course(there, there + back)
            case Wrong.INTERNAL_DONE:
                return Course(there, there + back, TryAgain(Trouble.SERVER_ERROR, "internal"))
            case Wrong.LOST:
                return Course(None, dice.choice((there, CALL_TIMEOUT)), NO_ANSWER)
            case Wrong.LOST_REPLY:
                return Course(there, dice.choice((there + back, CALL_TIMEOUT)), NO_ANSWER)
            case Wrong.RESET:
                return Course(there + later, there, NO_ANSWER)
            case Wrong.TIMED_OUT:
                return Course(CALL_TIMEOUT + later, CALL_TIMEOUT, NO_ANSWER)
            case _:
                return Course(None, there + back, WITHOUT_EFFECT[wrong])

    def act(self, call: Call) -> object:
        """The call takes effect, if the credential is good; whether anybody hears of it is another matter."""
        return self.accounts.act(call, self._wrong.pop(call, None))

    def give_up(self, call: Call) -> None:
        """Its caller gave up or died: what is on the wire is over within one call time-out."""
        limit = CALL_TIMEOUT * JUST_UNDER
        if call.acts_at is not None and call.acts_at > self._world.now + limit:
            self._world.after(limit, call.act)

    def close(self, call: Call) -> None:
        """Nothing can come of the call any more."""
        call.over = True
        if call in self.open_calls:
            self.open_calls.remove(call)
