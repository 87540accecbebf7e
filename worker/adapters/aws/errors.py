"""What a failure of an AWS service means: the cause in one sentence, what to do, and whether a person must act.

An error's own message may repeat what was sent, so only its code and operation are ever shown or logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError, HTTPClientError

from worker.core.errors import DependencyUnavailable, ExitCode, PersonMustAct, UsageError

# The services' codes are those that their API references list under "Errors". Those with KMS in their names concern the
# key that a service encrypts with; botocore uses 403 and 404 as the codes of answers without a body.
FORBIDDEN = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "UnauthorizedOperation",
        "KMS.AccessDeniedException",
        "KmsAccessDenied",
        "403",
        "KMS.DisabledException",
        "KMS.KMSInvalidStateException",
        "KmsDisabled",
        "KmsInvalidState",
    }
)
"""Codes for an operation that the permissions, or the state of the key, do not allow."""
BAD_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
"""Codes for credentials that are wrong or have expired, or for a wrong clock of this host."""
NO_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError"})
"""Names of botocore's exceptions if there are no credentials."""
MISSING = frozenset(
    {
        "AWS.SimpleQueueService.NonExistentQueue",
        "NoSuchBucket",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
        "404",
        "AuthorizationHeaderMalformed",
        "KMS.NotFoundException",
        "KmsNotFound",
        "PermanentRedirect",
        "InvalidAddress",
    }
)
"""Codes for a queue, table, bucket or key that does not exist, or is in another Region."""
WIRE = (
    BotoCoreError,
    HTTPClientError,
    aiohttp.ClientError,
    asyncio.TimeoutError,
    OSError,
    UnicodeDecodeError,
    ValueError,
)
"""Exceptions if no complete answer arrived."""


def code(error: BaseException) -> str:
    """The service's error code, or the name of the exception's class; safe to log."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code") or "unknown")
    return type(error).__name__


def status(error: BaseException) -> int:
    """The HTTP status of the answer; 0 if there was none."""
    found: Any = error.response.get("ResponseMetadata", {}) if isinstance(error, ClientError) else {}
    return int(found.get("HTTPStatusCode", 0))


def fault(error: BaseException, unavailable: type[DependencyUnavailable], what: str) -> DependencyUnavailable:
    """The exception for a failure of ``what`` (such as "the queue"), with cause and hint.

    A failure that a person has to fix counts as an outage too, because permissions can be restored and credentials
    renewed: the run waits for it just as long, but then ends with exit code 3.
    """
    name = code(error)
    operation = error.operation_name if isinstance(error, ClientError) else ""
    found = unavailable(
        f"{what} cannot be used: {name}{f' ({operation})' if operation else ''}", _cure(name, operation)
    )
    if name in FORBIDDEN | BAD_CREDENTIALS | NO_CREDENTIALS | MISSING:
        found.exit_code = ExitCode.PERSON_MUST_ACT
    return found


def refusal(error: BaseException) -> PersonMustAct:
    """The exception for a client that cannot be created, because the profile or the credentials are missing."""
    return PersonMustAct(f"no AWS client can be made: {code(error)}", _cure(code(error), ""))


@contextmanager
def faults(unavailable: type[DependencyUnavailable], what: str, missing: UsageError | None = None) -> Iterator[None]:
    """Turn what the SDK raises inside the ``with`` block into ``unavailable``.

    If ``missing`` is given and the resource does not exist, ``missing`` is raised instead.
    """
    try:
        yield
    except (ClientError, *WIRE) as error:
        if missing is not None and code(error) in MISSING:
            raise missing from None
        raise fault(error, unavailable, what) from None


def _cure(name: str, operation: str) -> str:
    if name in FORBIDDEN:
        return f"allow {operation or 'it'}, and the key's use, to this role: config/iam has the policies"
    if name in BAD_CREDENTIALS:
        return "renew the AWS credentials of this process, and look at its clock"
    if name in MISSING:
        return "correct its name in the settings, or create it: mfa-worker init"
    if name in NO_CREDENTIALS | {CredentialRetrievalError.__name__}:
        return "give the process AWS credentials: a role, a profile (aws.profile) or variables"
    if name == "ProfileNotFound":
        return "correct aws.profile or AWS_PROFILE"
    return "look at the service and the network (endpoint, proxy, VPC endpoint); nothing is lost, run again"
