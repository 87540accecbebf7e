"""What the answers to sign-ins mean, and to the question whether a user has a TOTP factor.

What is not said here is as for every operation (``answers``). Messages are those that Cognito is seen to answer with:
the API reference names only the codes.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.adapters.cognito.answers import (
    Operation,
    code_of,
    is_text,
    object_of,
    pool_fault,
    read_error,
    refused,
    words_of,
)
from worker.core.model import (
    AlreadyEnrolled,
    CredentialKind,
    CustomChallenge,
    LookReply,
    NotEnrolled,
    PoolFault,
    Reason,
    Refused,
    Secret,
    SignedIn,
    SignInReply,
    Trouble,
    TryAgain,
)

TOTP = "SOFTWARE_TOKEN_MFA"
"""Cognito's name of TOTP: as a challenge, and in each of its lists of factors."""

LONGEST_TOKEN = 86_400.0
"""Seconds that an access token lives at most (API reference, CreateUserPoolClient: ``AccessTokenValidity``)."""
SHORTEST_TOKEN = 300.0
"""The least that one lives: believed where an answer does not say for how long."""

_CLIENT = (
    "Correct sign_in.client_id, cognito.user_pool_id and cognito.region: there is no such app client, or no such pool."
)
_OTHER_POOL = "Set sign_in.client_id to an app client of cognito.user_pool_id: the one that is named is another pool's."
_HASH = (
    "Set sign_in.client_secret to the secret of the app client that sign_in.client_id names, or remove the setting if "
    "that client has none."
)
_FLOW = (
    "Allow the flow of sign_in.flow in the app client that sign_in.client_id names (ExplicitAuthFlows: "
    "ALLOW_CUSTOM_AUTH, ALLOW_USER_PASSWORD_AUTH or ALLOW_ADMIN_USER_PASSWORD_AUTH), or set a flow that it allows."
)
_TRIGGERS = "Install the pool's Lambda triggers for tickets (config/sign-in), or set another sign_in.flow."
_SMS = (
    "Repair the IAM role and settings with which the pool sends text messages (SmsConfiguration): it cannot send this "
    "user's code."
)
_EMAIL = "Repair the settings with which the pool sends mail (EmailConfiguration): it cannot send this user's code."

_CURES = {
    "ResourceNotFoundException": _CLIENT,
    "InvalidSmsRoleAccessPolicyException": _SMS,
    "InvalidSmsRoleTrustRelationshipException": _SMS,
    "InvalidEmailRoleAccessPolicyException": _EMAIL,
}
"""Code → what a person must do, where that is another than for every operation."""

_OWN = frozenset(
    {
        "InvalidEmailRoleAccessPolicyException",
        "InvalidSmsRoleAccessPolicyException",
        "InvalidSmsRoleTrustRelationshipException",
        "MFAMethodNotFoundException",
        "SoftwareTokenMFANotFoundException",
    }
)
"""Codes that depend on the second factor which this user has."""

_PACE = "sign_in.requests_per_second"
INITIATE = Operation("InitiateAuth", _PACE, signs_in=True, cures=_CURES, own=_OWN)
ADMIN_INITIATE = Operation("AdminInitiateAuth", _PACE, signs_in=True, is_signed=True, cures=_CURES, own=_OWN)
RESPOND = Operation("RespondToAuthChallenge", _PACE, signs_in=True, cures=_CURES, own=_OWN)
LOOK = Operation("GetUser")

_TRIGGER_FAILED = frozenset({"InvalidLambdaResponseException", "UnexpectedLambdaException"})
"""Codes for a trigger of the pool's that fails: tried again, and only then a fault."""

_REFUSED_ANSWER = frozenset(
    {
        "AliasExistsException",
        "CodeMismatchException",
        "ExpiredCodeException",
        "InvalidPasswordException",
        "PasswordHistoryPolicyViolationException",
    }
)
"""Codes for an answer to a challenge that is refused."""

