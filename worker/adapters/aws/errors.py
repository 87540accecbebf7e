"""What it means when an AWS service says no, or nothing: the cause in one sentence, the cure, and whether it may pass.

An error's own message may repeat what was sent, so only its code and operation are ever told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError, HTTPClientError

from worker.core.errors import DependencyUnavailable, ExitCode, PersonMustAct, UsageError

# The services' codes, as their API references list them under "Errors". Those with KMS in their names concern the key
# that a service encrypts with; 403 and 404 are what botocore makes of an answer without a body.
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
"""The permissions, or the state of the key, do not allow it."""
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
"""The credentials are wrong or have expired, or this host's clock is wrong."""
NO_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError"})
"""There are none (names of botocore's exceptions)."""
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
"""The queue, table, bucket or key is not there, or is in another Region."""
WIRE = (
    BotoCoreError,
    HTTPClientError,
    aiohttp.ClientError,
    asyncio.TimeoutError,
    OSError,
    UnicodeDecodeError,
    ValueError,
)
"""What an answer that never came whole raises."""


def code(error: BaseException) -> str:
    """The service's code for it, or the kind of the exception; safe to log."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code") or "unknown")
    return type(error).__name__


def status(error: BaseException) -> int:
    """The HTTP status of the answer; 0 where there was none."""
    found: Any = error.response.get("ResponseMetadata", {}) if isinstance(error, ClientError) else {}
    return int(found.get("HTTPStatusCode", 0))


def fault(error: BaseException, unavailable: type[DependencyUnavailable], what: str) -> DependencyUnavailable:
    """That ``what`` (such as "the queue") failed, in words.

    What a person has to mend is an absence too, since permissions come back and credentials are renewed: it is waited
    for as patiently, but ends the run with exit code 3.
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
    """That no client can be made: profile or credentials are missing."""
    return PersonMustAct(f"no AWS client can be made: {code(error)}", _cure(code(error), ""))


@contextmanager
def faults(unavailable: type[DependencyUnavailable], what: str, missing: UsageError | None = None) -> Iterator[None]:
    """Turn whatever the SDK raises within into ``unavailable``; into ``missing``, if given, where the thing is not
    there.
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
