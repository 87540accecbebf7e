"""The one table of what each answer of Cognito, and each failure on the way to it, means for one wire attempt.

What all operations have in common is here, and AssociateSoftwareToken; ``sign_in_answers`` and ``activation_answers``
add what the others can say besides.

Cognito's own error answers have an error code (API reference, AssociateSoftwareToken, "Errors", and "Common Errors").
An answer without a code comes from a proxy, firewall or load balancer in between, and only its HTTP status is known. A
code takes precedence over the status. Only codes leave this module, because an error's text may repeat a credential.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from worker.adapters.aws.error_table import Kind, meaning
from worker.core.model import (
    STATE_OF,
    CredentialKind,
    Issued,
    PoolFault,
    Reason,
    Refused,
    Reply,
    Secret,
    State,
    Trouble,
    TryAgain,
)

_THROTTLED = frozenset(
    {
        "LimitExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyFailedAttemptsException",
        "TooManyRequests",
        "TooManyRequestsException",
    }
)
"""Codes for "too many requests": Cognito's own is TooManyRequestsException, AWS's SDKs know the others as such too.
LimitExceededException and TooManyFailedAttemptsException may be a limit of one user's.
"""

_CONFLICT = frozenset({"ConcurrentModificationException"})
"""Codes for two simultaneous requests for one user: nothing was issued, and the request can be repeated."""

_INVALID = frozenset(
    {
        "InvalidParameterException",
        "InvalidParameterCombination",
        "InvalidParameterValue",
        "MalformedHttpRequestException",
        "MissingParameter",
        "RequestEntityTooLargeException",
        "SerializationException",
        "ValidationError",
        "ValidationException",
    }
)
"""Codes for a request that is wrong in itself, so that repeating it does not help."""

_ACCOUNT = {
    "PasswordResetRequiredException": Reason.PASSWORD_RESET_REQUIRED,
    "UserNotConfirmedException": Reason.UNCONFIRMED,
    "UserNotFoundException": Reason.USER_NOT_FOUND,
}
"""Codes for an account that has changed since the user signed in."""

_ACCOUNT_WORDS = (
    ("user is disabled", Reason.DISABLED),
    ("user has been disabled", Reason.DISABLED),
    ("user is not confirmed", Reason.UNCONFIRMED),
    ("user does not exist", Reason.USER_NOT_FOUND),
    ("password reset required", Reason.PASSWORD_RESET_REQUIRED),
    ("must be reset", Reason.PASSWORD_RESET_REQUIRED),
)
"""The same by words in the message of NotAuthorizedException, which comes for both credentials."""

_REFUSED_CREDENTIAL = frozenset(
    {
        "NotAuthorizedException",
        "UnauthorizedException",
        "UnsupportedTokenTypeException",
        "UnsupportedUserStateException",
        "UserLambdaValidationException",
    }
)
"""Codes for a credential that is refused: another sign-in may help this user, and says nothing of the others."""

_NOT_AUTHORIZED = {
    CredentialKind.SESSION: (
        ("used once", Reason.SESSION_SPENT),
        ("expired", Reason.SESSION_EXPIRED),
    ),
    CredentialKind.ACCESS_TOKEN: (
        ("expired", Reason.TOKEN_EXPIRED),
        ("required scope", Reason.TOKEN_SCOPE),
    ),
    CredentialKind.TICKET: (),
    CredentialKind.PASSWORD: (),
}
"""What NotAuthorizedException means, by words in its message: Cognito's answer has nothing else to distinguish the
cases.
"""

_REFUSED_OTHERWISE = {
    CredentialKind.SESSION: Reason.SESSION_INVALID,
    CredentialKind.ACCESS_TOKEN: Reason.TOKEN_REVOKED,
    CredentialKind.TICKET: Reason.SIGN_IN_REFUSED,
    CredentialKind.PASSWORD: Reason.SIGN_IN_REFUSED,
}
"""The reason if a credential is refused and no more is known. A text that was never a token counts as revoked too."""

_WRONG_ENDPOINT = "Set cognito.region, and cognito.endpoint_url or none, so that they lead to Cognito itself."
_NO_ACCESS = "Let this host call {operation}: the policies of the endpoint, the network or the proxy forbid it."
_WAF = "Let the pool's WAF admit this host, or lower {pace} below its rate rule."
_LAMBDA = "Repair or remove the pool's Lambda trigger, then run again."
_SIGNED = (
    "{operation} is not signed, so whatever answers is not Cognito, or a proxy in between signs: let "
    "cognito.endpoint_url, and the proxy, lead to Cognito itself."
)
_TOTP_OFF = "Turn TOTP MFA on for the pool (optional or required), then run again."
_NO_PERMISSION = (
    "Allow cognito-idp:{operation} on the user pool to the role or user of this process: config/iam has the policies."
)
"""These seven say what a person can do (``PoolFault.cure``); they are shown when the run stops. ``{operation}`` becomes
the operation's name, ``{pace}`` the setting of its pace."""