_BY_WORDS = (
    (("secret hash", "secrethash", "configured with secret", "configured for secret"), "secret hash", _HASH),
    (
        ("flow not enabled", "not enabled for the client", "not enabled for this client", "auth method not supported"),
        "flow not enabled",
        _FLOW,
    ),
    (("lambda trigger is not configured",), "no trigger", _TRIGGERS),
)
"""Words in a message, what is wrong with the settings or the pool then, and the cure."""

_ECHOES = ("validation error", "failed to satisfy constraint")
"""Words in messages that repeat what was sent, so that their other words say nothing."""

_SESSION_DIED = (
    ("used once", Reason.SESSION_SPENT),
    ("session is expired", Reason.SESSION_EXPIRED),
    ("session has expired", Reason.SESSION_EXPIRED),
    ("invalid session", Reason.SESSION_INVALID),
    ("auth state", Reason.SESSION_INVALID),
)
"""Words in a refusal of an answer that concern the challenge's Session, and not the ticket."""

_CHALLENGE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
"""What may be logged as a challenge's name."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A sign-in, as far as its answer has to fit."""

    operation: Operation
    username: str
    kind: CredentialKind
    user_pool_id: str
    session_validity: float
    """Seconds that a Session lives."""
    sent_at: float
    """When it was sent (UTC seconds)."""

    @property
    def is_answer(self) -> bool:
        """Whether it answers a challenge."""
        return self.operation is RESPOND


def read_sign_in(asked: Asked, status: int, headers: Mapping[str, str], body: bytes) -> SignInReply:
    """What a complete HTTP answer to a sign-in means. ``headers`` are looked up by their lower-case names."""
    fields = object_of(body)
    if status >= 300:
        return _not_signed_in(asked, status, headers, fields)
    if isinstance(name := fields.get("ChallengeName"), str) and name:
        return _challenged(asked, name, fields)
    result = fields.get("AuthenticationResult")
    return _with_token(asked, result if isinstance(result, dict) else {})


def _challenged(asked: Asked, name: str, fields: Mapping[str, Any]) -> SignInReply:
    found = fields.get("ChallengeParameters")
    parameters = found if isinstance(found, dict) else {}
    unanswerable = refused(Reason.CHALLENGE_UNANSWERABLE, name if _CHALLENGE.fullmatch(name) else None)
    if name == "CUSTOM_CHALLENGE":
        if asked.is_answer:  # the triggers ask once more: they did not take the ticket
            return refused(Reason.SIGN_IN_REFUSED)
        session = _session(fields)
        if asked.kind is not CredentialKind.TICKET:
            return unanswerable
        return CustomChallenge(session) if session else TryAgain(Trouble.NO_ANSWER, "NoSession")
    if name == TOTP or (name == "SELECT_MFA_TYPE" and TOTP in _names(parameters.get("MFAS_CAN_CHOOSE"))):
        return AlreadyEnrolled() if _is_named(asked.username, parameters) else _another()
    if name != "MFA_SETUP" or not _may_set_up(parameters):
        return unanswerable
    if not _is_named(asked.username, parameters):
        return _another()
    if not (session := _session(fields)):
        return TryAgain(Trouble.NO_ANSWER, "NoSession")
    return SignedIn(CredentialKind.SESSION, session, asked.session_validity)


def _session(fields: Mapping[str, Any]) -> Secret | None:
    session = fields.get("Session")
    return Secret(session) if isinstance(session, str) and session and is_text(session) else None


def _may_set_up(parameters: Mapping[str, Any]) -> bool:
    """Whether TOTP may be set up. Where Cognito does not say what may, the call will tell."""
    named = parameters.get("MFAS_CAN_SETUP")
    return named is None or TOTP in _names(named)


def _names(value: object) -> set[str]:
    """The names in a list, or in the text of one: JSON's, or one name, or several."""
    texts = value if isinstance(value, list) else [value]
    return {name for text in texts if isinstance(text, str) for name in re.findall(r"[A-Z0-9_]+", text)}


def _is_named(username: str, parameters: Mapping[str, Any]) -> bool:
    """Whether the challenge is this user's by Cognito's own name of the user; a sign-in also takes an alias."""
    named = [name for key in ("USER_ID_FOR_SRP", "USERNAME") if isinstance(name := parameters.get(key), str)]
    return not named or username in named


