"""The one table of what each answer of Cognito, and each failure on the way to it, means for one wire attempt.

Cognito's own error answers have an error code (API reference, AssociateSoftwareToken, "Errors", and "Common Errors").
An answer without a code comes from a proxy, firewall or load balancer in between, and only its HTTP status is known. A
code takes precedence over the status. Only codes leave this module, because an error's text may repeat a credential.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from worker.core.model import (
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
        "TooManyRequests",
        "TooManyRequestsException",
    }
)
"""Codes for "too many requests": Cognito's own is TooManyRequestsException, AWS's SDKs know the others as such too."""

_CONFLICT = frozenset({"ConcurrentModificationException"})
"""Codes for two simultaneous requests for one user: nothing was issued, and the request can be repeated."""

_INVALID = frozenset({"InvalidParameterException", "SerializationException", "ValidationException"})
"""Codes for a request that is wrong in itself, so that repeating it does not help."""

_SIGN_IN_AGAIN = frozenset({"PasswordResetRequiredException", "UserNotConfirmedException", "UserNotFoundException"})
"""Codes for an account that has changed since the user signed in; the next sign-in shows how."""

_NOT_AUTHORIZED = {
    CredentialKind.SESSION: (
        ("used once", Reason.SESSION_SPENT),
        ("expired", Reason.SESSION_EXPIRED),
    ),
    CredentialKind.ACCESS_TOKEN: (
        ("expired", Reason.TOKEN_EXPIRED),
        ("required scope", Reason.TOKEN_SCOPE),
    ),
}
"""What NotAuthorizedException means, by words in its message: Cognito's answer has nothing else to distinguish the
cases.
"""

_REFUSED_OTHERWISE = {
    CredentialKind.SESSION: Reason.SESSION_INVALID,
    CredentialKind.ACCESS_TOKEN: Reason.TOKEN_REVOKED,
}
"""The reason if a credential is refused and no more is known. A text that was never a token counts as revoked too."""

_WRONG_ENDPOINT = "Set cognito.region, and cognito.endpoint_url or none, so that they lead to Cognito itself."
_NO_ACCESS = (
    "Let this host call AssociateSoftwareToken: the policies of the endpoint, the network or the proxy forbid it."
)
_WAF = "Let the pool's WAF admit this host, or lower rate.requests_per_second below its rate rule."
_LAMBDA = "Repair or remove the pool's Lambda trigger, then run again."
"""These four say what a person can do (``PoolFault.cure``); they are shown when the run stops."""

_CURES = {
    "SoftwareTokenMFANotFoundException": "Turn TOTP MFA on for the pool (optional or required), then run again.",
    "ResourceNotFoundException": (
        "The pool is gone, or the app client that signed these users in: check cognito.user_pool_id and "
        "cognito.region, or sign them in through an app client that exists."
    ),
    "OperationNotEnabledException": "Choose a feature plan of the pool that has this operation, then run again.",
    "InvalidUserPoolConfigurationException": "Repair the user pool's configuration, then run again.",
    "UserPoolAddOnNotEnabledException": "Enable the add-on that the user pool asks for, then run again.",
    "InvalidAction": _WRONG_ENDPOINT,
    "UnknownOperationException": _WRONG_ENDPOINT,
    "UnsupportedOperation": _WRONG_ENDPOINT,
    "AccessDenied": _NO_ACCESS,
    "AccessDeniedException": _NO_ACCESS,
    "UnrecognizedClientException": _NO_ACCESS,
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

_BASE32 = re.compile(r"(?=.{16})[A-Z2-7]+={0,6}", re.IGNORECASE)
"""A complete secret: base32 (RFC 4648) of at least 16 characters (API reference: ``SecretCodeType``)."""

_SAFE_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")
"""What may be logged as a code: the name of an exception, but no sentence, which could contain a credential."""


def read_answer(kind: CredentialKind, status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """What a complete HTTP answer to a request with that kind of credential means.

    ``headers`` are looked up by their lower-case names.
    """
    fields = _object(body)
    if status < 300:
        request_id = headers.get("x-amzn-requestid", "").encode("ascii", "replace").decode()  # it may not be ASCII
        return _issued(kind, fields, request_id)
    code = _code(fields, headers)
    if code in _THROTTLED or status == 429:
        return TryAgain(Trouble.THROTTLED, code or "HTTP429")
    if not code:
        return _by_status(status)
    if code == "NotAuthorizedException":
        return Refused(State.NEEDS_SESSION, _not_authorized(kind, fields))
    if code in _SIGN_IN_AGAIN:
        return Refused(State.NEEDS_SESSION, _REFUSED_OTHERWISE[kind])
    if code in _INVALID:
        return Refused(State.FAILED, Reason.INVALID_PARAMETER)
    return _by_code(code, status, _words(fields))


def _by_code(code: str, status: int, words: str) -> Reply:
    if code in _CONFLICT:
        return TryAgain(Trouble.CONFLICT, code)
    if code in _CURES:
        return PoolFault(code, _CURES[code], may_be_own=code == "ResourceNotFoundException" and "client" in words)
    if code in _CURES_IF_IT_LASTS or status == 403:
        return PoolFault(code, _CURES_IF_IT_LASTS.get(code, _WAF), may_pass=True, may_be_own=True)
    # InternalErrorException and similar codes, and all unknown ones: an unknown cause neither fails the user at once
    # nor stops the run. The request is repeated, as often as attempts allow.
    return TryAgain(Trouble.SERVER_ERROR, code)


def _by_status(status: int) -> Reply:
    """What an answer without a code means: it comes from a load balancer, a firewall or a proxy, not from Cognito."""
    name = f"HTTP{status}"
    if status < 400:
        return PoolFault(name, _WRONG_ENDPOINT)
    if status == 403:
        return PoolFault(name, _WAF, may_pass=True, may_be_own=True)
    if status in _CURES_BY_STATUS:
        return PoolFault(name, _CURES_BY_STATUS[status])
    if status == 408 or status >= 500:
        return TryAgain(Trouble.NO_ANSWER, name)
    return TryAgain(Trouble.SERVER_ERROR, name)


def _not_authorized(kind: CredentialKind, fields: Mapping[str, Any]) -> Reason:
    words = _words(fields)
    return next((reason for sign, reason in _NOT_AUTHORIZED[kind] if sign in words), _REFUSED_OTHERWISE[kind])


def _words(fields: Mapping[str, Any]) -> str:
    """The words of an error's message, in lower case with one blank between them."""
    message = str(fields.get("message") or fields.get("Message") or "")
    return " ".join(re.findall(r"[a-z]+", message.lower()))


def _issued(kind: CredentialKind, fields: Mapping[str, Any], request_id: str) -> Issued | TryAgain:
    """What a success contains. If the secret or its Session is missing or cut off, a secret was issued nevertheless."""
    code, session = fields.get("SecretCode"), fields.get("Session")
    if not isinstance(code, str) or not _BASE32.fullmatch(code):
        return TryAgain(Trouble.NO_ANSWER, "NoSecretCode")
    if kind is CredentialKind.ACCESS_TOKEN:
        return Issued(Secret(code), None, request_id)
    if not isinstance(session, str) or not session or not _is_text(session):
        return TryAgain(Trouble.NO_ANSWER, "NoSession")
    return Issued(Secret(code), Secret(session), request_id)


def _is_text(value: str) -> bool:
    """Whether the string can be written: JSON's escapes can also make half a character, which no encoding holds."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):  # a body that is not UTF-8 raises a ValueError too
        return {}
    return fields if isinstance(fields, dict) else {}


def _code(fields: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """The error's code, without the namespace before ``#`` and the URL after ``:``; empty if there is none."""
    for value in (fields.get("__type"), headers.get("x-amzn-errortype"), fields.get("code")):
        code = str(value or "").rpartition("#")[2].partition(":")[0]
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
