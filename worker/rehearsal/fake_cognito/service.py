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

from worker.rehearsal.fake_cognito import answers
from worker.rehearsal.fake_cognito.answers import Answer
from worker.rehearsal.fake_cognito.config import CredentialKind, FakeCognitoConfig
from worker.rehearsal.fake_cognito.credentials import SCOPE, Credentials, Opened, Purpose
from worker.rehearsal.fake_cognito.enrolments import Enrolments
from worker.rehearsal.fake_cognito.faults import Fault, FaultPlan, Wire
from worker.rehearsal.fake_cognito.quota import TokenBucket, Traffic

OPERATIONS = ("AssociateSoftwareToken", "VerifySoftwareToken", "SetUserMFAPreference")
"""The operations that are implemented. They share one quota ("Quotas in Amazon Cognito", UserResourceUpdate)."""


class FakeRequest:
    """One request, from its arrival to its answer."""

    __slots__ = ("caller", "credential", "fault", "operation", "parameters", "refusal", "request_id")

    def __init__(self, operation: str, parameters: dict[str, Any], request_id: str) -> None:
        self.operation = operation
        self.parameters = parameters
        self.request_id = request_id
        self.credential = ""
        self.caller: Opened | None = None
        self.fault: Fault | None = None
        self.refusal: Answer | None = None


