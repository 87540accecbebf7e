"""The table of what AWS says: whole against the installed service models, and right for what people meet."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from worker.adapters.aws.error_table import (
    EVERY_SERVICE,
    OPERATIONS,
    SERVICES,
    Kind,
    document,
    meaning,
    of_the_sdk,
    service_of,
)
from worker.adapters.aws.errors import CredentialsFailed, fault, faults, is_of_one_item, is_refused, refusal
from worker.core.errors import DependencyUnavailable, ExitCode, LedgerUnavailable, UsageError

ROOT = Path(__file__).resolve().parents[3]
ASKED_BY_THE_SDK = {"AssumeRole", "AssumeRoleWithWebIdentity", "GetRoleCredentials", "CreateToken", "HeadBucket"}
"""What the SDK calls for itself, to get credentials or to learn the Region of a bucket."""
SIGNED_BY_US = {"AdminInitiateAuth", "AdminSetUserMFAPreference"}
"""What ``adapters/cognito`` signs and sends without a client of the SDK."""
NOT_SIGNED = {"AssociateSoftwareToken", "VerifySoftwareToken", "InitiateAuth", "RespondToAuthChallenge", "GetUser"}
"""Cognito's operations for users, whose answers ``adapters/cognito`` reads."""
KEYWORDS = {"sign", "verify", "encrypt", "decrypt", "publish", "get_template"}
"""Methods of other things that are called like an operation of a service."""


def refused(code: str, operation: str = "PutItem", message: str = "", status: int = 400, **headers: str) -> ClientError:
    answer: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
    }
    return ClientError(answer, operation)


# --- whole ------------------------------------------------------------------------------------------------------------


def called() -> dict[str, set[str]]:
    """Service → the operations that the sources name: as methods of anything, or as pages."""
    names = set[str]()
    for path in (ROOT / "worker").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute):
                names.add(node.attr)
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get_paginator":
                names |= {
                    each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)
                }
    session = Session()
    return {
        service: {
            operation
            for operation in session.get_service_model(service).operation_names
            if xform_name(operation) in names - KEYWORDS
        }
        for service in OPERATIONS
    }


def test_the_table_knows_every_operation_that_is_called() -> None:
    found = called()
    for service, operations in OPERATIONS.items():
        missing = found[service] - set(operations.split()) - NOT_SIGNED
        assert not missing, f"add {missing} to OPERATIONS, and what they can answer to the table"
        gone = set(operations.split()) - found[service] - ASKED_BY_THE_SDK - SIGNED_BY_US
        assert not gone, f"nobody calls {gone} any more"


@pytest.mark.parametrize("service", OPERATIONS)
def test_every_error_that_the_models_name_for_them_has_a_row(service: str) -> None:
    model = Session().get_service_model(service)
    for operation in OPERATIONS[service].split():
        for shape in model.operation_model(operation).error_shapes:
            for code in {shape.name, shape.metadata.get("error", {}).get("code") or shape.name}:
                known = code in SERVICES.get(service, {}) or code in EVERY_SERVICE
                assert known, f"{service} {operation}: {code} has no row; a new botocore brought it"
        assert service_of(operation) == service


def test_no_row_ends_as_a_bug_and_every_row_says_what_to_do() -> None:
    for table in (EVERY_SERVICE, *SERVICES.values()):
        for code, said in table.items():
            assert said.exit_code in (ExitCode.USAGE, ExitCode.PERSON_MUST_ACT, ExitCode.DEPENDENCY_UNAVAILABLE), code
            assert said.what_to_do("PutItem"), code
            assert "{" not in said.what_to_do(), code


def test_of_the_sdks_exceptions_only_those_of_the_network_are_waited_for() -> None:
    waited = set()
    for name, kind in inspect.getmembers(botocore.exceptions, inspect.isclass):
        if issubclass(kind, BotoCoreError):
            found = of_the_sdk([each.__name__ for each in kind.__mro__], is_sdks=True)
            if found.exit_code is not ExitCode.PERSON_MUST_ACT:
                assert found.kind is Kind.NETWORK, name
                waited.add(name)
    assert waited == {
        *(
            "ChecksumError",
            "ConnectTimeoutError",
            "ConnectionClosedError",
            "ConnectionError",
            "EndpointConnectionError",
        ),
        *(
            "FlexibleChecksumError",
            "HTTPClientError",
            "IncompleteReadError",
            "ProxyConnectionError",
            "ReadTimeoutError",
        ),
        *("ResponseStreamingError", "SSLError"),
    }


