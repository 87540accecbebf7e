"""How a failure of an AWS service becomes an error of this program: cause in one sentence, cure, and exit code.

What each code means is in ``error_table``. An error's own message may repeat what was sent, so only its code and
operation are ever shown or logged.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from worker.adapters.aws.error_table import Kind, Meaning, meaning, of_the_sdk, service_of
from worker.core.errors import DependencyUnavailable, ExitCode, PersonMustAct, UsageError, WorkerError

WIRE = (
    BotoCoreError,
    ResponseParserError,
    aiohttp.ClientError,
    asyncio.TimeoutError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
)
"""Exceptions if no complete answer arrived, or one that has not what it must have. The last four are of code that reads
an answer: something that is no AWS service may answer anything."""

_SAFE_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}|no confirmation")
"""What may be logged as a code, but no sentence, which could contain a credential."""


class CredentialsFailed(BotoCoreError):  # noqa: N818 - it names what happened
    """The AWS credentials could not be got or renewed: ``name`` is the code for that, in the table's ``credentials``.

    ``cause`` is what the SDK raised.
    """

    fmt = "the AWS credentials cannot be used: {name}"

    def __init__(self, name: str, cause: BaseException) -> None:
        super().__init__(name=name)
        self.name, self.cause = name, cause


class SettingsRefused(BotoCoreError):  # noqa: N818
    """A request was not sent, as settings or the environment are wrong; ``refused`` says how."""

    fmt = "{error}"

    def __init__(self, refused: UsageError) -> None:
        super().__init__(error=refused)
        self.refused = refused


def code(error: BaseException) -> str:
    """The service's error code, or the name of the exception's class; safe to log."""
    if isinstance(error, CredentialsFailed):
        return error.name
    if isinstance(error, ClientError):
        found = str(error.response.get("Error", {}).get("Code") or "unknown")
        return found if _SAFE_CODE.fullmatch(found) else "unknown"
    return type(error).__name__


def status(error: BaseException) -> int:
    """The HTTP status of the answer; 0 if there was none."""
    found: Any = error.response.get("ResponseMetadata", {}) if isinstance(error, ClientError) else {}
    return int(found.get("HTTPStatusCode", 0))


def operation_of(error: BaseException) -> str:
    """The operation that was refused; empty if no service refused one."""
    if isinstance(error, CredentialsFailed):
        return operation_of(error.cause)
    return error.operation_name if isinstance(error, ClientError) else ""


def means(error: BaseException) -> Meaning:
    """What the failure means."""
    if isinstance(error, CredentialsFailed):
        if isinstance(error.cause, ClientError):
            return means(error.cause)
        return of_the_sdk([error.name, *_names(error.cause)], is_sdks=isinstance(error.cause, BotoCoreError))
    if isinstance(error, ClientError):
        message = str(error.response.get("Error", {}).get("Message") or "")
        return meaning(service_of(error.operation_name), code(error), status(error), message)
    return of_the_sdk(_names(error), is_sdks=isinstance(error, BotoCoreError))


def _names(error: BaseException) -> list[str]:
    return [each.__name__ for each in type(error).__mro__]


def is_refused(error: BaseException) -> bool:
    """Whether a permission is missing, or the key may not be used."""
    return means(error).kind in (Kind.PERMISSION, Kind.KEY)


def is_missing(error: BaseException) -> bool:
    """Whether the resource does not exist."""
    return means(error).kind is Kind.MISSING


def is_of_one_item(error: BaseException) -> bool:
    """Whether the refusal is for good and concerns the one record that was sent, and nobody else's."""
    return means(error).kind is Kind.ONE_ITEM


def fault(error: BaseException, unavailable: type[DependencyUnavailable], what: str) -> DependencyUnavailable:
    """The exception for a failure of ``what`` (such as "the queue"), with cause and hint.

    A failure that a person has to fix counts as an outage too, because permissions can be restored and credentials
    renewed: the run waits for it as ``core.resilience`` says, but then ends with exit code 3.
    """
    name, operation, said = code(error), operation_of(error), means(error)
    if isinstance(error, SettingsRefused):
        found = unavailable(f"{what} cannot be used: {error.refused}", error.refused.hint)
        found.exit_code = said.exit_code
        return found
    if isinstance(error, CredentialsFailed):
        what = "the AWS credentials of this process"
    where = _region_of_the_bucket(error) if said.kind is Kind.REGION else ""
    cure = f"set aws.region to {where}, where the bucket is, or name another bucket" if where else ""
    found = unavailable(
        f"{what} cannot be used: {name}{f' ({operation})' if operation else ''}", cure or said.what_to_do(operation)
    )
    found.exit_code = said.exit_code
    return found


def _region_of_the_bucket(error: BaseException) -> str:
    """The Region that S3 names in its answer; empty if it names none."""
    found: Any = error.response if isinstance(error, ClientError) else {}
    named = found.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region") or found.get(
        "Error", {}
    ).get("Region")
    return named if isinstance(named, str) and re.fullmatch(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}", named) else ""


def refusal(error: BaseException) -> WorkerError:
    """The exception for a client that cannot be created, mostly because the profile or the credentials are wrong."""
    if isinstance(error, SettingsRefused):
        return error.refused
    if isinstance(error, CredentialsFailed) and isinstance(error.cause, SettingsRefused):
        return error.cause.refused
    name, said = code(error), means(error)
    cause = f"no AWS client can be made: {name}{f' ({operation})' if (operation := operation_of(error)) else ''}"
    if said.exit_code is ExitCode.DEPENDENCY_UNAVAILABLE:
        return DependencyUnavailable(cause, said.what_to_do(operation))
    return PersonMustAct(cause, said.what_to_do(operation))


@contextmanager
def faults(unavailable: type[DependencyUnavailable], what: str, missing: UsageError | None = None) -> Iterator[None]:
    """Turn what the SDK raises inside the ``with`` block into ``unavailable``.

    If ``missing`` is given and the resource does not exist, ``missing`` is raised instead.
    """
    try:
        yield
    except (ClientError, *WIRE) as error:
        if missing is not None and is_missing(error):
            raise missing from None
        raise fault(error, unavailable, what) from None