class FakeUserPool:
    """One user pool, as far as TOTP is concerned. `wall` returns UNIX seconds, `monotonic` seconds of any origin.

    Raises FaultError (a ValueError) for faults that do not exist.
    """

    def __init__(
        self,
        config: FakeCognitoConfig,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.enrolments = Enrolments()
        self._wall = wall
        self._monotonic = monotonic
        self._faults = FaultPlan(config.faults, seed=config.seed)
        self._random = random.Random(config.seed)  # noqa: S311 - chance, not keys
        self._ids = random.Random()  # noqa: S311 - chance, not keys
        self._bucket = TokenBucket(config.quota, config.burst, monotonic())
        issuer = f"https://cognito-idp.{config.region}.amazonaws.com/{config.user_pool_id}"
        self._credentials = Credentials(issuer=issuer, client_id=config.client_id)
        self._in_flight: dict[str, int] = {}
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
        slower = call.fault.delay if call.fault is not None else 0.0
        return config.latency + slower + (config.jitter * self._random.random() if config.jitter else 0.0)

    def configure(self, changes: dict[str, Any]) -> None:
        """Change live settings. Raises ValueError for other settings, unknown ones, and values that are not allowed."""
        if fixed := {"region", "user_pool_id", "client_id", "seed", "port"} & changes.keys():
            raise ValueError(f"not to be changed while it runs: {', '.join(sorted(fixed))}")
        config = self.config.replaced(changes)
        if "faults" in changes:
            self._faults = FaultPlan(config.faults, seed=config.seed)
        if {"quota", "burst"} & changes.keys():
            self._bucket.change(config.quota, config.burst, self._monotonic())
        self.config = config

    def sign_in(
        self, username: str, credential: CredentialKind = "session", validity: float | None = None, scope: str = SCOPE
    ) -> tuple[str, float]:
        """Return a new credential and when it expires (UNIX seconds). Raises ValueError for an impossible username.

        `validity` in seconds; by default `session_validity`, and an hour for a token.
        """
        now = self.now()
        if credential == "token":
            expires_at = float(int(now + (3600.0 if validity is None else validity)))
            return self._credentials.token(username, now, expires_at, scope), expires_at
        expires_at = now + (self.config.session_validity if validity is None else validity)
        return self._credentials.session(username, expires_at), expires_at

    def revoke(self, usernames: Iterable[str]) -> None:
        """Revoke every access token that these users have now."""
        self._credentials.revoke(usernames)

    def arrive(self, operation: str, parameters: dict[str, Any]) -> FakeRequest:
        """Count a request for one of OPERATIONS, and decide whether the quota admits it and whether it overlaps."""
        call = FakeRequest(operation, parameters, self.new_request_id())
        now = self._monotonic()
        admitted = self._bucket.take(now)
        self.traffic.arrive(now, admitted=admitted)
        self.operations[operation] += 1
        self._recognise(call)
        username = call.caller.username if call.caller is not None else None
        overlaps = self._enter(username)
        if not admitted:
            call.refusal = answers.TOO_MANY_REQUESTS
            return call
        call.fault = self._faults.draw(username)
        if call.fault is not None:
            self.faults[call.fault.name] += 1
        if overlaps and self.config.refuse_overlaps:
            call.refusal = answers.CONFLICT
        return call

    def act(self, call: FakeRequest) -> Answer:
        """Do what the call asks for, and return what the service answers (before `call.fault.wire` is applied)."""
        fault = call.fault
        if fault is not None and not fault.acts:
            answer = _echo(call) if fault.echoes else fault.answer or answers.NOTHING
        else:
            answer = call.refusal or self._perform(call)
            if answer.error is None:
                self.acted += 1
            if fault is not None and fault.answer is not None:
                answer = fault.answer
        if answer.error is not None and (fault is None or fault.wire is Wire.WHOLE):
            self.errors[answer.error] += 1
        return answer

    def leave(self, call: FakeRequest) -> None:
        """Note that the call is no longer in flight."""
        self._total_in_flight -= 1
        if call.caller is None:
            return
        username = call.caller.username
        others = self._in_flight[username] - 1
        if others:
            self._in_flight[username] = others
        else:
            del self._in_flight[username]

    def reset_stats(self) -> None:
        """Set all counts back; the users and their secrets stay."""
        self.traffic = Traffic()
        self.operations: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.overlapping: Counter[str] = Counter()
        self.acted = self.issued = 0
        self.most_in_flight = self._total_in_flight
        self.most_in_flight_one_user = max(self._in_flight.values(), default=0)

    def stats(self, since: float | None = None, until: float | None = None) -> dict[str, Any]:
        """Return what was counted; `since` and `until` (monotonic seconds) limit which arrivals are counted."""
        wire, admitted = self.traffic.count(since, until)
        return {
            "wire_requests": wire,
            "admitted": admitted,
            "refused": wire - admitted,
            "acted": self.acted,
            "issued": self.issued,
            "operations": dict(self.operations),
            "errors": dict(self.errors),
            "faults": dict(self.faults),
            "largest_window": self.traffic.largest_window(since, until),
            "utilisation": self.traffic.utilisation(self.config.quota, since, until),
            "first_arrival": self.traffic.first,
            "last_arrival": self.traffic.last,
            "overlapping": dict(self.overlapping),
            "most_in_flight": self.most_in_flight,
            "most_in_flight_one_user": self.most_in_flight_one_user,
            "in_flight": self._total_in_flight,
        }

    def _recognise(self, call: FakeRequest) -> None:
        session, token = call.parameters.get("Session"), call.parameters.get("AccessToken")
        if isinstance(session, str):
            call.credential, call.caller = session, self._credentials.open_session(session)
        elif isinstance(token, str):
            call.credential, call.caller = token, self._credentials.open_token(token)

    def _enter(self, username: str | None) -> bool:
        self._total_in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._total_in_flight)
        if username is None:
            return False
        calls = self._in_flight[username] = self._in_flight.get(username, 0) + 1
        self.most_in_flight_one_user = max(self.most_in_flight_one_user, calls)
        if calls > 1:
            self.overlapping[username] += 1
        return calls > 1

    def _perform(self, call: FakeRequest) -> Answer:
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
        if associating:
            return self._associate(call, caller)
        return self._verify(call, caller) if call.operation == "VerifySoftwareToken" else self._prefer(call, caller)

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

    def _prefer(self, call: FakeRequest, caller: Opened) -> Answer:
        settings = call.parameters.get("SoftwareTokenMfaSettings") or {}
        done = self.enrolments.prefer(caller.username, enabled=bool(settings.get("Enabled")))
        return answers.success() if done else answers.NOT_VERIFIED

    def _exchange(self, spent: Opened, purpose: Purpose) -> str:
        self._credentials.spend(spent)
        return self._credentials.session(spent.username, self.now() + self.config.session_validity, purpose)


def _malformed(call: FakeRequest) -> Answer | None:
    session, token = call.parameters.get("Session"), call.parameters.get("AccessToken")
    if (session is None) == (token is None):
        return answers.invalid_parameter("Exactly one of Session and AccessToken is required")
    if not isinstance(session if token is None else token, str):
        return answers.invalid_parameter("Session and AccessToken are strings")
    if session is not None and not 20 <= len(session) <= 2048:
        return answers.invalid_parameter("Value at 'session' failed to satisfy constraint: 20 to 2048 characters")
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
