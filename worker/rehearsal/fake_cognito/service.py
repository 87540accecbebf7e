"""The fake Cognito without its network: it judges credentials, issues secrets, enforces the quota and injects faults.

Rehearsals and tests compare their results with what it remembers. It does no I/O; its clocks are injected:

    call = cognito.arrive("AssociateSoftwareToken", {"Session": session})
    answer = cognito.act(call)                # as much later as the network and the service would take
    cognito.leave(call)
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from worker.rehearsal.fake_cognito import answers, signature
from worker.rehearsal.fake_cognito.answers import Answer
from worker.rehearsal.fake_cognito.config import CredentialKind, FakeCognitoConfig
from worker.rehearsal.fake_cognito.credentials import SCOPE, Credentials, Opened, Purpose
from worker.rehearsal.fake_cognito.enrolments import Enrolments
from worker.rehearsal.fake_cognito.faults import Fault, FaultPlan, Wire
from worker.rehearsal.fake_cognito.operations import ANSWERS_THREEFOLD, OPERATIONS, SIGNED, SIGNING_IN, Category
from worker.rehearsal.fake_cognito.quota import TokenBucket, Traffic
from worker.rehearsal.fake_cognito.sign_ins import SignIns
from worker.rehearsal.fake_cognito.triggers import Trigger
from worker.rehearsal.fake_cognito.users import TOTP, Status, User


class FakeRequest:
    """One request, from its arrival to its answer."""

    __slots__ = (
        *("authorization", "caller", "credential", "fault", "operation", "parameters", "refusal", "request_id"),
        *("username", "users"),
    )

    def __init__(self, operation: str, parameters: dict[str, Any], request_id: str, authorization: str) -> None:
        self.operation = operation
        self.parameters = parameters
        self.authorization = authorization
        self.username: str | None = None
        self.users: InFlight | None = None
        self.request_id = request_id
        self.credential = ""
        self.caller: Opened | None = None
        self.fault: Fault | None = None
        self.refusal: Answer | None = None

    @property
    def asks_the_time(self) -> bool:
        """Whether it only asks for the date of the answer, with nobody's token: it is answered at once, without faults.

        Faults and latency are about calls for users; a run that is not told the time makes none of these.
        """
        return self.operation == "GetUser" and self.username is None


class InFlight:
    """The calls of one kind that are in flight, by user."""

    def __init__(self) -> None:
        self._calls: dict[str, int] = {}
        self.reset()

    def reset(self) -> None:
        """Set the counts back."""
        self.overlapping: Counter[str] = Counter()
        self.most = max(self._calls.values(), default=0)

    def enter(self, username: str) -> bool:
        """Count a call in; whether another one of the same user is in flight."""
        calls = self._calls[username] = self._calls.get(username, 0) + 1
        self.most = max(self.most, calls)
        if calls > 1:
            self.overlapping[username] += 1
        return calls > 1

    def leave(self, username: str) -> None:
        """Count a call out."""
        if others := self._calls[username] - 1:
            self._calls[username] = others
        else:
            del self._calls[username]


class FakeUserPool:
    """One user pool, as far as sign-ins and TOTP are concerned.

    `wall` returns UNIX seconds, `monotonic` seconds of any origin. `trigger` is the pool's Lambda function, in place of
    the fake's own triggers. Raises ValueError for a ticket key that is none, FaultError (a ValueError) for faults that
    do not exist.
    """

    def __init__(
        self,
        config: FakeCognitoConfig,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        trigger: Trigger | None = None,
    ) -> None:
        self.config = config
        self.enrolments = Enrolments()
        self._wall = wall
        self._monotonic = monotonic
        self._faults = FaultPlan(config.faults, seed=config.seed)
        self._random = random.Random(config.seed)  # noqa: S311 - chance, not keys
        self._ids = random.Random()  # noqa: S311 - chance, not keys
        self._buckets = {category: TokenBucket(*quota, monotonic()) for category, quota in _quotas(config).items()}
        issuer = f"https://cognito-idp.{config.region}.amazonaws.com/{config.user_pool_id}"
        self._credentials = Credentials(issuer=issuer, client_id=config.client_id)
        self._sign_ins = SignIns(config, self._credentials, self.enrolments, self.now, trigger)
        self.users = self._sign_ins.users
        self._updating, self._signing_in = InFlight(), InFlight()
        self._total_in_flight = 0
        self.reset_stats()

    def now(self) -> float:
        """Return the service's time, in UNIX seconds."""
        return self._wall() + self.config.clock_skew

    def new_request_id(self) -> str:
        """Return a UUID."""
        digits = f"{self._ids.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def delay(self, call: FakeRequest) -> float:
        """Return the seconds from the call's arrival to its effect."""
        config = self.config
        if call.asks_the_time:
            return 0.0
        slower = call.fault.delay if call.fault is not None else 0.0
        return config.latency + slower + (config.jitter * self._random.random() if config.jitter else 0.0)

    def configure(self, changes: dict[str, Any]) -> None:
        """Change live settings. Raises ValueError for other settings, unknown ones, and values that are not allowed."""
        if fixed := {"region", "user_pool_id", "client_id", "seed", "port"} & changes.keys():
            raise ValueError(f"not to be changed while it runs: {', '.join(sorted(fixed))}")
        config = self.config.replaced(changes)
        if "faults" in changes:
            self._faults = FaultPlan(config.faults, seed=config.seed)
        self._sign_ins.configure(config)
        before = _quotas(self.config)
        for category, quota in _quotas(config).items():
            if quota != before[category]:
                self._buckets[category].change(*quota, self._monotonic())
        self.config = config

    def sign_in(
        self, username: str, credential: CredentialKind = "session", validity: float | None = None, scope: str = SCOPE
    ) -> tuple[str, float]:
        """Return a new credential and when it expires (UNIX seconds). Raises ValueError for an impossible username.

        `validity` in seconds; by default `session_validity`, and `token_validity` for a token.
        """
        now = self.now()
        if self._sign_ins.find(username) is None:
            self.users.add(username, User())
        if credential == "token":
            expires_at = float(int(now + (self.config.token_validity if validity is None else validity)))
            return self._credentials.token(username, now, expires_at, scope), expires_at
        expires_at = now + (self.config.session_validity if validity is None else validity)
        return self._credentials.session(username, expires_at), expires_at

    def revoke(self, usernames: Iterable[str]) -> None:
        """Revoke every access token that these users have now."""
        self._credentials.revoke(usernames)

    def arrive(self, operation: str, parameters: dict[str, Any], authorization: str = "") -> FakeRequest:
        """Count a request for one of OPERATIONS, and decide whether the quota admits it and whether it overlaps.

        `authorization` is the header of that name.
        """
        call = FakeRequest(operation, parameters, self.new_request_id(), authorization)
        now, category = self._monotonic(), OPERATIONS[operation]
        admitted = self._buckets[category].take(now)
        self.traffic[category].arrive(now, admitted=admitted)
        self.operations[operation] += 1
        if authorization:
            self.signed[operation] += 1
        self._recognise(call)
        overlaps = self._enter(call)
        if not admitted:
            call.refusal = answers.TOO_MANY_REQUESTS
            return call
        if not call.asks_the_time:
            call.fault = self._faults.draw(call.username, operation)
        if call.fault is not None:
            self.faults[call.fault.name] += 1
        if overlaps and self.config.refuse_overlaps and category is Category.UPDATES:
            call.refusal = answers.CONFLICT
        return call

    def act(self, call: FakeRequest) -> Answer:
        """Do what the call asks for, and return what the service answers (before `call.fault.wire` is applied)."""
        fault = call.fault
        if fault is not None and not fault.acts:
            answer = _echo(call) if fault.echoes else fault.answer or answers.NOTHING
        else:
            answer = call.refusal or self._perform(call)
            if answer.error is None and OPERATIONS[call.operation] is Category.UPDATES:
                self.acted += 1
            if fault is not None and fault.answer is not None:
                answer = fault.answer
        if answer.error is not None and (fault is None or fault.wire is Wire.WHOLE):
            self.errors[answer.error] += 1
        return answer

    def leave(self, call: FakeRequest) -> None:
        """Note that the call is no longer in flight."""
        self._total_in_flight -= 1
        if call.users is not None and call.username is not None:
            call.users.leave(call.username)

    def reset_stats(self) -> None:
        """Set all counts back; the users and their secrets stay."""
        self.traffic = {category: Traffic() for category in Category}
        self.operations: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.signed: Counter[str] = Counter()
        self._updating.reset()
        self._signing_in.reset()
        self.acted = self.issued = self.looked = 0
        self.most_in_flight = self._total_in_flight

    def stats(self, since: float | None = None, until: float | None = None) -> dict[str, Any]:
        """Return what was counted; `since` and `until` (monotonic seconds) limit which arrivals are counted."""
        updates = self._traffic(Category.UPDATES, since, until)
        return {
            **updates,
            "categories": {category: self._traffic(category, since, until) for category in Category},
            "acted": self.acted,
            "issued": self.issued,
            "looked": self.looked,
            "operations": dict(self.operations),
            "signed": dict(self.signed),
            "errors": dict(self.errors),
            "faults": dict(self.faults),
            "overlapping": dict(self._updating.overlapping),
            "sign_ins_overlapping": dict(self._signing_in.overlapping),
            "most_in_flight": self.most_in_flight,
            "most_in_flight_one_user": self._updating.most,
            "in_flight": self._total_in_flight,
        }

    def _traffic(self, category: Category, since: float | None, until: float | None) -> dict[str, Any]:
        traffic, rate = self.traffic[category], self._buckets[category].rate
        wire, admitted = traffic.count(since, until)
        return {
            "wire_requests": wire,
            "admitted": admitted,
            "refused": wire - admitted,
            "largest_window": traffic.largest_window(since, until),
            "utilisation": traffic.utilisation(rate, since, until),
            "first_arrival": traffic.first,
            "last_arrival": traffic.last,
        }

    def _recognise(self, call: FakeRequest) -> None:
        session, token = call.parameters.get("Session"), call.parameters.get("AccessToken")
        if isinstance(session, str):
            call.credential, call.caller = session, self._credentials.open_session(session)
        elif isinstance(token, str):
            call.credential, call.caller = token, self._credentials.open_token(token)
        if call.caller is not None:
            call.username = call.caller.username
            return
        given = call.parameters.get("AuthParameters")
        named = given.get("USERNAME") if isinstance(given, dict) else call.parameters.get("Username")
        call.username = named if isinstance(named, str) else None

    def _enter(self, call: FakeRequest) -> bool:
        self._total_in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._total_in_flight)
        if call.username is None or call.operation == "GetUser":
            return False
        call.users = self._signing_in if call.operation in SIGNING_IN else self._updating
        return call.users.enter(call.username)

    def _perform(self, call: FakeRequest) -> Answer:
        if call.operation in SIGNED and (refusal := signature.refusal(call.authorization, self.config.region)):
            return refusal
        match call.operation:
            case "InitiateAuth" | "AdminInitiateAuth":
                return self._sign_ins.begin(call.operation, call.parameters)
            case "RespondToAuthChallenge":
                return self._sign_ins.answer(call.parameters, call.caller)
            case "AdminSetUserMFAPreference":
                return self._prefer_as_admin(call)
        if refusal := _malformed(call):
            return refusal
        associating = call.operation == "AssociateSoftwareToken"
        if call.parameters.get("Session") is None:
            purpose = Purpose.TOKEN
        else:
            purpose = Purpose.ASSOCIATE if associating else Purpose.VERIFY
        caller = self._credentials.judge(call.caller, purpose, self.now())
        if isinstance(caller, Answer):
            return caller
        return self._perform_for(call, caller)

    def _perform_for(self, call: FakeRequest, caller: Opened) -> Answer:
        """What is done for a user whose credential is good."""
        user = self._sign_ins.find(caller.username)
        if user is None or user.status is Status.DISABLED:
            return answers.NO_USER if user is None else answers.DISABLED
        if call.operation == "GetUser":
            return self._look(caller.username)
        if self.config.mfa == "off":
            return answers.TOTP_OFF
        if call.operation == "AssociateSoftwareToken":
            return self._associate(call, caller)
        if call.operation == "VerifySoftwareToken":
            return self._verify(call, caller)
        return self._prefer(call, caller.username)

    def _associate(self, call: FakeRequest, caller: Opened) -> Answer:
        by_session = caller.purpose is not Purpose.TOKEN
        digest = hashlib.sha256(call.credential.encode()).digest()[:8]
        code = self.enrolments.issue(caller.username, call.request_id, self.now(), digest, by_session=by_session)
        self.issued += 1
        if by_session:
            return answers.success(SecretCode=code, Session=self._exchange(caller, Purpose.VERIFY))
        return answers.success(SecretCode=code)

    def _verify(self, call: FakeRequest, caller: Opened) -> Answer:
        if not self.enrolments.verify(caller.username, call.parameters["UserCode"], self.now()):
            return answers.WRONG_CODE
        if caller.purpose is Purpose.TOKEN:
            return answers.success(Status="SUCCESS")
        return answers.success(Status="SUCCESS", Session=self._exchange(caller, Purpose.RESPOND))

    def _prefer(self, call: FakeRequest, username: str) -> Answer:
        settings = call.parameters.get("SoftwareTokenMfaSettings") or {}
        enabled, preferred = bool(settings.get("Enabled")), bool(settings.get("PreferredMfa"))
        done = self.enrolments.prefer(username, enabled=enabled, preferred=preferred)
        return answers.success() if done else answers.NOT_VERIFIED

    def _prefer_as_admin(self, call: FakeRequest) -> Answer:
        pool, username = call.parameters.get("UserPoolId"), call.parameters.get("Username")
        if pool != self.config.user_pool_id:
            return answers.error("ResourceNotFoundException", f"User pool {pool} does not exist.")
        settings = call.parameters.get("SoftwareTokenMfaSettings")
        if not isinstance(username, str) or not isinstance(settings, dict | None):
            return answers.invalid_parameter("Username is required, and settings are objects")
        if self._sign_ins.find(username) is None:
            return answers.NO_USER
        return answers.TOTP_OFF if self.config.mfa == "off" else self._prefer(call, username)

    def _look(self, username: str) -> Answer:
        self.looked += 1
        factors, preferred = self._sign_ins.factors(username), self._sign_ins.preferred(username)
        if self.config.verified_shows and self.enrolments.is_verified(username) and TOTP not in factors:
            factors.append(TOTP)
        told: dict[str, Any] = {"Username": username, "UserAttributes": [{"Name": "sub", "Value": username}]}
        if factors:
            told["UserMFASettingList"] = factors
        if preferred is not None:
            told["PreferredMfaSetting"] = preferred
        return answers.success(**told)

    def _exchange(self, spent: Opened, purpose: Purpose) -> str:
        self._credentials.spend(spent)
        return self._credentials.session(spent.username, self.now() + self.config.session_validity, purpose)


