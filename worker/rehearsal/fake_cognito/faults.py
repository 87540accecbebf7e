"""The ways in which the fake Cognito fails or answers wrongly: one table, and the plan that chooses from it.

A fault is asked for as `NAME=HOW_OFTEN` or `NAME@USERNAME=HOW_OFTEN`: `conflict=0.02`, `conflict=2%`, or `cut_after=3x`
for the first three requests that could meet it. `NAME~BEGINNING=HOW_OFTEN` is for every user whose name begins so:
`client_gone~bad-=1`. Usernames may hold any character. `NAME/OPERATION` is for that operation alone:
`cut_after/InitiateAuth=1%`, `conflict/VerifySoftwareToken@ana=1x`; otherwise a fault happens in every operation in
which it can.
"""

from __future__ import annotations

import difflib
import enum
import random
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from worker.rehearsal.fake_cognito import answers
from worker.rehearsal.fake_cognito.answers import Answer
from worker.rehearsal.fake_cognito.operations import CALLS, OPERATIONS, SIGNED, SIGNING_IN


class FaultError(ValueError):
    """The text that asks for a fault is wrong, or there is no such fault; the message says what to write instead."""


class Wire(enum.Enum):
    """What happens to the answer on the network."""

    WHOLE = enum.auto()
    """It arrives as it is."""
    RESET = enum.auto()
    """The connection is reset, and there is no answer."""
    CLOSED = enum.auto()
    """The connection is closed, and there is no answer."""
    CUT_BODY = enum.auto()
    """Half of the body is sent, with the length of the whole, and the connection is closed."""
    TRUNCATED = enum.auto()
    """Half of the body is sent, with the length of that half."""
    CORRUPT = enum.auto()
    """The body is not valid UTF-8."""
    NEVER = enum.auto()
    """No answer comes, and the connection stays open."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to fail."""

    name: str
    help: str
    acts: bool = False
    """Whether the service does what it was asked before the fault happens."""
    answer: Answer | None = None
    """What it answers instead of the real result."""
    wire: Wire = Wire.WHOLE
    echoes: bool = False
    """Whether it answers with the credential in the error's message, as some services do."""
    delay: float = 0.0
    """Seconds on top of the latency."""
    happens_in: frozenset[str] = frozenset(OPERATIONS)
    """The operations in which it can happen."""


_WITH_A_SESSION = frozenset({"AssociateSoftwareToken", "VerifySoftwareToken", "RespondToAuthChallenge"})
"""The operations that may carry a Session."""

_WITH_A_CREDENTIAL = _WITH_A_SESSION | (CALLS - SIGNED)
"""Those that may carry an access token, too."""