def test_the_page_is_what_the_table_prints() -> None:
    page = ROOT / "docs" / "aws-errors.md"
    renew = "renew it: python -m worker.adapters.aws.error_table > docs/aws-errors.md"
    assert page.read_text("utf-8") == document(), renew


# --- right ------------------------------------------------------------------------------------------------------------

EXPIRED = "Signature expired: 20261001T000000Z is now earlier than 20261001T001000Z (20261001T001500Z - 5 min.)"
EARLY = "Signature not yet current: 20261001T010000Z is still later than 20261001T000500Z"
WRONG = "The request signature we calculated does not match the signature you provided. Check your key."
NO_KEY = "User: arn:aws:iam::1:role/x is not authorized to perform: kms:GenerateDataKey on resource: arn:aws:kms:…"


@pytest.mark.parametrize(
    ("service", "code", "status", "message", "exit_code", "about"),
    [
        ("s3", "RequestTimeTooSkewed", 403, "", 3, Kind.CLOCK),
        ("sts", "RequestExpired", 400, "", 3, Kind.CLOCK),
        ("dynamodb", "InvalidSignatureException", 400, EXPIRED, 3, Kind.CLOCK),
        ("dynamodb", "InvalidSignatureException", 400, EARLY, 3, Kind.CLOCK),
        ("sqs", "SignatureDoesNotMatch", 403, EXPIRED, 3, Kind.CLOCK),
        ("dynamodb", "InvalidSignatureException", 400, WRONG, 3, Kind.CREDENTIALS),
        ("s3", "SignatureDoesNotMatch", 403, WRONG, 3, Kind.CREDENTIALS),
        ("sqs", "InvalidClientTokenId", 403, "", 3, Kind.CREDENTIALS),
        ("s3", "ExpiredToken", 400, "", 3, Kind.CREDENTIALS),
        ("secretsmanager", "UnrecognizedClientException", 400, "", 3, Kind.CREDENTIALS),
        ("dynamodb", "MissingAuthenticationTokenException", 400, "", 3, Kind.CREDENTIALS),
        ("s3", "KMS.DisabledException", 400, "", 3, Kind.KEY),
        ("s3", "KMS.KMSInvalidStateException", 400, "", 3, Kind.KEY),
        ("s3", "AccessDenied", 403, NO_KEY, 3, Kind.KEY),
        ("sqs", "KmsAccessDenied", 400, "", 3, Kind.KEY),
        ("sqs", "AWS.SimpleQueueService.KmsOptInRequired", 403, "", 3, Kind.KEY),
        ("sqs", "KMS.OptInRequired", 403, "", 3, Kind.KEY),
        ("secretsmanager", "EncryptionFailure", 400, "", 3, Kind.KEY),
        ("kms", "KMSInvalidStateException", 400, "", 3, Kind.KEY),
        ("dynamodb", "KMSSomethingNew", 400, "", 3, Kind.KEY),
        ("sqs", "KmsThrottled", 400, "", 75, Kind.BUSY),
        ("s3", "KMS.ThrottlingException", 400, "", 75, Kind.BUSY),
        ("s3", "KMS.KMSInternalException", 500, "", 75, Kind.UNWELL),
        ("sqs", "OptInRequired", 403, "", 3, Kind.ACCOUNT),
        ("s3", "AccountProblem", 403, "", 3, Kind.ACCOUNT),
        ("s3", "PermanentRedirect", 301, "", 3, Kind.REGION),
        ("s3", "AuthorizationHeaderMalformed", 400, "", 3, Kind.REGION),
        ("s3", "301", 301, "", 3, Kind.REGION),
        ("s3", "SlowDown", 503, "", 75, Kind.BUSY),
        ("s3", "503", 503, "", 75, Kind.UNWELL),
        ("dynamodb", "ProvisionedThroughputExceededException", 400, "", 75, Kind.BUSY),
        ("dynamodb", "RequestLimitExceeded", 400, "", 75, Kind.BUSY),
        ("dynamodb", "LimitExceededException", 400, "", 75, Kind.BUSY),
        ("secretsmanager", "LimitExceededException", 400, "", 3, Kind.QUOTA),
        ("sqs", "OverLimit", 403, "", 75, Kind.BUSY),
        ("sqs", "InvalidSecurity", 400, "", 3, Kind.CREDENTIALS),
        ("sqs", "AWS.SimpleQueueService.NonExistentQueue", 400, "", 3, Kind.MISSING),
        ("dynamodb", "ResourceNotFoundException", 400, "", 3, Kind.MISSING),
        ("sts", "IDPCommunicationError", 400, "", 75, Kind.UNWELL),
        ("sts", "AccessDenied", 403, "", 3, Kind.PERMISSION),
        ("sso", "ForbiddenException", 403, "", 3, Kind.CREDENTIALS),
        ("s3", "NobodyKnowsThis", 400, "", 3, Kind.REQUEST),
        ("s3", "NobodyKnowsThis", 403, "", 3, Kind.PERMISSION),
        ("s3", "NobodyKnowsThis", 500, "", 75, Kind.UNWELL),
        ("sqs", "NobodyKnowsThis", 429, "", 75, Kind.BUSY),
        ("sqs", "NobodyKnowsThis", 0, "", 75, Kind.UNWELL),
    ],
)
def test_what_people_meet(service: str, code: str, status: int, message: str, exit_code: int, about: Kind) -> None:
    found = meaning(service, code, status, message)
    assert (int(found.exit_code), found.kind) == (exit_code, about)


