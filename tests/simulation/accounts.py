"""The users of the pool: what they can sign in with, which secrets Cognito issued to them, and which it verified.

``WITHOUT_EFFECT`` in ``truth`` says what is answered where nothing happens; here is what happens.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation.history import Call, Verification
from tests.simulation.scenario import EPOCH, SESSION_VALIDITY, Operation, Wrong
from tests.support.totp import PERIOD, code_at
from worker.core.model import (
    SIGNS_IN,
    AlreadyEnrolled,
    CredentialKind,
    CustomChallenge,
    Issued,
    LookReply,
    NotEnrolled,
    Preferred,
    PreferReply,
    Reason,
    Refused,
    Reply,
    Request,
    Secret,
    SignedIn,
    SignInReply,
    State,
    Verified,
    VerifyReply,
    WrongCode,
)

if TYPE_CHECKING:
    from tests.simulation.world import World

BEFORE = "BEFORE"
"""The secret of whoever was enrolled before the rollout."""
DRIFT = 1
"""Time steps by which a code may be early or late (``facts.md``)."""


@dataclass(slots=True)
class Credential:
    """A Session, a token, a ticket or a password. ``dies_at`` in seconds of virtual time."""

    username: str
    kind: CredentialKind
    dies_at: float
    good_for: Operation = "associate"
    """What a Session is for."""
    used: bool = False
    is_wrong: bool = False
    from_sign_in: bool = False


@dataclass(slots=True)
class Account:
    """One user."""

    issued: str | None = None
    """The newest secret: the one that a code verifies."""
    verified: str | None = None
    is_preferred: bool = False


class Accounts:
    """All of them, by username."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._accounts: defaultdict[str, Account] = defaultdict(Account)
        for username in world.scenario.enrolled:
            self._accounts[username] = Account(verified=BEFORE, is_preferred=True)
        self.credentials: dict[str, Credential] = {}
        self._wrong_until_now = set(world.scenario.wrong_credentials)
        self._issued = 0
        self._sign_ins = 0

    def __getitem__(self, username: str) -> Account:
        return self._accounts[username]

    def grant(self, request: Request, dies_at: float) -> None:
        """Whoever asks has this; a wrong ticket or password only the first time."""
        credential = Credential(request.username, request.kind, dies_at)
        if request.kind in SIGNS_IN and request.username in self._wrong_until_now:
            self._wrong_until_now.discard(request.username)
            credential.is_wrong = True
        self.credentials.setdefault(request.credential.reveal(), credential)

    def act(self, call: Call, wrong: Wrong | None) -> object:
        """What the call does; ``wrong``: and what is wrong with Cognito at the same time."""
        match call.operation:
            case "associate":
                return self._associate(call)
            case "begin":
                return self._begin(call)
            case "answer":
                return self._answer(call)
            case "look":
                return self._look(call)
            case "verify":
                return self._verify(call, finds_it_wrong=wrong is Wrong.WRONG_CODE)
            case _:
                return self._prefer(call)

    # --- secrets ------------------------------------------------------------------------------------------------------

    def _associate(self, call: Call) -> Reply:
        request = call.request
        credential = self.credentials[request.credential.reveal()]
        if refused := self._refused(credential, "associate"):
            return refused
        token = credential.kind is CredentialKind.ACCESS_TOKEN
        credential.used = not token
        self._issued += 1
        call.secret = _secret_code(self._issued)
        self[request.username].issued = call.secret
        self._world.users[request.username].issued.append(call)
        self._world.tell("cognito", f"issues {call.secret} to {request.username} for {request.id}")
        session = None if token else self._session(request.username, "verify", f"after-{call.secret}")
        return Issued(Secret(call.secret), session, f"request-{self._issued}")

    def _verify(self, call: Call, *, finds_it_wrong: bool) -> VerifyReply:
        username, account = call.request.username, self[call.request.username]
        name = call.request.credential.reveal()
        credential = self.credentials[name]
        if refused := self._refused(credential, "verify"):
            return refused
        if account.issued is None:
            return Refused(State.FAILED, Reason.INVALID_PARAMETER)
        token = credential.kind is CredentialKind.ACCESS_TOKEN
        if finds_it_wrong or not self._is_right(call.code, account.issued):
            self._world.tell("cognito", f"finds the code for {username} wrong")
            if token or self._world.scenario.after_wrong_code == "same":
                return WrongCode(None, "EnableSoftwareTokenMFAException")
            credential.used = True
            if self._world.scenario.after_wrong_code == "none":
                return WrongCode(None, "EnableSoftwareTokenMFAException")
            return WrongCode(self._session(username, "verify", f"{name}-again"), "status_error")
        credential.used = not token
        account.verified = account.issued
        self._world.tell("cognito", f"verifies {account.verified} of {username}")
        verification = Verification(self._world.now, account.verified, call)
        self._world.users[username].verified.append(verification)
        self._world.happened(verification)
        return Verified()

    def _is_right(self, code: str, secret: str) -> bool:
        now = EPOCH + self._world.now
        return any(code_at(secret, now + step * PERIOD) == code for step in range(-DRIFT, DRIFT + 1))

    def _prefer(self, call: Call) -> PreferReply:
        account, request = self[call.request.username], call.request
        if request.kind is CredentialKind.ACCESS_TOKEN and (
            refused := self._refused(self.credentials[request.credential.reveal()], "prefer")
        ):
            return refused
        if account.verified is None:
            return Refused(State.FAILED, Reason.INVALID_PARAMETER)
        account.is_preferred = True
        self._world.tell("cognito", f"prefers TOTP for {request.username}")
        return Preferred()

    def _refused(self, credential: Credential, operation: Operation) -> Refused | None:
        token = credential.kind is CredentialKind.ACCESS_TOKEN
        if self._world.now >= credential.dies_at:
            return Refused(State.NEEDS_SESSION, Reason.TOKEN_EXPIRED if token else Reason.SESSION_EXPIRED)
        if credential.used:
            return Refused(State.NEEDS_SESSION, Reason.SESSION_SPENT)
        if not token and credential.good_for != operation:
            return Refused(State.NEEDS_SESSION, Reason.SESSION_INVALID)
        return None

    # --- sign-ins -----------------------------------------------------------------------------------------------------

    def _begin(self, call: Call) -> SignInReply:
        request = call.request
        credential = self.credentials[request.credential.reveal()]
        assert credential.kind in SIGNS_IN, "nobody signs in with a Session or a token"
        if credential.kind is CredentialKind.TICKET:
            return CustomChallenge(self._session(request.username, "answer", f"challenge-{self._next_sign_in()}"))
        if credential.is_wrong:
            return Refused(State.NEEDS_SESSION, Reason.SIGN_IN_REFUSED)
        if self._asks_for_a_code(request.username):
            return AlreadyEnrolled()
        if self._world.scenario.requires_mfa:
            name = f"signed-in-{self._next_sign_in()}"
            session = self._session(request.username, "associate", name)
            self.credentials[session.reveal()].from_sign_in = True
            return SignedIn(CredentialKind.SESSION, session, SESSION_VALIDITY)
        return self._tokens(request.username)

    def _answer(self, call: Call) -> SignInReply:
        """``call.code`` is the challenge's Session."""
        request, challenge = call.request, self.credentials[call.code]
        if refused := self._refused(challenge, "answer"):
            return refused
        challenge.used = True
        ticket = self.credentials[request.credential.reveal()]
        if ticket.is_wrong or self._world.now >= ticket.dies_at:
            return Refused(State.NEEDS_SESSION, Reason.SIGN_IN_REFUSED)
        return self._tokens(request.username)

    def _look(self, call: Call) -> LookReply:
        request = call.request
        if refused := self._refused(self.credentials[request.credential.reveal()], "look"):
            return refused
        return AlreadyEnrolled() if self._has_active_factor(request.username) else NotEnrolled()

    def _asks_for_a_code(self, username: str) -> bool:
        return self._has_active_factor(username) or (
            self._world.scenario.requires_mfa and self[username].verified is not None
        )

    def _has_active_factor(self, username: str) -> bool:
        account = self[username]
        return account.verified is not None and (account.is_preferred or self._world.scenario.shows_unpreferred)

    def _tokens(self, username: str) -> SignedIn:
        life = self._world.scenario.token_life
        name = f"token-{self._next_sign_in()}"
        self.credentials[name] = Credential(
            username, CredentialKind.ACCESS_TOKEN, self._world.now + life, from_sign_in=True
        )
        return SignedIn(CredentialKind.ACCESS_TOKEN, Secret(name), life)

    def _session(self, username: str, good_for: Operation, name: str) -> Secret:
        dies_at = self._world.now + SESSION_VALIDITY
        self.credentials[f"session-{name}"] = Credential(username, CredentialKind.SESSION, dies_at, good_for)
        return Secret(f"session-{name}")

    def _next_sign_in(self) -> int:
        self._sign_ins += 1
        return self._sign_ins


def _secret_code(number: int) -> str:
    """A secret in base32, of the least length that Cognito promises, that tells its number in letters: A is 0."""
    return "SECRET" + "".join(chr(ord("A") + int(digit)) for digit in f"{number:010}")