_ABOUT_TOTP = CALLS - {"GetUser"}
"""Those that change a user's TOTP."""


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        # The service refuses one user for a moment.
        Fault("conflict", "ConcurrentModificationException", answer=answers.CONFLICT),
        Fault("internal_error", "InternalErrorException (500), did not act", answer=answers.INTERNAL),
        Fault("internal_error_acted", "acts, then InternalErrorException (500)", acts=True, answer=answers.INTERNAL),
        # It refuses everybody for a moment.
        Fault("throttled", "TooManyRequestsException", answer=answers.TOO_MANY_REQUESTS),
        Fault("throttling", "ThrottlingException", answer=answers.error("ThrottlingException", "Rate exceeded")),
        Fault(
            "limit_exceeded",
            "LimitExceededException",
            answer=answers.error("LimitExceededException", "Attempt limit exceeded, please try after some time."),
        ),
        Fault("http_429", "HTTP 429 without an error code", answer=answers.page(429, "Too Many Requests")),
        # The credential is not valid.
        Fault(
            "session_expired",
            "NotAuthorizedException: session is expired",
            answer=answers.SESSION_EXPIRED,
            happens_in=_WITH_A_CREDENTIAL,
        ),
        Fault(
            "session_spent",
            "NotAuthorizedException: session used already",
            answer=answers.SESSION_SPENT,
            happens_in=_WITH_A_CREDENTIAL,
        ),
        Fault(
            "session_invalid",
            "NotAuthorizedException: invalid session",
            answer=answers.SESSION_INVALID,
            happens_in=_WITH_A_CREDENTIAL,
        ),
        Fault(
            "token_invalid",
            "NotAuthorizedException: invalid access token",
            answer=answers.TOKEN_INVALID,
            happens_in=_WITH_A_CREDENTIAL,
        ),
        Fault(
            "token_expired",
            "NotAuthorizedException: access token expired",
            answer=answers.TOKEN_EXPIRED,
            happens_in=_WITH_A_CREDENTIAL,
        ),
        Fault(
            "token_revoked",
            "NotAuthorizedException: access token revoked",
            answer=answers.TOKEN_REVOKED,
            happens_in=_WITH_A_CREDENTIAL,
        ),
        Fault(
            "token_scope",
            "NotAuthorizedException: access token lacks the scope",
            answer=answers.TOKEN_SCOPE,
            happens_in=_WITH_A_CREDENTIAL,
        ),
        Fault(
            "invalid_parameter",
            "InvalidParameterException",
            answer=answers.invalid_parameter("1 validation error detected"),
        ),
        Fault(
            "echo",
            "InvalidParameterException whose message repeats the session or token",
            echoes=True,
            happens_in=_WITH_A_CREDENTIAL,
        ),
        # The sign-in is refused, or a trigger of the pool fails.
        Fault(
            "wrong_password",
            "NotAuthorizedException: incorrect username or password",
            answer=answers.WRONG_PASSWORD,
            happens_in=SIGNING_IN,
        ),
        Fault(
            "locked",
            "NotAuthorizedException: password attempts exceeded",
            answer=answers.LOCKED,
            happens_in=SIGNING_IN,
        ),
        Fault(
            "user_lambda",
            "UserLambdaValidationException: refused by a trigger",
            answer=answers.error("UserLambdaValidationException", "DefineAuthChallenge failed with error not you."),
            happens_in=SIGNING_IN,
        ),
        Fault(
            "unexpected_lambda",
            "UnexpectedLambdaException: a trigger could not be called",
            answer=answers.error("UnexpectedLambdaException", "DefineAuthChallenge failed."),
            happens_in=SIGNING_IN,
        ),
        Fault(
            "invalid_lambda",
            "InvalidLambdaResponseException: a trigger answered nonsense",
            answer=answers.error("InvalidLambdaResponseException", "Unrecognizable lambda output"),
            happens_in=SIGNING_IN,
        ),
        # The code is refused.
        Fault(
            "wrong_code",
            "EnableSoftwareTokenMFAException: code mismatch",
            answer=answers.WRONG_CODE,
            happens_in=frozenset({"VerifySoftwareToken"}),
        ),
        Fault(
            "status_error",
            "HTTP 200 with the status ERROR, did not act",
            answer=answers.success(Status="ERROR"),
            happens_in=frozenset({"VerifySoftwareToken"}),
        ),
        Fault(
            "access_denied",
            "AccessDeniedException: IAM does not permit it",
            answer=answers.error("AccessDeniedException", "User is not authorized to perform this operation"),
            happens_in=SIGNED,
        ),
        # Nobody can succeed.
        Fault(
            "totp_off",
            "SoftwareTokenMFANotFoundException: TOTP is off for the pool",
            answer=answers.TOTP_OFF,
            happens_in=_ABOUT_TOTP,
        ),
        Fault(
            "pool_gone",
            "ResourceNotFoundException: the pool or client is gone",
            answer=answers.error("ResourceNotFoundException", "User pool does not exist."),
        ),
        Fault(
            "client_gone",
            "ResourceNotFoundException: the app client is gone",
            answer=answers.error("ResourceNotFoundException", "User pool client 1rehearsal2gone does not exist."),
        ),
        Fault(
            "waf",
            "ForbiddenException (403): refused by WAF",
            answer=answers.error("ForbiddenException", "Request not allowed due to WAF block.", 403),
        ),
        Fault(
            "waf_400",
            "ForbiddenException (400)",
            answer=answers.error("ForbiddenException", "Request not allowed due to WAF block."),
        ),
        Fault(
            "not_enabled",
            "OperationNotEnabledException",
            answer=answers.error("OperationNotEnabledException", "The operation is not enabled."),
        ),
        # Something between the client and the service fails.
        Fault("html_503", "HTTP 503 with an HTML page, did not act", answer=answers.page(503, "Service Unavailable")),
        Fault(
            "html_502_acted",
            "acts, then HTTP 502 with an HTML page",
            acts=True,
            answer=answers.page(502, "Bad Gateway"),
        ),
        Fault("cut_before", "the connection is reset, did not act", wire=Wire.RESET),
        Fault("cut_after", "acts, then closes the connection without an answer", acts=True, wire=Wire.CLOSED),
        Fault("reset_after", "acts, then the connection is reset", acts=True, wire=Wire.RESET),
        Fault("cut_body", "acts, then HTTP 200, but the connection ends half-way", acts=True, wire=Wire.CUT_BODY),
        Fault("truncated", "acts, then HTTP 200 with half of the body", acts=True, wire=Wire.TRUNCATED),
        Fault("corrupt", "acts, then HTTP 200 with a body of invalid UTF-8", acts=True, wire=Wire.CORRUPT),
        Fault("empty_200", "acts, then HTTP 200 with an empty object", acts=True, answer=answers.success()),
        Fault("hang", "never answers, does not act", wire=Wire.NEVER),
        Fault("hang_acted", "acts, but never answers", acts=True, wire=Wire.NEVER),
        Fault("slow", "acts and answers two seconds later", acts=True, delay=2.0),
    )
}
"""Every fault that can be asked for, by name."""