def test_an_error_names_cause_and_cure_and_repeats_no_message() -> None:
    error = fault(refused("InvalidSignatureException", message=EXPIRED), LedgerUnavailable, "the ledger")
    assert str(error) == "the ledger cannot be used: InvalidSignatureException (PutItem)"
    assert "clock" in error.hint
    assert "2026" not in str(error) + error.hint
    assert error.exit_code == 3


@pytest.mark.parametrize("code", ["eyJhbGciOiJSUzI1NiJ9 is no code", "a" * 200, "\x1b[2J", ""])
def test_a_code_that_is_none_is_not_repeated(code: str) -> None:
    error = fault(refused(code), LedgerUnavailable, "the ledger")
    assert str(error) == "the ledger cannot be used: unknown (PutItem)"


def test_a_bucket_elsewhere_is_told_its_region() -> None:
    error = refused("PermanentRedirect", "PutObject", status=301, **{"x-amz-bucket-region": "eu-west-3"})
    assert "set aws.region to eu-west-3" in fault(error, DependencyUnavailable, "the bucket").hint
    hostile = refused("PermanentRedirect", "PutObject", status=301, **{"x-amz-bucket-region": "\x1b[2J run rm -r"})
    assert "aws.region" in (hint := fault(hostile, DependencyUnavailable, "the bucket").hint)
    assert "rm" not in re.findall(r"\w+", hint)


def test_an_answer_that_has_not_what_it_must_have_is_waited_for() -> None:
    for broken in (KeyError("Table"), IndexError(), TypeError(), AttributeError(), RecursionError()):
        with pytest.raises(LedgerUnavailable) as raised, faults(LedgerUnavailable, "the ledger"):
            raise broken
        assert raised.value.exit_code == 75
        assert "cannot be understood" in raised.value.hint


def test_what_is_missing_can_have_an_error_of_its_own() -> None:
    mine = UsageError("there is none", "make it")
    with pytest.raises(UsageError, match="there is none"), faults(LedgerUnavailable, "the ledger", mine):
        raise refused("ResourceNotFoundException", "DescribeTable")


def test_the_credentials_failure_is_theirs_and_not_the_ledgers() -> None:
    denied = CredentialsFailed("AccessDenied", refused("AccessDenied", "AssumeRole", status=403))
    error = fault(denied, LedgerUnavailable, "the ledger")
    assert str(error) == "the AWS credentials of this process cannot be used: AccessDenied (AssumeRole)"
    assert "trust policy" in error.hint
    assert "trust policy" in refusal(denied).hint


def test_what_concerns_one_record_alone_is_told_apart() -> None:
    assert is_of_one_item(refused("KeyTooLongError", "PutObject"))
    assert not is_of_one_item(refused("AccessDenied", "PutObject", status=403))
    assert is_refused(refused("KMS.DisabledException", "PutObject"))