def _quotas(config: FakeCognitoConfig) -> dict[Category, tuple[float | None, float | None]]:
    """Return each category's requests/s, and how many of them an idle quota saves up."""
    answered = None if config.sign_in_quota is None else ANSWERS_THREEFOLD * config.sign_in_quota
    return {
        Category.UPDATES: (config.quota, config.burst),
        Category.SIGN_INS: (config.sign_in_quota, None),
        Category.ANSWERS: (answered, None),
        Category.READS: (config.read_quota, None),
    }


def _malformed(call: FakeRequest) -> Answer | None:
    session, token = call.parameters.get("Session"), call.parameters.get("AccessToken")
    if (session is None) == (token is None):
        return answers.invalid_parameter("Exactly one of Session and AccessToken is required")
    if not isinstance(session if token is None else token, str):
        return answers.invalid_parameter("Session and AccessToken are strings")
    if session is not None and not 20 <= len(session) <= 2048:
        return answers.invalid_parameter("Value at 'session' failed to satisfy constraint: 20 to 2048 characters")
    if call.operation == "GetUser" and token is None:
        return answers.invalid_parameter("AccessToken is required")
    if call.operation == "SetUserMFAPreference":
        settings = call.parameters.get("SoftwareTokenMfaSettings")
        if token is None or not isinstance(settings, dict | None):
            return answers.invalid_parameter("AccessToken is required, and settings are objects")
    if call.operation == "VerifySoftwareToken":
        code = call.parameters.get("UserCode")
        if not isinstance(code, str) or len(code) != 6 or not (code.isascii() and code.isdigit()):
            return answers.invalid_parameter("Value at 'userCode' failed to satisfy constraint: six digits")
    return None


def _echo(call: FakeRequest) -> Answer:
    return answers.invalid_parameter(f"1 validation error detected: Value '{call.credential}' is not valid")
