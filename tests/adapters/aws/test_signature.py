"""Our signatures are those of AWS's own example, and of the SDK's signer."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from worker.adapters.aws.signature import Signer

CREDENTIALS = ReadOnlyCredentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None)
WITH_TOKEN = ReadOnlyCredentials("ASIA", "another secret", "a/token+of=many" * 30)
HEADERS = {
    "x-amz-target": "DynamoDB_20120810.PutItem",
    "content-type": "application/x-amz-json-1.0",
    "x-odd": " a   b ",
}


def test_aws_own_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """Amazon S3 API reference, "Authenticating Requests: Using the Authorization Header", example GET Object."""
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2013, 5, 24, 0, 0, 0, 4, 144, 0)))
    signed = Signer("us-east-1", "s3").signed(
        "GET", "https://examplebucket.s3.amazonaws.com/test.txt", {"range": "bytes=0-9"}, b"", CREDENTIALS
    )
    assert signed["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def by_the_sdk(
    service: str, method: str, url: str, headers: Mapping[str, str], body: bytes, credentials: ReadOnlyCredentials
) -> tuple[str, str]:
    request = AWSRequest(method, url, headers=dict(headers), data=body)
    signer = S3SigV4Auth if service == "s3" else SigV4Auth
    signer(credentials, service, "eu-central-1").add_auth(request)
    return request.headers["X-Amz-Date"], request.headers["Authorization"]


@pytest.mark.parametrize("credentials", [CREDENTIALS, WITH_TOKEN])
@pytest.mark.parametrize(
    ("service", "url"),
    [
        ("dynamodb", "https://dynamodb.eu-central-1.amazonaws.com/"),
        ("dynamodb", "https://123456789012.ddb.eu-central-1.amazonaws.com:443"),
        ("dynamodb", "http://127.0.0.1:8000/a%20path"),
        ("sqs", "https://vpce-1.sqs.eu-central-1.vpce.amazonaws.com:8443/"),
        ("s3", "https://bucket.s3.eu-central-1.amazonaws.com/a%20folder/zo%C3%AB//%2B%20%281%29/1-a.age"),
        ("s3", "http://127.0.0.1:80/bucket/key"),
    ],
)
def test_the_sdks_signer_agrees(service: str, url: str, credentials: ReadOnlyCredentials) -> None:
    method = "PUT" if service == "s3" else "POST"
    ours, sdks = {"x-amz-date": ""}, ("another second", "")
    while ours["x-amz-date"] != sdks[0]:
        ours = Signer("eu-central-1", service).signed(method, url, HEADERS, b"a body", credentials)
        sdks = by_the_sdk(service, method, url, HEADERS, b"a body", credentials)
    assert ours["authorization"] == sdks[1]


def test_a_key_is_kept_for_its_day_and_its_secret_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def signed(signer: Signer, credentials: ReadOnlyCredentials, day: int) -> str:
        monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2026, 11, day, 23, 59, 59, 0, 0, 0)))
        return signer.signed("POST", "https://host/", HEADERS, b"", credentials)["authorization"]

    signer = Signer("eu-central-1", "sqs")
    for credentials, day in ((CREDENTIALS, 1), (WITH_TOKEN, 1), (WITH_TOKEN, 2), (CREDENTIALS, 1), (CREDENTIALS, 1)):
        assert signed(signer, credentials, day) == signed(Signer("eu-central-1", "sqs"), credentials, day)