@dataclass(slots=True)
class _Rule:
    """One fault that was asked for, and which requests it happens to."""

    fault: Fault
    username: str | None
    """Whose requests it happens to; None: everybody's."""
    chance: float
    """With which probability it happens, from 0 to 1."""
    left: int | None
    """To how many more requests it happens; None for a rule with a probability."""
    is_beginning: bool = False
    """Whether `username` is how the names of several users begin."""
    operation: str = ""
    """The only operation in which it happens; empty: every one in which it can."""

    def is_for(self, operation: str) -> bool:
        """Whether it can happen in that operation."""
        return operation in self.fault.happens_in and self.operation in ("", operation)


def _parse(text: str) -> _Rule:
    """Parse one `NAME[/OPERATION][@USERNAME|~BEGINNING]=HOW_OFTEN`. Raises FaultError."""
    target, equals, amount = text.rpartition("=")
    name, at, username = ([*re.split("([@~])", target, maxsplit=1), "", ""])[:3]
    name, slash, operation = name.strip().partition("/")
    if not equals:
        raise FaultError(
            f"{text!a} does not say how often: write NAME=2%, NAME=0.02 or NAME=3x. All: {', '.join(FAULTS)}"
        )
    if name not in FAULTS:
        nearest = difflib.get_close_matches(name, FAULTS, 1, 0.0)[0]
        raise FaultError(f"there is no fault {name!a}; did you mean {nearest}? All: {', '.join(FAULTS)}")
    if slash:
        _check_operation(FAULTS[name], operation)
    if at and not username:
        raise FaultError(f"{text!a} names no user after the {at}")
    chance, left = _how_often(name, amount.strip())
    return _Rule(FAULTS[name], username if at else None, chance, left, at == "~", operation)


def _check_operation(fault: Fault, operation: str) -> None:
    if operation not in OPERATIONS:
        nearest = difflib.get_close_matches(operation, OPERATIONS, 1, 0.0)[0]
        raise FaultError(f"there is no operation {operation!a}; did you mean {nearest}? All: {', '.join(OPERATIONS)}")
    if operation not in fault.happens_in:
        where = ", ".join(sorted(fault.happens_in))
        raise FaultError(f"{fault.name} does not happen in {operation}, only in {where}")


