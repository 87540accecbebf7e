"""The one table that says what each of Cognito's answers, and each fault on the way to it, means for one wire attempt.

An answer of Cognito's own has an error code (API reference, AssociateSoftwareToken, "Errors", and "Common Errors"); one
without a code comes from something in between, and only its HTTP status is known. The code comes first. Only codes
leave this module: an error's text may repeat a credential.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
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
"""Codes that say "too many requests": Cognito's own is TooManyRequestsException, the others are known to AWS's SDKs."""

_CONFLICT = frozenset({"ConcurrentModificationException"})
"""Codes that say that two requests for one user met: nothing was issued, and the request may be made again."""

_INVALID = frozenset({"InvalidParameterException", "SerializationException", "ValidationException"})
"""Codes that say that this request is wrong, whoever makes it and whenever."""

_SIGN_IN_AGAIN = frozenset({"PasswordResetRequiredException", "UserNotConfirmedException", "UserNotFoundException"})
"""The account changed after the sign-in that gave the credential; another sign-in will say how."""

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
"""What NotAuthorizedException means, by the words of its message: Cognito gives nothing else to tell them apart by."""

_NO_GOOD = {
    CredentialKind.SESSION: Reason.SESSION_INVALID,
    CredentialKind.ACCESS_TOKEN: Reason.TOKEN_REVOKED,
}
"""A credential that is refused for no closer reason; there is none for a token that never was one."""

_WRONG_ENDPOINT = "Set cognito.region, and cognito.endpoint_url or none, so that they lead to Cognito itself."
_NO_ACCESS = (
    "Let this host call AssociateSoftwareToken: the policies of the endpoint, the network or the proxy forbid it."
)
_WAF = "Let the pool's WAF admit this host, or lower rate.requests_per_second below its rate rule."
_LAMBDA = "Repair or remove the pool's Lambda trigger, then run again."
"""These four sentences say what a person can do; they end up in the message of the run that stops."""

_CURES = {
    "SoftwareTokenMFANotFoundException": "Turn TOTP MFA on for the pool (optional or required), then run again.",
    "ResourceNotFoundException": "The pool or the app client is gone: check cognito.user_pool_id and cognito.region.",
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
"""Nobody can succeed until a person does what is said here."""

_MAY_PASS = {
    "ForbiddenException": _WAF,
    "InvalidLambdaResponseException": _LAMBDA,
    "UnexpectedLambdaException": _LAMBDA,
}
"""Nobody succeeds now; it may be over by itself."""

_CURES_BY_STATUS = {
    404: _WRONG_ENDPOINT,
    405: _WRONG_ENDPOINT,
    407: "Give the proxy the credentials that it asks for.",
}
"""The same for answers without a code, by their HTTP status."""

_BASE32 = re.compile(r"(?=.{16})[A-Z2-7]+={0,6}", re.IGNORECASE)
"""A whole secret: base32 (RFC 4648) of at least 16 characters (API reference: ``SecretCodeType``)."""

_SAFE_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")
"""What may be told as a code: the name of an exception, and no sentence that could hold a credential."""


def read_answer(kind: CredentialKind, status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """What a whole HTTP answer to a request with that kind of credential means.

    ``headers`` are asked for by their lower-case names.
    """
    fields = _object(body)
    if status < 300:
        request_id = headers.get("x-amzn-requestid", "").encode("ascii", "replace").decode()  # bytes that are no text
        return _issued(kind, fields, request_id)
    code = _code(fields, headers)
    if code in _THROTTLED or status == 429:
        return TryAgain(Trouble.THROTTLED, code or "HTTP429")
    if not code:
        return _by_status(status)
    if code == "NotAuthorizedException":
        return Refused(State.NEEDS_SESSION, _not_authorized(kind, fields))
    if code in _SIGN_IN_AGAIN:
        return Refused(State.NEEDS_SESSION, _NO_GOOD[kind])
    if code in _INVALID:
        return Refused(State.FAILED, Reason.INVALID_PARAMETER)
    return _by_code(code, status)


def _by_code(code: str, status: int) -> Reply:
    if code in _CONFLICT:
        return TryAgain(Trouble.CONFLICT, code)
    if code in _CURES:
        return PoolFault(code, _CURES[code])
    if code in _MAY_PASS or status == 403:
        return PoolFault(code, _MAY_PASS.get(code, _WAF), may_pass=True)
    # InternalErrorException and its like, and every code that is not known: nobody fails at once, and nobody stops the
    # run, for a reason that is not known. It is tried again, as often as attempts allow.
    return TryAgain(Trouble.SERVER_ERROR, code)


def _by_status(status: int) -> Reply:
    """An answer without a code is not Cognito's own: a load balancer, a firewall or a proxy speaks."""
    name = f"HTTP{status}"
    if status < 400:
        return PoolFault(name, _WRONG_ENDPOINT)
    if status == 403:
        return PoolFault(name, _WAF, may_pass=True)
    if status in _CURES_BY_STATUS:
        return PoolFault(name, _CURES_BY_STATUS[status])
    if status == 408 or status >= 500:
        return TryAgain(Trouble.NO_ANSWER, name)
    return TryAgain(Trouble.SERVER_ERROR, name)


def _not_authorized(kind: CredentialKind, fields: Mapping[str, Any]) -> Reason:
    message = str(fields.get("message") or fields.get("Message") or "")
    words = " ".join(re.findall(r"[a-z]+", message.lower()))
    return next((reason for sign, reason in _NOT_AUTHORIZED[kind] if sign in words), _NO_GOOD[kind])


def _issued(kind: CredentialKind, fields: Mapping[str, Any], request_id: str) -> Issued | TryAgain:
    """A secret that is cut off, or that lacks the Session to verify it, was issued all the same, and nobody has it."""
    code, session = fields.get("SecretCode"), fields.get("Session")
    if not isinstance(code, str) or not _BASE32.fullmatch(code):
        return TryAgain(Trouble.NO_ANSWER, "NoSecretCode")
    if kind is CredentialKind.ACCESS_TOKEN:
        return Issued(Secret(code), None, request_id)
    if not isinstance(session, str) or not session:
        return TryAgain(Trouble.NO_ANSWER, "NoSession")
    return Issued(Secret(code), Secret(session), request_id)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):  # a body that is no UTF-8 is a ValueError too
        return {}
    return fields if isinstance(fields, dict) else {}


def _code(fields: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """The error's code, without the name space before ``#`` and the address after ``:``; empty if there is none."""
    for said in (fields.get("__type"), headers.get("x-amzn-errortype"), fields.get("code")):
        code = str(said or "").rpartition("#")[2].partition(":")[0]
        if _SAFE_CODE.fullmatch(code):
            return code
    return ""


def read_fault(error: Exception) -> TryAgain:
    """What an exception of the transport means: ``UNSENT`` only where no connection for the request ever stood."""
    from aiohttp import ClientConnectorError, ClientHttpProxyError, ConnectionTimeoutError

    unsent = isinstance(error, ClientConnectorError | ClientHttpProxyError | ConnectionTimeoutError)
    return TryAgain(Trouble.UNSENT if unsent else Trouble.NO_ANSWER, type(error).__name__)
