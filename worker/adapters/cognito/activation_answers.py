"""What the answers to verifying a secret, and to making TOTP the preferred factor, mean.

What is not said here is as for every operation (``answers``).
"""

from __future__ import annotations

from collections.abc import Mapping

from worker.adapters.cognito.answers import Operation, code_of, is_text, object_of, read_error
from worker.core.model import (
    CredentialKind,
    PoolFault,
    Preferred,
    PreferReply,
    Refused,
    Secret,
    Trouble,
    TryAgain,
    Verified,
    VerifyReply,
    WrongCode,
)

_NO_TOKEN = frozenset({"SoftwareTokenMFANotFoundException"})
"""TOTP is off for the pool, or this user's secret was taken away since (AdminDeleteSoftwareToken)."""

VERIFY = Operation("VerifySoftwareToken", own=_NO_TOKEN)
PREFER = Operation("SetUserMFAPreference", own=_NO_TOKEN)
ADMIN_PREFER = Operation("AdminSetUserMFAPreference", is_signed=True, own=_NO_TOKEN)

_WRONG_CODE = frozenset({"CodeMismatchException", "EnableSoftwareTokenMFAException", "ExpiredCodeException"})
"""Codes for a code that is wrong, or was used before: the next one may be right."""


def read_verify(kind: CredentialKind, status: int, headers: Mapping[str, str], body: bytes) -> VerifyReply:
    """What a complete HTTP answer to VerifySoftwareToken with that kind of credential means.

    ``headers`` are looked up by their lower-case names, here and below.
    """
    fields = object_of(body)
    if status >= 300:
        code = code_of(fields, headers)
        if code in _WRONG_CODE:
            return WrongCode(None, code)
        return _with_code(read_error(VERIFY, kind, status, headers, fields), code)
    match fields.get("Status"):
        case "SUCCESS":
            return Verified()
        case "ERROR":
            session = fields.get("Session") if kind is CredentialKind.SESSION else None
            is_usable = isinstance(session, str) and session and is_text(session)
            return WrongCode(Secret(str(session)) if is_usable else None, "ERROR")
    return TryAgain(Trouble.NO_ANSWER, "NoStatus")


def read_prefer(
    operation: Operation, kind: CredentialKind, status: int, headers: Mapping[str, str], body: bytes
) -> PreferReply:
    """What a complete HTTP answer to ``PREFER`` or ``ADMIN_PREFER`` means.

    A user whose secret is not verified is refused: InvalidParameterException, "User does not have delivery config set
    to turn on SOFTWARE_TOKEN_MFA".
    """
    fields = object_of(body)
    if status >= 300:
        return _with_code(read_error(operation, kind, status, headers, fields), code_of(fields, headers))
    if body.strip() and not body.strip().startswith(b"{"):  # a success has nothing to say; a proxy's page has
        return TryAgain(Trouble.NO_ANSWER, "NoObject")
    return Preferred()


def _with_code(reply: Refused | TryAgain | PoolFault, code: str) -> Refused | TryAgain | PoolFault:
    """The same; a refusal with its code, as its reason is one for a call."""
    return Refused(reply.state, reply.reason, code) if isinstance(reply, Refused) else reply