_CURES = {
    "SoftwareTokenMFANotFoundException": _TOTP_OFF,
    "MFAMethodNotFoundException": _TOTP_OFF,
    "ResourceNotFoundException": (
        "The pool is gone, or the app client that signed these users in: check cognito.user_pool_id and "
        "cognito.region, or sign them in through an app client that exists."
    ),
    "OperationNotEnabledException": (
        "This is a replica Region of the pool, which enrols nobody, or the pool's configuration does not allow it: set "
        "cognito.region to the pool's primary Region, and look at the pool's MFA settings."
    ),
    "FeatureUnavailableInTierException": "Choose a feature plan of the pool that has TOTP MFA, then run again.",
    "UnsupportedOperationException": "Repair the user pool's configuration, which does not allow this, then run again.",
    "OptInRequired": "Sign the AWS account up for Amazon Cognito in this Region, then run again.",
    "InvalidUserPoolConfigurationException": "Repair the user pool's configuration, then run again.",
    "UserPoolAddOnNotEnabledException": "Enable the add-on that the user pool asks for, then run again.",
    "InvalidAction": _WRONG_ENDPOINT,
    "MissingAction": _WRONG_ENDPOINT,
    "UnknownOperationException": _WRONG_ENDPOINT,
    "UnsupportedOperation": _WRONG_ENDPOINT,
    "AccessDenied": _NO_ACCESS,
    "AccessDeniedException": _NO_ACCESS,
    "NotAuthorized": _NO_ACCESS,
    "UnrecognizedClientException": _NO_ACCESS,
    "ExpiredTokenException": _SIGNED,
    "IncompleteSignature": _SIGNED,
    "IncompleteSignatureException": _SIGNED,
    "InvalidClientTokenId": _SIGNED,
    "InvalidSignatureException": _SIGNED,
    "MissingAuthenticationToken": _SIGNED,
    "MissingAuthenticationTokenException": _SIGNED,
    "RequestExpired": _SIGNED,
    "SignatureDoesNotMatch": _SIGNED,
}
"""Code → what a person must do before any request can succeed."""

_CURES_IF_IT_LASTS = {
    "ForbiddenException": _WAF,
    "InvalidLambdaResponseException": _LAMBDA,
    "UnexpectedLambdaException": _LAMBDA,
}
"""Code → what a person can do. No request succeeds now, but the cause may also pass by itself."""

_CURES_BY_STATUS = {
    404: _WRONG_ENDPOINT,
    405: _WRONG_ENDPOINT,
    407: "Give the proxy the credentials that it asks for.",
}
"""HTTP status of an answer without a code → what a person must do."""

_ANY_TIME_NOW = range(1_577_836_800, 4_102_444_800)
"""UTC seconds from 2020 to 2099. A date outside is no clock that runs: those of machines without one begin in 1970."""

_BASE32 = re.compile(r"(?=.{16})[A-Z2-7]+={0,6}", re.IGNORECASE | re.ASCII)
"""A complete secret: base32 (RFC 4648) of at least 16 characters (API reference: ``SecretCodeType``)."""

_LONGEST_REQUEST_ID = 128
"""Characters of Cognito's request id that are kept; it is a UUID of 36."""

_OF_THE_SIGNATURE = frozenset({Kind.PERMISSION, Kind.CREDENTIALS, Kind.CLOCK, Kind.ACCOUNT})
"""What a signed request can be refused for besides, by AWS and not by Cognito."""