def _another() -> Refused:
    return refused(Reason.CREDENTIAL_MISMATCH, "user")


def _with_token(asked: Asked, result: Mapping[str, Any]) -> SignInReply:
    """The access token alone is kept: the refresh token, with which it could be renewed for weeks, goes no further."""
    token = result.get("AccessToken")
    if not isinstance(token, str) or not token or not is_text(token):
        return TryAgain(Trouble.NO_ANSWER, "NoAccessToken")
    claims = _claims(token)
    issuer, username = claims.get("iss"), claims.get("username")
    if isinstance(issuer, str) and issuer.rstrip("/").rpartition("/")[2] != asked.user_pool_id:
        return pool_fault(asked.operation, "another user pool", _OTHER_POOL)
    if not isinstance(username, str):
        return refused(Reason.CREDENTIAL_MISMATCH, "unreadable")
    if claims.get("token_use", "access") != "access":
        return refused(Reason.CREDENTIAL_MISMATCH, "id_token")
    if username != asked.username:
        return _another()
    return SignedIn(CredentialKind.ACCESS_TOKEN, Secret(token), _lives(asked, result, claims))


def _claims(token: str) -> Mapping[str, Any]:
    """What the token says of itself. The signature is not checked: the token came from Cognito, by TLS."""
    parts = token.split(".")
    try:
        return object_of(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (IndexError, ValueError):
        return {}


def _lives(asked: Asked, result: Mapping[str, Any], claims: Mapping[str, Any]) -> float:
    """Seconds from when the sign-in was sent."""
    seconds = _number(result.get("ExpiresIn"))
    if not 0 < seconds <= LONGEST_TOKEN:
        seconds = _number(claims.get("exp")) - asked.sent_at
    return seconds if 0 < seconds <= LONGEST_TOKEN else SHORTEST_TOKEN


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    try:
        return float(value)
    except OverflowError:
        return 0.0


def _not_signed_in(
    asked: Asked, status: int, headers: Mapping[str, str], fields: Mapping[str, Any]
) -> Refused | TryAgain | PoolFault:
    code, words = code_of(fields, headers), words_of(fields)
    if code in ("NotAuthorizedException", "InvalidParameterException") and not any(each in words for each in _ECHOES):
        if "attempts exceeded" in words:
            return TryAgain(Trouble.LOCKED, code)
        for signs, what, cure in _BY_WORDS:
            if any(sign in words for sign in signs):
                return pool_fault(asked.operation, f"{code} ({what})", cure)
    if asked.is_answer and code in ("NotAuthorizedException", *_REFUSED_ANSWER) and (died := _died(words)):
        return refused(died)
    if code == "NotAuthorizedException" and "security reasons" in words:
        return refused(Reason.SIGN_IN_REFUSED, "threat protection")
    if code == "UserLambdaValidationException" or code in _REFUSED_ANSWER:  # whatever the trigger says in its words
        return refused(Reason.SIGN_IN_REFUSED, code)
    reply = read_error(asked.operation, asked.kind, status, headers, fields)
    if isinstance(reply, PoolFault) and code in _TRIGGER_FAILED:
        return TryAgain(Trouble.SERVER_ERROR, code, fault=reply)
    return reply


def _died(words: str) -> Reason | None:
    return next((reason for sign, reason in _SESSION_DIED if sign in words), None)


def read_look(status: int, headers: Mapping[str, str], body: bytes) -> LookReply:
    """What a complete HTTP answer to GetUser means. ``headers`` are looked up by their lower-case names."""
    fields = object_of(body)
    if status >= 300:
        return read_error(LOOK, CredentialKind.ACCESS_TOKEN, status, headers, fields)
    factors = fields.get("UserMFASettingList")
    if not isinstance(fields.get("Username"), str) or not (factors is None or isinstance(factors, list)):
        return TryAgain(Trouble.NO_ANSWER, "NoUser")
    return AlreadyEnrolled() if TOTP in (factors or ()) else NotEnrolled()
