"""Cognito as it really is: single-use Sessions that expire, tokens, a new secret every time, and a wire that lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation.history import Call
from tests.simulation.scenario import CALL_TIMEOUT, Wrong
from worker.core.model import (
    CredentialKind,
    Issued,
    PoolFault,
    Reason,
    Refused,
    Reply,
    Request,
    Secret,
    State,
    Trouble,
    TryAgain,
)

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

JUST_UNDER = 0.98
"""What was sent can act no later than one call time-out after its caller gave up or died: so late, nearly."""

WITHOUT_EFFECT: dict[Wrong, Reply] = {
    Wrong.UNSENT: TryAgain(Trouble.UNSENT, "unsent"),
    Wrong.CONFLICT: TryAgain(Trouble.CONFLICT, "conflict"),
    Wrong.INTERNAL: TryAgain(Trouble.SERVER_ERROR, "internal"),
    Wrong.THROTTLED: TryAgain(Trouble.THROTTLED, "throttled"),
    Wrong.FORBIDDEN: PoolFault("ForbiddenException", "ask", may_pass=True, may_be_own=True),
    Wrong.INVALID: Refused(State.FAILED, Reason.INVALID_PARAMETER),
    Wrong.DISABLED: Refused(State.SKIPPED, Reason.DISABLED),
}
NO_ANSWER = TryAgain(Trouble.NO_ANSWER, "no answer")


@dataclass(slots=True)
class Credential:
    """A Session or a token. ``dies_at`` in seconds of virtual time."""

    username: str
    kind: CredentialKind
    dies_at: float
    used: bool = False


@dataclass(frozen=True, slots=True)
class Course:
    """When a call acts (``None``: never), when its caller hears of it, and what instead of the real answer."""

    acts_after: float | None
    heard_after: float
    instead: Reply | None = None


class CognitoClient:
    """The user pool. Its list of issued secrets is the truth."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._credentials: dict[str, Credential] = {}
        self._issued = 0
        self.open_calls: list[Call] = []

    def grant(self, request: Request, dies_at: float) -> None:
        credential = Credential(request.username, request.kind, dies_at)
        self._credentials.setdefault(request.credential.reveal(), credential)

    def receive(self, process: Process, request: Request, *, late: bool) -> Call:
        """A request leaves."""
        call = Call(process, request, self._world.now, late)
        self._world.users[request.username].calls.append(call)
        self.open_calls.append(call)
        self._world.turns.used()
        self._world.happened(call)
        return call

    def course(self, wrong: Wrong | None, username: str) -> Course:
        if wrong is None:
            wrong = self._world.always_wrong.get(username)
        dice = self._world.dice
        if self._world.scenario.is_quick and wrong is None:
            return Course(0.03, 0.05)
        there, back = dice.choice((0.01, 0.05, 0.3, 2.0)), dice.choice((0.0, 0.05, 0.3, 2.0))
        later = CALL_TIMEOUT * dice.choice((0.1, 0.5, JUST_UNDER))
        match wrong:
            case None:
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

    def act(self, call: Call) -> Reply:
        """The call takes effect, if the credential is good; whether anybody hears of it is another matter."""
        request = call.request
        credential = self._credentials[request.credential.reveal()]
        token = credential.kind is CredentialKind.ACCESS_TOKEN
        if self._world.now >= credential.dies_at:
            return Refused(State.NEEDS_SESSION, Reason.TOKEN_EXPIRED if token else Reason.SESSION_EXPIRED)
        if credential.used:
            return Refused(State.NEEDS_SESSION, Reason.SESSION_SPENT)
        credential.used = not token
        self._issued += 1
        call.secret = f"SECRET{self._issued}"
        self._world.users[request.username].issued.append(call)
        self._world.tell("cognito", f"issues {call.secret} to {request.username} for {request.id}")
        session = None if token else Secret(f"session-after-{call.secret}")
        return Issued(Secret(call.secret), session, f"request-{self._issued}")

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