def _how_often(name: str, amount: str) -> tuple[float, int | None]:
    """The probability, and the number of requests where that was asked for instead. Raises FaultError."""
    if re.fullmatch(r"[0-9]+x", amount):
        return 0.0, int(amount[:-1])
    try:
        chance = float(amount[:-1]) / 100 if amount.endswith("%") else float(amount)
    except ValueError:
        raise FaultError(f"{amount!a} is no probability: write 2%, 0.02 or, for the first three, 3x") from None
    if not 0 <= chance <= 1:
        raise FaultError(f"{name}={amount} is not between 0 and 1; for so many requests write {name}={amount}x")
    return chance, None


def described() -> Iterator[str]:
    """Every fault in a line for people, and in which operations those happen that do not happen in all."""
    for fault in FAULTS.values():
        where = f" ({', '.join(sorted(fault.happens_in))})" if fault.happens_in != frozenset(OPERATIONS) else ""
        yield f"{fault.name:<21} {fault.help}{where}"


class FaultPlan:
    """Decides which fault, if any, happens to the next request; the same seed and requests lead to the same faults.

    Faults for the request's user come before those for users whose names begin alike, those before the ones for
    everybody, and counted ones before those with a probability.
    Raises FaultError for a fault that does not exist, or chances that exceed 1 together.
    """

    def __init__(self, faults: Iterable[str] = (), *, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - chance, not keys
        self._everybody: list[_Rule] = []
        self._users: dict[str, list[_Rule]] = {}
        self._beginnings: dict[str, list[_Rule]] = {}
        for rule in map(_parse, faults):
            if rule.username is None:
                self._everybody.append(rule)
            elif rule.is_beginning:
                self._beginnings.setdefault(rule.username, []).append(rule)
            else:
                self._users.setdefault(rule.username, []).append(rule)
        self._by_operation: dict[str, _Choice] = {}
        for rules in (self._everybody, *self._users.values(), *self._beginnings.values()):
            for operation in OPERATIONS:
                _Choice(rule for rule in rules if rule.is_for(operation))

    def draw(self, username: str | None, operation: str = "AssociateSoftwareToken") -> Fault | None:
        """Choose for one request of that user; `username` is None if the service does not know whose it is."""
        for rules in self._rules_for(username):
            fault = _Choice(rule for rule in rules if rule.is_for(operation)).draw(self._random)
            if fault is not None:
                return fault
        choice = self._by_operation.get(operation)
        if choice is None:
            choice = self._by_operation[operation] = _Choice(rule for rule in self._everybody if rule.is_for(operation))
        return choice.draw(self._random)

    def _rules_for(self, username: str | None) -> Iterator[list[_Rule]]:
        """The rules for this user alone, then those for users whose names begin alike."""
        if username is None:
            return
        if rules := self._users.get(username):
            yield rules
        for beginning, rules in self._beginnings.items():
            if username.startswith(beginning):
                yield rules


class _Choice:
    """Some rules to choose from. Raises FaultError where their probabilities exceed 1 together."""

    def __init__(self, rules: Iterable[_Rule]) -> None:
        every = list(rules)
        self._counted = [rule for rule in every if rule.left is not None]
        by_chance = [rule for rule in every if rule.left is None]
        self._faults = [rule.fault for rule in by_chance]
        self._chances = list(accumulate(rule.chance for rule in by_chance))
        if self._chances and self._chances[-1] > 1 + 1e-9:
            raise FaultError(f"the faults together are more than certain: {self._chances[-1]:.3g}")

    def draw(self, dice: random.Random) -> Fault | None:
        """The fault of the first counted rule that is not used up, else one by chance, else none."""
        for rule in self._counted:
            if rule.left:
                rule.left -= 1
                return rule.fault
        if not self._chances or self._chances[-1] == 0:
            return None
        index = bisect_right(self._chances, dice.random())
        return self._faults[index] if index < len(self._faults) else None