_SAFE_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")
"""What may be logged as a code: the name of an exception, but no sentence, which could contain a credential."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What is asked of Cognito, as far as the meaning of its errors depends on that."""

    name: str
    pace: str = "rate.requests_per_second"
    """The setting that slows it down."""
    signs_in: bool = False
    """Whether it signs a user in: then the app client is the settings', and not one that a token was issued for."""
    is_signed: bool = False
    """Whether the request is signed with AWS credentials."""
    cures: Mapping[str, str] = field(default_factory=dict)
    """Code → what a person must do, where that is not what ``_CURES`` says."""
    own: frozenset[str] = frozenset()
    """Codes of faults that one user alone may have with it (``PoolFault.may_be_own``)."""


ASSOCIATE = Operation("AssociateSoftwareToken")


def read_answer(kind: CredentialKind, status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """What a complete HTTP answer to AssociateSoftwareToken with that kind of credential means.

    ``headers`` are looked up by their lower-case names.
    """
    fields = object_of(body)
    if status < 300:
        request_id = headers.get("x-amzn-requestid", "").encode("ascii", "replace").decode()  # it may not be ASCII
        return _issued(kind, fields, request_id[:_LONGEST_REQUEST_ID])
    return read_error(ASSOCIATE, kind, status, headers, fields)


def read_error(
    operation: Operation, kind: CredentialKind, status: int, headers: Mapping[str, str], fields: Mapping[str, Any]
) -> Refused | TryAgain | PoolFault:
    """What an error means as an answer to any operation with that kind of credential.

    ``fields``: the body, if it is a JSON object.
    """
    code = code_of(fields, headers)
    if code in _THROTTLED or status == 429:
        return TryAgain(Trouble.THROTTLED, code or "HTTP429")
    if not code:
        return _by_status(operation, status)
    if code in _REFUSED_CREDENTIAL:
        return refused(_not_authorized(kind, fields))
    if code in _ACCOUNT:
        return refused(_ACCOUNT[code])
    if code in _INVALID:
        return refused(Reason.INVALID_PARAMETER)
    if operation.is_signed and (fault := _of_the_signature(operation, code, status, fields)):
        return fault
    return _by_code(operation, code, status, words_of(fields))


def _by_code(operation: Operation, code: str, status: int, words: str) -> TryAgain | PoolFault:
    if code in _CONFLICT:
        return TryAgain(Trouble.CONFLICT, code)
    own = code in operation.own
    if cure := operation.cures.get(code) or _CURES.get(code):
        own_client = code == "ResourceNotFoundException" and "client" in words and not operation.signs_in
        return pool_fault(operation, code, cure, may_be_own=own or own_client)
    if code in _CURES_IF_IT_LASTS or status == 403:
        return pool_fault(operation, code, _CURES_IF_IT_LASTS.get(code, _WAF), may_pass=True, may_be_own=True)
    # InternalErrorException and similar codes, and all unknown ones: an unknown cause neither fails the user at once
    # nor stops the run. The request is repeated, as often as attempts allow.
    return TryAgain(Trouble.SERVER_ERROR, code)


def _by_status(operation: Operation, status: int) -> TryAgain | PoolFault:
    """What an answer without a code means: it comes from a load balancer, a firewall or a proxy, not from Cognito."""
    name = f"HTTP{status}"
    if status < 400:
        return pool_fault(operation, name, _WRONG_ENDPOINT)
    if status == 403:
        return pool_fault(operation, name, _WAF, may_pass=True, may_be_own=True)
    if status in _CURES_BY_STATUS:
        return pool_fault(operation, name, _CURES_BY_STATUS[status])
    if status == 408 or status >= 500:
        return TryAgain(Trouble.NO_ANSWER, name)
    return TryAgain(Trouble.SERVER_ERROR, name)


def _of_the_signature(operation: Operation, code: str, status: int, fields: Mapping[str, Any]) -> PoolFault | None:
    """What AWS, and not Cognito, has against a signed request: credentials, permissions, the clock, the account."""
    said = meaning("cognito-idp", code, status, message_of(fields))
    if code in _CURES_IF_IT_LASTS or said.kind not in _OF_THE_SIGNATURE:
        return None
    cure = _NO_PERMISSION if said.kind is Kind.PERMISSION else sentence(said.what_to_do(operation.name))
    return pool_fault(operation, code, cure)


def sentence(cure: str) -> str:
    """A cure of ``error_table`` in the form of those here."""
    return f"{cure[0].upper()}{cure[1:].removesuffix('.')}."


def pool_fault(
    operation: Operation, code: str, cure: str, *, may_pass: bool = False, may_be_own: bool = False
) -> PoolFault:
    """The fault, whose cure names the operation and the setting of its pace where ``cure`` leaves room for them."""
    cure = cure.replace("{operation}", operation.name).replace("{pace}", operation.pace)
    return PoolFault(code, cure, may_pass=may_pass, may_be_own=may_be_own)


def refused(reason: Reason, detail: str | None = None) -> Refused:
    """The user's outcome with the state to which the reason belongs."""
    state = STATE_OF[reason]
    assert state is State.NEEDS_SESSION or state is State.FAILED or state is State.SKIPPED
    return Refused(state, reason, detail)


def _not_authorized(kind: CredentialKind, fields: Mapping[str, Any]) -> Reason:
    words, signs = words_of(fields), (*_ACCOUNT_WORDS, *_NOT_AUTHORIZED[kind])
    return next((reason for sign, reason in signs if sign in words), _REFUSED_OTHERWISE[kind])


def message_of(fields: Mapping[str, Any]) -> str:
    """An error's message, which may repeat a credential; empty if there is none."""
    return next((text for key in ("message", "Message") if isinstance(text := fields.get(key), str)), "")


def words_of(fields: Mapping[str, Any]) -> str:
    """The words of an error's message, in lower case with one blank between them."""
    return " ".join(re.findall(r"[a-z]+", message_of(fields).lower()))


def _issued(kind: CredentialKind, fields: Mapping[str, Any], request_id: str) -> Issued | TryAgain:
    """What a success contains. If the secret or its Session is missing or cut off, a secret was issued nevertheless."""
    code, session = fields.get("SecretCode"), fields.get("Session")
    if not isinstance(code, str) or not _BASE32.fullmatch(code):
        return TryAgain(Trouble.NO_ANSWER, "NoSecretCode")
    if kind is CredentialKind.ACCESS_TOKEN:
        return Issued(Secret(code), None, request_id)
    if not isinstance(session, str) or not session or not is_text(session):
        return TryAgain(Trouble.NO_ANSWER, "NoSession")
    return Issued(Secret(code), Secret(session), request_id)


def is_text(value: str) -> bool:
    """Whether the string can be written: JSON's escapes can also make half a character, which no encoding holds."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def object_of(body: bytes) -> Mapping[str, Any]:
    """The body, if it is a JSON object; else an empty one."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):  # a body that is not UTF-8 raises a ValueError too
        return {}
    return fields if isinstance(fields, dict) else {}


def code_of(fields: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """The error's code, without the namespace before ``#`` and the URL after ``:``; empty if there is none."""
    for value in (fields.get("__type"), headers.get("x-amzn-errortype"), fields.get("code")):
        code = value.rpartition("#")[2].partition(":")[0] if isinstance(value, str) else ""
        if _SAFE_CODE.fullmatch(code):
            return code
    return ""


def read_fault(error: Exception) -> TryAgain:
    """What an exception of the transport means: ``UNSENT`` only if no connection for the request was established."""
    from aiohttp import ClientConnectorError, ClientHttpProxyError, ConnectionTimeoutError

    unsent = isinstance(error, ClientConnectorError | ClientHttpProxyError | ConnectionTimeoutError)
    return TryAgain(Trouble.UNSENT if unsent else Trouble.NO_ANSWER, type(error).__name__)


def read_date(headers: Mapping[str, str]) -> float | None:
    """When Cognito dated this answer (UTC seconds); ``None`` where the answer is not Cognito's own or has no such date.

    An answer without AWS's request id is that of a proxy, firewall or load balancer in between, dated by its own clock.
    """
    if "x-amzn-requestid" not in headers:
        return None
    try:
        date = parsedate_to_datetime(headers.get("date", ""))
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if int(seconds) in _ANY_TIME_NOW else None


def why(error: Exception) -> str:
    """What an exception of the transport says to a person, in a few words; only for requests without a credential."""
    from aiohttp import ClientConnectorCertificateError, ClientConnectorError

    if isinstance(error, ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or type(error.certificate_error).__name__
        return f"its certificate is refused: {reason}"
    if isinstance(error, ClientConnectorError) and (number := error.os_error.errno):
        return os.strerror(number) if number > 0 else str(error.os_error.strerror)  # below 0: of the name's look-up
    return type(error).__name__
